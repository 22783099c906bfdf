//! How many observations of a kind may be told in a second, and which ones at all while load is shed.

use std::time::Duration;

use nv_model::observation::Observation;
use nv_model::vitals::{Drops, Shedding};

use crate::uplink::worth::{self, Kind, Worth};

/// Most observations of a kind told in a second, in the long run; as many again at once. A controller takes some
/// ten thousand a second of all its nodes.
const PER_SECOND: [(Kind, u32); 5] = [
    (Kind::Exec, 1_000),
    (Kind::File, 1_000),
    (Kind::Connection, 4_000),
    (Kind::Behaviour, 500),
    (Kind::Usage, 2_000),
];
/// The part of it that only violations may use, so that no flood of plain activity hides one.
const KEPT_FOR_VIOLATIONS: f64 = 0.5;

/// Lets through what may be told, and counts what may not.
#[derive(Debug)]
pub(crate) struct Gate {
    buckets: [Bucket; PER_SECOND.len()],
    drops: Drops,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    kind: Kind,
    per_second: f64,
    tokens: f64,
    filled: Duration,
}

impl Gate {
    /// Full at the start.
    pub(crate) fn new() -> Self {
        let buckets = PER_SECOND.map(|(kind, rate)| {
            let per_second = f64::from(rate);
            Bucket { kind, per_second, tokens: 2.0 * per_second, filled: Duration::ZERO }
        });
        Self { buckets, drops: Drops::default() }
    }

    /// Whether `observation` may be told at `now`, a monotonic time.
    pub(crate) fn admits(&mut self, observation: &Observation, shedding: Shedding, now: Duration) -> bool {
        let (kind, worth) = worth::of(observation);
        let passes = worth.is_told(shedding)
            && self
                .buckets
                .iter_mut()
                .find(|bucket| bucket.kind == kind)
                .is_none_or(|bucket| bucket.take(worth, now));
        if !passes {
            worth::count(&mut self.drops, kind, 1);
        }
        passes
    }

    /// What did not pass since the start.
    pub(crate) fn drops(&self) -> Drops {
        self.drops
    }
}

impl Bucket {
    fn take(&mut self, worth: Worth, now: Duration) -> bool {
        let most = 2.0 * self.per_second;
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(most);
        self.filled = now;
        let floor = if worth >= Worth::Violation { 0.0 } else { most * KEPT_FOR_VIOLATIONS };
        let passes = self.tokens >= floor + 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use nv_model::time::Timestamp;
    use nv_model::verdict::Verdict;

    use super::*;
    use crate::testing::ran;

    fn usage() -> Observation {
        Observation::Usage { workload: None, usage: Default::default(), at: Timestamp::NEVER }
    }

    #[test]
    fn a_flood_of_learning_does_not_hide_a_violation() {
        let mut gate = Gate::new();
        let second = Duration::from_secs(1);
        let passed = |gate: &mut Gate, verdict, now| {
            (0..5_000).filter(|_| gate.admits(&ran("/bin/x", verdict), Shedding::Nothing, now)).count()
        };
        assert_eq!(passed(&mut gate, Verdict::Learn, second), 1_000);
        assert_eq!(
            passed(&mut gate, Verdict::Deny, second),
            1_000,
            "half is kept for what is against the rules"
        );
        assert_eq!(gate.drops(), Drops { exec: 8_000, ..Drops::default() });
        assert_eq!(passed(&mut gate, Verdict::Deny, 2 * second), 1_000, "it fills again by time");
    }

    #[test]
    fn while_load_is_shed_only_what_is_worth_it_passes() {
        let mut gate = Gate::new();
        let mut told = |observation: &Observation, level| gate.admits(observation, level, Duration::ZERO);
        assert!(told(&usage(), Shedding::Activity) && !told(&usage(), Shedding::Usage));
        assert!(!told(&ran("/bin/x", Verdict::Learn), Shedding::Learning));
        assert!(told(&ran("/bin/x", Verdict::Violate), Shedding::Learning));
        assert_eq!(gate.drops(), Drops { exec: 1, usage: 1, ..Drops::default() });
    }
}
