//! What nodes saw: one observation after the other.

use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{NodeId, WorkloadId};
use nv_model::observation::{Observation, Sequence};
use nv_model::record::Record;
use nv_model::vitals::{Drops, Shedding};
use nv_wire::enforcer::v1 as proto;
use tonic::Status;

use super::Hub;
use super::message::SessionId;
use super::publish::PUBLISH_LATER;
use crate::journal::Entry;
use crate::records::incident;

/// Ids of the last records, so that a batch that comes twice around a kill is logged once.
const RECENT_RECORDS: usize = 8192;

/// How long the workloads of a node that is out of touch are still its own.
const HOLDS_ON: Duration = Duration::from_secs(300);

/// A record's id: the same for the same observation, whenever it comes.
fn record_id(stream: &str, sequence: u64) -> String {
    let hash = |seed: u64| {
        stream.bytes().chain(sequence.to_le_bytes()).fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7)
        })
    };
    let number = u128::from(hash(0xcbf2_9ce4_8422_2325)) << 64 | u128::from(hash(0x8422_2325_cbf2_9ce4));
    uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid().to_string()
}

impl Hub {
    /// Whether the workload is known to run elsewhere. A node that has been out of touch for a while does not hold on
    /// to its workloads: a machine that got another id brings its containers along.
    pub(super) fn is_foreign(&self, node: &NodeId, workload: &WorkloadId) -> bool {
        let Some(held) = self.state.workloads.get(workload).filter(|held| held.node != *node) else {
            return false;
        };
        if self.sessions.contains_key(&held.node) {
            return true;
        }
        let now = self.parts.clock.now();
        let mut owners = self.enforcers.values().filter(|enforcer| enforcer.node == held.node);
        owners.any(|owner| now.since(owner.disconnected) < HOLDS_ON)
    }

    /// Whether a node speaks of what is not its own.
    fn oversteps(&self, node: &NodeId, observation: &Observation) -> bool {
        let foreign = |id: &Option<WorkloadId>| id.as_ref().is_some_and(|id| self.is_foreign(node, id));
        match observation {
            Observation::Workload(workload) => workload.node != *node || self.is_foreign(node, &workload.id),
            Observation::WorkloadGone { id, .. } => self.is_foreign(node, id),
            Observation::Process(seen) => foreign(&seen.workload),
            Observation::File(seen) => foreign(&seen.workload),
            Observation::Behaviour(seen) => foreign(&seen.process.workload),
            Observation::Connection(seen) => foreign(&seen.client.workload) || foreign(&seen.server.workload),
            Observation::Threat(seen) => foreign(&seen.client.workload) || foreign(&seen.server.workload),
            Observation::Usage { workload, .. } => foreign(workload),
            Observation::Ingress { workload, .. } => self.is_foreign(node, workload),
            Observation::Dropped { .. } => false,
        }
    }

    pub(super) fn batch(
        &mut self,
        id: SessionId,
        node: &NodeId,
        batch: proto::Batch,
        observations: Vec<(Sequence, Observation)>,
    ) {
        let seen = self.parts.clock.monotonic();
        let Some(session) = self.session(id, node) else { return };
        session.seen = seen;
        if observations.iter().any(|(_, observation)| self.oversteps(node, observation)) {
            self.parts.counters.overstepped();
            tracing::warn!(%node, "a node reported on a workload of another node: its link is closed");
            if let Some(session) = self.sessions.get(node) {
                let status = Status::permission_denied("a report on a workload of another node");
                self.refuse(&session.outbound, &session.close, status);
            }
            self.disconnect(node);
            return;
        }
        let position = self.positions.get(node).cloned().unwrap_or_default();
        let entry = Entry {
            node: node.to_string(),
            stream: position.stream.clone(),
            batch: Some(batch),
            at: self.parts.clock.now().nanos(),
            taken: position.taken,
        };
        if let Some(taken) = self.take_in(node, observations) {
            self.entries.push(entry);
            self.acks.insert(node.clone(), taken);
        } else {
            // All of it was here already: say so again.
            self.acks.insert(node.clone(), position.taken);
        }
    }

