//! Flows: what the kernel side keeps of every connection, read as differences.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use zerocopy::FromZeros;
use zerocopy::network_endian::U16;

use crate::clock::{Anchor, monotonic_nanos};
use crate::map::{Map, TableError, name};
use crate::rows::{FlowKey, FlowRow, address};

/// A connection as the host end of one pod's veth sees it. A connection between two pods of the node is two flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The host end of the pod's veth, or [`sockets_endpoint`](crate::sockets_endpoint) of its cgroup.
    pub ifindex: u32,
    /// Who opened it.
    pub client: IpAddr,
    /// The client's port; 0 for protocols without.
    pub client_port: u16,
    /// Who was asked.
    pub server: IpAddr,
    /// The server's port; 0 for protocols without.
    pub server_port: u16,
    /// IP protocol.
    pub protocol: Protocol,
    /// Its number (6 for TCP).
    pub protocol_number: u8,
    /// The pod is the server.
    pub ingress: bool,
    /// The other end as its packets say, address and port, where the kernel translates them: a service in the place of
    /// the server, a host in the place of the client. `client` and `server` are who is behind it.
    pub translated: Option<(IpAddr, u16)>,
}

impl Ends {
    pub(crate) fn new(key: &FlowKey, is_client: bool, peer: ([u8; 16], U16)) -> Self {
        let local = (address(key.local), key.local_port.get());
        let said = (address(key.remote), key.remote_port.get());
        let (remote, translated) = match peer {
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], _) => (said, None),
            (peer, port) => ((address(peer), port.get()), Some(said)),
        };
        let (client, server) = if is_client { (local, remote) } else { (remote, local) };
        Self {
            ifindex: key.ifindex,
            client: client.0,
            client_port: client.1,
            server: server.0,
            server_port: server.1,
            protocol: Protocol::from_number(key.protocol),
            protocol_number: key.protocol,
            ingress: !is_client,
            translated,
        }
    }
}

/// What a flow has done since the last sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its ends.
    pub ends: Ends,
    /// The number that the endpoint was given.
    pub endpoint: u32,
    /// Identity of the client.
    pub client: IdentityId,
    /// Identity of the server.
    pub server: IdentityId,
    /// What was decided last.
    pub verdict: Verdict,
    /// The rule that decided; [`RuleId::DEFAULT`] for none.
    pub rule: RuleId,
    /// Bytes of IP packets from the client since the last sweep. Dropped packets count.
    pub bytes_to_server: u64,
    /// Bytes of IP packets from the server since the last sweep.
    pub bytes_to_client: u64,
    /// Packets from the client since the last sweep.
    pub packets_to_server: u64,
    /// Packets from the server since the last sweep.
    pub packets_to_client: u64,
    /// Sessions opened since the last sweep.
    pub sessions: u32,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// Both ends have finished, or one has reset it.
    pub closed: bool,
    /// Its first packet was not seen; who is the client is a guess.
    pub mid_stream: bool,
    /// It was dropped because the pod is cut off.
    pub quarantined: bool,
}

/// An open connection, with everything it did since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// A number that stays the same as long as its ends do.
    pub id: u64,
    /// Its ends, totals and verdict.
    pub flow: Flow,
    /// Time since its first packet.
    pub age: Duration,
    /// Time since its last packet, as the last sweep saw it.
    pub idle: Duration,
}

/// When a flow without packets is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct IdleLimits {
    /// After its end.
    pub closed: Duration,
    /// A TCP flow with packets of both ends.
    pub established: Duration,
    /// Every other one: UDP, ICMP, opened without an answer, denied.
    pub other: Duration,
}

impl Default for IdleLimits {
    fn default() -> Self {
        Self {
            closed: Duration::from_secs(5),
            // A session that is forgotten too early is found again in its middle; one that is never forgotten gives way
            // to newer ones when the table is full.
            established: Duration::from_secs(2 * 3600),
            other: Duration::from_secs(180),
        }
    }
}

/// What a sweep has found.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Flows that did something since the last sweep.
    pub flows: Vec<Flow>,
    /// Flows in the table.
    pub live: usize,
    /// Flows forgotten by this sweep.
    pub forgotten: usize,
}

