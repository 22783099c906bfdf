//! What several protocols read the same way: numbers and lengths from a slice, front to back, and lines. Every read may
//! find the end.

use super::Step;

/// A slice that is read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }
    pub(crate) fn u24(&mut self) -> Option<usize> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c])).and_then(|n| usize::try_from(n).ok())
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
    /// Bytes behind a length of one byte.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.bytes(usize::from(length))
    }
    /// Bytes behind a length of two bytes.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }
    /// Length of a BER element, behind its tag (X.690 §8.1.3), written in at most `longest` bytes behind the first one,
    /// of the four that are understood.
    pub(crate) fn ber_length(&mut self, longest: u8) -> Option<usize> {
        match self.u8()? {
            short @ 0..=0x7F => Some(usize::from(short)),
            long @ 0x81..=0x84 if long & 0x0F <= longest => match long {
                0x81 => self.u8().map(usize::from),
                0x82 => self.u16().map(usize::from),
                0x83 => self.u24(),
                _ => usize::try_from(self.u32()?).ok(),
            },
            _ => None,
        }
    }
    /// Bytes up to a zero, which is taken too.
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }
}

/// The first line, without its end (a line feed, or one behind a carriage return), and the bytes that it took with it.
/// Else what its reader answers: how many bytes there must be, or that it is longer than any line of the protocol.
pub(crate) fn line(input: &[u8], longest: usize) -> Result<(&[u8], usize), Step> {
    let window = input.get(..longest.min(input.len())).unwrap_or(input);
    match memchr::memchr(b'\n', window) {
        Some(at) => {
            let line = window.get(..at).unwrap_or_default();
            Ok((line.strip_suffix(b"\r").unwrap_or(line), at.saturating_add(1)))
        }
        None if window.len() == longest => Err(Step::Reject),
        None => Err(Step::More(input.len().saturating_add(1))),
    }
}

/// A number in decimal digits, and nothing else, up to `most`.
pub(crate) fn decimal(digits: &[u8], most: u64) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit & 0x0F))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    value.filter(|value| !digits.is_empty() && *value <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_line_feed_and_an_endless_one_is_refused() {
        assert_eq!(line(b"a\r\nb", 8), Ok((&b"a"[..], 3)));
        assert_eq!(line(b"a\nb", 8), Ok((&b"a"[..], 2)));
        assert_eq!(line(b"abc", 8), Err(Step::More(4)));
        assert_eq!(line(b"abcdefgh\n", 8), Err(Step::Reject));
    }

    #[test]
    fn a_number_is_digits_alone_up_to_the_most() {
        assert_eq!(decimal(b"0512", 512), Some(512));
        for wrong in [&b""[..], b"513", b"-1", b"1 ", b"99999999999999999999"] {
            assert_eq!(decimal(wrong, 512), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_ber_length_is_short_or_of_as_many_bytes_as_are_taken() {
        for (bytes, longest, want) in [
            (&b"\x7F"[..], 0, Some(127)),
            (b"\x81\x80", 3, Some(128)),
            (b"\x83\x01\x00\x00", 3, Some(65_536)),
            (b"\x84\x00\x00\x01\x00", 4, Some(256)),
            (b"\x84\x00\x00\x01\x00", 3, None),
            (b"\x80", 4, None),
            (b"\x82\x01", 4, None),
        ] {
            assert_eq!(Cursor(bytes).ber_length(longest), want, "{bytes:?}");
        }
    }
}
