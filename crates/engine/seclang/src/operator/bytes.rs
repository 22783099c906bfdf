//! Operators on single bytes.

use crate::error::Reason;

/// A set of bytes.
#[derive(Debug)]
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// Reads `9,10,32-126`.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let mut set = [false; 256];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let wrong = || Reason::Value { what: "range", value: part.to_owned() };
            let first: u8 = first.trim().parse().map_err(|_bad| wrong())?;
            let last: u8 = last.trim().parse().map_err(|_bad| wrong())?;
            for place in set.get_mut(usize::from(first)..=usize::from(last)).ok_or_else(wrong)? {
                *place = true;
            }
        }
        Ok(Self(set))
    }

    pub(super) fn has_all(&self, value: &[u8]) -> bool {
        value.iter().all(|byte| self.0.get(usize::from(*byte)).copied().unwrap_or(false))
    }
}

/// Whether a percent sign is not followed by two hexadecimal digits.
pub(super) fn has_bad_escape(value: &[u8]) -> bool {
    memchr::memchr_iter(b'%', value).any(|at| {
        let digits = value.get(at.saturating_add(1)..).unwrap_or_default();
        !matches!(digits, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}