/// What the last sweep saw of a flow.
#[derive(Clone, Copy)]
struct Seen {
    row: FlowRow,
    sweep: u64,
}

/// Reader of the flow table.
pub struct Flows {
    map: Map<FlowKey, FlowRow>,
    seen: HashMap<FlowKey, Seen>,
    /// What forgotten flows did that no sweep has told.
    owed: Vec<Flow>,
    sweep: u64,
    keys: Vec<FlowKey>,
    rows: Vec<FlowRow>,
}

impl std::fmt::Debug for Flows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flows")
            .field("map", &self.map)
            .field("seen", &self.seen.len())
            .finish_non_exhaustive()
    }
}

impl Flows {
    /// Entries read in one call.
    const BATCH: usize = 1024;
    /// A bucket of the table is never longer in practice; beyond it the kernel's answer is an error.
    const MAX_BATCH: usize = 16 * 1024;

    /// From what the loader has handed over. The first sweep tells everything since the flows began.
    ///
    /// # Errors
    /// When the table is missing or of another version.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        let map = Map::find(name::FLOWS, descriptors)?;
        Ok(Self { map, seen: HashMap::new(), owed: Vec::new(), sweep: 0, keys: Vec::new(), rows: Vec::new() })
    }
    /// Goes through the table once: what changed since the last time, and forgets what has been idle too long.
    /// Takes time in proportion to the table, which is bounded.
    ///
    /// # Errors
    /// When the kernel refuses; the next sweep tells what this one did not.
    pub fn sweep(&mut self, limits: &IdleLimits) -> Result<Sweep, TableError> {
        let anchor = Anchor::now();
        let now = monotonic_nanos();
        self.sweep = self.sweep.wrapping_add(1);
        let mut found = Sweep { flows: std::mem::take(&mut self.owed), ..Sweep::default() };
        let mut idle = Vec::new();
        let mut cursor = 0;
        let mut begin = true;
        let mut size = Self::BATCH;
        let capacity = usize::try_from(self.map.capacity()).unwrap_or(usize::MAX);
        // Flows that come while the sweep goes on could keep it going; twice the table is enough.
        while found.live <= capacity.saturating_mul(2) {
            self.keys.resize_with(size, FlowKey::new_zeroed);
            self.rows.resize_with(size, FlowRow::new_zeroed);
            let batch = self.map.batch(begin, &mut cursor, &mut self.keys, &mut self.rows)?;
            if batch.more_space && size < Self::MAX_BATCH {
                size = size.saturating_mul(2);
                continue;
            }
            begin = false;
            for (key, row) in self.keys.iter().zip(&self.rows).take(batch.filled) {
                found.live = found.live.saturating_add(1);
                let earlier = self.seen.insert(*key, Seen { row: *row, sweep: self.sweep });
                if let Some(flow) = since(key, row, earlier.as_ref().map(|seen| &seen.row), anchor) {
                    found.flows.push(flow);
                }
                if is_idle(key, row, now, limits) {
                    idle.push(*key);
                }
            }
            if batch.end || batch.more_space {
                break;
            }
        }
        for key in idle {
            // What it did between the read and now is told too.
            if let Some(last) = self.map.take(&key)? {
                let earlier = self.seen.remove(&key);
                found.flows.extend(since(&key, &last, earlier.as_ref().map(|seen| &seen.row), anchor));
                found.forgotten = found.forgotten.saturating_add(1);
            }
        }
        // Those that the kernel gave up for newer ones.
        let sweep = self.sweep;
        self.seen.retain(|_, seen| seen.sweep == sweep);
        Ok(found)
    }
    /// The connections that were open at the last sweep, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        let (anchor, now) = (Anchor::now(), monotonic_nanos());
        self.seen.iter().filter_map(move |(key, seen)| session(key, &seen.row, anchor, now))
    }
    /// Forgets connections by their numbers; the next packet of each is judged as one in the middle of a connection.
    /// What they did is told by the next sweep. Answers how many there were.
    ///
    /// # Errors
    /// When the kernel refuses; those before it are forgotten.
    pub fn forget(&mut self, ids: &HashSet<u64>) -> Result<u32, TableError> {
        let anchor = Anchor::now();
        let keys: Vec<FlowKey> = self.seen.keys().filter(|key| ids.contains(&number(key))).copied().collect();
        let mut forgotten = 0_u32;
        for key in keys {
            let earlier = self.seen.remove(&key);
            if let Some(last) = self.map.take(&key)? {
                self.owed.extend(since(&key, &last, earlier.as_ref().map(|seen| &seen.row), anchor));
                forgotten = forgotten.saturating_add(1);
            }
        }
        Ok(forgotten)
    }
}

