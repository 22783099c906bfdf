//! Failed logins: counted by name, so that guessing stops after a few. Unknown names are counted like known ones,
//! so that a block does not tell which names exist.

use std::collections::HashMap;
use std::time::Duration;

/// Most unknown names that are counted; the oldest is forgotten for a new one.
pub const MAX_UNKNOWN: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Duration,
}

/// Counts failures in a row. Times are those of a monotonic clock.
#[derive(Debug, Default)]
pub struct Throttle {
    known: HashMap<String, Failures>,
    unknown: HashMap<String, Failures>,
    /// Unknown names that were forgotten because there were too many.
    forgotten: u64,
}

impl Throttle {
    /// Whether `name` is blocked: `limit` failures, the last of them less than `block` ago.
    #[must_use]
    pub fn is_blocked(&self, name: &str, rule: Option<(u32, Duration)>, now: Duration) -> bool {
        let Some((limit, block)) = rule else { return false };
        self.known
            .get(name)
            .or_else(|| self.unknown.get(name))
            .is_some_and(|f| f.count >= limit && now.saturating_sub(f.last) < block)
    }

    /// Counts a failure; true when it is the one that blocks.
    pub fn failed(&mut self, name: &str, known: bool, rule: Option<(u32, Duration)>, now: Duration) -> bool {
        let Some((limit, block)) = rule else { return false };
        if !known && self.unknown.len() >= MAX_UNKNOWN && !self.unknown.contains_key(name) {
            let oldest = self.unknown.iter().min_by_key(|(_, f)| f.last).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                self.unknown.remove(&oldest);
                self.forgotten = self.forgotten.saturating_add(1);
            }
        }
        let table = if known { &mut self.known } else { &mut self.unknown };
        let entry = table.entry(name.chars().take(128).collect()).or_insert(Failures { count: 0, last: now });
        // A block that has passed, or failures as long ago, start the count again.
        if now.saturating_sub(entry.last) >= block {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        entry.count == limit
    }

    /// Forgets the failures of a name: it logged in, or an administrator said so. True when there were any.
    pub fn clear(&mut self, name: &str) -> bool {
        let unknown = self.unknown.remove(name).is_some();
        self.known.remove(name).is_some() || unknown
    }

    /// How many unknown names were forgotten because there were too many.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Option<(u32, Duration)> = Some((5, Duration::from_secs(3_600)));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_fifth_failure_blocks_for_an_hour_whether_the_name_exists_or_not() {
        for known in [true, false] {
            let mut throttle = Throttle::default();
            for n in 1..=4 {
                assert!(!throttle.failed("joe", known, RULE, at(n)));
                assert!(!throttle.is_blocked("joe", RULE, at(n)));
            }
            assert!(throttle.failed("joe", known, RULE, at(5)), "the fifth blocks");
            assert!(throttle.is_blocked("joe", RULE, at(3_604)));
            assert!(!throttle.is_blocked("joe", RULE, at(3_605)));
            assert!(!throttle.failed("joe", known, RULE, at(3_700)), "the count starts again");
            assert!(!throttle.is_blocked("joe", RULE, at(3_701)));
        }
    }

    #[test]
    fn success_clears_the_count() {
        let mut throttle = Throttle::default();
        for n in 1..=4 {
            throttle.failed("joe", true, RULE, at(n));
        }
        assert!(throttle.clear("joe"));
        assert!(!throttle.failed("joe", true, RULE, at(9)));
        assert!(!throttle.is_blocked("joe", RULE, at(9)));
    }

    #[test]
    fn made_up_names_push_out_only_each_other() {
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            throttle.failed("joe", true, RULE, at(0));
        }
        for n in 0..u64::try_from(MAX_UNKNOWN).unwrap() + 10 {
            throttle.failed(&format!("x{n}"), false, RULE, at(n));
        }
        assert!(throttle.is_blocked("joe", RULE, at(10)));
        assert_eq!(throttle.forgotten(), 10);
    }
}
