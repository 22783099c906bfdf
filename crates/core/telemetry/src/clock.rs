use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nv_model::time::Timestamp;

/// Reads time.
pub trait Clock: Send + Sync + 'static {
    /// Wall time: may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point of this process: never jumps, for deadlines and leases.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::monotonic`] starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 gives "never" rather than an error that nobody could handle.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// Stands at `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self { wall: AtomicI64::new(at.nanos()), monotonic: AtomicU64::new(0) }
    }
    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
    /// Sets the wall clock, as an operator or NTP does: it jumps, and no time has passed.
    pub fn set_wall(&self, at: Timestamp) {
        self.wall.store(at.nanos(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.wall.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(Timestamp::from_seconds(100));
        assert_eq!((clock.now().seconds(), clock.monotonic()), (100, Duration::ZERO));
        clock.advance(Duration::from_secs(5));
        assert_eq!((clock.now().seconds(), clock.monotonic()), (105, Duration::from_secs(5)));
        clock.set_wall(Timestamp::from_seconds(7));
        assert_eq!(
            (clock.now().seconds(), clock.monotonic()),
            (7, Duration::from_secs(5)),
            "only the wall jumps"
        );
    }
}
