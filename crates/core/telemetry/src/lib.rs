//! What every role shares to be observed and ended: log set-up, the clock, a process' own use, signals, the version.
//!
//! Time is an argument in this product: whoever needs it takes a [`Clock`], and only [`SystemClock`] reads the
//! machine's. Tests hand in a [`ManualClock`].

mod clock;
mod error;
mod log;
mod process;
mod signal;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::chain;
pub use log::{LogError, start_log};
pub use process::ProcessUse;
pub use signal::shutdown_on_signal;

/// Version of the product, from the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
