//! What is due every second and every five.

use nv_model::name::WorkloadId;
use nv_model::observation::Observation;

use super::{Agent, FOLD_INCIDENTS};

impl Agent {
    /// Every second: folded incidents are told, batches go out.
    pub(crate) fn second(&mut self) {
        self.greet();
        self.look_after_keeper();
        self.retire_earlier_versions();
        self.weigh_load();
        self.watch_files();
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
            .inventory
            .all()
            .filter(|local| local.workload.running && !local.workload.cgroup.is_empty())
            .map(|local| (local.workload.id.clone(), local.workload.cgroup.clone()))
            .collect();
        for (id, cgroup) in running {
            if let Some(usage) = self.usage.workload(&id, &cgroup, now) {
                self.tell(Observation::Usage { workload: Some(id), usage, at });
            }
        }
        self.look_for_ports();
        let usage = self.usage.node(now);
        self.tell(Observation::Usage { workload: None, usage, at });
        self.tell_vitals(at);
        self.pump();
    }
}
