//! The keeper: the small privileged process that loads BPF, attaches it, and hands descriptors to the agent.
//!
//! It is started by the agent with the control socket as its standard input, answers one request at a time
//! ([`protocol`]), and ends when the agent does. What it has pinned stays in the kernel.

mod guard;
mod handle;
mod protocol;
mod serve;

pub(crate) use guard::{Place, Rules, Seen, Watch, Watched};
pub(crate) use handle::{Keeper, Named};
pub use handle::{KeeperCommand, KeeperError};
pub(crate) use protocol::{ProtocolError, receive};
pub use serve::keeper_main;
pub(crate) use serve::try_all;
