//! What the scan part of the controller holds in memory, behind one lock that is held for moments: queue, scanners, list
//! of reports, and which database is the newest.

use std::collections::BTreeMap;
use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::scan::{
    BlobId, DatabaseInfo, ScanFailure, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
    ScanTaskId,
};
use nv_model::time::Timestamp;
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::to_scanner::Message as To;
use nv_wire::{DatabaseChange, ScanTask, ScanWork, ScannerGreeting};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::ScanStatus;
use super::cache::OpenQuestions;
use super::kept::{Kept, KeptReport};
use super::queue::{GivenBack, Holder, Queue, Stage};

/// Failures that are remembered; the oldest are forgotten.
const MAX_FAILURES: usize = 8192;

/// To one scanner.
pub(crate) type Outbound = mpsc::Sender<Result<proto::ToScanner, Status>>;

/// A scanner that is linked.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) session: u64,
    pub(crate) greeting: ScannerGreeting,
    pub(crate) joined: Timestamp,
    pub(crate) outbound: Outbound,
    pub(crate) close: CancellationToken,
    /// Tasks that it has.
    pub(crate) busy: u32,
    /// Containers, nodes and images that it has scanned.
    pub(crate) scanned: [u64; 3],
}

/// Why a subject's last scan gave no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedScan {
    /// The reason as a sentence.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// A database that is handed to scanners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) blob: BlobId,
    pub(crate) bytes: u64,
    pub(crate) database: DatabaseInfo,
}

