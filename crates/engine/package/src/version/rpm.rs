//! rpm's `rpmvercmp` over epoch, version and release.

use super::cursor::{Cursor, split_epoch, split_last_dash};
use super::key::Key;

/// `~` is older than the end, `^` newer than the end and older than anything else.
const TILDE: u8 = 0;
const END: u8 = 1;
const CARET: u8 = 2;
const LETTERS: u8 = 3;
const NUMBER: u8 = 4;

pub(super) fn write(version: &[u8], key: &mut Key) {
    let (epoch, rest) = split_epoch(version);
    let (version, release) = split_last_dash(rest);
    key.number(epoch);
    write_part(version, key);
    write_part(release.unwrap_or_default(), key);
}

fn write_part(part: &[u8], key: &mut Key) {
    let mut cursor = Cursor::new(part);
    loop {
        cursor.take_while(|byte| !byte.is_ascii_alphanumeric() && byte != b'~' && byte != b'^');
        match cursor.peek() {
            None => return key.rank(END),
            Some(b'~') => {
                cursor.next();
                key.rank(TILDE);
            }
            Some(b'^') => {
                cursor.next();
                key.rank(CARET);
            }
            Some(byte) if byte.is_ascii_digit() => {
                key.rank(NUMBER);
                key.number(cursor.digits());
            }
            Some(_) => {
                key.rank(LETTERS);
                key.text(cursor.letters());
            }
        }
    }
}
