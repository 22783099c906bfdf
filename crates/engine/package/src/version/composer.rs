//! Composer: versions in its normal form, four numbers and a stability, in the order of PHP's `version_compare`.

use super::cursor::Cursor;
use super::key::Key;

const BRANCH: u8 = 0;
const NUMBERED: u8 = 1;

/// Stabilities; what is not known counts as a development version.
const DEV: u8 = 0;
const ALPHA: u8 = 1;
const BETA: u8 = 2;
const CANDIDATE: u8 = 3;
const STABLE: u8 = 4;
const PATCH: u8 = 5;

const NUMBERS: usize = 4;

const STABILITIES: [(&[u8], u8); 10] = [
    (b"alpha", ALPHA),
    (b"beta", BETA),
    (b"a", ALPHA),
    (b"b", BETA),
    (b"rc", CANDIDATE),
    (b"patch", PATCH),
    (b"pl", PATCH),
    (b"p", PATCH),
    (b"stable", STABLE),
    (b"dev", DEV),
];

pub(super) fn write(version: &[u8], key: &mut Key) {
    let mut cursor = Cursor::new(version.trim_ascii());
    cursor.eat_word(b"v");
    if !cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        key.rank(BRANCH);
        return key.folded(version);
    }
    key.rank(NUMBERED);
    let mut written = 0;
    loop {
        let digits = cursor.digits();
        key.number(digits);
        written += 1;
        let mut ahead = cursor;
        let more = ahead.eat(b'.') && ahead.peek().is_some_and(|byte| byte.is_ascii_digit());
        if !more || written == NUMBERS {
            break;
        }
        cursor = ahead;
    }
    for _ in written..NUMBERS {
        key.number(&[]);
    }
    cursor.take_while(|byte| b"._-".contains(&byte));
    match cursor.peek() {
        None | Some(b'+') => return key.rank(STABLE),
        Some(_) => {}
    }
    let stability = STABILITIES.iter().find(|(word, _)| cursor.eat_word(word)).map_or(DEV, |(_, rank)| *rank);
    key.rank(stability);
    cursor.take_while(|byte| b"._-".contains(&byte));
    key.number(cursor.digits());
    cursor.take_while(|byte| b"._-".contains(&byte));
    // `1.0-beta2-dev` is on the way to `1.0-beta2`.
    key.rank(u8::from(!cursor.eat_word(b"dev")));
}
