//! What every role shares to be observed: log set-up, the clock, the version.
//!
//! Time is an argument in this product: whoever needs it takes a [`Clock`], and only [`SystemClock`] reads the
//! machine's. Tests hand in a [`ManualClock`].

mod clock;
mod log;

pub use clock::{Clock, ManualClock, SystemClock};
pub use log::{LogError, LogFormat, start_log};

/// Version of the product, from the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
