//! apk-tools 3 (`src/version.c`): digits, one letter, suffixes, a commit hash, a revision.

use super::cursor::Cursor;
use super::key::Key;

/// What may stand at one place, from the oldest. A suffix that announces a release is older than the end; what comes
/// later in a version is older than what may come earlier.
const INVALID: u8 = 0;
const BEFORE: u8 = 1;
const END: u8 = 2;
const REVISION: u8 = 3;
const HASH: u8 = 4;
const SUFFIX_NUMBER: u8 = 5;
const AFTER: u8 = 6;
const LETTER: u8 = 7;
const DIGITS: u8 = 8;

const SUFFIXES_BEFORE: [&[u8]; 4] = [b"alpha", b"beta", b"pre", b"rc"];
const SUFFIXES_AFTER: [&[u8]; 5] = [b"cvs", b"svn", b"git", b"hg", b"p"];

pub(super) fn write(version: &[u8], key: &mut Key) {
    let mut cursor = Cursor::new(version);
    let first = cursor.digits();
    if first.is_empty() {
        key.rank(INVALID);
        return key.text(cursor.rest());
    }
    key.rank(DIGITS);
    key.number(first);
    loop {
        let before = cursor;
        let known = match cursor.next() {
            None => return key.rank(END),
            Some(b'.') => write_digits(&mut cursor, key),
            Some(letter @ b'a'..=b'z') => {
                key.rank(LETTER);
                key.rank(letter);
                true
            }
            Some(b'_') => write_suffix(&mut cursor, key),
            Some(b'~') => {
                key.rank(HASH);
                key.text(cursor.take_while(|byte| byte.is_ascii_hexdigit()));
                true
            }
            Some(b'-') if cursor.eat(b'r') => {
                key.rank(REVISION);
                key.number(cursor.digits());
                true
            }
            Some(_) => false,
        };
        if !known {
            key.rank(INVALID);
            return key.text(before.rest());
        }
    }
}

/// Numbers after the first: one that begins with 0 is compared as text, which makes it older than any that does not.
fn write_digits(cursor: &mut Cursor<'_>, key: &mut Key) -> bool {
    let digits = cursor.digits();
    if digits.is_empty() {
        return false;
    }
    key.rank(DIGITS);
    if digits.starts_with(b"0") {
        key.rank(0);
        key.text(digits);
    } else {
        key.rank(1);
        key.number(digits);
    }
    true
}

fn write_suffix(cursor: &mut Cursor<'_>, key: &mut Key) -> bool {
    let name = cursor.take_while(|byte| byte.is_ascii_lowercase());
    let place =
        |names: &[&[u8]]| names.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok());
    if let Some(at) = place(&SUFFIXES_BEFORE) {
        key.rank(BEFORE);
        key.rank(at);
    } else if let Some(at) = place(&SUFFIXES_AFTER) {
        key.rank(AFTER);
        key.rank(at);
    } else {
        return false;
    }
    let digits = cursor.digits();
    if !digits.is_empty() {
        key.rank(SUFFIX_NUMBER);
        key.number(digits);
    }
    true
}
