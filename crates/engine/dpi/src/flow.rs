//! What is remembered of a flow: at most 256 bytes. What its parser knows lies in a pool of its own.

use nv_model::application::ApplicationId;

use crate::event::{Current, End, SessionId, Summary, Volume};
use crate::key::{Endpoints, Key, Side, Transport};
use crate::pool::NONE;
use crate::protocol::ProtocolSet;

/// Bytes of one side, unrecognised and without an answer, after which none is expected.
const ONE_SIDED_BYTES: u64 = 64 * 1024;

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TCP: no answer to the SYN yet.
    Opening,
    /// Both sides talk, or may.
    Open,
    /// TCP: one side has finished.
    HalfClosed,
    /// TCP: both have, or one has reset.
    Closed,
}

/// What becomes of a direction's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Which protocol it is, is being found out.
    Probing,
    /// They go to the parser.
    Parsing,
    /// The parser has lost its place: the next segments are tried as a new beginning.
    Seeking,
    /// There is nothing more to learn.
    Done,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Half {
    /// Bytes that come next and are of no interest.
    pub(crate) skip: u64,
    /// Bytes of frames.
    pub(crate) bytes: u64,
    /// Packets.
    pub(crate) packets: u32,
    /// Sequence number of the next byte.
    pub(crate) next: u32,
    /// Highest acknowledgment that this side sent.
    pub(crate) acknowledged: u32,
    /// First held segment, or [`NONE`].
    pub(crate) held: u32,
    /// Bytes held.
    pub(crate) held_bytes: u32,
    /// Second since which the stream waits for a hole.
    pub(crate) hole_since: u32,
    /// Buffer with a unit's beginning, or [`NONE`].
    pub(crate) carry: u32,
    /// Bytes that the unit has at least.
    pub(crate) wanted: u32,
    /// What becomes of the bytes.
    pub(crate) reading: Reading,
    /// Segments or datagrams that were tried without finding a protocol.
    pub(crate) tries: u8,
    /// [`Half::next`] counts.
    pub(crate) started: bool,
    /// The side has finished.
    pub(crate) finished: bool,
    /// The bytes of [`Half::skip`] are a body's.
    pub(crate) in_body: bool,
    /// [`Half::acknowledged`] counts.
    pub(crate) has_acknowledged: bool,
}

impl Half {
    const NEW: Self = Self {
        skip: 0,
        bytes: 0,
        packets: 0,
        next: 0,
        acknowledged: 0,
        held: NONE,
        held_bytes: 0,
        hole_since: 0,
        carry: NONE,
        wanted: 0,
        reading: Reading::Probing,
        tries: 0,
        started: false,
        finished: false,
        in_body: false,
        has_acknowledged: false,
    };

    fn volume(&self) -> Volume {
        Volume { packets: self.packets, bytes: self.bytes }
    }
}

/// A flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) client: Half,
    pub(crate) server: Half,
    pub(crate) id: SessionId,
    pub(crate) started: u64,
    pub(crate) last: u64,
    /// Parser, or [`NONE`].
    pub(crate) parser: u32,
    pub(crate) application: u32,
    /// Links of the timer wheel, and where in it the flow is.
    pub(crate) timer_next: u32,
    pub(crate) timer_previous: u32,
    pub(crate) timer_slot: u16,
    /// Protocols that it may still be, each way.
    pub(crate) client_may_be: ProtocolSet,
    pub(crate) server_may_be: ProtocolSet,
    pub(crate) phase: Phase,
    /// The key's lower end is the client.
    pub(crate) client_is_low: bool,
    /// The start was not seen.
    pub(crate) midstream: bool,
    /// The client's silence has been noted.
    pub(crate) noted: bool,
    /// That nothing more is read of it was told.
    pub(crate) settled: bool,
    /// Whether the slot holds a flow.
    pub(crate) live: bool,
    /// Threats that are told once a flow, as bits.
    pub(crate) told: u16,
    /// Second since which the client's window is as good as shut; 0 while it is not.
    pub(crate) narrow_since: u32,
    /// Bits by which the client's window is shifted.
    pub(crate) client_scale: u8,
    /// The client has offered a wide window.
    pub(crate) was_wide: bool,
}