/// The number of a connection. Of 48 bits, so that every reader of JSON keeps it whole.
fn number(key: &FlowKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() >> 16
}

fn session(key: &FlowKey, row: &FlowRow, anchor: Anchor, now: u64) -> Option<Session> {
    let flow = since(key, row, None, anchor).filter(|flow| !flow.closed)?;
    Some(Session {
        id: number(key),
        flow,
        age: Duration::from_nanos(now.saturating_sub(row.first_ns)),
        idle: Duration::from_nanos(now.saturating_sub(last(row))),
    })
}

fn is_idle(key: &FlowKey, row: &FlowRow, now: u64, limits: &IdleLimits) -> bool {
    let established = key.protocol == Protocol::Tcp.number()
        && row.is.replied != 0
        && row.verdict != verdict_number(Verdict::Deny);
    let limit = match () {
        () if row.is.closed != 0 => limits.closed,
        () if established => limits.established,
        () => limits.other,
    };
    u128::from(now.saturating_sub(last(row))) > limit.as_nanos()
}

/// Time of the last packet. The kernel side reads it at the last tick, that of the first packet exactly.
fn last(row: &FlowRow) -> u64 {
    row.first_ns.max(row.to_server.last_ns).max(row.to_client.last_ns)
}

/// The difference of two reads; `None` when nothing happened.
fn since(key: &FlowKey, row: &FlowRow, earlier: Option<&FlowRow>, anchor: Anchor) -> Option<Flow> {
    // Another first packet: the flow was forgotten and began anew.
    let base = earlier.filter(|earlier| earlier.first_ns == row.first_ns);
    let less = |now: u64, then: fn(&FlowRow) -> u64| now.saturating_sub(base.map_or(0, then));
    let flow = Flow {
        ends: Ends::new(key, row.is.local_client != 0, (row.peer, row.peer_port)),
        endpoint: row.endpoint,
        client: IdentityId(row.client),
        server: IdentityId(row.server),
        verdict: verdict(row.verdict),
        rule: RuleId(row.rule),
        bytes_to_server: less(row.to_server.bytes, |row| row.to_server.bytes),
        bytes_to_client: less(row.to_client.bytes, |row| row.to_client.bytes),
        packets_to_server: less(row.to_server.packets, |row| row.to_server.packets),
        packets_to_client: less(row.to_client.packets, |row| row.to_client.packets),
        sessions: row.sessions.saturating_sub(base.map_or(0, |row| row.sessions)),
        first: anchor.wall(row.first_ns),
        last: anchor.wall(last(row)),
        closed: row.is.closed != 0,
        mid_stream: row.is.mid_stream != 0,
        quarantined: row.is.quarantined != 0,
    };
    let still = base.is_some_and(|base| (base.verdict, base.is) == (row.verdict, row.is))
        && flow.packets_to_server == 0
        && flow.packets_to_client == 0
        && flow.sessions == 0;
    (!still).then_some(flow)
}

/// The kernel side numbers verdicts in the order of [`Verdict`].
pub(crate) fn verdict(number: u8) -> Verdict {
    match number {
        1 => Verdict::Learn,
        2 => Verdict::Allow,
        3 => Verdict::Violate,
        4 => Verdict::Deny,
        _ => Verdict::Open,
    }
}

