//! Semantic versioning 2.0 §11, and NuGet's variant of it.

use super::cursor::Cursor;
use super::key::Key;

const INVALID: u8 = 0;
const VALID: u8 = 1;

/// After the numbers: a pre-release is older than the release, a further number newer.
const PRE_RELEASE: u8 = 0;
const RELEASE: u8 = 1;
const FURTHER_NUMBER: u8 = 2;

/// Identifiers of a pre-release: fewer are older, numbers older than words.
const END: u8 = 0;
const NUMBER: u8 = 1;
const WORD: u8 = 2;

pub(super) fn write(version: &[u8], key: &mut Key) {
    write_with(version, 3, Key::text, key);
}

/// NuGet: four numbers, and labels without regard to case.
pub(super) fn write_nuget(version: &[u8], key: &mut Key) {
    write_with(version, 4, Key::folded, key);
}

fn write_with(version: &[u8], numbers: usize, word: fn(&mut Key, &[u8]), key: &mut Key) {
    let mut cursor = Cursor::new(version);
    cursor.take_while(|byte| matches!(byte, b'v' | b'V' | b'=' | b' '));
    if !cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        key.rank(INVALID);
        return key.text(version);
    }
    key.rank(VALID);
    let mut written = 0;
    key.number(cursor.digits());
    written += 1;
    // Missing parts are 0; parts beyond the last count only where one of them is not 0.
    let mut zeros = 0;
    loop {
        let mut ahead = cursor;
        if !(ahead.eat(b'.') && ahead.peek().is_some_and(|byte| byte.is_ascii_digit())) {
            break;
        }
        cursor = ahead;
        let digits = cursor.digits();
        if written < numbers {
            key.number(digits);
            written += 1;
        } else if digits.iter().all(|digit| *digit == b'0') {
            zeros += 1;
        } else {
            for _ in 0..std::mem::take(&mut zeros) {
                key.rank(FURTHER_NUMBER);
                key.number(&[]);
            }
            key.rank(FURTHER_NUMBER);
            key.number(digits);
        }
    }
    for _ in written..numbers {
        key.number(&[]);
    }
    let pre_release = cursor.take_while(|byte| byte != b'+');
    let pre_release = pre_release.strip_prefix(b"-").unwrap_or(pre_release);
    if pre_release.is_empty() {
        return key.rank(RELEASE);
    }
    key.rank(PRE_RELEASE);
    for identifier in pre_release.split(|byte| *byte == b'.') {
        if !identifier.is_empty() && identifier.iter().all(u8::is_ascii_digit) {
            key.rank(NUMBER);
            key.number(identifier);
        } else {
            key.rank(WORD);
            word(key, identifier);
        }
    }
    key.rank(END);
}
