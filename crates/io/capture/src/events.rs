//! What the kernel side tells at once: flows that began or changed, and who connects.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zerocopy::FromBytes;

use crate::clock::Anchor;
use crate::flows::{Ends, verdict};
use crate::map::{self, TableError, name};
use crate::ring::Ring;
use crate::rows::{ConnectRecord, FlowRecord, address};

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A flow began, or its verdict changed.
    Flow(FlowEvent),
    /// A process connects or sends.
    Connect(ConnectEvent),
}

/// Why a flow is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// Its first packet was seen. Told once a flow, whether it passes or not.
    New,
    /// The policy has changed, and the verdict with it.
    Verdict {
        /// The verdict before.
        previous: Verdict,
    },
    /// The server tried to open a connection towards the client on the ports of this live one, which policy does not
    /// allow. `verdict` is of the attempt; the connection goes on.
    Turned,
}

/// A flow that began or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub change: FlowChange,
    /// Its ends.
    pub ends: Ends,
    /// The number that the endpoint was given.
    pub endpoint: u32,
    /// Identity of the client.
    pub client: IdentityId,
    /// Identity of the server.
    pub server: IdentityId,
    /// What was decided.
    pub verdict: Verdict,
    /// The rule that decided; [`RuleId::DEFAULT`] for none.
    pub rule: RuleId,
    /// The generation of the tables that it was judged by.
    pub generation: u32,
    /// Its first packet was not seen; who is the client is a guess.
    pub mid_stream: bool,
    /// It is dropped because the pod is cut off.
    pub quarantined: bool,
    /// Time that the decision took in the kernel, in nanoseconds; 0 for a change.
    pub decision_nanos: u32,
}

/// A process that connects, or sends to an address. Like ones within 10 seconds are told once. It comes before the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectEvent {
    /// When.
    pub at: Timestamp,
    /// Its cgroup: the inode of the folder in the v2 hierarchy.
    pub cgroup: u64,
    /// Its process id in the host's numbering.
    pub pid: u32,
    /// Its user id in the host's numbering.
    pub uid: u32,
    /// Its name, at most 15 bytes.
    pub command: String,
    /// IP protocol.
    pub protocol: Protocol,
    /// Where to, before any translation of addresses.
    pub address: IpAddr,
    /// Which port; 0 for protocols without.
    pub port: u16,
    /// What was decided where it was asked for; `Open` for the host's programs and for what an interface judges.
    pub verdict: Verdict,
    /// Time that the decision took in the kernel, in nanoseconds.
    pub decision_nanos: u32,
}

/// Reader of the ring.
#[derive(Debug)]
pub struct Events {
    ring: Ring,
    unread: u64,
}

impl Events {
    /// From what the loader has handed over. There must be no other reader.
    ///
    /// # Errors
    /// When there is no ring, or it cannot be mapped.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        let table = name::EVENTS;
        let (fd, shape) = map::find(table, descriptors)?;
        let size = usize::try_from(shape.entries).unwrap_or(0);
        let ring = Ring::map(fd, size).map_err(|source| TableError::Kernel {
            table,
            act: "map the ring of",
            source,
        })?;
        Ok(Self { ring, unread: 0 })
    }
    /// Reads at most `limit` records; answers with how many it took from the ring. Never waits.
    pub fn drain(&mut self, limit: usize, into: &mut Vec<Event>) -> usize {
        let anchor = Anchor::now();
        let unread = &mut self.unread;
        self.ring.drain(limit, |record| match parse(record, anchor) {
            Some(event) => into.push(event),
            None => *unread = unread.saturating_add(1),
        })
    }
    /// Waits until there are records, at most `timeout`. The kernel side wakes for violations and for what is to be
    /// learned, but not for every allowed flow: read at least every 100 ms.
    ///
    /// # Errors
    /// When the wait fails.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.ring, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    /// Records that could not be read: of another version of the kernel side.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

