//! RubyGems' `Gem::Version#<=>`: segments of digits or letters; missing segments are 0, words are older than numbers.

use super::cursor::Cursor;
use super::key::Key;

const WORD: u8 = 0;
/// A 0 that only words follow: older than the end, because the end counts as endless zeros.
const ZERO_BEFORE_WORD: u8 = 1;
const END: u8 = 2;
const NUMBER: u8 = 3;

pub(super) fn write(version: &[u8], key: &mut Key) {
    let version = version.trim_ascii();
    let mut cursor = Cursor::new(version);
    let mut in_release = true;
    // `-` is written `.pre.` by RubyGems.
    let mut dash_pending = false;
    loop {
        let skipped = cursor.take_while(|byte| !byte.is_ascii_alphanumeric());
        dash_pending |= skipped.contains(&b'-');
        if std::mem::take(&mut dash_pending) {
            in_release = false;
            key.rank(WORD);
            key.text(b"pre");
        }
        let Some(byte) = cursor.peek() else {
            return key.rank(END);
        };
        if !byte.is_ascii_digit() {
            in_release = false;
            key.rank(WORD);
            key.text(cursor.letters());
            continue;
        }
        let digits = cursor.digits();
        if digits.iter().any(|digit| *digit != b'0') {
            key.rank(NUMBER);
            key.number(digits);
            continue;
        }
        // A row of zeros: what follows it decides what it is worth.
        let mut zeros = 1_usize;
        let follows = loop {
            let mut ahead = cursor;
            let between = ahead.take_while(|byte| !byte.is_ascii_alphanumeric());
            if between.contains(&b'-') {
                break Follows::Word;
            }
            match ahead.peek() {
                None => break Follows::End,
                Some(byte) if !byte.is_ascii_digit() => break Follows::Word,
                Some(_) if ahead.digits().iter().any(|digit| *digit != b'0') => break Follows::Number,
                Some(_) => {
                    zeros += 1;
                    cursor = ahead;
                }
            }
        };
        match follows {
            Follows::End => return key.rank(END),
            // Zeros at the end of the release part are not counted.
            Follows::Word if in_release => {}
            Follows::Word => (0..zeros).for_each(|_| key.rank(ZERO_BEFORE_WORD)),
            Follows::Number => (0..zeros).for_each(|_| {
                key.rank(NUMBER);
                key.number(&[]);
            }),
        }
    }
}

enum Follows {
    End,
    Word,
    Number,
}
