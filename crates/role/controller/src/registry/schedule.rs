//! When registries are looked at: by their schedules, on the controller that leads.

use std::time::Duration;

use nv_model::registry::{INTERVAL, RegistryConfig, RegistrySchedule};
use nv_model::time::Timestamp;
use nv_store::Compare;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Registries;

/// How often schedules are looked at.
const TICK: Duration = Duration::from_secs(5);

/// Whether a registry is due, which was last looked at then.
pub(super) fn is_due(config: &RegistryConfig, last: Option<Timestamp>, now: Timestamp) -> bool {
    let pause = match config.schedule {
        RegistrySchedule::Manual => return false,
        RegistrySchedule::Auto => *INTERVAL.start(),
        RegistrySchedule::Periodical => config.interval.clamp(*INTERVAL.start(), *INTERVAL.end()),
    };
    last.is_none_or(|last| now.since(last) >= Duration::from_secs(pause.into()))
}

impl Registries {
    /// Follows the store and the schedules, until `shutdown`.
    pub(crate) async fn run(self, lead: watch::Receiver<Option<Compare>>, shutdown: CancellationToken) {
        let follow = self.inner.book.follow(shutdown.clone());
        let schedule = async {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                if lead.borrow().is_none() {
                    continue;
                }
                let now = self.inner.clock.now();
                for (name, held) in &self.book().registries {
                    let last = self.state().get(name).and_then(|seen| seen.started);
                    if is_due(&held.value, last, now) {
                        self.start(name, false);
                    }
                }
            }
        };
        tokio::join!(follow, schedule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_due_when_its_time_has_passed_and_never_when_it_is_manual() {
        let at = Timestamp::from_seconds;
        let with = |schedule, interval| RegistryConfig { schedule, interval, ..RegistryConfig::default() };
        let periodical = with(RegistrySchedule::Periodical, 600);
        assert!(is_due(&periodical, None, at(0)));
        assert!(!is_due(&periodical, Some(at(0)), at(599)));
        assert!(is_due(&periodical, Some(at(0)), at(600)));
        assert!(!is_due(&with(RegistrySchedule::Periodical, 1), Some(at(0)), at(299)));
        assert!(is_due(&with(RegistrySchedule::Auto, 0), Some(at(0)), at(300)));
        assert!(!is_due(&with(RegistrySchedule::Manual, 300), None, at(9_999)));
    }
}
