//! Connections on their way to the controller: folded between two reports, except for violations.

use std::collections::HashMap;
use std::net::IpAddr;

use nv_model::application::ApplicationId;
use nv_model::name::WorkloadId;
use nv_model::observation::{ConnectionObservation, Peer};
use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::verdict::Verdict;

/// Most different connections between two reports. What finds no room is counted.
const MAX_FOLDED: usize = 32_768;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: (Option<WorkloadId>, IdentityId, IpAddr),
    server: (Option<WorkloadId>, IdentityId, IpAddr),
    ingress: bool,
    protocol: Protocol,
    port: u16,
    verdict: Verdict,
    rule: RuleId,
    application: Option<ApplicationId>,
}

/// Connections since the last report.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    folded: HashMap<Key, ConnectionObservation>,
    dropped: u64,
}

impl Connections {
    /// Adds what one connection did.
    pub(crate) fn add(&mut self, seen: ConnectionObservation) {
        let end = |peer: &Peer| (peer.workload.clone(), peer.identity, peer.address);
        let key = Key {
            client: end(&seen.client),
            server: end(&seen.server),
            ingress: seen.ingress,
            protocol: seen.protocol,
            port: seen.port,
            verdict: seen.verdict,
            rule: seen.rule,
            application: seen.application,
        };
        if let Some(held) = self.folded.get_mut(&key) {
            held.bytes = held.bytes.saturating_add(seen.bytes);
            held.sessions = held.sessions.saturating_add(seen.sessions);
            held.first = held.first.min(seen.first);
            held.last = held.last.max(seen.last);
            if held.process.is_empty() {
                held.process = seen.process;
                held.process_path = seen.process_path;
            }
        } else if self.folded.len() < MAX_FOLDED {
            self.folded.insert(key, seen);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Everything since the last call, and how many found no room.
    pub(crate) fn take(&mut self) -> (Vec<ConnectionObservation>, u64) {
        (self.folded.drain().map(|(_, seen)| seen).collect(), std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use nv_model::time::Timestamp;

    use super::*;

    fn seen(bytes: u64, verdict: Verdict) -> ConnectionObservation {
        let peer = |last: u8| Peer {
            workload: None,
            identity: IdentityId::EXTERNAL,
            address: IpAddr::from([10, 0, 0, last]),
        };
        ConnectionObservation {
            client: peer(1),
            server: peer(2),
            ingress: false,
            protocol: Protocol::Tcp,
            port: 80,
            application: None,
            bytes,
            sessions: 1,
            verdict,
            rule: RuleId::DEFAULT,
            process: String::new(),
            process_path: String::new(),
            container: None,
            host: String::new(),
            forwarded: false,
            mechanism: None,
            decision_nanos: 0,
            first: Timestamp::from_seconds(5),
            last: Timestamp::from_seconds(6),
        }
    }

    #[test]
    fn sessions_between_the_same_ends_are_folded_and_verdicts_are_not() {
        let mut connections = Connections::default();
        connections.add(seen(100, Verdict::Allow));
        connections.add(seen(50, Verdict::Allow));
        connections.add(seen(1, Verdict::Violate));
        let (mut taken, dropped) = connections.take();
        taken.sort_by_key(|seen| seen.verdict);
        assert_eq!(dropped, 0);
        let counts: Vec<(u64, u32)> = taken.iter().map(|seen| (seen.bytes, seen.sessions)).collect();
        assert_eq!(counts, [(150, 2), (1, 1)]);
        assert!(connections.take().0.is_empty());
    }
}
