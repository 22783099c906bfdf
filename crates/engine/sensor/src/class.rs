//! Bytes of one class (digits and separators, the alphabet of base64), and the runs of them in a text.
//!
//! Most of a text has no long run. Blocks of 64 bytes are looked at all at once, with one range that holds the class and
//! little else, and so is what is left behind the last whole block: half of all texts are shorter than one. Only where that
//! leaves a run, bytes are looked at one by one.

use std::ops::Range;

use wide::i8x16;

use crate::span::Span;

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// A class of bytes, and how many of them in a row are a run.
#[derive(Clone)]
pub(crate) struct Class {
    bytes: Box<[bool; 256]>,
    rough: Rough,
    need: usize,
    /// What tells the places where a run begins from the bits of a block ([`steps`]).
    steps: [u32; STEPS],
}

/// Fewest bytes of a run.
const LEAST: usize = 4;
/// Doublings that make [`BLOCK`] of [`LEAST`].
const STEPS: usize = (BLOCK / LEAST).ilog2() as usize;

/// How far a block's bits are moved, one after the other, until of a run of `need` bits, of which those are left from which
/// on [`LEAST`] are set, only those are left from which on all are: what is known of the length doubles, and the last moves
/// are by what is missing, or by nothing.
fn steps(need: usize) -> [u32; STEPS] {
    let mut length = LEAST;
    [(); STEPS].map(|()| {
        let step = length.min(need.saturating_sub(length));
        length = length.saturating_add(step);
        u32::try_from(step).unwrap_or(0)
    })
}

/// A range of bytes that holds a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rough {
    /// Bits that are set before: 0x20 puts upper case and line breaks beside what else is in base64.
    fold: i8,
    span: Span,
}

impl Rough {
    /// The range behind the widest gap (seen as a circle) between the bytes of a class.
    fn new(bytes: &[bool; 256], fold: u8) -> Self {
        let members: Vec<u8> =
            (0..=u8::MAX).zip(bytes).filter(|(_, is_in)| **is_in).map(|(byte, _)| byte | fold).collect();
        let is_member = |byte: u8| members.contains(&byte);
        let (mut gap, mut widest, mut last) = (0_u8, 0_u8, u8::MAX);
        // Twice around, so that a gap over the end counts as one.
        for byte in (0..=u8::MAX).chain(0..=u8::MAX) {
            gap = if is_member(byte) { 0 } else { gap.saturating_add(1) };
            if gap > widest {
                (widest, last) = (gap, byte.wrapping_sub(gap));
            }
        }
        Self { fold: fold.cast_signed(), span: Span::new(last.wrapping_add(widest).wrapping_add(1), last) }
    }

    fn has(self, byte: u8) -> bool {
        self.span.has(byte | self.fold.cast_unsigned())
    }

    /// How many bytes it holds. Blanks part words, so that a range with them has long runs.
    fn cost(self, bytes: &[bool; 256]) -> usize {
        let blank = self.has(b' ') && !bytes.get(usize::from(b' ')).is_some_and(|is_in| *is_in);
        (0..=u8::MAX).filter(|byte| self.has(*byte)).count().saturating_add(if blank { 64 } else { 0 })
    }
}

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Class").field("rough", &self.rough).finish_non_exhaustive()
    }
}

impl Class {
    /// A class whose runs have `need` bytes or more, [`LEAST`] at least and 64 at most.
    pub(crate) fn new(bytes: Box<[bool; 256]>, need: usize) -> Self {
        let [plain, folded] = [0, 0x20].map(|fold| Rough::new(&bytes, fold));
        let rough = if folded.cost(&bytes) < plain.cost(&bytes) { folded } else { plain };
        let need = need.clamp(LEAST, BLOCK);
        Self { bytes, rough, need, steps: steps(need) }
    }

    /// The fewest bytes of a run.
    pub(crate) fn need(&self) -> usize {
        self.need
    }

    pub(crate) fn has(&self, byte: u8) -> bool {
        self.bytes.get(usize::from(byte)).copied().unwrap_or(false)
    }

    /// How many bytes at the beginning of a text are of the class.
    pub(crate) fn leading(&self, text: &[u8]) -> usize {
        text.iter().position(|byte| !self.has(*byte)).unwrap_or(text.len())
    }

    /// How many bytes at the end of a text are of the class, `most` at most.
    pub(crate) fn trailing(&self, text: &[u8], most: usize) -> usize {
        text.iter().rev().take(most).take_while(|byte| self.has(**byte)).count()
    }

