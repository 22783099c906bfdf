//! The kernel side stamps with monotonic time; the rest of the product speaks of wall time.

use nv_model::time::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Monotonic time in nanoseconds: the clock of flows and events.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Wall time in nanoseconds since 1970: the clock of captured frames.
#[must_use]
pub fn wall_nanos() -> u64 {
    nanos(clock_gettime(ClockId::Realtime))
}

/// What lies between monotonic and wall time at one moment. Taken anew for every batch, so that a step of
/// the wall clock shows in later batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    monotonic: u64,
    wall: u64,
}

impl Anchor {
    pub(crate) fn now() -> Self {
        Self { monotonic: monotonic_nanos(), wall: nanos(clock_gettime(ClockId::Realtime)) }
    }
    /// Wall time of a stamp.
    pub(crate) fn wall(self, stamp: u64) -> Timestamp {
        let wall = self.wall.saturating_add(stamp).saturating_sub(self.monotonic);
        Timestamp::from_nanos(i64::try_from(wall).unwrap_or(i64::MAX))
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_moved_by_what_lies_between_the_clocks() {
        let anchor = Anchor { monotonic: 100, wall: 1_000 };
        assert_eq!(anchor.wall(40).nanos(), 940);
        assert_eq!(anchor.wall(160).nanos(), 1_060);
    }
}
