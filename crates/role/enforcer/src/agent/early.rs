//! Programs and deeds of containers whose cgroup is not known here yet. The kernel has judged them by the row that the cgroup
//! inherited; on a busy machine their records come before the news of the cgroup, and wait for it to have an owner.

use std::time::Duration;

use nv_model::name::GroupName;
use nv_model::profile::EffectiveProfile;
use nv_model::verdict::Verdict;
use nv_policy::decide::{Call, ProgramFacts};
use nv_probe::events::{DeedEvent, Exec};

use super::Agent;
use crate::identity::workloads::Owner;

/// Most that wait; what is beyond is told as the host's, like what nobody claims in time.
const MAX_EARLY: usize = 1024;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that waits.
#[derive(Debug)]
pub(super) enum Early {
    Exec(Box<Exec>),
    Deed(Box<DeedEvent>),
}

impl Early {
    fn cgroup(&self) -> u64 {
        match self {
            Self::Exec(exec) => exec.cgroup,
            Self::Deed(did) => did.cgroup,
        }
    }
}

impl Agent {
    /// Whether a program was judged by another profile than the host's, and is in no container that is known.
    pub(super) fn is_early(&self, exec: &Exec) -> bool {
        !exec.runtime
            && exec.profile != 0
            && exec.profile != self.profile_number(&GroupName::nodes())
            && self.early.len() < MAX_EARLY
            && self.workloads.owner(exec.cgroup) == Owner::Host
    }

    /// Whether a deed is of a container that is not known. Only containers' deeds are recorded.
    pub(super) fn is_early_deed(&self, did: &DeedEvent) -> bool {
        self.early.len() < MAX_EARLY && self.workloads.owner(did.cgroup) == Owner::Host
    }

    pub(super) fn hold(&mut self, early: Early) {
        self.early.push((self.setup.clock.monotonic(), early));
    }

    /// Tells those whose cgroup has an owner by now, and those that have waited long enough.
    pub(super) fn tell_early(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let now = self.setup.clock.monotonic();
        let (told, waiting) = std::mem::take(&mut self.early).into_iter().partition(|(since, early)| {
            now.saturating_sub(*since) >= PATIENCE || self.workloads.owner(early.cgroup()) != Owner::Host
        });
        self.early = waiting;
        let told: Vec<(Duration, Early)> = told;
        for (_, early) in told {
            match early {
                Early::Exec(exec) => self.exec(*exec),
                Early::Deed(did) => self.did(&did),
            }
        }
    }

    /// What a program's own profile says of it that was judged by the profile of nobody, as the container was not in its
    /// place yet. It ran, so that it was not stopped; but it is not learned into a profile that does not learn.
    pub(super) fn verdict_afterwards(&self, group: &GroupName, exec: &Exec) -> Verdict {
        let profile = self.setup.held.policy.profiles.get(group);
        match (profile, exec.verdict) {
            (Some(profile), Verdict::Learn) => {
                // What ran it and its whole arguments are not in a record: a condition on these fails in the safe
                // direction.
                let call = Call { uid: Some(exec.uid), ..Call::default() };
                let facts = ProgramFacts {
                    drifted: exec.drifted,
                    foreign: exec.foreign,
                    script: exec.script,
                    stranger: exec.stranger,
                    call,
                };
                afterwards(profile, &exec.path, facts)
            }
            (_, verdict) => verdict,
        }
    }
}

fn afterwards(profile: &EffectiveProfile, path: &str, facts: ProgramFacts<'_>) -> Verdict {
    match nv_policy::decide::process(profile, path, facts).verdict {
        Verdict::Deny => Verdict::Violate,
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use nv_model::mode::{Baseline, Fault, Mode};

    use super::*;

    #[test]
    fn what_ran_before_its_profile_was_in_place_is_reported_and_not_learned_into_it() {
        for (mode, want) in [
            (Mode::Discover, Verdict::Learn),
            (Mode::Monitor, Verdict::Violate),
            (Mode::Protect, Verdict::Violate),
        ] {
            let profile = EffectiveProfile {
                group: "nv.web.shop".parse().unwrap(),
                mode,
                baseline: Baseline::Basic,
                rules: Vec::new(),
                alert_disabled: false,
                fault: Fault::Open,
                files: Default::default(),
            };
            let facts = ProgramFacts { drifted: true, ..ProgramFacts::default() };
            assert_eq!(afterwards(&profile, "/tmp/evil", facts), want, "{mode:?}");
        }
    }
}
