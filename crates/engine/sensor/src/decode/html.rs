//! Character references of HTML (HTML Living Standard §13.5): numbers, and the names that hide what markup is made of.

use std::sync::LazyLock;

use super::escape::{Escape, Escapes, Held};

/// Names without their ampersand and semicolon. Those that older browsers take without a semicolon come first.
const NAMES: &[(&[u8], u8, bool)] = &[
    (b"lt", b'<', true),
    (b"gt", b'>', true),
    (b"amp", b'&', true),
    (b"quot", b'"', true),
    (b"nbsp", b' ', true),
    (b"LT", b'<', true),
    (b"GT", b'>', true),
    (b"AMP", b'&', true),
    (b"QUOT", b'"', true),
    (b"apos", b'\'', false),
    (b"Tab", b'\t', false),
    (b"NewLine", b'\n', false),
    (b"excl", b'!', false),
    (b"num", b'#', false),
    (b"dollar", b'$', false),
    (b"percnt", b'%', false),
    (b"lpar", b'(', false),
    (b"rpar", b')', false),
    (b"ast", b'*', false),
    (b"plus", b'+', false),
    (b"comma", b',', false),
    (b"period", b'.', false),
    (b"sol", b'/', false),
    (b"colon", b':', false),
    (b"semi", b';', false),
    (b"equals", b'=', false),
    (b"quest", b'?', false),
    (b"commat", b'@', false),
    (b"lsqb", b'[', false),
    (b"lbrack", b'[', false),
    (b"bsol", b'\\', false),
    (b"rsqb", b']', false),
    (b"rbrack", b']', false),
    (b"Hat", b'^', false),
    (b"lowbar", b'_', false),
    (b"grave", b'`', false),
    (b"lcub", b'{', false),
    (b"lbrace", b'{', false),
    (b"verbar", b'|', false),
    (b"vert", b'|', false),
    (b"rcub", b'}', false),
    (b"rbrace", b'}', false),
];

/// Digits of a number; leading zeros count.
const MAX_DIGITS: usize = 8;

/// Decoder of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Html {
    held: Held,
}

impl Html {
    /// Decodes the next bytes; what is no reference stays as it is.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.held.push_all(&How, input, out);
    }
    /// The stream is over: gives out what is still held.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.held.settle(&How, true, out);
    }
}

/// Where the first reference of a text begins, or one may that goes on behind its end.
pub(crate) fn first(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'&', text).find(|at| How.read(text.get(*at..).unwrap_or_default()) != Escape::Plain)
}

/// Decodes a whole text. False when it has no reference: then `out` is a copy.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let mut decoder = Html::default();
    decoder.push(text, out);
    decoder.finish(out);
    out.get(before..) != Some(text)
}

#[derive(Clone, Copy)]
struct How;

impl Escapes for How {
    fn start(&self, text: &[u8]) -> Option<usize> {
        memchr::memchr(b'&', text)
    }
    fn read(&self, text: &[u8]) -> Escape {
        match text {
            [b'&'] | [b'&', b'#'] => Escape::More,
            [b'&', b'#', b'x' | b'X', digits @ ..] => number(digits, 16, 3),
            [b'&', b'#', digits @ ..] => number(digits, 10, 2),
            [b'&', name @ ..] => named(name),
            _ => Escape::Plain,
        }
    }
    fn write(&self, character: u32, out: &mut Vec<u8>) {
        let character = char::from_u32(character).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn number(text: &[u8], radix: u32, before: usize) -> Escape {
    let mut value = 0_u32;
    for at in 0..=MAX_DIGITS {
        let taken = before.saturating_add(at);
        let Some(byte) = text.get(at) else { return Escape::More };
        match char::from(*byte).to_digit(radix) {
            Some(digit) if at < MAX_DIGITS => value = value.wrapping_mul(radix).wrapping_add(digit),
            Some(_) => return Escape::Plain,
            None if at == 0 => return Escape::Plain,
            None => return Escape::Is(value, taken.saturating_add(usize::from(*byte == b';'))),
        }
    }
    Escape::Plain
}

/// The names that have a byte at their first or second place, as bits.
static BEGINNINGS: LazyLock<[[u64; 256]; 2]> = LazyLock::new(|| {
    let mut beginnings = [[0; 256]; 2];
    for (number, (name, ..)) in NAMES.iter().enumerate() {
        for (names, byte) in beginnings.iter_mut().zip(*name) {
            if let Some(place) = names.get_mut(usize::from(*byte)) {
                *place |= 1 << number;
            }
        }
    }
    beginnings
});

fn named(text: &[u8]) -> Escape {
    let mut may_come = false;
    // Of most ampersands, what follows is no name's beginning.
    let mut left = BEGINNINGS
        .iter()
        .zip(text)
        .fold(u64::MAX, |left, (names, byte)| left & names.get(usize::from(*byte)).copied().unwrap_or(0));
    // Each turn takes a name away.
    while let Some((name, byte, alone)) = NAMES.get(usize::try_from(left.trailing_zeros()).unwrap_or(64)) {
        left &= left.wrapping_sub(1);
        let Some(rest) = text.strip_prefix(*name) else {
            may_come |= name.starts_with(text);
            continue;
        };
        let length = name.len().saturating_add(1);
        match rest.first() {
            Some(b';') => return Escape::Is(u32::from(*byte), length.saturating_add(1)),
            Some(_) if *alone => return Escape::Is(u32::from(*byte), length),
            Some(_) => {}
            None => may_come = true,
        }
    }
    if may_come { Escape::More } else { Escape::Plain }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers_are_decoded_and_other_text_stays() {
        for (text, want) in [
            ("&lt;script&gt;", "<script>"),
            ("&ltscript", "<script"),
            ("&#60;&#x3C;&#0060;&#x3c", "<<<&#x3c"),
            ("&#x3c,", "<,"),
            ("java&colon;&Tab;x", "java:\tx"),
            ("a & b &unknown; &#; &#x;", "a & b &unknown; &#; &#x;"),
            ("&&lt;", "&<"),
            ("&#233;", "\u{e9}"),
            ("&#999999999;", "&#999999999;"),
            ("&lbrace;", "{"),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(text.as_bytes(), &mut out), text != want, "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn where_the_text_is_cut_does_not_matter(
            text in vec(prop::sample::select(b"&#x36;ltgampcolnbre".to_vec()), 0..60),
            cuts in vec(1_usize..5, 1..20),
        ) {
            let mut whole = Vec::new();
            decode(&text, &mut whole);
            let (mut decoder, mut out, mut rest) = (Html::default(), Vec::new(), text.as_slice());
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
