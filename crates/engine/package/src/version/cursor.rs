//! A place in a version that only moves forward.

/// What is left of a version.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Steps over a byte if it is the next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.next();
        }
        found
    }

    /// Steps over a word if it is next, without regard to ASCII case.
    pub(super) fn eat_word(&mut self, word: &[u8]) -> bool {
        match self.rest.split_at_checked(word.len()) {
            Some((head, rest)) if head.eq_ignore_ascii_case(word) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(super) fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| keep(**byte)).count();
        let (head, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        head
    }

    pub(super) fn digits(&mut self) -> &'a [u8] {
        self.take_while(|byte| byte.is_ascii_digit())
    }

    pub(super) fn letters(&mut self) -> &'a [u8] {
        self.take_while(|byte| byte.is_ascii_alphabetic())
    }
}

/// Splits `[epoch:]rest`; the epoch is empty where there is none.
pub(super) fn split_epoch(version: &[u8]) -> (&[u8], &[u8]) {
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match (version.get(..digits), version.get(digits), version.get(digits + 1..)) {
        (Some(epoch), Some(b':'), Some(rest)) => (epoch, rest),
        _ => (&[], version),
    }
}

/// Splits at the last `-`; the second part is none where there is no `-`.
pub(super) fn split_last_dash(version: &[u8]) -> (&[u8], Option<&[u8]>) {
    match version.iter().rposition(|byte| *byte == b'-') {
        Some(at) => (version.get(..at).unwrap_or_default(), version.get(at + 1..)),
        None => (version, None),
    }
}