const FLOW_NEW: u32 = 1;
const FLOW_CHANGED: u32 = 2;
const FLOW_TURNED: u32 = 3;
const CONNECT: u32 = 4;

fn parse(record: &[u8], anchor: Anchor) -> Option<Event> {
    let kind = record.first_chunk::<4>().map(|kind| u32::from_ne_bytes(*kind))?;
    if kind == CONNECT {
        let record = ConnectRecord::read_from_bytes(record).ok()?;
        let command: Vec<u8> = record.command.iter().copied().take_while(|&byte| byte != 0).collect();
        return Some(Event::Connect(ConnectEvent {
            at: anchor.wall(record.ns),
            cgroup: record.cgroup,
            pid: record.pid,
            uid: record.uid,
            command: String::from_utf8_lossy(&command).into_owned(),
            protocol: Protocol::from_number(record.protocol),
            address: address(record.address),
            port: record.port.get(),
            verdict: verdict(record.verdict),
            decision_nanos: record.decision_nanos,
        }));
    }
    let record = FlowRecord::read_from_bytes(record).ok()?;
    let change = match kind {
        FLOW_NEW => FlowChange::New,
        FLOW_CHANGED => FlowChange::Verdict { previous: verdict(record.previous) },
        FLOW_TURNED => FlowChange::Turned,
        _ => return None,
    };
    let peer = (record.peer, record.peer_port);
    let is_client = record.local_client != 0;
    let mut ends = Ends::new(&record.key, is_client, peer);
    let (mut client, mut server) = (IdentityId(record.client), IdentityId(record.server));
    if change == FlowChange::Turned {
        // Told as the attempt was: from the server of the live connection to its client.
        ends = Ends::new(&record.key, !is_client, peer);
        std::mem::swap(&mut client, &mut server);
    }
    Some(Event::Flow(FlowEvent {
        at: anchor.wall(record.ns),
        change,
        ends,
        endpoint: record.endpoint,
        client,
        server,
        verdict: verdict(record.verdict),
        rule: RuleId(record.rule),
        generation: record.generation,
        mid_stream: record.mid_stream != 0,
        quarantined: record.quarantined != 0,
        decision_nanos: record.decision_nanos,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{FlowKey, octets};
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn flow(kind: u32) -> FlowRecord {
        FlowRecord {
            kind,
            key: FlowKey {
                local: octets("10.0.0.2".parse().unwrap()),
                remote: octets("10.0.0.3".parse().unwrap()),
                remote_port: 80.into(),
                protocol: 6,
                ..FlowKey::new_zeroed()
            },
            local_client: 1,
            client: 16,
            server: 17,
            verdict: 4,
            previous: 1,
            ..FlowRecord::new_zeroed()
        }
    }

    #[test]
    fn a_changed_verdict_names_the_one_before() {
        let Some(Event::Flow(event)) = parse(flow(FLOW_CHANGED).as_bytes(), Anchor::now()) else { panic!() };
        assert_eq!(event.change, FlowChange::Verdict { previous: Verdict::Learn });
        assert_eq!((event.verdict, event.client.0, event.ends.server_port), (Verdict::Deny, 16, 80));
    }

    #[test]
    fn a_turned_attempt_is_told_from_the_server_to_the_client() {
        let Some(Event::Flow(event)) = parse(flow(FLOW_TURNED).as_bytes(), Anchor::now()) else { panic!() };
        assert_eq!((event.client.0, event.server.0), (17, 16));
        assert_eq!((event.ends.client_port, event.ends.ingress), (80, true));
    }

    proptest! {
        #[test]
        fn any_record_is_answered_without_panic(record in proptest::collection::vec(any::<u8>(), 0..128)) {
            drop(parse(&record, Anchor::now()));
        }
        #[test]
        fn any_record_of_the_right_length_is_read(kind in 1_u32..4, mut bytes in proptest::collection::vec(any::<u8>(), 104)) {
            bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            prop_assert!(parse(&bytes, Anchor::now()).is_some());
        }
    }
}
