//! Bytes of one class (digits and separators, the alphabet of base64), and the runs of them in a text.
//!
//! Most of a text has no long run. Blocks of 64 bytes are looked at all at once, with two ranges that hold the class and
//! little else; only where that leaves a run, bytes are looked at one by one.

use std::ops::Range;

use wide::u8x16;

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// A class of bytes.
#[derive(Clone)]
pub(crate) struct Class {
    bytes: Box<[bool; 256]>,
    /// Two ranges that hold all of them: the first byte of each, and how many follow.
    rough: [(u8, u8); 2],
}

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Class").field("rough", &self.rough).finish_non_exhaustive()
    }
}

impl Class {
    pub(crate) fn new(bytes: Box<[bool; 256]>) -> Self {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for (byte, _) in (0..=u8::MAX).zip(bytes.iter()).filter(|(_, is_in)| **is_in) {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(byte) => *last = byte,
                _ => ranges.push((byte, byte)),
            }
        }
        // The narrowest gap goes until two are left.
        while ranges.len() > 2 {
            let gap = |pair: &[(u8, u8)]| match pair {
                [(_, last), (first, _)] => first.saturating_sub(*last),
                _ => u8::MAX,
            };
            let Some((at, _)) = ranges.windows(2).enumerate().min_by_key(|(_, pair)| gap(pair)) else {
                break;
            };
            let (_, last) = ranges.remove(at.saturating_add(1));
            if let Some(range) = ranges.get_mut(at) {
                range.1 = last;
            }
        }
        let span = |(first, last): &(u8, u8)| (*first, last.saturating_sub(*first));
        let first = ranges.first().map_or((0, 0), span);
        Self { bytes, rough: [first, ranges.get(1).map_or(first, span)] }
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

    /// The first run of `need` bytes or more, 64 at most, that is not before `from`: all of it, as far as `text` goes.
    pub(crate) fn next_run(&self, text: &[u8], from: usize, need: usize) -> Option<Range<usize>> {
        let need = need.clamp(1, BLOCK);
        // Where the next block begins, and how many bytes right before it are in the ranges.
        let (mut at, mut before) = (from, 0_usize);
        // Each turn goes on by a block, or behind a run in the ranges.
        while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
            let bits = self.in_ranges(block);
            let starts = starts_of_runs(bits, need);
            let leading = usize::try_from(bits.trailing_ones()).unwrap_or(0);
            let crosses = before > 0 && before.saturating_add(leading) >= need;
            if crosses || starts != 0 {
                let start = if crosses {
                    at.saturating_sub(before)
                } else {
                    at.saturating_add(usize::try_from(starts.trailing_zeros()).unwrap_or(0))
                };
                match self.exact(text, start, need, true) {
                    Look::Run(run) => return Some(run),
                    Look::Over(behind) => (at, before) = (behind, 0),
                    Look::End => return None,
                }
                continue;
            }
            before = usize::try_from(bits.leading_ones()).unwrap_or(0).min(need.saturating_sub(1));
            at = at.saturating_add(BLOCK);
        }
        match self.exact(text, at.saturating_sub(before), need, false) {
            Look::Run(run) => Some(run),
            Look::Over(_) | Look::End => None,
        }
    }

    /// Looks at bytes one by one, from the last of a possible run to its first; with `leave`, up to the end of the run in
    /// the ranges.
    fn exact(&self, text: &[u8], start: usize, need: usize, leave: bool) -> Look {
        let mut begin = start;
        // Each turn goes on by a byte at least.
        while let Some(window) = text.get(begin..begin.saturating_add(need)) {
            let Some(stranger) = window.iter().rposition(|byte| !self.has(*byte)) else {
                let behind = begin.saturating_add(need);
                let more = self.leading(text.get(behind..).unwrap_or_default());
                return Look::Run(begin..behind.saturating_add(more));
            };
            begin = begin.saturating_add(stranger).saturating_add(1);
            if leave && window.get(stranger).is_some_and(|byte| !self.is_in_ranges(*byte)) {
                return Look::Over(begin);
            }
        }
        Look::End
    }

    fn is_in_ranges(&self, byte: u8) -> bool {
        self.rough.iter().any(|(first, span)| byte.wrapping_sub(*first) <= *span)
    }

    /// Which bytes of a block are in the ranges; the first is the lowest bit.
    fn in_ranges(&self, block: &[u8; BLOCK]) -> u64 {
        let [a, b] = self.rough.map(|(first, span)| (u8x16::splat(first), u8x16::splat(span)));
        let (vectors, _) = block.as_chunks::<16>();
        vectors.iter().rev().fold(0, |bits, vector| {
            let vector = u8x16::new(*vector);
            let [in_a, in_b] = [a, b].map(|(first, span)| {
                let distance = vector - first;
                distance.min(span).simd_eq(distance)
            });
            (bits << 16) | u64::from((in_a | in_b).to_bitmask())
        })
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

/// The bits from which on `need` bits are set.
fn starts_of_runs(bits: u64, need: usize) -> u64 {
    let (mut starts, mut length) = (bits, 1_usize);
    // Doubles what is known of the length.
    while length < need && starts != 0 {
        let step = length.min(need.saturating_sub(length));
        starts &= starts >> step;
        length = length.saturating_add(step);
    }
    starts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(members: &[u8]) -> Class {
        let mut bytes = Box::new([false; 256]);
        for byte in members {
            bytes[usize::from(*byte)] = true;
        }
        Class::new(bytes)
    }

    proptest! {
        #[test]
        fn a_run_is_found_where_it_is_and_whole(
            text in "([0-9 -]{0,30}[a-c.,:]{0,3}){0,12}|[0-9.]{0,300}|([0-9]{60,70}x){0,4}",
            members in prop::sample::select(vec![&b"0123456789 -"[..], b"0123456789", b"1357", b"ab"]),
            from in 0_usize..100,
            need in 1_usize..=64,
        ) {
            let class = class(members);
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
            prop_assert_eq!(class.next_run(text, from, need), want);
        }

        #[test]
        fn blocks_say_of_each_byte_whether_it_is_in_the_ranges(block in any::<[u8; BLOCK]>(), members in any::<[u8; 4]>()) {
            let class = class(&members);
            let bits = class.in_ranges(&block);
            for (at, byte) in block.iter().enumerate() {
                prop_assert_eq!(bits >> at & 1 == 1, class.is_in_ranges(*byte), "{}", at);
                prop_assert!(!class.has(*byte) || class.is_in_ranges(*byte));
            }
        }
    }
}
