//! Numbers of records: what is missing shows by a gap.

use std::collections::BTreeMap;

/// The numbers that have come. The kernel counts the records of a CPU, also those that find the ring full.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The number that comes next, by CPU.
    next: BTreeMap<u32, u32>,
    missing: u64,
}

impl Sequences {
    /// A record has come. What a CPU numbered before its first one is not known, as another reader may have had it.
    pub(super) fn see(&mut self, cpu: u32, sequence: u32) {
        let next = self.next.entry(cpu).or_insert(sequence);
        let ahead = sequence.wrapping_sub(*next);
        if ahead <= u32::MAX / 2 {
            self.missing = self.missing.saturating_add(ahead.into());
            *next = sequence.wrapping_add(1);
        } else {
            // A program was interrupted by another one between being counted and its place in the ring. Where it was before
            // it had its number, both have the later one and the earlier is nobody's.
            self.missing = self.missing.saturating_sub(1);
        }
    }

    /// Records that have not come, though a later one of their CPU has.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(seen: &[(u32, u32)]) -> u64 {
        let mut sequences = Sequences::default();
        seen.iter().for_each(|(cpu, sequence)| sequences.see(*cpu, *sequence));
        sequences.missing()
    }

    #[test]
    fn what_is_missing_shows_by_the_next_record_of_its_cpu() {
        for (seen, want) in [
            (&[(0, 7), (0, 8), (0, 9)][..], 0),
            (&[(0, 7), (1, 500), (0, 8), (1, 501)], 0),
            (&[(0, 7), (0, 10)], 2),
            (&[(0, 7), (1, 3), (1, 5), (0, 9)], 2),
            (&[(0, u32::MAX), (0, 0), (0, 2)], 1),
        ] {
            assert_eq!(missing(seen), want, "{seen:?}");
        }
    }

    #[test]
    fn a_record_that_comes_late_is_not_missing() {
        assert_eq!(missing(&[(0, 7), (0, 9), (0, 8), (0, 10)]), 0);
        assert_eq!(missing(&[(0, 7), (0, 9), (0, 9), (0, 10)]), 0);
        assert_eq!(missing(&[(0, u32::MAX - 1), (0, 0), (0, u32::MAX), (0, 1)]), 0);
    }
}
