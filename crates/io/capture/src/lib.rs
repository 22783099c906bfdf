//! The network side of the kernel.
//!
//! Two processes use this crate. The **keeper** ([`Loaded`]) loads `bpf/network.bpf.c`, attaches it to the host ends of
//! the pods' veths, or to the cgroups of containers without one, and pins everything, so that it enforces without any process. The **agent** is handed descriptors
//! and works with six things:
//!
//! ```text
//! policy   → Tables   → endpoints, addresses, modes, rules, settings → verdict of every packet in the kernel
//! Places   → what cgroups are → verdict of a connect where no interface is attached
//! Events   ← ring     ← flows that began or changed, processes that connect
//! Flows    ← sweep    ← bytes, packets and sessions of every flow since the last sweep
//! Counters ←          ← what was dropped or lost
//! Tap      → copies of packets → an interface → Frames, in whoever inspects
//! ```
//!
//! In Protect packets are held back until inspection has looked at them: they leave their way by a [`detour`], or, where there
//! are no programs at interfaces, wait in a [`queue`] in the pod's own namespace.
//!
//! A change of mode is one row and the generation; no interface, route or socket is touched. [`netns`] says which
//! host end belongs to which pod, and [`trial`] whether the kernel really drops a packet.

mod attach;
mod bpffs;
mod clock;
mod counters;
pub mod detour;
mod events;
pub mod fate;
mod flows;
mod frames;
mod listening;
mod load;
mod map;
mod netlink;
pub mod netns;
mod offload;
mod packets;
mod places;
pub mod queue;
mod reset;
mod ring;
mod rows;
mod share;
mod sockets;
mod sys;
mod tables;
mod tap;
pub mod trial;

pub use attach::{AttachError, Hook};
pub use clock::{Skew, monotonic_nanos, steady_nanos, wall_nanos};
pub use counters::{Counters, Totals};
pub use events::{ConnectEvent, Event, Events, FlowChange, FlowEvent};
pub use flows::{Ends, Flow, Flows, IdleLimits, Session, Sweep};
pub use frames::Frames;
pub use listening::Listening;
pub use load::{LoadError, Loaded, Options, shape};
pub use map::TableError;
pub use packets::{Frame, Packets};
pub use places::Places;
pub use rows::{
    AddressKey, Endpoint, ModeRow, Place, Prefix, RuleAction, RuleKey, RuleRow, Waits, sockets_endpoint,
};
pub use share::{MAX_SHARES, Share};
pub use sockets::SocketsError;
pub use tables::{Applied, Rows, Tables};
pub use tap::{Served, Tap, TapError, TapInterface};
