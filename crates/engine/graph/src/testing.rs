//! Makers of observations for tests.

use nv_model::conversation::EndpointId;
use nv_model::observation::{ConnectionObservation, Peer};
use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;

fn peer(raw: &str, last: u8) -> Peer {
    Peer {
        workload: raw.parse().ok(),
        identity: IdentityId(16),
        address: std::net::Ipv4Addr::new(10, 0, 0, last).into(),
    }
}

/// `from` opens `sessions` to `to`, 100 bytes each, at `at` seconds.
pub(crate) fn seen(from: &str, to: &str, port: u16, sessions: u32, at: i64) -> ConnectionObservation {
    ConnectionObservation {
        client: peer(from, 1),
        server: peer(to, 2),
        ingress: false,
        protocol: Protocol::Tcp,
        port,
        application: None,
        bytes: u64::from(sessions) * 100,
        sessions,
        verdict: Verdict::Learn,
        rule: RuleId::DEFAULT,
        process: String::new(),
        process_path: String::new(),
        container: None,
        host: String::new(),
        forwarded: false,
        mechanism: None,
        decision_nanos: 0,
        first: Timestamp::from_seconds(at),
        last: Timestamp::from_seconds(at),
    }
}

pub(crate) fn end(raw: &str) -> EndpointId {
    if raw == "external" { EndpointId::External } else { EndpointId::Workload(raw.parse().unwrap()) }
}

pub(crate) fn resolve(peer: &Peer) -> EndpointId {
    end(peer.workload.as_ref().unwrap().as_str())
}
