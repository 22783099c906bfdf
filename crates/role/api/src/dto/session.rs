//! Sessions: connections that are open on a node.

use nv_model::port::Protocol;
use nv_model::question::{MeterEntry, SessionEntry};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Named;

/// An open connection, as one workload's interface sees it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Session {
    /// Number on its node.
    pub id: u64,
    /// The workload at whose interface it is seen.
    pub workload_id: String,
    /// Application, when it is known.
    pub application: String,
    /// 2048 for IPv4, 34525 for IPv6.
    pub ether_type: u16,
    /// Number of the IP protocol.
    pub ip_proto: u8,
    /// Who opened it.
    pub client_ip: String,
    /// Its port.
    pub client_port: u16,
    /// Who was asked.
    pub server_ip: String,
    /// Its port.
    pub server_port: u16,
    /// Whoever asked through trusted proxies last (`X-Forwarded-For`); empty when that is not known.
    pub xff_ip: String,
    /// Packets from the client.
    pub client_pkts: u32,
    /// Bytes from the client.
    pub client_bytes: u64,
    /// Packets from the server.
    pub server_pkts: u32,
    /// Bytes from the server.
    pub server_bytes: u64,
    /// Seconds since it was opened.
    pub age: u32,
    /// Seconds since its last packet.
    pub idle: u32,
    /// What was decided: `open`, `learn`, `allow`, `violate` or `deny`.
    pub policy_action: String,
    /// The rule that decided; 0 for none.
    pub policy_id: u32,
    /// The workload is the server.
    pub ingress: bool,
}

/// How many connections are open on a node.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct SessionSummary {
    /// All of them.
    pub cur_sessions: u32,
    /// TCP.
    pub cur_tcp_sessions: u32,
    /// UDP.
    pub cur_udp_sessions: u32,
    /// ICMP, for IPv4 and IPv6.
    pub cur_icmp_sessions: u32,
    /// Other IP protocols.
    pub cur_ip_sessions: u32,
}

impl Named for SessionSummary {
    const ONE: &'static str = "summary";
    const MANY: &'static str = "summaries";
}

impl Named for Session {
    const ONE: &'static str = "session";
    const MANY: &'static str = "sessions";
}

impl From<SessionEntry> for Session {
    fn from(entry: SessionEntry) -> Self {
        let count = |packets: u64| u32::try_from(packets).unwrap_or(u32::MAX);
        Self {
            id: entry.id,
            workload_id: entry.workload.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            application: entry.application.and_then(|one| one.name()).unwrap_or_default().to_owned(),
            ether_type: if entry.client.is_ipv4() { 0x0800 } else { 0x86dd },
            ip_proto: match entry.protocol {
                Protocol::Icmp if entry.client.is_ipv6() => 58,
                protocol => protocol.number(),
            },
            client_ip: entry.client.to_string(),
            client_port: entry.client_port,
            server_ip: entry.server.to_string(),
            server_port: entry.server_port,
            xff_ip: entry.forwarded_for.map(|address| address.to_string()).unwrap_or_default(),
            client_pkts: count(entry.client_packets),
            client_bytes: entry.client_bytes,
            server_pkts: count(entry.server_packets),
            server_bytes: entry.server_bytes,
            age: entry.age,
            idle: entry.idle,
            policy_action: entry.verdict.as_str().to_owned(),
            policy_id: entry.rule.0,
            ingress: entry.ingress,
        }
    }
}

/// A meter of inspection.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Meter {
    /// `syn_flood`, `icmp_flood`, `ip_src_session_limit` or `tcp_nodata`.
    #[serde(rename = "type")]
    pub kind: String,
    /// At which workload; empty for an address that is none's.
    pub workload_id: String,
    /// Whose sessions; empty for all.
    pub peer_ip: String,
    /// A second, of the present span; sessions at this moment.
    pub cur_count: u32,
    /// Of the present span so far.
    pub span_count: u32,
    /// Seconds of a span; 0 for what is counted at one time.
    pub span: u32,
    /// Copies of packets are counted, and none is stopped.
    pub tap: bool,
    /// Seconds since it last counted something.
    pub idle: u32,
    /// From which count on it is an attack.
    pub upper_limit: u32,
    /// Below which count the attack is over.
    pub lower_limit: u32,
}
impl Named for Meter {
    const ONE: &'static str = "meter";
    const MANY: &'static str = "meters";
}

impl From<MeterEntry> for Meter {
    fn from(entry: MeterEntry) -> Self {
        Self {
            kind: entry.kind.as_str().to_owned(),
            workload_id: entry.workload.map(String::from).unwrap_or_default(),
            peer_ip: entry.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            cur_count: entry.count,
            span_count: entry.span_count,
            span: entry.span,
            tap: entry.tap,
            idle: entry.idle,
            upper_limit: entry.upper,
            lower_limit: entry.lower,
        }
    }
}
