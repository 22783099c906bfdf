//! What an observation is about and what it is worth: by the one drops are counted, by the other they are chosen.

use nv_model::observation::Observation;
use nv_model::verdict::Verdict;
use nv_model::vitals::{Drops, Shedding};

/// What something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Lifecycle,
    File,
    Connection,
    Behaviour,
    Usage,
    /// What the controller must have to understand the rest: workloads, drops. Few, and never left out by choice.
    State,
}

/// How much is lost when it is left out; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// What is allowed and known: the next one like it tells the same.
    Activity,
    /// A sample: the next one replaces it.
    Usage,
    /// What a profile or rule is made of: without it something good is stopped later.
    Learning,
    /// What was against the rules: it is what the operator pays for.
    Violation,
    /// Without it the rest is not understood.
    State,
}

impl Worth {
    /// All of them, the least first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Activity, Self::Usage, Self::Learning, Self::Violation, Self::State];

    /// Of something that was judged so.
    pub(crate) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Open | Verdict::Allow => Self::Activity,
            Verdict::Learn => Self::Learning,
            Verdict::Violate | Verdict::Deny => Self::Violation,
        }
    }
    /// Whether it is still told when so much is left out.
    pub(crate) const fn is_told(self, shedding: Shedding) -> bool {
        match (self, shedding) {
            (Self::Violation | Self::State, _) | (_, Shedding::Nothing) => true,
            (Self::Activity, _) => false,
            (Self::Usage, level) => matches!(level, Shedding::Activity),
            (Self::Learning, level) => !matches!(level, Shedding::Learning),
        }
    }
}

/// What an observation is about, and its worth.
pub(crate) fn of(observation: &Observation) -> (Kind, Worth) {
    match observation {
        Observation::Process(seen) => (Kind::Exec, Worth::of(seen.verdict)),
        Observation::File(seen) => (Kind::File, Worth::of(seen.verdict)),
        Observation::Behaviour(_) => (Kind::Behaviour, Worth::Violation),
        Observation::Threat(_) => (Kind::Connection, Worth::Violation),
        Observation::Connection(seen) => (Kind::Connection, Worth::of(seen.verdict)),
        Observation::Usage { .. } | Observation::Ingress { .. } => (Kind::Usage, Worth::Usage),
        Observation::Workload(_) | Observation::WorkloadGone { .. } | Observation::Dropped { .. } => {
            (Kind::State, Worth::State)
        }
    }
}

/// Counts what was left out.
pub(crate) fn count(drops: &mut Drops, kind: Kind, by: u64) {
    let counter = match kind {
        Kind::Exec => &mut drops.exec,
        Kind::Lifecycle => &mut drops.lifecycle,
        Kind::File => &mut drops.file,
        Kind::Connection => &mut drops.connection,
        Kind::Behaviour => &mut drops.behaviour,
        Kind::Usage => &mut drops.usage,
        // There is no word for it, and it is in the queue's total.
        Kind::State => return,
    };
    *counter = counter.saturating_add(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_grows_by_worth_and_violations_stay() {
        for (level, told) in [
            (Shedding::Nothing, [true, true, true, true, true]),
            (Shedding::Activity, [false, true, true, true, true]),
            (Shedding::Usage, [false, false, true, true, true]),
            (Shedding::Learning, [false, false, false, true, true]),
        ] {
            assert_eq!(Worth::ALL.map(|worth| worth.is_told(level)), told, "{level:?}");
        }
        assert!(Worth::ALL.is_sorted());
    }
}
