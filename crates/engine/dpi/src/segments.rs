//! Segments that came before others that belong in front of them, in pages of a bounded pool.
//!
//! A direction's pages are a list sorted by sequence number, without overlap. Where a new segment overlaps what is
//! held, the policy decides which copy stays, and a difference between them is told.

use crate::pool::{NONE, Pool};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 2048;

/// Which copy of a byte counts when a sender sends it twice with different content before it can be read. Systems
/// differ in this; inspection must read what the receiver reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlapPolicy {
    /// The one that came first (Windows, and Linux for what it has queued).
    #[default]
    First,
    /// The one that came last (Cisco IOS, some Unix systems).
    Last,
}

#[derive(Debug)]
struct Page {
    sequence: u32,
    length: usize,
    next: u32,
    data: Box<[u8; PAGE_BYTES]>,
}

/// Pages of all directions of an engine.
#[derive(Debug)]
pub(crate) struct Segments {
    pages: Pool<Page>,
    policy: OverlapPolicy,
}

/// What became of a segment that was to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes that were new.
    pub(crate) kept: u32,
    /// First byte that differs from an earlier copy.
    pub(crate) conflict: Option<u32>,
    /// No page was free for a part of it.
    pub(crate) full: bool,
}

/// How far `a` is behind `b` in sequence space.
pub(crate) fn distance(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

fn bytes(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Segments {
    pub(crate) fn new(pages: u32, policy: OverlapPolicy) -> Self {
        Self { pages: Pool::new(pages), policy }
    }

    /// Keeps `data`, which starts at `sequence`, in the list that begins at `head`.
    pub(crate) fn hold(&mut self, head: &mut u32, mut sequence: u32, mut data: &[u8]) -> Held {
        let mut outcome = Held::default();
        let (mut previous, mut current) = (NONE, *head);
        while !data.is_empty() {
            let Some(page) = self.pages.get_mut(current) else {
                // Behind the last page: all of it is new.
                self.fill(head, &mut previous, NONE, sequence, data, &mut outcome);
                return outcome;
            };
            let before = distance(page.sequence, sequence);
            if before > 0 {
                // A hole in front of this page.
                let room = usize::try_from(before).unwrap_or(0).min(data.len());
                let (new, rest) = data.split_at_checked(room).unwrap_or((data, &[]));
                self.fill(head, &mut previous, current, sequence, new, &mut outcome);
                if outcome.full {
                    return outcome;
                }
                sequence = sequence.wrapping_add(bytes(new.len()));
                data = rest;
                continue;
            }
            let offset = usize::try_from(before.unsigned_abs()).unwrap_or(usize::MAX);
            if let Some(old) = page.data.get_mut(offset..page.length).filter(|old| !old.is_empty()) {
                let common = old.len().min(data.len());
                let (new, rest) = data.split_at_checked(common).unwrap_or((data, &[]));
                for (at, (old, new)) in old.iter_mut().zip(new).enumerate() {
                    if *old != *new {
                        outcome.conflict.get_or_insert(sequence.wrapping_add(bytes(at)));
                        if self.policy == OverlapPolicy::Last {
                            *old = *new;
                        }
                    }
                }
                sequence = sequence.wrapping_add(bytes(common));
                data = rest;
            }
            (previous, current) = (current, page.next);
        }
        outcome
    }

    /// Puts new bytes between two pages of the list.
    fn fill(
        &mut self,
        head: &mut u32,
        previous: &mut u32,
        next: u32,
        mut sequence: u32,
        data: &[u8],
        outcome: &mut Held,
    ) {
        for part in data.chunks(PAGE_BYTES) {
            // The page before may have room and end where this begins.
            if let Some(page) = self.pages.get_mut(*previous)
                && page.sequence.wrapping_add(bytes(page.length)) == sequence
                && let end = page.length.saturating_add(part.len())
                && let Some(place) = page.data.get_mut(page.length..end)
            {
                place.copy_from_slice(part);
                page.length = end;
            } else {
                let Some(index) =
                    self.pages.reuse(|| Page { sequence, length: 0, next, data: Box::new([0; PAGE_BYTES]) })
                else {
                    outcome.full = true;
                    return;
                };
                if let Some(page) = self.pages.get_mut(index) {
                    (page.sequence, page.length, page.next) = (sequence, part.len(), next);
                    if let Some(place) = page.data.get_mut(..part.len()) {
                        place.copy_from_slice(part);
                    }
                }
                match self.pages.get_mut(*previous) {
                    Some(page) => page.next = index,
                    None => *head = index,
                }
                *previous = index;
            }
            outcome.kept = outcome.kept.saturating_add(bytes(part.len()));
            sequence = sequence.wrapping_add(bytes(part.len()));
        }
    }

    /// Sequence number of the first held byte.
    pub(crate) fn first(&self, head: u32) -> Option<u32> {
        self.pages.get(head).map(|page| page.sequence)
    }

    /// Takes the first page off the list into `buffer`; gives where it starts.
    pub(crate) fn take(&mut self, head: &mut u32, buffer: &mut Vec<u8>) -> Option<u32> {
        let index = *head;
        let page = self.pages.get(index)?;
        buffer.clear();
        buffer.extend_from_slice(page.data.get(..page.length).unwrap_or_default());
        let sequence = page.sequence;
        *head = page.next;
        self.pages.free(index);
        Some(sequence)
    }

    /// Pages in use.
    pub(crate) fn used(&self) -> usize {
        self.pages.used()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn drain(segments: &mut Segments, mut head: u32) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        let mut buffer = Vec::new();
        while let Some(sequence) = segments.take(&mut head, &mut buffer) {
            out.push((sequence, buffer.clone()));
        }
        out
    }

    #[test]
    fn the_policy_says_which_copy_stays_and_the_difference_is_told() {
        for (policy, want) in [(OverlapPolicy::First, b"aaXXbb"), (OverlapPolicy::Last, b"aaYYbb")] {
            let mut segments = Segments::new(16, policy);
            let mut head = NONE;
            assert_eq!(segments.hold(&mut head, 102, b"XX"), Held { kept: 2, ..Held::default() });
            let held = segments.hold(&mut head, 100, b"aaYYbb");
            assert_eq!(held, Held { kept: 4, conflict: Some(102), full: false });
            let bytes: Vec<u8> = drain(&mut segments, head).into_iter().flat_map(|(_, data)| data).collect();
            assert_eq!(bytes, want, "{policy:?}");
            assert_eq!(segments.used(), 0);
        }
    }

    #[test]
    fn pages_are_bounded() {
        let mut segments = Segments::new(1, OverlapPolicy::First);
        let mut head = NONE;
        assert!(!segments.hold(&mut head, 0, &[1; PAGE_BYTES]).full);
        assert!(segments.hold(&mut head, 10_000, b"x").full);
    }

    proptest! {
        #[test]
        fn pieces_of_one_stream_in_any_order_give_the_stream(
            start in any::<u32>(),
            pieces in vec((0_usize..9000, 1_usize..5000), 1..20),
        ) {
            let stream: Vec<u8> = (0..14_000_usize).map(|at| u8::try_from(at % 253).unwrap()).collect();
            let mut segments = Segments::new(64, OverlapPolicy::First);
            let (mut head, mut seen, mut kept) = (NONE, vec![false; stream.len()], 0);
            for (at, length) in pieces {
                let held = segments.hold(&mut head, start.wrapping_add(bytes(at)), &stream[at..at + length]);
                prop_assert_eq!((held.conflict, held.full), (None, false));
                kept += held.kept;
                seen[at..at + length].fill(true);
            }
            prop_assert_eq!(usize::try_from(kept).unwrap(), seen.iter().filter(|seen| **seen).count());
            let mut last = start;
            for (sequence, data) in drain(&mut segments, head) {
                prop_assert!(distance(sequence, last) >= 0, "sorted and without overlap");
                let at = usize::try_from(sequence.wrapping_sub(start)).unwrap();
                prop_assert_eq!(&stream[at..at + data.len()], data.as_slice());
                seen[at..at + data.len()].fill(false);
                last = sequence.wrapping_add(bytes(data.len()));
            }
            prop_assert!(seen.iter().all(|seen| !seen));
        }
    }
}
