//! The inspector: the process that reads packets, with nothing that it could do harm with.
//!
//! ```text
//! kernel ─copies─► veth ─► ring ═► inspector ──Told──► reader (a thread of the agent) ─┬─► kernel: enough of this flow
//!                           ▲        no privilege        one socket, bounded           └─► agent: applications, attacks
//!                           └─ opened by the keeper, handed on through the same socket
//! ```
//!
//! Packets of pods in Protect come another way: they wait ([`queues`]) on a detour and are judged one by one ([`judge`]); what may
//! go on is sent on from here. Where no BPF program judges connections, packets of every pod wait in queues, the answers go to
//! the keeper, which passes them on, and the ends of connections are judged here ([`ends`]).
//!
//! There are several, each with a share of the pods ([`nv_capture::Share`]), its own flows, ring, relay and socket: what one
//! does takes nothing from the others, and when one ends, packets of its share alone go by their groups' fail mode.
//!
//! What it says is taken as the word of a stranger, since packets may have made it say anything: it names connections
//! and numbers of applications and attacks, and each is looked up. It writes to no table. That it lives is said to the
//! kernel by the reader, as often as it hears from it; without, no packet is copied.
//!
//! What it judges messages by ([`rules`]) comes from the agent as one sealed file, is made ready in a second thread that
//! is confined like the first, and takes the place of what was there whole.

mod compiler;
mod confine;
mod ends;
mod fold;
mod forwarded;
mod handle;
mod heed;
mod judge;
mod metered;
mod queues;
mod rules;
mod rulings;
mod run;
mod sensing;

use std::net::{IpAddr, SocketAddr};

pub(crate) use ends::by_ends;
pub(crate) use handle::{Heard, Inspector, Sums};
use nv_capture::Share;
use nv_model::name::GroupName;
use nv_model::port::Protocol;
use nv_model::question::MeterEntry;
use nv_model::sensor::SensorKind;
use nv_model::threat::Severity;
pub(crate) use rules::{Rules, Using, Watched};
pub use run::inspector_main;
use serde::{Deserialize, Serialize};

/// What the keeper says to a new inspector; the ring's socket comes along, the inspector's end of the relay, and where there are
/// programs the socket of its detour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The pods that it inspects.
    pub(crate) share: Share,
}

/// A connection by its addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// IP protocol.
    pub(crate) protocol: Protocol,
    /// Who asked.
    pub(crate) client: SocketAddr,
    /// Who was asked.
    pub(crate) server: SocketAddr,
}

impl Connection {
    /// As an engine names its ends.
    pub(crate) fn of(ends: &nv_dpi::key::Endpoints) -> Self {
        use nv_dpi::key::Transport;
        let end = |end: nv_dpi::key::Endpoint| SocketAddr::new(end.address, end.port);
        Self {
            protocol: match ends.transport {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
                Transport::Icmp => Protocol::Icmp,
            },
            client: end(ends.client),
            server: end(ends.server),
        }
    }
    /// As the kernel's flows name theirs, whoever of the two is the client.
    pub(crate) fn ends(protocol: Protocol, client: (IpAddr, u16), server: (IpAddr, u16)) -> Self {
        Self { protocol, client: client.into(), server: server.into() }
    }
    /// The same with its ends in an order of their own, for tables.
    pub(crate) fn sorted(self) -> Self {
        if self.client <= self.server {
            return self;
        }
        Self { protocol: self.protocol, client: self.server, server: self.client }
    }
}

