//! Base64 (RFC 4648 §4, §5), with either alphabet, as it comes.

use std::sync::LazyLock;

/// In [`VALUES`], of a byte that is no character; no value has this bit.
const NONE: u8 = 0x80;

/// What each byte stands for.
static VALUES: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut values = [NONE; 256];
    for (byte, place) in (0..=u8::MAX).zip(&mut values) {
        *place = value(byte).unwrap_or(NONE);
    }
    values
});

/// Decoder of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base64 {
    bits: u32,
    /// Characters in `bits`, 0 to 3.
    count: u8,
}

impl Base64 {
    /// Decodes the next characters. Line breaks and blanks are passed over; gives the bytes of `input` that were taken:
    /// fewer than all when one is neither a character of the alphabet nor blank (padding, or the end).
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut whole = 0_usize;
        if self.count == 0 {
            // Four characters at a time make three bytes, as long as all are of the alphabet.
            let (values, (fours, _)) = (&*VALUES, input.as_chunks::<4>());
            out.reserve(fours.len().saturating_mul(3));
            for four in fours {
                let [a, b, c, d] = four.map(|byte| values.get(usize::from(byte)).copied().unwrap_or(NONE));
                if (a | b | c | d) & NONE != 0 {
                    break;
                }
                out.extend_from_slice(&[(a << 2) | (b >> 4), (b << 4) | (c >> 2), (c << 6) | d]);
                whole = whole.saturating_add(4);
            }
        }
        let rest = input.get(whole..).unwrap_or_default();
        for (at, byte) in (whole..).zip(rest) {
            let Some(value) = value(*byte) else {
                if matches!(byte, b'\r' | b'\n' | b' ' | b'\t') {
                    continue;
                }
                return at;
            };
            self.bits = (self.bits << 6) | u32::from(value);
            self.count = self.count.saturating_add(1);
            if self.count == 4 {
                out.extend(self.bits.to_be_bytes().get(1..).unwrap_or_default());
                (self.bits, self.count) = (0, 0);
            }
        }
        input.len()
    }
    /// The stream is over, with or without padding: gives out what the last characters make whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.count {
            2 => out.extend((self.bits >> 4).to_be_bytes().get(3..).unwrap_or_default()),
            3 => out.extend((self.bits >> 2).to_be_bytes().get(2..).unwrap_or_default()),
            // One character alone is no byte.
            _ => {}
        }
        (self.bits, self.count) = (0, 0);
    }
}

/// Decodes a whole text up to its padding, or to the first byte that is not of the alphabet. Gives the bytes taken.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> usize {
    let mut decoder = Base64::default();
    let taken = decoder.push(text, out);
    decoder.finish(out);
    taken
}

/// What a character stands for, in the alphabet of MIME or the one for addresses.
#[must_use]
pub const fn value(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(character.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(character.wrapping_sub(b'0').wrapping_add(52)),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_are_read_with_and_without_padding_and_over_lines() {
        for (text, want, taken) in [
            ("", &b""[..], 0),
            ("Zg==", b"f", 2),
            ("Zm8=", b"fo", 3),
            ("Zm9v", b"foo", 4),
            ("Zm9vYmFy", b"foobar", 8),
            ("Zm9v\r\nYmFy", b"foobar", 10),
            ("-_-_", &[0xFB, 0xFF, 0xBF], 4),
            ("+/+/", &[0xFB, 0xFF, 0xBF], 4),
            ("Zm9v\"rest", b"foo", 4),
            ("Z", b"", 1),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(text.as_bytes(), &mut out), taken, "{text}");
            assert_eq!(out, want, "{text}");
        }
    }

    #[test]
    fn one_character_at_a_time_gives_the_same() {
        let (mut decoder, mut out) = (Base64::default(), Vec::new());
        for byte in b"JHtqbmRpOmxkYXA6Ly94fQ" {
            decoder.push(&[*byte], &mut out);
        }
        decoder.finish(&mut out);
        assert_eq!(out, b"${jndi:ldap://x}");
    }
}
