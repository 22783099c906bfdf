//! Programs, files and behaviour that nodes saw: to be learned, or incidents.

use nv_model::behaviour::BehaviourObservation;
use nv_model::name::{GroupName, NodeId, WorkloadId};
use nv_model::observation::{FileObservation, ProcessObservation};
use nv_model::record::Record;
use nv_model::verdict::Verdict;
use nv_policy::learn::{FileAccess, Program};
use tokio::time::Instant;

use super::Hub;
use crate::records::{Told, incident};

/// Incidents of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct IncidentKey(NodeId, Option<WorkloadId>, String, String, Verdict, String);

impl Hub {
    pub(super) fn process_seen(&mut self, node: &NodeId, id: String, seen: Box<ProcessObservation>) {
        match seen.verdict {
            Verdict::Learn => {
                let program = Program {
                    group: seen.group.clone(),
                    path: seen.path.clone(),
                    fileless: seen.fileless,
                    verdict: seen.verdict,
                };
                self.learner.program(program, Instant::now(), &self.parts.counters);
            }
            Verdict::Violate | Verdict::Deny => {
                let key = IncidentKey(
                    node.clone(),
                    seen.workload.clone(),
                    seen.name.clone(),
                    seen.path.clone(),
                    seen.verdict,
                    seen.rule_uuid.clone(),
                );
                let (group, count) = (seen.group.clone(), seen.count);
                self.incident_seen(node, id, &group, &key, Told::Process(seen), count);
            }
            Verdict::Open | Verdict::Allow => {}
        }
    }

    pub(super) fn file_seen(&mut self, node: &NodeId, id: String, seen: Box<FileObservation>) {
        match seen.verdict {
            Verdict::Learn => {
                let access = FileAccess {
                    group: seen.rule_group.clone(),
                    filter: seen.filter.clone(),
                    application: seen.process_path.clone(),
                    verdict: seen.verdict,
                };
                self.learner.file(access, Instant::now(), &self.parts.counters);
            }
            Verdict::Violate | Verdict::Deny => {
                let key = IncidentKey(
                    node.clone(),
                    seen.workload.clone(),
                    seen.process_path.clone(),
                    seen.path.clone(),
                    seen.verdict,
                    format!("{:?}", seen.operation),
                );
                let (group, count) = (seen.group.clone(), seen.count);
                self.incident_seen(node, id, &group, &key, Told::File(seen), count);
            }
            Verdict::Open | Verdict::Allow => {}
        }
    }

    pub(super) fn behaviour_seen(&mut self, node: &NodeId, id: String, seen: Box<BehaviourObservation>) {
        let process = &seen.process;
        let key = IncidentKey(
            node.clone(),
            process.workload.clone(),
            process.name.clone(),
            process.path.clone(),
            process.verdict,
            format!("{} {}", seen.behaviour.as_str(), seen.message),
        );
        let (group, count) = (process.group.clone(), process.count);
        self.incident_seen(node, id, &group, &key, Told::Behaviour(seen), count);
    }

    /// Logs an incident, or counts it with the one of its kind that was logged within the minute.
    fn incident_seen(
        &mut self,
        node: &NodeId,
        id: String,
        group: &GroupName,
        key: &IncidentKey,
        told: Told,
        count: u32,
    ) {
        if self.replaying || self.alerts_disabled(group) || !self.is_new_record(&id) {
            return;
        }
        let now = self.parts.clock.monotonic();
        if let Some((node, id, told)) = self.incidents.take(now, key, (node.clone(), id, told), count) {
            let record = incident(self.scene(), &node, id, &told);
            self.records.push(Record::Incident(Box::new(record)));
        }
    }

    fn alerts_disabled(&self, group: &GroupName) -> bool {
        self.state.profiles.get(group).is_some_and(|profile| profile.alert_disabled)
    }
}
