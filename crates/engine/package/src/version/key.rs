//! Order-preserving keys.

use std::cmp::Ordering;
use std::fmt;

/// A version as bytes whose plain order is the order of versions.
///
/// It is at most [`Key::CAPACITY`] bytes long; what a longer version says beyond that does not count, so that the
/// order stays total for any input. Real versions fill less than a fifth of it.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Key {
    /// Most bytes in a key.
    pub const CAPACITY: usize = 512;

    pub(super) fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], length: 0 }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// Appends one byte that says what stands here: the lower, the older.
    pub(super) fn rank(&mut self, rank: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = rank;
            self.length += 1;
        }
    }

    /// Appends a decimal number of any length: how many digits, then the digits. No digit at all is 0.
    pub(super) fn number(&mut self, digits: &[u8]) {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let digits = digits.get(zeros..).unwrap_or_default();
        self.rank(u8::try_from(digits.len()).unwrap_or(u8::MAX));
        for digit in digits {
            self.rank(*digit);
        }
    }

    /// Appends text in the order of its bytes, a prefix before what it begins.
    pub(super) fn text(&mut self, text: &[u8]) {
        for byte in text {
            self.text_byte(*byte);
        }
        self.rank(0);
    }

    /// As [`Key::text`], without regard to ASCII case.
    pub(super) fn folded(&mut self, text: &[u8]) {
        for byte in text {
            self.text_byte(byte.to_ascii_lowercase());
        }
        self.rank(0);
    }

    /// A byte of text. 0 ends a text, so 0 and 1 are escaped.
    fn text_byte(&mut self, byte: u8) {
        if byte <= 1 {
            self.rank(1);
            self.rank(byte + 1);
        } else {
            self.rank(byte);
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.as_bytes()).finish()
    }
}
