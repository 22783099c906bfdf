//! What nodes saw: one observation after the other.

use std::sync::Arc;
use std::time::Duration;

use nv_model::behaviour::BehaviourObservation;
use nv_model::conversation::EndpointId;
use nv_model::name::{GroupName, NodeId, WorkloadId};
use nv_model::observation::{
    ConnectionObservation, FileObservation, Observation, ProcessObservation, Sequence,
};
use nv_model::record::{Level, Record};
use nv_model::rule::RuleId;
use nv_model::threat::ThreatObservation;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_model::vitals::{Drops, Shedding};
use nv_model::workload::Workload;
use nv_policy::directory::Directory;
use nv_policy::learn::{FileAccess, Link, Program};
use nv_policy::state::{is_host, is_live};
use nv_wire::enforcer::v1 as proto;
use tokio::time::Instant;
use tonic::Status;

use super::{Hub, IncidentKey, PUBLISH_LATER, SessionId, ThreatKey, ViolationKey};
use crate::journal::Entry;
use crate::records::{Category, Told, common, event, incident, threat, violation};

/// How long the workloads of a node that is out of touch are still its own.
const HOLDS_ON: Duration = Duration::from_secs(300);

/// A violation with its ends resolved.
pub(crate) struct SeenViolation {
    pub(super) node: NodeId,
    pub(super) id: String,
    pub(super) client: EndpointId,
    pub(super) server: EndpointId,
    pub(super) seen: Box<ConnectionObservation>,
}

