//! Maven's `ComparableVersion` (3.9), by the order that Maven's POM reference specifies.
//!
//! A version is a row of numbers and qualifiers, each behind a dot or a hyphen, where a change between digit and
//! letter counts as a hyphen. What says nothing (0, `final`, `ga`, `release`) is left out before a qualifier, before a
//! hyphen and at the end.

use super::cursor::Cursor;
use super::key::Key;

/// Known qualifiers before the release, from the oldest.
const BEFORE: [&[u8]; 5] = [b"alpha", b"beta", b"milestone", b"rc", b"snapshot"];
const END: u8 = 5;
const SERVICE_PACK: u8 = 6;
const WORD: u8 = 7;
const HYPHEN_NUMBER: u8 = 8;
const DOT_NUMBER: u8 = 9;

#[derive(Clone, Copy)]
enum Token<'a> {
    Number { digits: &'a [u8], after_hyphen: bool },
    Qualifier(&'a [u8]),
}

impl Token<'_> {
    fn says_nothing(self) -> bool {
        match self {
            Self::Number { digits, .. } => digits.iter().all(|digit| *digit == b'0'),
            Self::Qualifier(word) => {
                word.is_empty()
                    || [&b"final"[..], b"ga", b"release"].iter().any(|n| word.eq_ignore_ascii_case(n))
            }
        }
    }
}

/// The tokens of a version, one after another.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    cursor: Cursor<'a>,
    after_hyphen: bool,
    done: bool,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        if self.done {
            return None;
        }
        let after_hyphen = self.after_hyphen;
        let token = if self.cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            Token::Number { digits: self.cursor.digits(), after_hyphen }
        } else {
            let word = self.cursor.take_while(|byte| !byte.is_ascii_digit() && !b".-_".contains(&byte));
            let before_digit = self.cursor.peek().is_some_and(|byte| byte.is_ascii_digit());
            match (word, before_digit) {
                ([], _) => Token::Number { digits: b"0", after_hyphen },
                ([b'a' | b'A'], true) => Token::Qualifier(b"alpha"),
                ([b'b' | b'B'], true) => Token::Qualifier(b"beta"),
                ([b'm' | b'M'], true) => Token::Qualifier(b"milestone"),
                ([b'c' | b'C', b'r' | b'R'], _) => Token::Qualifier(b"rc"),
                (word, _) => Token::Qualifier(word),
            }
        };
        self.after_hyphen = match self.cursor.peek() {
            Some(b'.') => {
                self.cursor.next();
                false
            }
            Some(b'-' | b'_') => {
                self.cursor.next();
                true
            }
            Some(_) => true,
            None => {
                self.done = true;
                false
            }
        };
        Some(token)
    }
}

pub(super) fn write(version: &[u8], key: &mut Key) {
    let mut tokens = Tokens { cursor: Cursor::new(version.trim_ascii()), after_hyphen: false, done: false };
    loop {
        // Find the next token that says something, and whether what is before it may go.
        let start = tokens;
        let mut skipped = 0_usize;
        let mut ahead = tokens;
        let next = loop {
            match ahead.next() {
                Some(token) if token.says_nothing() => skipped += 1,
                other => break other,
            }
        };
        let Some(token) = next else {
            return key.rank(END);
        };
        if let Token::Number { after_hyphen: false, .. } = token {
            for nothing in start.take(skipped) {
                write_token(nothing, key);
            }
        }
        write_token(token, key);
        tokens = ahead;
    }
}

fn write_token(token: Token<'_>, key: &mut Key) {
    match token {
        Token::Number { digits, after_hyphen } => {
            key.rank(if after_hyphen { HYPHEN_NUMBER } else { DOT_NUMBER });
            key.number(digits);
        }
        Token::Qualifier(word) => {
            let known = BEFORE.iter().position(|known| word.eq_ignore_ascii_case(known));
            if let Some(rank) = known.and_then(|rank| u8::try_from(rank).ok()) {
                key.rank(rank);
            } else if word.eq_ignore_ascii_case(b"sp") {
                key.rank(SERVICE_PACK);
            } else {
                key.rank(WORD);
                key.folded(word);
            }
        }
    }
}
