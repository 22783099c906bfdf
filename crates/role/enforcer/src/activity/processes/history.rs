//! What ran before: processes that have ended, programs that another one replaced, programs that were stopped.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use nv_model::name::WorkloadId;

use super::Process;

/// Entries of one workload, or of the host; the oldest go.
const MAX_EACH: usize = 512;
/// Entries of all of them together; then the longest history gives up its oldest.
const MAX_ALL: usize = 16_384;

/// Something that ran and does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) pid: u32,
    pub(crate) process: Process,
    /// When it ended, since boot.
    pub(crate) ended: Duration,
    /// How, as wait(2) gives it; `None` where the process went on as another program, or never began.
    pub(crate) exit: Option<u32>,
}

/// By workload; `None` is the host.
#[derive(Debug, Default)]
pub(crate) struct History {
    past: HashMap<Option<WorkloadId>, VecDeque<Past>>,
    total: usize,
}

impl History {
    /// Something has ended.
    pub(crate) fn add(&mut self, owner: Option<WorkloadId>, past: Past) {
        if self.total >= MAX_ALL
            && let Some(longest) = self.past.values_mut().max_by_key(|entries| entries.len())
            && longest.pop_front().is_some()
        {
            self.total = self.total.saturating_sub(1);
        }
        let entries = self.past.entry(owner).or_default();
        entries.push_back(past);
        self.total += 1;
        if entries.len() > MAX_EACH && entries.pop_front().is_some() {
            self.total = self.total.saturating_sub(1);
        }
    }

    /// What ended in a workload, the longest ago first.
    pub(crate) fn of(&self, owner: &Option<WorkloadId>) -> impl Iterator<Item = &Past> {
        self.past.get(owner).into_iter().flatten()
    }

    /// The workload is gone.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) {
        let gone = self.past.remove(&Some(workload.clone())).map_or(0, |entries| entries.len());
        self.total = self.total.saturating_sub(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(pid: u32) -> Past {
        Past { pid, process: Process::default(), ended: Duration::ZERO, exit: Some(0) }
    }
    fn owner(number: usize) -> Option<WorkloadId> {
        Some(format!("w{number}").parse().unwrap())
    }

    #[test]
    fn one_busy_workload_does_not_push_out_the_history_of_another() {
        let mut history = History::default();
        history.add(owner(1), past(1));
        for pid in 0..10_000 {
            history.add(owner(2), past(pid));
        }
        assert_eq!(history.of(&owner(1)).map(|past| past.pid).collect::<Vec<_>>(), [1]);
        assert_eq!(history.of(&owner(2)).count(), MAX_EACH);
        assert_eq!(history.of(&owner(2)).last().unwrap().pid, 9999);
    }

    #[test]
    fn all_of_it_together_is_bounded_and_the_longest_gives() {
        let mut history = History::default();
        history.add(owner(0), past(7));
        for number in 0..100_000 {
            history.add(owner(1 + number % 100), past(1));
        }
        let total: usize = history.past.values().map(VecDeque::len).sum();
        assert_eq!((total, history.total), (MAX_ALL, MAX_ALL));
        assert_eq!(history.of(&owner(0)).count(), 1);
        history.forget(&"w1".parse().unwrap());
        assert_eq!(history.of(&owner(1)).count(), 0);
        assert!(history.total < MAX_ALL);
    }
}