/// What an inspector says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It lives; said at least once a second. Totals since its start.
    Alive(Counts),
    /// The application of a connection is known, or known better.
    Application {
        connection: Connection,
        /// Its number.
        application: u32,
    },
    /// The server's software is known.
    Software {
        connection: Connection,
        /// Its number among the applications.
        application: u32,
    },
    /// The client means this host (Host, SNI); each once a connection.
    Host { connection: Connection, name: String },
    /// Who asks through trusted proxies; said again when it is somebody else.
    Forwarded {
        connection: Connection,
        /// Out of `X-Forwarded-For`.
        client: IpAddr,
    },
    /// A server of the DNS has answered: addresses of a name that was asked for, with their times to live in seconds.
    Name { connection: Connection, name: String, addresses: Vec<(IpAddr, u32)> },
    /// Nothing more is to be read of a connection.
    Settled(Connection),
    /// Nothing more is to be known of a connection, whose bytes sensors read on.
    Known(Connection),
    /// Who serves a connection that a pod has opened, whose packets wait? It is answered with [`FromAgent::Served`].
    Asks {
        connection: Connection,
        /// The queue: the number of the pod's interface.
        queue: u32,
    },
    /// Rules of the policy deny a connection by what it says, and it was cut: its packets waited.
    Refused(Connection),
    /// A connection begins at a pod's queue, or is judged otherwise than before, where its ends are judged here.
    Opened {
        connection: Connection,
        /// The queue: that of the pod's interface.
        queue: u32,
        /// The pod is the server.
        ingress: bool,
        /// Its packets are dropped.
        denied: bool,
    },
    /// A connection is over.
    Over(Connection),
    /// An attack.
    Attack {
        /// Its number.
        threat: u32,
        /// `None` for a packet that belongs to none.
        connection: Option<Connection>,
        /// The client sent the packet.
        by_client: bool,
        /// Number of the application, 0 when not known.
        application: u32,
        /// The beginning of the packet.
        packet: Vec<u8>,
        /// How long the packet was.
        packet_bytes: u32,
        /// It waited, and was stopped.
        stopped: bool,
        /// How many of its kind this stands for.
        count: u32,
        /// When, in nanoseconds since 1970.
        at: u64,
    },
    /// A rule of a sensor holds for a message.
    Match {
        /// What the sensor is for.
        kind: SensorKind,
        /// Its name.
        sensor: String,
        /// The rule's name within it.
        rule: String,
        /// The rule's number.
        id: u32,
        /// The group that uses the sensor.
        group: GroupName,
        /// What a rule of a rule set says of itself; empty for a sensor's own.
        message: String,
        /// The variable that it matched, without its value.
        variable: String,
        /// How bad it is.
        severity: Severity,
        /// As in [`Self::Attack`].
        connection: Connection,
        /// The client sent the message.
        by_client: bool,
        /// As in [`Self::Attack`].
        application: u32,
        /// The beginning of the packet with which the rule held.
        packet: Vec<u8>,
        /// As in [`Self::Attack`].
        packet_bytes: u32,
        /// As in [`Self::Attack`].
        stopped: bool,
        /// As in [`Self::Attack`].
        count: u32,
        /// As in [`Self::Attack`].
        at: u64,
    },
    /// What meters count, to [`rules::FromAgent::Meters`]: those nearest to their limit, in pieces.
    Meters {
        /// Number of the question.
        ask: u64,
        /// At which address, and how much.
        meters: Vec<(IpAddr, MeterEntry)>,
        /// More pieces follow.
        more: bool,
    },
    /// Rules of this number are judged by from now on, or those before go on because these are refused.
    Rules {
        /// Which.
        revision: u64,
        /// Why, when they are refused.
        refused: Option<String>,
    },
}

/// What an inspector counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Frames read.
    pub(crate) frames: u64,
    /// Frames that found the ring full.
    pub(crate) dropped: u64,
    /// Words that found the socket full.
    pub(crate) unsent: u64,
    /// Connections at this moment.
    pub(crate) flows: u64,
    /// Connections that made room for others.
    pub(crate) evicted: u64,
    /// Connections that are read for sensors alone, at this moment.
    pub(crate) kept: u64,
    /// What sensors did not look at, or did not tell, because it was too much.
    pub(crate) unmatched: u64,
    /// Packets that waited for their answer.
    pub(crate) queued: u64,
    /// Requests that rule sets looked at.
    pub(crate) exchanges: u64,
    /// Of these, those that could not be judged to their end.
    pub(crate) unjudged: u64,
    /// Lines and bodies of which rule sets saw the beginning alone.
    pub(crate) cut: u64,
    /// Connections whose packets wait no more.
    pub(crate) queue_clean: u64,
    /// Packets that were dropped.
    pub(crate) queue_dropped: u64,
    /// Packets with which a connection was cut.
    pub(crate) queue_cut: u64,
    /// Times that a queue had no room.
    pub(crate) queue_lost: u64,
}

impl Counts {
    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let sum = |of: fn(&Self) -> u64| of(self).saturating_add(of(other));
        Self {
            frames: sum(|counts| counts.frames),
            dropped: sum(|counts| counts.dropped),
            unsent: sum(|counts| counts.unsent),
            flows: sum(|counts| counts.flows),
            evicted: sum(|counts| counts.evicted),
            kept: sum(|counts| counts.kept),
            unmatched: sum(|counts| counts.unmatched),
            queued: sum(|counts| counts.queued),
            exchanges: sum(|counts| counts.exchanges),
            unjudged: sum(|counts| counts.unjudged),
            cut: sum(|counts| counts.cut),
            queue_clean: sum(|counts| counts.queue_clean),
            queue_dropped: sum(|counts| counts.queue_dropped),
            queue_cut: sum(|counts| counts.queue_cut),
            queue_lost: sum(|counts| counts.queue_lost),
        }
    }
}
