//! What is known of scans and scanners, as it is shown, and the handle by which a view asks.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use nv_model::name::ScannerId;
use nv_model::scan::{DatabaseInfo, ScanState, ScanSubject};
use nv_model::time::Timestamp;
use nv_telemetry::Clock;

use super::kept::KeptReport;
use super::settings::ScanSettings;
use super::state::{FailedScan, State};
use super::tally::{Tallies, Tally};

/// What a view knows of scans: always the newest. It keeps nothing but their state alive.
#[derive(Clone, Default)]
pub(crate) struct SharedScans(Option<Shared>);

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    settings: Arc<ArcSwap<ScanSettings>>,
    tallies: Arc<Tallies>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SharedScans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedScans").finish_non_exhaustive()
    }
}

impl SharedScans {
    pub(super) fn over(
        state: &Arc<Mutex<State>>,
        settings: &Arc<ArcSwap<ScanSettings>>,
        tallies: &Arc<Tallies>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self(Some(Shared {
            state: Arc::clone(state),
            settings: Arc::clone(settings),
            tallies: Arc::clone(tallies),
            clock: Arc::clone(clock),
        }))
    }

    pub(crate) fn status(&self, subject: &ScanSubject) -> ScanStatus {
        match &self.0 {
            Some(shared) => shared.state.lock().unwrap_or_else(PoisonError::into_inner).status(subject),
            None => ScanStatus::default(),
        }
    }

    pub(crate) fn tally(&self, report: &KeptReport, image: &str, domain: &str) -> Tally {
        let Some(shared) = &self.0 else { return Tally::default() };
        let now = shared.clock.now().seconds();
        shared.tallies.of(report, &shared.settings.load(), image, domain, now)
    }
}

/// What is known of a subject's scans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanStatus {
    /// Where its scan is.
    pub state: ScanState,
    /// Its newest report.
    pub report: Option<Arc<KeptReport>>,
    /// Why the last scan failed; none when it did not.
    pub failure: Option<FailedScan>,
}

/// A scanner that is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerInfo {
    /// Its id.
    pub id: ScannerId,
    /// Its host's name or address.
    pub server: String,
    /// Product version.
    pub version: String,
    /// Since when it is linked.
    pub joined: Timestamp,
    /// Its database; none when it has none, and then it gets no task.
    pub database: Option<DatabaseInfo>,
    /// Tasks that it takes at one time.
    pub credits: u32,
    /// Tasks that it has now.
    pub busy: u32,
    /// Containers that it has scanned since it was linked.
    pub containers: u64,
    /// Nodes that it has scanned.
    pub nodes: u64,
    /// Images that it has scanned.
    pub images: u64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCounts {
    /// Scans that wait.
    pub waiting: usize,
    /// Scans that run.
    pub running: usize,
    /// Scans that were refused because too many waited.
    pub refused: u64,
    /// Tasks that went back because their scanner was lost or late.
    pub returned: u64,
    /// Reports that made room for others, or were too old.
    pub dropped: u64,
}
