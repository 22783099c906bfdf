//! The kernel side stamps with monotonic time; the rest of the product speaks of wall time.

use std::sync::OnceLock;

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

/// Time that goes on as the wall clock does and never jumps, in nanoseconds since 1970: the wall clock's when this process
/// first asked, and what has passed since. What is over when, and how long ago something was, is told by it.
#[must_use]
pub fn steady_nanos() -> u64 {
    static BEGIN: OnceLock<Anchor> = OnceLock::new();
    let begin = BEGIN.get_or_init(Anchor::now);
    begin.wall.saturating_add(monotonic_nanos().saturating_sub(begin.monotonic))
}

/// What lies between [`steady_nanos`] and the wall clock at one moment: how far that was set since.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    steady: u64,
    wall: u64,
}

impl Skew {
    /// At this moment.
    #[must_use]
    pub fn now() -> Self {
        Self { steady: steady_nanos(), wall: wall_nanos() }
    }
    /// When something was that the wall clock has just stamped. A stamp of before the clock was set is out of reach, and
    /// taken for one of a moment ago.
    #[must_use]
    pub fn steady(self, wall: u64) -> u64 {
        const REACH: u64 = 1_000_000_000;
        let then = self.steady.saturating_add(wall).saturating_sub(self.wall);
        then.clamp(self.steady.saturating_sub(REACH), self.steady)
    }
    /// What the wall clock says of a moment.
    #[must_use]
    pub fn wall(self, steady: u64) -> u64 {
        self.wall.saturating_add(steady).saturating_sub(self.steady)
    }
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

    #[test]
    fn a_stamp_is_when_it_was_however_the_wall_clock_was_set() {
        const HOUR: u64 = 3_600_000_000_000;
        for wall in [5, 95 * HOUR, 100 * HOUR, 300 * HOUR] {
            let skew = Skew { steady: 100 * HOUR, wall };
            assert_eq!(skew.steady(wall.saturating_sub(5)), 100 * HOUR - 5, "set to {wall}");
            assert_eq!(skew.wall(100 * HOUR - 5), wall - 5, "set to {wall}");
        }
        let skew = Skew { steady: 100 * HOUR, wall: 95 * HOUR };
        assert_eq!(skew.steady(100 * HOUR), 100 * HOUR, "stamped before it was set back");
        assert_eq!(skew.steady(90 * HOUR), 100 * HOUR - 1_000_000_000, "stamped before it was set forward");
        assert!(steady_nanos() <= steady_nanos());
    }
}