    /// Takes the observations in that are new; the number of the last one, when there was any.
    pub(super) fn take_in(
        &mut self,
        node: &NodeId,
        observations: Vec<(Sequence, Observation)>,
    ) -> Option<u64> {
        let mut position = self.positions.get(node).cloned().unwrap_or_default();
        let mut any = false;
        for (Sequence(sequence), observation) in observations {
            if sequence <= position.taken {
                self.parts.counters.duplicate();
                continue;
            }
            let missing = sequence.saturating_sub(position.taken).saturating_sub(1);
            if missing > 0 {
                let losses = self.losses.entry(node.clone()).or_default();
                losses.missing = losses.missing.saturating_add(missing);
                self.parts.counters.missing(missing);
            }
            position.taken = sequence;
            any = true;
            self.parts.counters.observed();
            self.observe(node, record_id(&position.stream, sequence), observation);
        }
        let taken = position.taken;
        self.positions.insert(node.clone(), position);
        any.then_some(taken)
    }

    fn observe(&mut self, node: &NodeId, id: String, observation: Observation) {
        match observation {
            Observation::Workload(workload) => {
                self.workload_seen(node, Arc::new(*workload), self.parts.clock.now());
            }
            Observation::WorkloadGone { id, at } => self.workload_gone(node, &id, at),
            Observation::Process(seen) => self.process_seen(node, id, seen),
            Observation::File(seen) => self.file_seen(node, id, seen),
            Observation::Behaviour(seen) => self.behaviour_seen(node, id, seen),
            Observation::Threat(seen) => self.threat_seen(node, id, seen),
            Observation::Connection(seen) => self.connection_seen(node, id, seen),
            Observation::Usage { workload, usage, .. } => {
                match workload {
                    Some(workload) if self.state.workloads.contains_key(&workload) => {
                        Arc::make_mut(&mut self.usage).insert(workload, usage);
                    }
                    Some(_gone) => {}
                    None => drop(Arc::make_mut(&mut self.node_usage).insert(node.clone(), usage)),
                }
                self.publish_within(PUBLISH_LATER);
            }
            Observation::Ingress { workload, ingress, .. } => self.ingress_seen(workload, ingress),
            Observation::Dropped { kernel, queue, drops, shedding } => {
                let losses = self.losses.entry(node.clone()).or_default();
                (losses.kernel, losses.queue) = (kernel, queue);
                self.shedding_seen(node, drops, shedding);
            }
        }
    }

    /// Says when an enforcer begins to leave things out, and when it tells everything again.
    fn shedding_seen(&mut self, node: &NodeId, drops: Drops, shedding: Shedding) {
        let before = self.shedding.get(node).copied().unwrap_or_default();
        match (before, shedding) {
            (Shedding::Nothing, Shedding::Nothing) => return,
            (_, Shedding::Nothing) => {
                let what =
                    format!("tells everything again; {} observations were left out so far", drops.total());
                self.node_event(node, "Enforcer.Shedding.Stop", false, &what);
            }
            (Shedding::Nothing, level) => {
                let what = format!(
                    "leaves out observations to stay within its budget ({}); verdicts and what is against the rules stay",
                    level.as_str()
                );
                self.node_event(node, "Enforcer.Shedding.Start", true, &what);
            }
            (_, _) => {}
        }
        self.shedding.insert(node.clone(), shedding);
    }

    /// Whether a record of this id was not logged yet, as far as that is remembered.
    pub(super) fn is_new_record(&mut self, id: &str) -> bool {
        let new = self.remember_record(id.to_owned());
        if !new {
            self.parts.counters.duplicate();
        }
        new
    }

    pub(super) fn remember_record(&mut self, id: String) -> bool {
        if !self.recent.insert(id.clone()) {
            return false;
        }
        self.recent_order.push_back(id);
        if self.recent_order.len() > RECENT_RECORDS
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        true
    }

    /// Logs the repeats whose minute is over.
    pub(super) fn close_folds(&mut self, all: bool) {
        let now = self.parts.clock.monotonic();
        for ((node, id, seen), repeats) in self.incidents.close(now, all) {
            let mut record = incident(self.scene(), &node, id, &seen);
            record.count = Some(repeats);
            record.aggregation_from = Some(seen.at().seconds());
            self.records.push(Record::Incident(Box::new(record)));
        }
        for (seen, repeats) in self.threats.close(now, all) {
            self.log_threat(&seen, Some(repeats));
        }
        for (seen, repeats) in self.violations.close(now, all) {
            self.log_violation(&seen, Some(repeats));
        }
    }
}
