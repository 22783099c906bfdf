//! Many needles in one pass, found by short pieces of them: a few by comparing many bytes at once, more by looking up
//! four bytes at every second to eighth place.
//!
//! Letters match in either case. What the pieces find is compared with the whole needle, so a piece too much costs time
//! and changes nothing.

mod grams;
mod packed;

use grams::Grams;
use packed::Packed;

/// Where a piece of a needle lies: the needle, and the bytes of it before the piece.
type Place = (u16, u8);

/// Needles that are looked for together.
#[derive(Clone, Debug)]
pub(crate) struct Needles {
    needles: Vec<Vec<u8>>,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Packed(Packed),
    Grams(Grams),
}

impl Needles {
    /// Needles so few that they are found many bytes at once; `None` where they are more, or this machine cannot.
    pub(crate) fn few(needles: &[Vec<u8>]) -> Option<Self> {
        Some(Self { needles: needles.to_vec(), how: How::Packed(Packed::new(needles)?) })
    }

    /// Any needles in lower case of three bytes or more, 65,535 at most; `None` for none. The longer the shortest is, the
    /// fewer places are looked at.
    pub(crate) fn many(needles: &[Vec<u8>]) -> Option<Self> {
        Some(Self { needles: needles.to_vec(), how: How::Grams(Grams::new(needles)?) })
    }

    /// Tells each needle that ends in `data` behind its first `from` bytes: which, and the offset behind its last byte.
    pub(crate) fn find(&self, data: &[u8], from: usize, found: &mut impl FnMut(u16, usize)) {
        let mut verify = |at: usize, (index, before): Place| {
            let Some(needle) = self.needles.get(usize::from(index)) else { return };
            let Some(start) = at.checked_sub(usize::from(before)) else { return };
            let end = start.saturating_add(needle.len());
            if end > from && data.get(start..end).is_some_and(|text| text.eq_ignore_ascii_case(needle)) {
                found(index, end);
            }
        };
        match &self.how {
            How::Packed(packed) => packed.find(data, &mut verify),
            How::Grams(grams) => grams.find(data, &mut verify),
        }
    }
}

/// What the beginnings of needles end with, so that a text that ends with none of them need not be looked at again
/// together with what follows.
#[derive(Clone)]
pub(crate) struct Openings {
    /// Of each byte, which bytes may stand before it, by their low five bits (in either case the same).
    before: Box<[u32; 256]>,
}

impl std::fmt::Debug for Openings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Openings").finish_non_exhaustive()
    }
}

impl Default for Openings {
    fn default() -> Self {
        Self { before: Box::new([0; 256]) }
    }
}

impl Openings {
    /// Adds the beginnings of a needle in lower case.
    pub(crate) fn add(&mut self, needle: &[u8]) {
        let mut add = |last: u8, before: u32| {
            for byte in [last, last.to_ascii_uppercase()] {
                if let Some(place) = self.before.get_mut(usize::from(byte)) {
                    *place |= before;
                }
            }
        };
        if let Some(first) = needle.first() {
            add(*first, u32::MAX);
        }
        let (beginning, _) = needle.split_at(needle.len().saturating_sub(1));
        for pair in beginning.windows(2) {
            if let [before, last] = pair {
                add(*last, 1 << (before & 31));
            }
        }
    }

    /// Whether a text may end with the beginning of a needle.
    pub(crate) fn may_end(&self, text: &[u8]) -> bool {
        let before = |byte: &u8| self.before.get(usize::from(*byte)).copied().unwrap_or(0);
        match text {
            [.., one, last] => before(last) & (1 << (one & 31)) != 0,
            [last] => before(last) != 0,
            [] => false,
        }
    }
}

/// How seldom a piece of a needle is met in text, roughly.
fn rarity(piece: &[u8]) -> usize {
    let sum: usize = piece
        .iter()
        .map(|byte| match byte {
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'h' | b'l' | b'd' | b' ' | b'0' => 2,
            b'j' | b'q' | b'x' | b'z' => 4,
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b',' | b'-' | b'/' | b'"' | b'=' => 3,
            _ => 4,
        })
        .sum();
    // Rules and indentation are made of one byte.
    if piece.windows(2).all(|pair| matches!(pair, [a, b] if a == b)) { 0 } else { sum }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_needle_is_found_at_each_of_its_ends(
            needles in vec("[abc]{3,6}|[ab]{7,16}", 1..8),
            data in "[abcABCx]{0,120}|[ab]{0,200}",
            from in 0_usize..10,
        ) {
            let needles: Vec<Vec<u8>> = needles.into_iter().map(String::into_bytes).collect();
            let lower = data.to_ascii_lowercase().into_bytes();
            let mut want = Vec::new();
            for end in from + 1..=lower.len() {
                for (index, needle) in (0_u16..).zip(&needles) {
                    if lower[..end].ends_with(needle) {
                        want.push((end, index));
                    }
                }
            }
            want.sort_unstable();
            for table in [Needles::few(&needles), Needles::many(&needles)].into_iter().flatten() {
                let mut got = Vec::new();
                table.find(data.as_bytes(), from, &mut |index, end| got.push((end, index)));
                got.sort_unstable();
                prop_assert_eq!(&got, &want, "{:?}", table);
            }
        }
    }

    #[test]
    fn a_text_may_go_on_as_a_needle_where_it_ends_with_the_beginning_of_one() {
        let mut openings = Openings::default();
        openings.add(b"secret");
        openings.add(b"-----begin");
        for (text, want) in [
            (&b"a SEC"[..], true),
            (b"the secre", true),
            (b"the secret", false),
            (b"xs", true),
            (b"s", true),
            (b"e", true),
            (b"xe", false),
            (b"--", true),
            (b"x", false),
            (b"", false),
        ] {
            assert_eq!(openings.may_end(text), want, "{text:?}");
        }
        assert!(!Openings::default().may_end(b"ab"));
    }

    #[test]
    fn a_set_of_words_is_found_as_few_and_as_many() {
        let needles =
            [&b"-----begin "[..], b"akia", b"confidential", b"ghp_", b"password"].map(<[u8]>::to_vec);
        assert!(Needles::few(&needles).is_some());
        let many: Vec<_> = (b'a'..=b'z').map(|letter| vec![letter; 3]).collect();
        assert!(Needles::few(&many).is_none());
        assert!(Needles::many(&many).is_some());
        assert!(Needles::many(&[]).is_none());
    }
}
