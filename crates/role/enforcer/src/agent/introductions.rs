//! A container that does what its policy forbids before its runtime has told of it: the controllers hear of it first, as far
//! as its bundle tells, so that their records of the deed name it.

use nv_model::name::WorkloadId;
use nv_model::observation::Observation;

use super::Agent;
use crate::identity::placer::is_known;

impl Agent {
    /// Tells of the workload that an observation accuses, if nobody has been told of that one yet.
    pub(super) fn introduce_accused(&mut self, observation: &Observation) {
        let Some(local) = accused(observation).and_then(|id| self.workloads.get_mut(id)) else { return };
        if local.is_told() || !is_known(&local.workload) {
            return;
        }
        local.introduced = true;
        let workload = local.workload.clone();
        self.outbox.push(Observation::Workload(Box::new(workload)));
    }
}

/// Whose deed an observation makes a record of, where a first program can have done it.
fn accused(observation: &Observation) -> Option<&WorkloadId> {
    match observation {
        Observation::Process(seen) if seen.verdict.is_violation() => seen.workload.as_ref(),
        Observation::File(seen) if seen.verdict.is_violation() => seen.workload.as_ref(),
        Observation::Behaviour(seen) => seen.process.workload.as_ref(),
        // Connections and what is in them are known by interfaces, which are looked up when the runtime has told.
        Observation::Process(_)
        | Observation::File(_)
        | Observation::Workload(_)
        | Observation::WorkloadGone { .. }
        | Observation::Connection(_)
        | Observation::Threat(_)
        | Observation::Usage { .. }
        | Observation::Ingress { .. }
        | Observation::Dropped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nv_model::observation::ProcessObservation;
    use nv_model::time::Timestamp;
    use nv_model::verdict::Verdict;
    use nv_model::workload::Workload;
    use nv_telemetry::ManualClock;

    use super::*;
    use crate::testing::{agent, ran, workload_at};

    fn told(agent: &mut Agent) -> Vec<&'static str> {
        let batch = agent.outbox.next_batch().map(|(_, batch)| batch).unwrap_or_default();
        let kind = |one: &Observation| match one {
            Observation::Workload(_) => "workload",
            Observation::Process(_) => "process",
            _ => "other",
        };
        batch.iter().map(kind).collect()
    }

    fn does(agent: &mut Agent, workload: &Workload, verdict: Verdict) {
        let Observation::Process(seen) = ran("/bin/x", verdict) else { return };
        agent.tell(Observation::Process(Box::new(ProcessObservation {
            workload: Some(workload.id.clone()),
            ..*seen
        })));
    }

    #[test]
    fn a_container_is_told_of_before_its_first_incident_and_once() {
        let mut agent = agent(Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000))));
        let pod = Workload { pod_name: "web-1".to_owned(), ..workload_at("192.0.2.1") };
        agent.workload(pod.clone(), true);
        does(&mut agent, &pod, Verdict::Allow);
        assert_eq!(told(&mut agent), ["process"], "nobody is accused");
        does(&mut agent, &pod, Verdict::Deny);
        does(&mut agent, &pod, Verdict::Deny);
        assert_eq!(told(&mut agent), ["workload", "process", "process"]);
        agent.workload(Workload { running: true, ..pod }, false);
        assert_eq!(told(&mut agent), ["workload"], "what the runtime tells is more");
    }

    #[test]
    fn a_container_of_an_unknown_service_is_not_told_of_before_its_runtime_has_named_it() {
        let mut agent = agent(Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000))));
        let plain = workload_at("192.0.2.1");
        agent.workload(plain.clone(), true);
        does(&mut agent, &plain, Verdict::Deny);
        assert_eq!(told(&mut agent), ["process"]);
    }
}
