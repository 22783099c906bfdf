//! Scans: what is to be looked at, which scanner does it, and what was found.
//!
//! ```text
//! somebody asks, something starts, a schedule ─► enqueue ─► queue ─► gather (an enforcer lists what is installed)
//!                                                             └────► a scanner (gRPC, mTLS, 18400)
//! scanner ─► report, inventory ─► blobs by SHA-256, list of reports ─► audit record ─► REST
//! scanner ─► uses a newer database, these packages changed ─► inverted index ─► reports matched again, nothing pulled
//! ```
//!
//! Nothing of this is in the hub or in the store: a storm of scans, or a database that changes every report, delays no
//! policy. The lock is held for moments; whatever reads or writes a file runs on threads for that.

mod arrive;
pub(crate) mod automatic;
mod blobs;
mod cache;
pub(crate) mod gather;
mod kept;
mod known;
mod link;
mod offer;
mod platform;
mod queue;
mod service;
mod settings;
mod state;
mod tally;
mod tell;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use nv_model::name::ScannerId;
use nv_model::scan::{
    BlobId, DatabaseInfo, ScanFailure, ScanRequest, ScanSource, ScanState, ScanSubject, ScanTaskId,
};
use nv_model::scan_report::ScanReport;
use nv_store::{EventLog, Store};
use nv_telemetry::Clock;
use nv_vulnerability::VerifyingKey;
use nv_wire::bounds::MAX_REPORT_BYTES;
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::to_scanner::Message as To;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use automatic::subject_of;
pub use blobs::BlobError;
pub use cache::CacheError;
pub use kept::KeptReport;
pub use known::{ScanCounts, ScanStatus, ScannerInfo};
pub use nv_vulnerability::{Acceptance, Accepted};
pub use platform::{Component, Platform, platform_of};
pub use queue::{EnqueueError, MAX_SCANS};
pub use settings::{AutoScan, ScanSettings, ScanSettingsError};
pub use state::FailedScan;
pub use tally::Tally;

pub(crate) use known::SharedScans;
pub(crate) use service::ScanLinkService;

use self::blobs::Blobs;
use self::kept::Kept;
use self::queue::Holder;
use self::state::State;
use self::tally::Tallies;
use crate::view::View;

/// How often leases are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// The scans of a controller; cheap to clone.
#[derive(Clone)]
pub struct Scans {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<Mutex<State>>,
    blobs: Blobs,
    store: Arc<dyn Store>,
    settings: Arc<ArcSwap<ScanSettings>>,
    tallies: Arc<Tallies>,
    clock: Arc<dyn Clock>,
    events: EventLog,
    view: Arc<ArcSwap<View>>,
    /// The file that names the database that scanners are handed.
    offered: PathBuf,
    /// The key by which databases must be signed; none takes any that is whole.
    trusted: Option<VerifyingKey>,
    /// Something waits to be gathered.
    gather: Notify,
    /// Grows with every scan that ended and every scanner that came or went.
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for Scans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scans").finish_non_exhaustive()
    }
}

/// Why a database is not handed to scanners.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is none, was changed, is not signed as it must be, or is older.
    #[error("{0}")]
    Refused(String),
    /// It cannot be kept.
    #[error("the database cannot be kept")]
    Disk(#[from] BlobError),
}

