//! Folds repeats: the first of its kind is logged at once, its repeats of the next minute as one record with a count.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// How long repeats are folded.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Kinds that are folded at one time; beyond that, records are logged one by one.
pub(crate) const MAX_OPEN: usize = 16_384;

/// Repeats of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open<R> {
    since: Duration,
    repeats: u32,
    last: Option<R>,
}

/// The kinds that are open now.
#[derive(Debug)]
pub(crate) struct Fold<K, R> {
    open: HashMap<K, Open<R>>,
}

impl<K: Eq + Hash, R> Default for Fold<K, R> {
    fn default() -> Self {
        Self { open: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, R> Fold<K, R> {
    /// Takes a record that stands for `count` deeds; gives it back when it is to be logged now.
    pub(crate) fn take(&mut self, now: Duration, key: &K, record: R, count: u32) -> Option<R> {
        if let Some(open) = self.open.get_mut(key) {
            open.repeats = open.repeats.saturating_add(count);
            open.last = Some(record);
            return None;
        }
        if self.open.len() < MAX_OPEN {
            self.open.insert(key.clone(), Open { since: now, repeats: 0, last: None });
        }
        Some(record)
    }

    /// Whether repeats of this kind are being folded.
    pub(crate) fn is_open(&self, key: &K) -> bool {
        self.open.contains_key(key)
    }

    /// The kinds whose minute is over: the last of the repeats and how many there were. `all` closes every one.
    pub(crate) fn close(&mut self, now: Duration, all: bool) -> Vec<(R, u32)> {
        let over: Vec<K> = self
            .open
            .iter()
            .filter(|(_, open)| all || now.saturating_sub(open.since) >= WINDOW)
            .map(|(key, _)| key.clone())
            .collect();
        let closed = over.into_iter().filter_map(|key| self.open.remove(&key));
        closed.filter_map(|open| open.last.map(|record| (record, open.repeats))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_at_once_and_its_repeats_once_a_minute_with_their_count() {
        let mut fold = Fold::default();
        let second = Duration::from_secs;
        assert_eq!(fold.take(second(1), &"a", "first", 1), Some("first"));
        assert_eq!(fold.take(second(2), &"a", "again", 2), None);
        assert_eq!(fold.take(second(3), &"b", "other", 1), Some("other"));
        assert_eq!(fold.take(second(50), &"a", "last", 1), None);
        assert!(fold.close(second(60), false).is_empty());
        assert_eq!(fold.close(second(61), false), [("last", 3)]);
        assert_eq!(fold.take(second(62), &"a", "new", 1), Some("new"));
    }

    #[test]
    fn what_does_not_fit_is_logged_one_by_one_and_not_lost() {
        let mut fold = Fold::default();
        for key in 0..MAX_OPEN {
            assert!(fold.take(Duration::ZERO, &key, key, 1).is_some());
        }
        assert_eq!(fold.take(Duration::ZERO, &MAX_OPEN, 1, 1), Some(1));
        assert_eq!(fold.take(Duration::ZERO, &MAX_OPEN, 2, 1), Some(2));
    }
}
