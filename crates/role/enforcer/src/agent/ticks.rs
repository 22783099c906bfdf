//! What is due every second and every five.

use nv_model::name::WorkloadId;
use nv_model::observation::Observation;

use super::{Agent, FOLD_INCIDENTS};

impl Agent {
    /// Every second: folded incidents are told, batches go out.
    pub(crate) fn second(&mut self) {
        self.tell_early();
        self.tell_nameless();
        self.let_go();
        self.greet();
        self.look_after_keeper();
        self.look_after_inspectors();
        self.tell_rules();
        self.look_after_queues();
        self.seat_starters();
        self.retire_earlier_versions();
        self.weigh_load();
        self.watch_files();
        self.flush_files();
        let now = self.setup.clock.monotonic();
        let mut due = Vec::new();
        self.incidents.retain(|_, (since, folded)| {
            if now.saturating_sub(*since) < FOLD_INCIDENTS {
                return true;
            }
            if folded.count > 0 {
                due.push(folded.clone());
            }
            false
        });
        for observation in due {
            self.tell(Observation::Process(Box::new(observation)));
        }
        self.repeat_behaviours();
        self.pump();
    }

    /// Every five seconds: use of CPU and memory, drops, a sign of life.
    pub(crate) fn five_seconds(&mut self) {
        let (at, now) = (self.setup.clock.now(), self.setup.clock.monotonic());
        let running: Vec<(WorkloadId, String)> = self
            .workloads
            .all()
            .filter(|local| local.workload.running && !local.workload.cgroup.is_empty())
            .map(|local| (local.workload.id.clone(), local.workload.cgroup.clone()))
            .collect();
        for (id, cgroup) in running {
            if let Some(usage) = self.usage.workload(&id, &cgroup, now) {
                self.tell(Observation::Usage { workload: Some(id), usage, at });
            }
        }
        self.forget_names();
        self.tell_ingress(at);
        self.look_for_own_addresses();
        self.look_for_ports();
        let usage = self.usage.node(now);
        self.tell(Observation::Usage { workload: None, usage, at });
        self.tell_vitals(at);
        self.pump();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use nv_model::observation::ProcessObservation;
    use nv_model::time::Timestamp;
    use nv_model::verdict::Verdict;
    use nv_telemetry::ManualClock;

    use super::*;
    use crate::testing::{agent, ran};

    /// Programs that were told, each with how often.
    fn told(agent: &mut Agent) -> Vec<u32> {
        let batch = agent.outbox.next_batch().map(|(_, batch)| batch).unwrap_or_default();
        let count = |observation| match observation {
            Observation::Process(seen) => Some(seen.count),
            _ => None,
        };
        batch.into_iter().filter_map(count).collect()
    }

    #[test]
    fn a_jump_of_the_wall_clock_neither_hurries_nor_holds_back() {
        let noon = Timestamp::from_seconds(1_800_000_000);
        let clock = Arc::new(ManualClock::new(noon));
        let mut agent = agent(clock.clone());
        let Observation::Process(seen) = ran("/tmp/evil", Verdict::Deny) else { panic!() };
        let fold = |agent: &mut Agent, count| {
            let folded = ProcessObservation { count, ..(*seen).clone() };
            let key = (None, "/tmp/evil".to_owned(), Verdict::Deny, None);
            agent.incidents.insert(key, (agent.setup.clock.monotonic(), folded));
        };
        for jump in [Timestamp::from_seconds(0), Timestamp::from_seconds(4_000_000_000), noon] {
            fold(&mut agent, 3);
            clock.set_wall(jump);
            agent.second();
            assert_eq!(told(&mut agent), [0_u32; 0], "no second has passed");
            clock.advance(FOLD_INCIDENTS);
            agent.second();
            assert_eq!(told(&mut agent), [3], "a second has passed");
        }
        // What is reported is dated by the wall clock as it is now.
        clock.set_wall(Timestamp::from_seconds(86_400));
        let at = agent.wall(nv_probe::events::since_boot());
        assert!((86_390..=86_400).contains(&at.seconds()), "{at:?}");
    }

    #[test]
    fn load_is_measured_by_time_that_passed() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let mut agent = agent(clock.clone());
        for _ in 0..20 {
            clock.set_wall(Timestamp::from_seconds(5));
            clock.advance(Duration::from_secs(1));
            agent.second();
        }
        assert_eq!(agent.load.shedding(), nv_model::vitals::Shedding::Nothing);
        assert!(agent.own_use.2 >= 0.0 && agent.memory > 0);
    }
}
