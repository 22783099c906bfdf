use std::time::Duration;

/// First pause after a failure.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest pause: a runtime that returns is seen within this time.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses between tries: doubled each time up to 5 s, then shortened by up to a quarter at random, so that many nodes
/// do not try in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// The next pause; `random` is any number.
    pub(crate) fn pause(&mut self, random: u32) -> Duration {
        let pause = self.next;
        self.next = self.next.saturating_mul(2).min(LONGEST);
        // Between 3/4 and all of it, in 256ths.
        pause.saturating_mul(256_u32.saturating_sub(random % 64)).checked_div(256).unwrap_or(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_short() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..10).map(|round| backoff.pause(round * 37)).collect();
        assert!(pauses[0] >= SHORTEST * 3 / 4 && pauses[0] <= SHORTEST, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST), "{pauses:?}");
        assert!(pauses[9] >= LONGEST * 3 / 4, "{pauses:?}");
    }
}
