//! Percent encoding (RFC 3986 §2.1), and `%u0041` as some servers take it.

use super::escape::{Escape, Escapes, Held};

/// Decoder of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percent {
    how: How,
    held: Held,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct How {
    plus: bool,
}

impl Percent {
    /// A decoder at the beginning. With `plus`, a plus is a space, as in a query or form.
    #[must_use]
    pub fn new(plus: bool) -> Self {
        Self { how: How { plus }, held: Held::default() }
    }
    /// Decodes the next bytes; a broken escape stays as it is.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.held.push_all(&self.how, input, out);
    }
    /// The stream is over: gives out what is still held.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.held.settle(&self.how, true, out);
    }
}

/// Decodes a whole text. False when nothing in it was encoded: then `out` is a copy.
pub fn decode(text: &[u8], plus: bool, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let mut decoder = Percent::new(plus);
    decoder.push(text, out);
    decoder.finish(out);
    out.get(before..) != Some(text)
}

impl Escapes for How {
    fn start(&self, text: &[u8]) -> Option<usize> {
        if self.plus { memchr::memchr2(b'%', b'+', text) } else { memchr::memchr(b'%', text) }
    }
    fn read(&self, text: &[u8]) -> Escape {
        match text {
            [b'+', ..] => Escape::Is(u32::from(b' '), 1),
            [b'%', b'u' | b'U', digits @ ..] => digits_of(digits, 4, 6),
            [b'%', digits @ ..] => digits_of(digits, 2, 3),
            _ => Escape::Plain,
        }
    }
    fn write(&self, character: u32, out: &mut Vec<u8>) {
        // Full-width forms stand for ASCII; of other characters servers take the low byte.
        let byte = match character {
            0xFF01..=0xFF5E => character.wrapping_sub(0xFEE0),
            other => other,
        };
        out.extend(byte.to_le_bytes().first());
    }
}

/// A number of `wanted` hexadecimal digits, in an escape of `taken` bytes.
fn digits_of(text: &[u8], wanted: usize, taken: usize) -> Escape {
    let mut value = 0_u32;
    for at in 0..wanted {
        let Some(byte) = text.get(at) else { return Escape::More };
        let Some(digit) = char::from(*byte).to_digit(16) else { return Escape::Plain };
        value = (value << 4) | digit;
    }
    Escape::Is(value, taken)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_stay() {
        for (text, plus, want) in [
            ("a%20b", false, "a b"),
            ("%2527", false, "%27"),
            ("%u0027", false, "'"),
            ("%uff07", false, "'"),
            ("a+b", true, "a b"),
            ("a+b", false, "a+b"),
            ("100%", false, "100%"),
            ("%zz%4", false, "%zz%4"),
            ("%%41", false, "%A"),
            ("%4%41", false, "%4A"),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(text.as_bytes(), plus, &mut out), text != want, "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn where_the_text_is_cut_does_not_matter(
            text in vec(prop::sample::select(b"%+u04127zF".to_vec()), 0..60),
            cuts in vec(1_usize..5, 1..20),
        ) {
            let mut whole = Vec::new();
            decode(&text, true, &mut whole);
            let (mut decoder, mut out, mut rest) = (Percent::new(true), Vec::new(), text.as_slice());
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                decoder.push(part, &mut out);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            decoder.finish(&mut out);
            prop_assert_eq!(out, whole);
        }
    }
}