fn verdict_number(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Open => 0,
        Verdict::Learn => 1,
        Verdict::Allow => 2,
        Verdict::Violate => 3,
        Verdict::Deny => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{FlowFlags, WayRow, octets};

    fn key() -> FlowKey {
        FlowKey {
            ifindex: 7,
            local: octets("10.0.0.2".parse().unwrap()),
            remote: octets("10.0.0.3".parse().unwrap()),
            local_port: 40_000.into(),
            remote_port: 80.into(),
            protocol: 6,
            vlan: [0; 3],
        }
    }
    fn row() -> FlowRow {
        FlowRow {
            to_server: WayRow { bytes: 100, packets: 2, last_ns: 50 },
            first_ns: 5,
            is: FlowFlags { local_client: 1, ..FlowFlags::default() },
            sessions: 1,
            verdict: 2,
            ..FlowRow::new_zeroed()
        }
    }

    #[test]
    fn the_ends_are_turned_so_that_the_client_comes_first() {
        let out = Ends::new(&key(), true, ([0; 16], 0.into()));
        assert_eq!((out.client_port, out.server_port, out.ingress), (40_000, 80, false));
        assert_eq!(out.client.to_string(), "10.0.0.2");
        let into = Ends::new(&key(), false, ([0; 16], 0.into()));
        assert_eq!((into.client_port, into.server_port, into.ingress), (80, 40_000, true));
        assert_eq!(into.translated, None);
    }

    #[test]
    fn the_other_end_is_who_is_behind_a_translated_address() {
        let peer = (octets("10.0.0.9".parse().unwrap()), 8080.into());
        let out = Ends::new(&key(), true, peer);
        assert_eq!((out.server.to_string(), out.server_port), ("10.0.0.9".to_owned(), 8080));
        assert_eq!(out.translated, Some(("10.0.0.3".parse().unwrap(), 80)));
    }

    #[test]
    fn a_flow_tells_what_it_did_since_the_last_read() {
        let anchor = Anchor::now();
        let first = since(&key(), &row(), None, anchor).unwrap();
        assert_eq!((first.bytes_to_server, first.packets_to_server, first.sessions), (100, 2, 1));
        assert_eq!(since(&key(), &row(), Some(&row()), anchor), None);
        let later = FlowRow { to_server: WayRow { bytes: 160, packets: 3, last_ns: 90 }, ..row() };
        let next = since(&key(), &later, Some(&row()), anchor).unwrap();
        assert_eq!((next.bytes_to_server, next.packets_to_server, next.sessions), (60, 1, 0));
    }

    #[test]
    fn a_flow_that_began_anew_is_counted_from_nothing() {
        let anew =
            FlowRow { to_server: WayRow { bytes: 40, packets: 1, last_ns: 60 }, first_ns: 60, ..row() };
        let flow = since(&key(), &anew, Some(&row()), Anchor::now()).unwrap();
        assert_eq!((flow.bytes_to_server, flow.sessions), (40, 1));
    }

    #[test]
    fn a_session_has_all_that_its_flow_did_and_ends_with_it() {
        let open = session(&key(), &row(), Anchor::now(), 3_000_000_050).unwrap();
        assert_eq!((open.age.as_secs(), open.idle.as_secs()), (3, 3));
        assert_eq!((open.flow.bytes_to_server, open.flow.packets_to_server), (100, 2));
        assert_eq!(open.id, number(&key()));
        assert!(open.id < 1 << 48);
        assert_ne!(open.id, number(&FlowKey { local_port: 40_001.into(), ..key() }));
        let closed = FlowRow { is: FlowFlags { closed: 1, ..row().is }, ..row() };
        assert_eq!(session(&key(), &closed, Anchor::now(), 60), None);
    }

    #[test]
    fn a_flow_is_idle_by_its_own_limit() {
        let limits = IdleLimits::default();
        let second = 1_000_000_000;
        let at = |is, seconds: u64| {
            is_idle(
                &key(),
                &FlowRow { is, first_ns: 0, to_server: WayRow::default(), ..row() },
                seconds * second,
                &limits,
            )
        };
        let none = FlowFlags::default();
        let (closed, replied) = (FlowFlags { closed: 1, ..none }, FlowFlags { replied: 1, ..none });
        assert!(!at(closed, 5) && at(closed, 6));
        assert!(!at(none, 180) && at(none, 181));
        assert!(!at(replied, 7200) && at(replied, 7201));
    }

    #[test]
    fn verdicts_have_the_numbers_of_the_kernel_side() {
        for one in [Verdict::Open, Verdict::Learn, Verdict::Allow, Verdict::Violate, Verdict::Deny] {
            assert_eq!(verdict(verdict_number(one)), one);
        }
    }
}