const _: () = assert!(size_of::<Flow>() <= 256, "a hot flow has at most 256 bytes");

impl Flow {
    pub(crate) fn new(key: Key, client_is_low: bool, id: SessionId, now: u64) -> Self {
        Self {
            key,
            client: Half::NEW,
            server: Half::NEW,
            id,
            started: now,
            last: now,
            parser: NONE,
            application: 0,
            timer_next: NONE,
            timer_previous: NONE,
            timer_slot: 0,
            client_may_be: ProtocolSet::ALL,
            server_may_be: ProtocolSet::ALL,
            phase: Phase::Opening,
            client_is_low,
            midstream: false,
            noted: false,
            settled: false,
            live: true,
            told: 0,
            narrow_since: 0,
            client_scale: 0,
            was_wide: false,
        }
    }
    pub(crate) fn half(&self, side: Side) -> &Half {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
    pub(crate) fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
    pub(crate) fn may_be(&mut self, side: Side) -> &mut ProtocolSet {
        match side {
            Side::Client => &mut self.client_may_be,
            Side::Server => &mut self.server_may_be,
        }
    }
    /// Who sent a packet whose sender is the key's lower end, or is not.
    pub(crate) fn side(&self, sender_is_low: bool) -> Side {
        if sender_is_low == self.client_is_low { Side::Client } else { Side::Server }
    }
    /// Takes the server for the client: its bytes have shown that it asks.
    pub(crate) fn turn(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        std::mem::swap(&mut self.client_may_be, &mut self.server_may_be);
        self.client_is_low = !self.client_is_low;
    }
    /// A connection that the client has opened and not used: neither bytes that were read, nor some that wait.
    pub(crate) fn is_silent(&self) -> bool {
        let client = &self.client;
        let said = client.reading != Reading::Probing
            || client.tries > 0
            || client.carry != NONE
            || client.held != NONE;
        self.key.transport() == Transport::Tcp && self.phase == Phase::Open && !self.midstream && !said
    }
    /// Whether no byte that may still come is read. Of a conversation in which one side talks all the time and the other
    /// never, and in which nothing was recognised, nothing is expected any more.
    pub(crate) fn is_read(&self) -> bool {
        let over =
            |half: &Half| half.reading == Reading::Done || (half.skip == u64::MAX && half.carry == NONE);
        let (client, server) = (&self.client, &self.server);
        let silent = |half: &Half| {
            half.reading == Reading::Probing && half.tries == 0 && half.carry == NONE && half.held == NONE
        };
        let one_sided = |talks: &Half, other: &Half| {
            self.parser == NONE && over(talks) && silent(other) && talks.bytes >= ONE_SIDED_BYTES
        };
        self.key.transport() != Transport::Icmp
            && ((over(client) && over(server)) || one_sided(client, server) || one_sided(server, client))
    }
    pub(crate) fn endpoints(&self) -> Endpoints {
        self.key.endpoints(self.client_is_low)
    }
    pub(crate) fn server_port(&self) -> u16 {
        self.key.port(!self.client_is_low)
    }
    pub(crate) fn client_port(&self) -> u16 {
        self.key.port(self.client_is_low)
    }
    pub(crate) fn current(&self) -> Current {
        Current { session: self.id, endpoints: self.endpoints(), application: self.application() }
    }
    fn application(&self) -> Option<ApplicationId> {
        (self.application != 0).then_some(ApplicationId(self.application))
    }
    pub(crate) fn summary(&self, end: End) -> Summary {
        Summary {
            endpoints: self.endpoints(),
            application: self.application(),
            client: self.client.volume(),
            server: self.server.volume(),
            started: self.started,
            last: self.last,
            midstream: self.midstream,
            end,
        }
    }
}