/// An attack with its ends resolved.
pub(crate) struct SeenThreat {
    node: NodeId,
    id: String,
    client: EndpointId,
    server: EndpointId,
    seen: Box<ThreatObservation>,
}

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

    pub(super) fn workload_seen(&mut self, node: &NodeId, workload: Arc<Workload>, now: Timestamp) {
        let old = self.state.workloads.get(&workload.id).cloned();
        let mut workload = workload;
        if let Some(old) = &old
            && workload.secured == Timestamp::NEVER
            && old.secured != Timestamp::NEVER
            && workload.running
        {
            Arc::make_mut(&mut workload).secured = old.secured;
        }
        if old.as_ref() == Some(&workload) {
            return;
        }
        let was = |test: fn(&Workload) -> bool| old.as_ref().is_some_and(|old| test(old));
        let mut happened: Vec<(&str, &str, Timestamp)> = Vec::new();
        if workload.running && !was(|old| old.running) {
            happened.push(("Container.Start", "started", workload.started));
        }
        if workload.secured != Timestamp::NEVER && !was(|old| old.secured != Timestamp::NEVER) {
            happened.push(("Container.Secured", "is protected", workload.secured));
        }
        if !workload.running && was(|old| old.running) {
            happened.push(("Container.Stop", "stopped", workload.finished));
        }
        if is_live(&workload)
            && !is_host(&workload)
            && !self.state.groups.contains_key(&workload.learned_group())
        {
            self.learner.groups_wanted(Instant::now());
        }
        self.state.workloads.insert(workload.id.clone(), Arc::clone(&workload));
        self.inventory_changed();
        for (name, what, at) in happened {
            self.container_event(node, &workload, name, what, if at == Timestamp::NEVER { now } else { at });
        }
    }

    pub(super) fn workload_gone(&mut self, node: &NodeId, id: &WorkloadId, at: Timestamp) {
        let Some(old) = self.state.workloads.remove(id) else { return };
        if old.running {
            self.container_event(node, &old, "Container.Stop", "stopped", at);
        }
        self.container_event(node, &old, "Container.Remove", "was removed", at);
        Arc::make_mut(&mut self.usage).remove(id);
        let removed = Arc::make_mut(&mut self.removed);
        if removed.insert(id.clone(), old).is_none() {
            self.removed_order.push_back(id.clone());
        }
        while self.removed_order.len() > super::MAX_REMOVED {
            if let Some(oldest) = self.removed_order.pop_front() {
                removed.remove(&oldest);
                self.parts.graph.write().remove_endpoint(&EndpointId::Workload(oldest));
            }
        }
        self.inventory_changed();
    }

    /// Sandboxes are part of their pods and hosts are no containers: neither is told.
    fn container_event(&mut self, node: &NodeId, workload: &Workload, name: &str, what: &str, at: Timestamp) {
        if self.replaying || workload.is_sandbox || is_host(workload) {
            return;
        }
        let scene = self.scene();
        let begin = common(scene, Some(node), name, Level::Info, at);
        let message = format!("Container {} {what}", workload.display_name());
        self.records.push(event(scene, Category::Workload, begin, Some(workload), message));
    }

    /// Says which workloads went into quarantine or came out of it; the leader alone does, so that it is said once.
    pub(super) fn quarantine_changed(&mut self, changed: Vec<WorkloadId>) {
        if self.parts.lead.borrow().is_none() {
            return;
        }
        for id in changed {
            let Some(workload) = self.state.workloads.get(&id).cloned() else { continue };
            let (name, what) = if self.state.quarantined.contains(&id) {
                ("Container.Quarantined", "is quarantined")
            } else {
                ("Container.Unquarantined", "is not quarantined any more")
            };
            let node = workload.node.clone();
            self.container_event(&node, &workload, name, what, self.parts.clock.now());
        }
    }

    fn process_seen(&mut self, node: &NodeId, id: String, seen: Box<ProcessObservation>) {
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

    fn file_seen(&mut self, node: &NodeId, id: String, seen: Box<FileObservation>) {
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

    fn behaviour_seen(&mut self, node: &NodeId, id: String, seen: Box<BehaviourObservation>) {
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

    /// Whether a record of this id was not logged yet, as far as that is remembered.
    fn is_new_record(&mut self, id: &str) -> bool {
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
        if self.recent_order.len() > super::RECENT_RECORDS
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        true
    }

    fn connection_seen(&mut self, node: &NodeId, id: String, seen: Box<ConnectionObservation>) {
        let directory = self.directory.get_or_insert_with(|| Directory::new(&self.state));
        let client = directory.end(seen.client.workload.as_ref(), seen.client.address);
        let server = directory.end(seen.server.workload.as_ref(), seen.server.address);
        // Of a connection between two pods both ends may tell: the client's counts.
        let twice = seen.ingress && matches!(client, EndpointId::Workload(_));
        if seen.rule != RuleId::DEFAULT && seen.sessions > 0 && !twice {
            let held = Arc::make_mut(&mut self.matches).entry(seen.rule).or_default();
            held.sessions = held.sessions.saturating_add(u64::from(seen.sessions));
            held.last = held.last.max(seen.last);
            self.publish_within(PUBLISH_LATER);
        }
        let ends = (client.clone(), server.clone());
        self.parts
            .graph
            .write()
            .observe(&seen, |peer| if *peer == seen.client { ends.0.clone() } else { ends.1.clone() });
        match seen.verdict {
            Verdict::Learn => self.link_seen(client, server, &seen),
            // An allowed connection teaches only which application a learned port is.
            Verdict::Allow if seen.application.is_some() => self.link_seen(client, server, &seen),
            Verdict::Violate | Verdict::Deny => {
                if self.replaying || seen.sessions == 0 || !self.is_new_record(&id) {
                    return;
                }
                let key = ViolationKey {
                    client: client.to_string(),
                    server: server.to_string(),
                    protocol: seen.protocol,
                    port: seen.port,
                    verdict: seen.verdict,
                    rule: seen.rule,
                    ingress: seen.ingress,
                    host: seen.host.clone(),
                };
                // The same connection, told by its other end.
                if self.violations.is_open(&ViolationKey { ingress: !seen.ingress, ..key.clone() }) {
                    return;
                }
                let (now, sessions) = (self.parts.clock.monotonic(), seen.sessions);
                let seen = SeenViolation { node: node.clone(), id, client, server, seen };
                if let Some(seen) = self.violations.take(now, &key, seen, sessions) {
                    self.log_violation(&seen, None);
                }
            }
            Verdict::Open | Verdict::Allow => {}
        }
    }

    /// Logs an attack, or counts it with the one of its kind that was logged within the minute.
    fn threat_seen(&mut self, node: &NodeId, id: String, seen: Box<ThreatObservation>) {
        let directory = self.directory.get_or_insert_with(|| Directory::new(&self.state));
        let client = directory.end(seen.client.workload.as_ref(), seen.client.address);
        let server = directory.end(seen.server.workload.as_ref(), seen.server.address);
        if self.replaying || !self.is_new_record(&id) {
            return;
        }
        let key = ThreatKey {
            threat: seen.threat,
            client: (client.to_string(), seen.client.address),
            server: (server.to_string(), seen.server.address),
            port: seen.server_port,
            verdict: seen.verdict,
        };
        let (now, count) = (self.parts.clock.monotonic(), seen.count);
        let seen = SeenThreat { node: node.clone(), id, client, server, seen };
        if let Some(seen) = self.threats.take(now, &key, seen, count) {
            self.log_threat(&seen, None);
        }
    }

    fn log_threat(&mut self, seen: &SeenThreat, count: Option<u32>) {
        let ends = (&seen.client, &seen.server);
        let mut record = threat(self.scene(), &seen.node, seen.id.clone(), ends, &seen.seen);
        record.count = count.unwrap_or(record.count);
        self.records.push(Record::Threat(Box::new(record)));
    }

    fn log_violation(&mut self, seen: &SeenViolation, sessions: Option<u32>) {
        let ends = (&seen.client, &seen.server);
        let mut record = violation(self.scene(), &seen.node, seen.id.clone(), ends, &seen.seen);
        if let Some(sessions) = sessions {
            record.sessions = sessions;
        }
        self.records.push(Record::Violation(Box::new(record)));
    }

    fn link_seen(&mut self, client: EndpointId, server: EndpointId, seen: &ConnectionObservation) {
        let link = Link {
            client,
            server,
            protocol: seen.protocol,
            port: seen.port,
            application: seen.application,
            verdict: seen.verdict,
        };
        self.learner.link(link, Instant::now(), &self.parts.counters);
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
