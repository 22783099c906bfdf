//! What ended a moment ago. Records of a short-lived container come by another ring than its end, and may come later:
//! whose they are must still be known then.

use std::collections::VecDeque;
use std::time::Duration;

use nv_model::name::WorkloadId;

/// How long something is still known after its end.
const GRACE: Duration = Duration::from_secs(2);
/// Most that is kept of either kind; beyond it the oldest goes at the next look.
const MAX_KEPT: usize = 16_384;

/// Cgroups and workloads that have ended, the longest ago first.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    cgroups: VecDeque<(Duration, u64)>,
    workloads: VecDeque<(Duration, WorkloadId)>,
}

impl Leaving {
    /// A cgroup was removed at `now`, a monotonic time.
    pub(crate) fn cgroup(&mut self, id: u64, now: Duration) {
        self.cgroups.push_back((now, id));
    }
    /// A workload was removed.
    pub(crate) fn workload(&mut self, id: WorkloadId, now: Duration) {
        self.workloads.push_back((now, id));
    }
    /// One with this id is there again.
    pub(crate) fn is_back(&mut self, id: &WorkloadId) {
        self.workloads.retain(|(_, leaving)| leaving != id);
    }
    /// What is to be forgotten at `now`.
    pub(crate) fn due(&mut self, now: Duration) -> (Vec<u64>, Vec<WorkloadId>) {
        (take(&mut self.cgroups, now), take(&mut self.workloads, now))
    }
}

fn take<T>(queue: &mut VecDeque<(Duration, T)>, now: Duration) -> Vec<T> {
    let over = queue.len().saturating_sub(MAX_KEPT);
    let due = queue.iter().take_while(|(ended, _)| now.saturating_sub(*ended) >= GRACE).count();
    queue.drain(..due.max(over)).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_known_for_a_moment_and_one_that_is_back_stays() {
        let mut leaving = Leaving::default();
        let (one, two): (WorkloadId, WorkloadId) = ("one".parse().unwrap(), "two".parse().unwrap());
        leaving.cgroup(7, Duration::from_secs(10));
        leaving.workload(one.clone(), Duration::from_secs(10));
        leaving.workload(two.clone(), Duration::from_secs(10));
        leaving.is_back(&two);
        assert_eq!(leaving.due(Duration::from_secs(11)), (vec![], vec![]));
        assert_eq!(leaving.due(Duration::from_secs(12)), (vec![7], vec![one]));
        assert_eq!(leaving.due(Duration::from_secs(99)), (vec![], vec![]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut leaving = Leaving::default();
        for id in 0..20_000 {
            leaving.cgroup(id, Duration::ZERO);
        }
        assert_eq!(leaving.due(Duration::ZERO).0.len(), 20_000 - MAX_KEPT);
    }
}