impl Offered {
    fn message(&self) -> To {
        To::UseDatabase(proto::UseDatabase {
            blob: self.blob.to_string(),
            version: self.database.version,
            bytes: self.bytes,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) kept: Kept,
    pub(crate) scanners: BTreeMap<ScannerId, Linked>,
    pub(crate) failures: BTreeMap<ScanSubject, FailedScan>,
    /// The newest database that a scanner has used.
    pub(crate) database: Option<DatabaseInfo>,
    pub(crate) offered: Option<Offered>,
    pub(crate) questions: OpenQuestions,
    sessions: u64,
}

impl State {
    pub(crate) fn new(kept: Kept, offered: Option<Offered>) -> Self {
        // What reports were made with is what a newer database differs from.
        // One that was handed in says its database's version, but no scanner here has had that.
        let newest = kept
            .all()
            .filter(|report| !report.database_content.is_empty())
            .max_by(|one, other| version(&one.database_version).cmp(&version(&other.database_version)));
        let database = newest.map(|report| DatabaseInfo {
            version: version(&report.database_version),
            created: Timestamp::default(),
            content: report.database_content.clone(),
        });
        Self {
            queue: Queue::default(),
            kept,
            scanners: BTreeMap::new(),
            failures: BTreeMap::new(),
            database,
            offered,
            questions: OpenQuestions::default(),
            sessions: 0,
        }
    }

    /// A scanner has greeted. An older link of the same scanner ends, and what it had goes back.
    pub(crate) fn link(
        &mut self,
        scanner: ScannerId,
        greeting: ScannerGreeting,
        joined: Timestamp,
        outbound: Outbound,
        close: CancellationToken,
    ) -> (u64, Vec<ScanRequest>) {
        let mut failed = Vec::new();
        if let Some(old) = self.scanners.remove(&scanner) {
            old.close.cancel();
            failed = self.queue.lost(&scanner);
        }
        self.sessions = self.sessions.wrapping_add(1);
        let linked =
            Linked { session: self.sessions, greeting, joined, outbound, close, busy: 0, scanned: [0; 3] };
        if let Some(offered) = &self.offered
            && linked.greeting.database.as_ref().is_none_or(|has| has.version < offered.database.version)
        {
            send(&linked, offered.message());
        }
        self.scanners.insert(scanner, linked);
        (self.sessions, failed)
    }

    /// A link has ended. Whether it was the scanner's newest, and the scans that failed with it for good.
    pub(crate) fn unlink(&mut self, scanner: &ScannerId, session: u64) -> (bool, Vec<ScanRequest>) {
        if self.scanners.get(scanner).is_none_or(|linked| linked.session != session) {
            return (false, Vec::new());
        }
        self.scanners.remove(scanner);
        (true, self.queue.lost(scanner))
    }

    /// A scan is over for a scanner, one way or the other.
    pub(crate) fn freed(&mut self, scanner: &ScannerId, done: Option<&ScanSubject>) {
        let Some(linked) = self.scanners.get_mut(scanner) else { return };
        linked.busy = linked.busy.saturating_sub(1);
        let place = match done {
            Some(ScanSubject::Workload(_)) => 0,
            Some(ScanSubject::Node(_)) => 1,
            Some(_) => 2,
            None => return,
        };
        if let Some(count) = linked.scanned.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    /// Hands out what waits, to scanners that are free and have the newest database of all that are linked: so no report
    /// is ever made with an older database than the one before it.
    pub(crate) fn dispatch(&mut self, now: Duration) {
        let newest =
            self.scanners.values().filter_map(|linked| Some(linked.greeting.database.as_ref()?.version));
        let Some(newest) = newest.max() else { return };
        for (id, linked) in &mut self.scanners {
            if linked.greeting.database.as_ref().is_none_or(|has| has.version != newest) {
                continue;
            }
            let holder = Holder::Scanner(id.clone());
            while linked.busy < linked.greeting.credits {
                let Ok(place) = linked.outbound.try_reserve() else { break };
                let Some(task) = self.queue.lease(Stage::Scan, &holder, now) else { return };
                let work = match task.request.source {
                    ScanSource::Image(image) => ScanWork::Image(image),
                    ScanSource::Inventory(blob) => ScanWork::Inventory(blob),
                    // The queue gives no other out before it is gathered.
                    ScanSource::Workload(_) | ScanSource::Node(_) => continue,
                };
                linked.busy = linked.busy.saturating_add(1);
                let task = ScanTask { id: task.id, subject: task.request.subject.to_string(), work };
                place.send(Ok(proto::ToScanner { message: Some(To::Task(task.into())) }));
            }
        }
    }

    /// Whoever has a scan says that it failed: the scan, when that is final.
    pub(crate) fn failed(
        &mut self,
        id: ScanTaskId,
        holder: &Holder,
        failure: &ScanFailure,
    ) -> Option<ScanRequest> {
        let outcome = self.queue.failed(id, holder, failure);
        if let Holder::Scanner(scanner) = holder
            && outcome != GivenBack::NotIts
        {
            self.freed(scanner, None);
        }
        match outcome {
            GivenBack::Failed(request) => Some(request),
            GivenBack::Again | GivenBack::NotIts => None,
        }
    }

    /// What is known of a subject's scans.
    pub(crate) fn status(&self, subject: &ScanSubject) -> ScanStatus {
        let report = self.kept.get(subject).cloned();
        let failure = self.failures.get(subject).cloned();
        let at_rest = match (&failure, &report) {
            (Some(_), _) => ScanState::Failed,
            (None, Some(_)) => ScanState::Finished,
            (None, None) => ScanState::Idle,
        };
        let on_its_way = self.queue.state(subject);
        let state = if on_its_way == ScanState::Idle { at_rest } else { on_its_way };
        ScanStatus { state, report, failure }
    }

    /// Remembers why a subject has no report.
    pub(crate) fn remember_failure(&mut self, subject: ScanSubject, failure: FailedScan) {
        self.failures.insert(subject, failure);
        if self.failures.len() > MAX_FAILURES {
            let oldest = self.failures.iter().min_by_key(|(_, failure)| failure.at);
            if let Some(oldest) = oldest.map(|(subject, _)| subject.clone()) {
                self.failures.remove(&oldest);
            }
        }
    }

    /// A database that every scanner is to use; those that have an older one are told.
    pub(crate) fn offer(&mut self, offered: Offered) -> Option<BlobId> {
        for linked in self.scanners.values() {
            if linked.greeting.database.as_ref().is_none_or(|has| has.version < offered.database.version) {
                send(linked, offered.message());
            }
        }
        let blob = offered.blob;
        let before = self.offered.replace(offered).map(|before| before.blob);
        before.filter(|before| *before != blob)
    }

    /// A scanner uses a database. When it is newer than all before, the reports that have to be made again: those of what
    /// has a package that it says something else of, or all, when it is not known what it says differently.
    pub(crate) fn database_in_use(
        &mut self,
        scanner: &ScannerId,
        change: &DatabaseChange,
    ) -> Vec<std::sync::Arc<KeptReport>> {
        if let Some(linked) = self.scanners.get_mut(scanner) {
            linked.greeting.database = Some(change.database.clone());
        }
        let newer = self.database.as_ref().is_none_or(|known| known.version < change.database.version);
        if !newer {
            // The same one, now with its date, which a list of reports does not have.
            if self.database.as_ref().is_some_and(|known| known.content == change.database.content) {
                self.database = Some(change.database.clone());
            }
            return Vec::new();
        }
        let before = self.database.replace(change.database.clone());
        let follows = before.is_some_and(|before| before.content == change.replaced);
        match change.changed.as_ref().filter(|_| follows) {
            Some(names) => self.kept.affected(names),
            None => self
                .kept
                .all()
                .filter(|report| report.database_content != change.database.content)
                .cloned()
                .collect(),
        }
    }

    /// Takes scans that match reports' inventories again, those of what runs first.
    pub(crate) fn rescan(
        &mut self,
        reports: &[std::sync::Arc<KeptReport>],
        runs: impl Fn(&ScanSubject) -> bool,
    ) -> usize {
        let request = |report: &KeptReport, priority| {
            Some(ScanRequest {
                subject: report.subject.clone(),
                source: ScanSource::Inventory(report.inventory?),
                priority,
            })
        };
        let (running, others): (Vec<_>, Vec<_>) = reports.iter().partition(|report| runs(&report.subject));
        let running = running.into_iter().filter_map(|report| request(report, ScanPriority::OnDemand));
        let others = others.into_iter().filter_map(|report| request(report, ScanPriority::Registry));
        let wanted: Vec<ScanRequest> = running.chain(others).collect();
        // What finds the queue full is counted there, and stays as it was until its next scan.
        wanted.into_iter().filter(|request| self.queue.enqueue(request.clone()).is_ok()).count()
    }
}

fn version(shown: &str) -> u32 {
    shown.replace('.', "").parse().unwrap_or(0)
}

pub(crate) fn send(linked: &Linked, message: To) {
    if linked.outbound.try_send(Ok(proto::ToScanner { message: Some(message) })).is_err() {
        // It does not take what it asked for: a new link starts over.
        linked.close.cancel();
    }
}
