//! The keeper: the small privileged process that loads BPF, attaches it, and hands descriptors to the agent.
//!
//! A [`Launcher`] starts it with the control socket as its standard input, as the agent has given away the privileges
//! that a keeper needs. It answers one request at a time
//! ([`protocol`]), and ends when the agent does. What it has pinned stays in the kernel.

mod crew;
mod exec;
mod guard;
mod handle;
mod kept;
mod launcher;
mod mounts;
mod protocol;
mod questions;
mod queues;
mod serve;
mod signs;
mod stand_in;

pub(crate) use exec::{Seat, Seats, TakeSeats, Told};
pub(crate) use guard::{Place, Rules, Seen, Watch, Watched};
pub use handle::KeeperError;
pub(crate) use handle::{Keeper, Named};
pub use launcher::{Launcher, launcher_main};
pub(crate) use protocol::{ProtocolError, pair, receive, send};
pub(crate) use queues::{ALIVE, MAX_ANSWERS_BYTES, QueueCounts, ToInspector, Wanted};
pub(crate) use serve::try_all;
pub use serve::{Tried, keeper_main, try_each};
