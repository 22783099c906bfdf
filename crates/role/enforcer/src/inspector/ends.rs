//! Connections judged by their ends, at the queue of a pod, where no BPF program does it: the first packet of each, by the
//! same rules that say what connections may say ([`nv_policy::layer7`]), and every later one by what was said of the first.
//!
//! One end is the pod that the queue is of, whatever address its packets claim; the other is whoever has the address.

use std::collections::HashMap;
use std::net::SocketAddr;

use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::verdict::Verdict;
use nv_packet::decode::{Decoded, Packet, Transport, decode_outer};
use nv_packet::transport::Tcp;
use nv_policy::layer7::{Judgement, Layer7, Seen};

use super::Connection;
use super::queues::Waiting;

/// Most connections that are remembered; what finds no room is judged packet by packet, and told as often.
const MAX_CONNECTIONS: usize = 65_536;
/// What was not seen for so long, in nanoseconds, makes room for others.
const IDLE: u64 = 60_000_000_000;
/// Least time between two looks for such, in nanoseconds: whoever fills the memory must not keep everybody busy.
const SWEEP: u64 = 1_000_000_000;
/// Where the flags are in a TCP header (RFC 9293 §3.1).
const FLAGS_AT: usize = 13;
/// Ports below it are servers' (RFC 6335): a datagram from one of them to another one is an answer.
const WELL_KNOWN: u16 = 1024;

/// What is to be done with a packet, and said of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// It may not go on.
    pub(super) denied: bool,
    /// Its connection begins, or another verdict holds for it now.
    pub(super) told: Option<Opened>,
}

/// A connection that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// The pod is the server.
    pub(super) ingress: bool,
}

/// At which queue, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    queue: u32,
    protocol: Protocol,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    is_client: bool,
    /// By which rules it was judged.
    generation: u64,
    verdict: Verdict,
    seen: u64,
    /// Nothing but the client's first segment was seen.
    begins: bool,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Ends {
    judges: bool,
    generation: u64,
    known: HashMap<Key, Known>,
    swept_at: u64,
    overflow: u64,
}

impl Ends {
    /// Other rules hold from now on; `judges` says that the ends of connections are judged here at all.
    pub(super) fn replace(&mut self, judges: bool) {
        self.judges = judges;
        self.generation = self.generation.saturating_add(1);
        if !judges {
            self.known.clear();
        }
    }

    /// Connections that found no room.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Judges a packet, at a time in nanoseconds.
    pub(super) fn judge(&mut self, rules: &Layer7, waiting: &Waiting<'_>, at: u64) -> Judged {
        if !self.judges {
            return Judged::default();
        }
        let Ok(Decoded::Packet(packet)) = decode_outer(waiting.bytes) else {
            // Whoever may not send everything may not send what nobody understands.
            return Judged { denied: waiting.stops, told: None };
        };
        let Some((protocol, ports, flags)) = head(&packet) else {
            let is_first = packet.network.fragment.is_some_and(|fragment| fragment.offset == 0);
            return Judged { denied: waiting.stops && is_first, told: None };
        };
        let source = SocketAddr::new(packet.network.source, ports.0);
        let destination = SocketAddr::new(packet.network.destination, ports.1);
        let (local, remote) = if waiting.leaves { (source, destination) } else { (destination, source) };
        let key = Key { queue: waiting.queue, protocol, local, remote };
        let opens = flags == Some(Tcp::SYN);
        let held = self.known.get(&key).copied();
        if let Some(known) = held.filter(|known| known.generation == self.generation)
            && (!opens || known.begins || known.verdict == Verdict::Deny)
        {
            if let Some(known) = self.known.get_mut(&key) {
                (known.seen, known.begins) = (at, known.begins && opens);
            }
            return Judged { denied: known.verdict == Verdict::Deny, told: None };
        }
        let (is_client, guessed) = match held {
            Some(known) if !opens => (known.is_client, false),
            _ => is_client(flags, ports, waiting.leaves),
        };
        let own = waiting.own.unwrap_or(local.ip());
        let ends =
            Between { rules, own: rules.identity_of(own), other: rules.identity_of(remote.ip()), protocol };
        let (verdict, is_client) = ends.judge(local.port(), remote.port(), is_client, guessed);
        let known = Known { is_client, generation: self.generation, verdict, seen: at, begins: opens };
        self.remember(key, known, at);
        let anew = held.is_none_or(|before| opens || before.verdict != verdict);
        let (client, server) = if is_client { (local, remote) } else { (remote, local) };
        let opened = Opened { connection: Connection { protocol, client, server }, ingress: !is_client };
        Judged { denied: verdict == Verdict::Deny, told: anew.then_some(opened) }
    }

