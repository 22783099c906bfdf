//! What runs on this machine.
//!
//! ```text
//! containerd socket ─ events, containers, tasks, CRI ┐
//! any CRI v1 socket ─ lists, container events ───────┤
//! Docker's socket ─ lists, descriptions, events ─────┼→ assemble → track → RuntimeEvent ┐
//! /proc, cgroup tree ─ addresses, namespaces, ids ───┘              all runtimes of a machine ─┴→ Merge
//! cgroup_mkdir ─→ identify: <state>/…/<id>/config.json ─→ Workload before its first process
//! ```
//!
//! A [`Watcher`] follows one socket ([`sockets::detect`] finds them) and tells of complete
//! [`Workload`](nv_model::workload::Workload)s over a bounded channel. It lists everything when it connects and
//! every 30 s, so an event that was missed is made good, and it survives a socket that dies and returns: what is
//! told afterwards is only what changed. Several may tell of the same container; [`Merge`] makes one story of it.
//!
//! An [`Identifier`] answers the one question that cannot wait for an event: which container does this new cgroup
//! belong to? It reads the OCI bundle, which the runtime writes before it makes the cgroup. The service, and with
//! it the group and the policy, follow from what the bundle says, and the lists later give the same answer:
//! [`service`] names them from the same few facts.
//!
//! Who wants the runtime to wait for that answer has it ask, by [`nri`].
//!
//! [`LocalImages`] finds an image that lies on this machine and gives its bytes.
//!
//! Neither listens for ports nor looks at processes; that is the business of the crates that watch those.

mod addresses;
mod assemble;
mod backoff;
pub mod bundle;
pub mod cgroup;
mod containerd;
mod cri;
mod docker;
mod error;
mod event;
mod host;
mod identify;
mod image;
mod local;
mod merge;
pub mod nri;
mod process;
pub mod service;
pub mod sockets;
mod spec;
mod spoken;
mod track;
mod watch;

pub use error::RuntimeError;
pub use event::RuntimeEvent;
pub use host::Host;
pub use identify::{Identifier, Identifiers};
pub use local::{DockerImage, LocalBytes, LocalImage, LocalImages, StoredImage};
pub use merge::Merge;
pub use watch::{Api, Counters, Watcher, WatcherConfig};