impl Scans {
    /// Over a folder of its own.
    pub(crate) fn open(
        folder: &Path,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        events: EventLog,
        view: Arc<ArcSwap<View>>,
        trusted: Option<VerifyingKey>,
    ) -> Result<Self, BlobError> {
        let blobs = Blobs::open(folder.join("blobs"))?;
        let kept = Kept::open(folder.join("reports.jsonl"))?;
        let named = folder.join("database.json");
        let offered = offer::read(&named, &blobs);
        // What a crash has left between a blob and its line.
        let mut referred = kept.blobs();
        referred.extend(offered.as_ref().map(|offered| offered.blob));
        for blob in blobs.all()?.into_iter().filter(|blob| !referred.contains(blob)) {
            blobs.remove(blob)?;
        }
        let (changes, _) = watch::channel(0);
        let inner = Inner {
            state: Arc::new(Mutex::new(State::new(kept, offered))),
            blobs,
            store,
            settings: Arc::default(),
            tallies: Arc::default(),
            clock,
            events,
            view,
            offered: named,
            trusted,
            gather: Notify::new(),
            changes,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A lock whose holder panicked still guards whole values.
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.inner.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Takes a scan. It is begun when those before it are, as soon as a scanner with a database is free.
    ///
    /// # Errors
    /// [`EnqueueError::Full`]; that is counted.
    pub fn enqueue(&self, request: ScanRequest) -> Result<ScanTaskId, EnqueueError> {
        let id = {
            let mut state = self.state();
            let id = state.queue.enqueue(request)?;
            state.dispatch(self.inner.clock.monotonic());
            id
        };
        self.inner.gather.notify_one();
        self.changed();
        Ok(id)
    }

    /// Gives scans up, also those that run. How many.
    pub fn cancel(&self, which: impl Fn(&ScanSubject) -> bool) -> usize {
        let mut state = self.state();
        let cancelled = state.queue.cancel(which);
        for (id, scanner) in &cancelled {
            if let Some(scanner) = scanner {
                if let Some(linked) = state.scanners.get(scanner) {
                    state::send(linked, To::Cancel(proto::Cancel { task: id.0 }));
                }
                state.freed(scanner, None);
            }
        }
        state.dispatch(self.inner.clock.monotonic());
        drop(state);
        self.changed();
        cancelled.len()
    }

    /// What is known of a subject's scans.
    #[must_use]
    pub fn status(&self, subject: &ScanSubject) -> ScanStatus {
        self.state().status(subject)
    }

    /// The same for whoever holds a view.
    pub(crate) fn shared(&self) -> SharedScans {
        let Inner { state, settings, tallies, clock, .. } = &*self.inner;
        SharedScans::over(state, settings, tallies, clock)
    }

    /// All reports that are kept, by subject, without their lists.
    #[must_use]
    pub fn reports(&self) -> Vec<Arc<KeptReport>> {
        self.state().kept.all().cloned().collect()
    }

    /// A report with its lists; `None` when it is not kept (any more).
    ///
    /// # Errors
    /// [`BlobError`] when the disk fails.
    pub async fn report(&self, id: BlobId) -> Result<Option<ScanReport>, BlobError> {
        let scans = self.clone();
        let most = u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX);
        let read = tokio::task::spawn_blocking(move || {
            let Some(bytes) = scans.inner.blobs.get(id, most)? else { return Ok(None) };
            // It was read before it was kept: only a later version's shape can fail here.
            Ok(serde_json::from_slice(&bytes).ok())
        });
        // A reader that panicked has read nothing.
        read.await.unwrap_or(Ok(None))
    }

    /// The system's configuration.
    pub(crate) fn config(&self) -> Arc<nv_model::system::SystemConfig> {
        Arc::clone(&self.inner.view.load().config)
    }

    /// Puts a list of what is installed where scans of [`ScanSource::Inventory`] find it.
    ///
    /// # Errors
    /// [`BlobError`] when it is larger than [`MAX_REPORT_BYTES`] or the disk fails.
    pub async fn put_inventory(&self, document: Vec<u8>) -> Result<BlobId, BlobError> {
        self.put_blob(document).await.map(|(id, _)| id)
    }

    async fn put_blob(&self, bytes: Vec<u8>) -> Result<(BlobId, u64), BlobError> {
        let scans = self.clone();
        let most = u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX);
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = scans.inner.blobs.writer(most)?;
            writer.write(&bytes)?;
            writer.finish()
        });
        written.await.map_err(|_stopping| BlobError::Stopping)?
    }

    /// A list of what is installed; `None` when it is not kept (any more).
    ///
    /// # Errors
    /// [`BlobError`] when the disk fails.
    pub async fn inventory(&self, id: BlobId) -> Result<Option<Vec<u8>>, BlobError> {
        let scans = self.clone();
        let most = u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX);
        let read = tokio::task::spawn_blocking(move || scans.inner.blobs.get(id, most));
        read.await.map_err(|_stopping| BlobError::Stopping)?
    }

    /// Keeps a report that somebody else made, as if a scan had: a build's.
    ///
    /// # Errors
    /// [`BlobError`] when it is too large or the disk fails.
    pub async fn submit(&self, subject: ScanSubject, report: ScanReport) -> Result<(), BlobError> {
        let bytes = serde_json::to_vec(&report).map_err(|error| BlobError::Json(error.to_string()))?;
        let (id, size) = self.put_blob(bytes).await?;
        let scans = self.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let kept = KeptReport::new(subject, id, None, size, scans.inner.clock.now(), &report);
            scans.keep(scans.state(), &kept, &report)
        });
        kept.await.map_err(|_stopping| BlobError::Stopping)?
    }

    /// Puts a report in the place of an older one, and tells of it where it is news. The lock is one with whatever ended
    /// the scan: in between, a newer database would not see this report.
    fn keep(
        &self,
        mut state: MutexGuard<'_, State>,
        kept: &KeptReport,
        report: &ScanReport,
    ) -> Result<(), BlobError> {
        let before = state.kept.get(&kept.subject).cloned();
        let orphans = state.kept.put(kept.clone())?;
        state.failures.remove(&kept.subject);
        state.dispatch(self.inner.clock.monotonic());
        drop(state);
        let view = self.inner.view.load_full();
        for orphan in orphans {
            self.inner.blobs.remove(orphan)?;
        }
        // A report is told of where it says something else than the one before it.
        if before.is_none_or(|before| before.findings != kept.findings) {
            self.tell(&tell::found(&view, kept, report));
        }
        self.changed();
        Ok(())
    }

    /// Forgets the report of a subject, and a failure.
    ///
    /// # Errors
    /// [`BlobError`] when the disk fails.
    pub fn forget(&self, subject: &ScanSubject) -> Result<(), BlobError> {
        let orphans = {
            let mut state = self.state();
            state.failures.remove(subject);
            state.kept.remove(subject)?
        };
        orphans.into_iter().try_for_each(|blob| self.inner.blobs.remove(blob))?;
        self.changed();
        Ok(())
    }

    /// The scanners that are linked.
    #[must_use]
    pub fn scanners(&self) -> Vec<ScannerInfo> {
        let state = self.state();
        let infos = state.scanners.iter().map(|(id, linked)| ScannerInfo {
            id: id.clone(),
            server: linked.greeting.server.clone(),
            version: linked.greeting.version.clone(),
            joined: linked.joined,
            database: linked.greeting.database.clone(),
            credits: linked.greeting.credits,
            busy: linked.busy,
            containers: linked.scanned.first().copied().unwrap_or(0),
            nodes: linked.scanned.get(1).copied().unwrap_or(0),
            images: linked.scanned.get(2).copied().unwrap_or(0),
        });
        infos.collect()
    }

    /// The newest database that a scanner uses or has used; none before the first.
    #[must_use]
    pub fn database(&self) -> Option<DatabaseInfo> {
        self.state().database.clone()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> ScanCounts {
        let state = self.state();
        let (waiting, running) = state.queue.counts();
        ScanCounts {
            waiting,
            running,
            refused: state.queue.refused,
            returned: state.queue.returned,
            dropped: state.kept.dropped,
        }
    }

    /// Tells of each scan that was taken or ended, and each scanner that came or went: a number that grows.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Waits until no scan of a subject is on its way, and says what is known then.
    pub async fn ended(&self, subject: &ScanSubject) -> ScanStatus {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let status = self.status(subject);
            let ended = !matches!(status.state, ScanState::Scheduled | ScanState::Scanning);
            if ended || changes.changed().await.is_err() {
                return status;
            }
        }
    }

    /// A scan failed for good.
    fn give_up(&self, request: &ScanRequest, failure: &ScanFailure) {
        tracing::warn!(subject = %request.subject, reason = %failure.message, "a scan failed");
        let at = self.inner.clock.now();
        let failed = FailedScan { message: failure.message.clone(), at };
        self.state().remember_failure(request.subject.clone(), failed);
        self.tell(&tell::failed(&self.inner.view.load(), &request.subject, &failure.message, at));
        if let ScanSource::Inventory(blob) = request.source
            && let Err(error) = self.sweep(&[Some(blob)])
        {
            tracing::warn!(%error, "an inventory that no report needs");
        }
        self.changed();
    }

    /// Scans whose scanners were lost or late too often.
    fn give_all_up(&self, requests: Vec<ScanRequest>) {
        let message = "every scanner that had it was lost, or took too long".to_owned();
        for request in requests {
            self.give_up(&request, &ScanFailure { message: message.clone(), retry: false });
        }
    }

    fn tell(&self, records: &[nv_model::record::Record]) {
        if let Err(error) = self.inner.events.append(records) {
            tracing::error!(%error, "what came of a scan cannot be logged");
        }
    }

    /// Until `shutdown`: takes back what takes too long.
    pub(crate) async fn keep_house(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(HOUSEKEEPING) => {}
            }
            let now = self.inner.clock.monotonic();
            let failed = {
                let mut state = self.state();
                let before = state.queue.returned;
                let failed = state.queue.expire(now);
                if state.queue.returned != before {
                    // Whoever had them has places again.
                    let leased: Vec<(ScannerId, u32)> = state
                        .scanners
                        .keys()
                        .map(|id| (id.clone(), state.queue.leased_by(&Holder::Scanner(id.clone()))))
                        .collect();
                    for (id, count) in leased {
                        if let Some(linked) = state.scanners.get_mut(&id) {
                            linked.busy = count;
                        }
                    }
                }
                state.dispatch(now);
                failed
            };
            self.give_all_up(failed);
        }
    }
}