    fn remember(&mut self, key: Key, known: Known, at: u64) {
        if self.known.len() >= MAX_CONNECTIONS && !self.known.contains_key(&key) {
            if at.saturating_sub(self.swept_at) >= SWEEP {
                self.swept_at = at;
                self.known.retain(|_, known| at.saturating_sub(known.seen) < IDLE);
            }
            if self.known.len() >= MAX_CONNECTIONS {
                self.overflow = self.overflow.saturating_add(1);
                return;
            }
        }
        self.known.insert(key, known);
    }
}

/// Two ends, of which the first is the pod's.
struct Between<'r> {
    rules: &'r Layer7,
    own: IdentityId,
    other: IdentityId,
    protocol: Protocol,
}

impl Between<'_> {
    /// The verdict, and whether the pod is the client. Without a SYN nothing can be opened, so that where the ports told
    /// nothing that a rule knows, the other way round is taken where a rule allows it.
    fn judge(&self, local: u16, remote: u16, is_client: bool, guessed: bool) -> (Verdict, bool) {
        let one = self.by_ends(local, remote, is_client);
        if guessed && self.protocol == Protocol::Tcp && one.1 == RuleId::DEFAULT && one.0.is_violation() {
            let turned = self.by_ends(local, remote, !is_client);
            if turned.1 != RuleId::DEFAULT && !turned.0.is_violation() {
                return (turned.0, !is_client);
            }
        }
        (one.0, is_client)
    }

    fn by_ends(&self, local: u16, remote: u16, is_client: bool) -> (Verdict, RuleId) {
        let (client, server, port) =
            if is_client { (self.own, self.other, remote) } else { (self.other, self.own, local) };
        by_ends(self.rules, client, server, self.protocol, port)
    }
}

/// What rules say of a connection of which nothing but its ends is known. One that has yet to show its application or host
/// goes on until it has.
pub(crate) fn by_ends(
    rules: &Layer7,
    client: IdentityId,
    server: IdentityId,
    protocol: Protocol,
    port: u16,
) -> (Verdict, RuleId) {
    let (application, software, ended_probing) = (None, None, false);
    let seen = Seen { client, server, protocol, port, application, software, names: &[], ended_probing };
    match rules.judge(&seen) {
        Judgement::Decided(decision) => (decision.verdict, decision.rule),
        Judgement::Wait => (Verdict::Allow, RuleId::DEFAULT),
    }
}

/// Protocol, ports of source and destination, and which of SYN and ACK a segment has. `None` for what has no ports, and for
/// fragments but the first, which are nothing without it; one of TCP or UDP that is too short for them is none either.
fn head(packet: &Packet<'_>) -> Option<(Protocol, (u16, u16), Option<u8>)> {
    let flags = |flags: u8| Some(flags & (Tcp::SYN | Tcp::ACK));
    match packet.transport {
        Transport::Tcp(tcp) => {
            Some((Protocol::Tcp, (tcp.source_port, tcp.destination_port), flags(tcp.flags)))
        }
        Transport::Udp(udp) => Some((Protocol::Udp, (udp.source_port, udp.destination_port), None)),
        Transport::Fragment if packet.network.fragment?.offset == 0 => {
            let [s0, s1, d0, d1] = *packet.body.first_chunk::<4>()?;
            let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            match packet.network.protocol {
                6 => Some((Protocol::Tcp, ports, flags(*packet.body.get(FLAGS_AT)?))),
                17 => Some((Protocol::Udp, ports, None)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether the pod is the client, and whether that is a guess. `ports` are those of source and destination.
fn is_client(flags: Option<u8>, ports: (u16, u16), leaves: bool) -> (bool, bool) {
    match flags {
        Some(Tcp::SYN) => (leaves, false),
        Some(flags) if flags & Tcp::SYN != 0 => (!leaves, false),
        // Servers' ports are the lower ones.
        Some(_) => (if ports.0 == ports.1 { leaves } else { (ports.1 < ports.0) == leaves }, true),
        None => {
            let answers = ports.0 < WELL_KNOWN && ports.1 >= WELL_KNOWN;
            (leaves != answers, answers)
        }
    }
}

#[cfg(test)]
mod tests;