    /// The first run that is not before `from`: all of it, as far as `text` goes.
    pub(crate) fn next_run(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        // Where the next block begins, and how many bytes right before it are in the range.
        let (mut at, mut before) = (from, 0_u32);
        let (steps, need) = (self.steps, u32::try_from(self.need).unwrap_or(u32::MAX));
        // Each turn goes on by a block, or behind a run in the range.
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let block = rest.first_chunk::<BLOCK>();
            let bits = match block {
                Some(block) => self.in_range(block),
                None if usize::try_from(before).unwrap_or(0).saturating_add(rest.len()) < self.need => {
                    return None;
                }
                None => self.in_range_at_the_end(text, rest),
            };
            let two = bits & (bits >> 1);
            let starts =
                steps.iter().fold(two & (two >> 2), |starts, step| starts & starts.wrapping_shr(*step));
            let crosses = before.wrapping_add(bits.trailing_ones()) >= need;
            if starts != 0 || crosses {
                let start = if crosses {
                    at.saturating_sub(usize::try_from(before).unwrap_or(0))
                } else {
                    at.saturating_add(usize::try_from(starts.trailing_zeros()).unwrap_or(0))
                };
                match self.exact(text, start) {
                    Look::Run(run) => return Some(run),
                    Look::Over(behind) => (at, before) = (behind, 0),
                    Look::End => return None,
                }
                continue;
            }
            // What is left behind the last whole block has none.
            block?;
            // Fewer than a run: else one would begin within the block.
            before = bits.leading_ones();
            at = at.wrapping_add(BLOCK);
        }
    }

    /// Looks at bytes one by one, from the last of a possible run to its first, up to the end of the run in the range.
    fn exact(&self, text: &[u8], start: usize) -> Look {
        let mut begin = start;
        // Each turn goes on by a byte at least.
        while let Some(window) = text.get(begin..begin.saturating_add(self.need)) {
            let Some(stranger) = window.iter().rposition(|byte| !self.has(*byte)) else {
                let behind = begin.saturating_add(self.need);
                let more = self.leading(text.get(behind..).unwrap_or_default());
                return Look::Run(begin..behind.saturating_add(more));
            };
            begin = begin.saturating_add(stranger).saturating_add(1);
            if window.get(stranger).is_some_and(|byte| !self.rough.has(*byte)) {
                return Look::Over(begin);
            }
        }
        Look::End
    }

    /// Which bytes of less than a block at the end of a text are in the range, none behind them.
    fn in_range_at_the_end(&self, text: &[u8], rest: &[u8]) -> u64 {
        let strangers = u32::try_from(BLOCK.saturating_sub(rest.len())).unwrap_or(0);
        let bits = match text.last_chunk::<BLOCK>() {
            // What lies before the rest makes a block of it.
            Some(block) => self.in_range(block).checked_shr(strangers),
            None => {
                let mut block = [0; BLOCK];
                if let Some(place) = block.get_mut(..rest.len()) {
                    place.copy_from_slice(rest);
                }
                Some(self.in_range(&block) & u64::MAX.checked_shr(strangers).unwrap_or(0))
            }
        };
        bits.unwrap_or(0)
    }

    /// Which bytes of a block are in the range; the first is the lowest bit.
    fn in_range(&self, block: &[u8; BLOCK]) -> u64 {
        let Rough { fold, span } = self.rough;
        let fold = i8x16::splat(fold);
        let (vectors, _) = block.as_chunks::<16>();
        let outside = vectors.iter().rev().fold(0, |bits, vector| {
            let vector = i8x16::new(vector.map(u8::cast_signed));
            (bits << 16) | u64::from(span.outside(vector | fold).to_bitmask())
        });
        !outside
    }
}

/// What looking at bytes one by one found.
enum Look {
    Run(Range<usize>),
    /// Nothing up to here.
    Over(usize),
    /// Nothing in all of the text.
    End,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(members: &[u8], need: usize) -> Class {
        let mut bytes = Box::new([false; 256]);
        for byte in members {
            bytes[usize::from(*byte)] = true;
        }
        Class::new(bytes, need)
    }

    #[test]
    fn the_range_of_a_class_holds_little_else() {
        let digits = class(b"0123456789 -", 9);
        assert_eq!((0..=u8::MAX).filter(|byte| digits.rough.has(*byte)).count(), 26);
        let base64 = class(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n", 24);
        assert!(!base64.rough.has(b' ') && !base64.rough.has(b'"'));
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert!(all.iter().all(|byte| class(&all, 9).rough.has(*byte)));
    }

    proptest! {
        #[test]
        fn a_run_is_found_where_it_is_and_whole(
            text in "([0-9 -]{0,30}[a-c.,:]{0,3}){0,12}|[0-9.]{0,300}|([0-9]{60,70}x){0,4}",
            members in prop::sample::select(vec![&b"0123456789 -"[..], b"0123456789", b"1357", b"ab"]),
            from in 0_usize..100,
            need in LEAST..=64,
        ) {
            let class = class(members, need);
            let text = text.as_bytes();
            let mut want = None;
            let mut at = from;
            while at < text.len() && want.is_none() {
                let length = class.leading(&text[at..]);
                if length >= need {
                    want = Some(at..at + length);
                }
                at += length + 1;
            }
            prop_assert_eq!(class.next_run(text, from), want);
        }

        #[test]
        fn blocks_say_of_each_byte_whether_it_is_in_the_range(block in any::<[u8; BLOCK]>(), members in any::<[u8; 4]>()) {
            let class = class(&members, 9);
            let bits = class.in_range(&block);
            for (at, byte) in block.iter().enumerate() {
                prop_assert_eq!(bits >> at & 1 == 1, class.rough.has(*byte), "{}", at);
            }
            for byte in 0..=u8::MAX {
                prop_assert!(!class.has(byte) || class.rough.has(byte), "{}", byte);
            }
        }
    }
}
