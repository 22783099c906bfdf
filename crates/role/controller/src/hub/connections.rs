//! Connections and attacks that nodes saw: conversations, rules to be learned, violations and threats.

use std::sync::Arc;

use nv_model::conversation::EndpointId;
use nv_model::name::NodeId;
use nv_model::observation::ConnectionObservation;
use nv_model::port::Protocol;
use nv_model::record::Record;
use nv_model::rule::RuleId;
use nv_model::threat::ThreatObservation;
use nv_model::verdict::Verdict;
use nv_policy::directory::Directory;
use nv_policy::learn::Link;
use tokio::time::Instant;

use super::Hub;
use super::publish::PUBLISH_LATER;
use crate::records::{threat, violation};

/// Violations of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ViolationKey {
    client: String,
    server: String,
    protocol: Protocol,
    port: u16,
    verdict: Verdict,
    rule: RuleId,
    ingress: bool,
    host: String,
}

/// Attacks of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ThreatKey {
    threat: u32,
    client: (String, std::net::IpAddr),
    server: (String, std::net::IpAddr),
    port: u16,
    verdict: Verdict,
}

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

impl Hub {
    pub(super) fn connection_seen(&mut self, node: &NodeId, id: String, seen: Box<ConnectionObservation>) {
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
    pub(super) fn threat_seen(&mut self, node: &NodeId, id: String, seen: Box<ThreatObservation>) {
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

    pub(super) fn log_threat(&mut self, seen: &SeenThreat, count: Option<u32>) {
        let ends = (&seen.client, &seen.server);
        let mut record = threat(self.scene(), &seen.node, seen.id.clone(), ends, &seen.seen);
        record.count = count.unwrap_or(record.count);
        self.records.push(Record::Threat(Box::new(record)));
    }

    pub(super) fn log_violation(&mut self, seen: &SeenViolation, sessions: Option<u32>) {
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
}
