//! Which scan is begun next, by whom, and what becomes of it when its scanner is lost. Pure: time comes in.
//!
//! ```text
//! enqueue ─► waits to be gathered ─ lease ─► the enforcer lists what is installed ─► gathered ─┐
//!       └──► waits for a scanner ◄─────────────────────────────────────────────────────────────┘
//!               ▲        └─ lease ─► a scanner has it ─ done ─► gone
//!               └─ lost, late, failed but worth another try ┘
//! ```
//! Each level of urgency is in order of arrival; an image of a registry needs no gathering.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::scan::{
    BlobId, ScanFailure, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject, ScanTaskId,
};

/// Scans that may wait or run; further ones are refused.
pub const MAX_SCANS: usize = 16_384;
/// How often a scan is begun before it counts as failed.
const MAX_ATTEMPTS: u32 = 3;
/// How long a scanner may take for a task.
const LEASE: Duration = Duration::from_secs(20 * 60);

/// A scan on its way.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: ScanTaskId,
    pub(crate) request: ScanRequest,
    attempts: u32,
    lease: Option<Lease>,
}

impl Task {
    /// Whether a scanner has it.
    const fn is_scanned(&self) -> bool {
        matches!(self.lease, Some(Lease { holder: Holder::Scanner(_), .. }))
    }
}

/// Who has a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// This controller, while it asks an enforcer what is installed.
    Gatherer,
    /// A scanner.
    Scanner(ScannerId),
}

/// What is to be done next for a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// An enforcer has to list what is installed.
    Gather,
    /// A scanner has to look at it.
    Scan,
}

const fn stage(source: &ScanSource) -> Stage {
    match source {
        ScanSource::Workload(_) | ScanSource::Node(_) => Stage::Gather,
        ScanSource::Image(_) | ScanSource::Inventory(_) => Stage::Scan,
    }
}

#[derive(Clone, Debug)]
struct Lease {
    holder: Holder,
    /// On the clock that never jumps.
    until: Duration,
}

/// Why a scan is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// Too many wait.
    #[error("{MAX_SCANS} scans wait already; ask again when some are done")]
    Full,
}

/// What became of a scan that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GivenBack {
    /// It waits again.
    Again,
    /// It was tried often enough.
    Failed(ScanRequest),
    /// It is not this scanner's (any more).
    NotIts,
}

/// Scans that wait and scans that run.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    last: u64,
    tasks: HashMap<ScanTaskId, Task>,
    subjects: BTreeMap<ScanSubject, ScanTaskId>,
    gather: Waiting,
    scan: Waiting,
    /// Scans that were refused because too many waited.
    pub(crate) refused: u64,
    /// Scans that went back because their scanner was lost or late.
    pub(crate) returned: u64,
}

/// One row a priority.
type Waiting = [VecDeque<ScanTaskId>; 3];

const fn level(priority: ScanPriority) -> usize {
    match priority {
        ScanPriority::OnDemand => 0,
        ScanPriority::Automatic => 1,
        ScanPriority::Registry => 2,
    }
}

impl Queue {
    /// Takes a scan. One that waits for the same subject already becomes at least as urgent; one that runs is enough.
    ///
    /// # Errors
    /// [`EnqueueError::Full`].
    pub(crate) fn enqueue(&mut self, request: ScanRequest) -> Result<ScanTaskId, EnqueueError> {
        if let Some(id) = self.subjects.get(&request.subject).copied() {
            self.hurry(id, request);
            return Ok(id);
        }
        if self.tasks.len() >= MAX_SCANS {
            self.refused = self.refused.saturating_add(1);
            return Err(EnqueueError::Full);
        }
        self.last = self.last.wrapping_add(1);
        let id = ScanTaskId(self.last);
        self.subjects.insert(request.subject.clone(), id);
        self.tasks.insert(id, Task { id, request, attempts: 0, lease: None });
        self.wait(id, false);
        Ok(id)
    }

    const fn row(&mut self, stage: Stage) -> &mut Waiting {
        match stage {
            Stage::Gather => &mut self.gather,
            Stage::Scan => &mut self.scan,
        }
    }

    fn wait(&mut self, id: ScanTaskId, first: bool) {
        let Some(task) = self.tasks.get(&id) else { return };
        let (stage, level) = (stage(&task.request.source), level(task.request.priority));
        if let Some(waiting) = self.row(stage).get_mut(level) {
            if first { waiting.push_front(id) } else { waiting.push_back(id) }
        }
    }

    fn unwait(&mut self, id: ScanTaskId) {
        for waiting in self.gather.iter_mut().chain(&mut self.scan) {
            waiting.retain(|other| *other != id);
        }
    }

    fn hurry(&mut self, id: ScanTaskId, request: ScanRequest) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.lease.is_some() || task.request.priority <= request.priority {
            return;
        }
        // The later word on where to look counts, for instance newer credentials.
        task.request = request;
        self.unwait(id);
        self.wait(id, false);
    }

    /// The next scan of a stage: the most urgent, of those the oldest.
    pub(crate) fn lease(&mut self, stage: Stage, holder: &Holder, now: Duration) -> Option<Task> {
        let id = self.row(stage).iter_mut().find_map(VecDeque::pop_front)?;
        let task = self.tasks.get_mut(&id)?;
        task.attempts = task.attempts.saturating_add(1);
        task.lease = Some(Lease { holder: holder.clone(), until: now.saturating_add(LEASE) });
        Some(task.clone())
    }

    /// Whether somebody has a scan now.
    pub(crate) fn is_leased(&self, id: ScanTaskId, holder: &Holder) -> bool {
        self.tasks.get(&id).and_then(|task| task.lease.as_ref()).is_some_and(|lease| lease.holder == *holder)
    }

    /// How many scans somebody has now.
    pub(crate) fn leased_by(&self, holder: &Holder) -> u32 {
        let leased = self
            .tasks
            .values()
            .filter(|task| task.lease.as_ref().is_some_and(|lease| lease.holder == *holder));
        u32::try_from(leased.count()).unwrap_or(u32::MAX)
    }

    /// A scan is done; `None` when it is not this holder's.
    pub(crate) fn done(&mut self, id: ScanTaskId, holder: &Holder) -> Option<ScanRequest> {
        self.is_leased(id, holder).then(|| self.remove(id)).flatten()
    }

    /// What is installed is known: from now on it waits for a scanner, in front, for it has waited before.
    pub(crate) fn gathered(&mut self, id: ScanTaskId, inventory: BlobId) {
        if !self.is_leased(id, &Holder::Gatherer) {
            return;
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.request.source = ScanSource::Inventory(inventory);
            (task.lease, task.attempts) = (None, 0);
            self.wait(id, true);
        }
    }

    fn remove(&mut self, id: ScanTaskId) -> Option<ScanRequest> {
        let task = self.tasks.remove(&id)?;
        self.subjects.remove(&task.request.subject);
        self.unwait(id);
        Some(task.request)
    }

    /// Whoever has a scan says that it failed.
    pub(crate) fn failed(&mut self, id: ScanTaskId, holder: &Holder, failure: &ScanFailure) -> GivenBack {
        if !self.is_leased(id, holder) {
            return GivenBack::NotIts;
        }
        self.give_back(id, failure.retry)
    }

    /// Its own place in front: it has waited longest.
    fn give_back(&mut self, id: ScanTaskId, again: bool) -> GivenBack {
        let Some(task) = self.tasks.get_mut(&id) else { return GivenBack::NotIts };
        if again && task.attempts < MAX_ATTEMPTS {
            task.lease = None;
            self.wait(id, true);
            return GivenBack::Again;
        }
        self.remove(id).map_or(GivenBack::NotIts, GivenBack::Failed)
    }

    /// A scanner is gone: what it had goes back. Those that were tried often enough are given, as failed.
    pub(crate) fn lost(&mut self, scanner: &ScannerId) -> Vec<ScanRequest> {
        self.take_back(|lease| lease.holder == Holder::Scanner(scanner.clone()))
    }

    /// Takes back what takes too long.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<ScanRequest> {
        self.take_back(|lease| lease.until <= now)
    }

    fn take_back(&mut self, which: impl Fn(&Lease) -> bool) -> Vec<ScanRequest> {
        let mut ids: Vec<ScanTaskId> = self
            .tasks
            .values()
            .filter(|task| task.lease.as_ref().is_some_and(&which))
            .map(|task| task.id)
            .collect();
        // The oldest is put in front last.
        ids.sort_by(|one, other| other.cmp(one));
        let mut failed = Vec::new();
        for id in ids {
            self.returned = self.returned.saturating_add(1);
            if let GivenBack::Failed(request) = self.give_back(id, true) {
                failed.push(request);
            }
        }
        failed
    }

    /// Scans of these subjects are not wanted any more. Those that run are told with their scanners.
    pub(crate) fn cancel(
        &mut self,
        which: impl Fn(&ScanSubject) -> bool,
    ) -> Vec<(ScanTaskId, Option<ScannerId>)> {
        let ids: Vec<ScanTaskId> =
            self.subjects.iter().filter(|(subject, _)| which(subject)).map(|(_, id)| *id).collect();
        let leased = |queue: &Self, id| match queue.tasks.get(&id)?.lease.clone()?.holder {
            Holder::Scanner(scanner) => Some(scanner),
            Holder::Gatherer => None,
        };
        ids.into_iter()
            .map(|id| {
                let scanner = leased(self, id);
                self.remove(id);
                (id, scanner)
            })
            .collect()
    }

    /// Where the scan of a subject is; [`ScanState::Idle`] when there is none on its way. What is still being gathered has
    /// a scanner's turn before it, so it is [`ScanState::Scheduled`].
    pub(crate) fn state(&self, subject: &ScanSubject) -> ScanState {
        match self.subjects.get(subject).and_then(|id| self.tasks.get(id)) {
            Some(task) if task.is_scanned() => ScanState::Scanning,
            Some(_) => ScanState::Scheduled,
            None => ScanState::Idle,
        }
    }

    /// How many wait (or are being gathered), and how many scanners have.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let running = self.tasks.values().filter(|task| task.is_scanned()).count();
        (self.tasks.len().saturating_sub(running), running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    fn request(name: &str, priority: ScanPriority) -> ScanRequest {
        let id: nv_model::name::WorkloadId = name.parse().unwrap();
        let source = ScanSource::Inventory(BlobId::of(name.as_bytes()));
        ScanRequest { subject: ScanSubject::Workload(id), source, priority }
    }

    fn scanner(name: &str) -> Holder {
        Holder::Scanner(id(name))
    }

    fn id(name: &str) -> ScannerId {
        name.parse().unwrap()
    }

    fn subjects(queue: &mut Queue, by: &str) -> Vec<String> {
        std::iter::from_fn(|| queue.lease(Stage::Scan, &scanner(by), START))
            .map(|task| task.request.subject.to_string())
            .collect()
    }

    #[test]
    fn what_somebody_waits_for_comes_first_and_then_the_oldest() {
        use ScanPriority::{Automatic, OnDemand, Registry};
        let mut queue = Queue::default();
        for (name, priority) in [("r", Registry), ("a1", Automatic), ("a2", Automatic), ("d", OnDemand)] {
            queue.enqueue(request(name, priority)).unwrap();
        }
        // Asked for again, and now somebody waits.
        queue.enqueue(request("a2", OnDemand)).unwrap();
        assert_eq!(queue.counts(), (4, 0));
        let order = ["container d", "container a2", "container a1", "container r"];
        assert_eq!(subjects(&mut queue, "s"), order);
        assert_eq!(queue.counts(), (0, 4));
    }

    #[test]
    fn the_loss_of_a_scanner_loses_no_task() {
        let mut queue = Queue::default();
        for name in ["a", "b", "c"] {
            queue.enqueue(request(name, ScanPriority::Automatic)).unwrap();
        }
        let a = queue.lease(Stage::Scan, &scanner("one"), START).unwrap();
        let b = queue.lease(Stage::Scan, &scanner("one"), START).unwrap();
        assert!(queue.done(a.id, &scanner("two")).is_none(), "it is not the other's to finish");
        assert_eq!(queue.lost(&id("one")), []);
        assert_eq!(queue.returned, 2);
        assert!(queue.done(b.id, &scanner("one")).is_none(), "a scanner that is gone finishes nothing");
        assert_eq!(subjects(&mut queue, "two"), ["container a", "container b", "container c"]);
        assert!(queue.done(a.id, &scanner("two")).is_some());
        assert_eq!(queue.counts(), (0, 2));
    }

    #[test]
    fn a_task_that_kills_its_scanners_or_takes_too_long_ends_as_failed() {
        let mut queue = Queue::default();
        queue.enqueue(request("bomb", ScanPriority::OnDemand)).unwrap();
        for round in 1..=MAX_ATTEMPTS {
            assert!(queue.lease(Stage::Scan, &scanner("s"), START).is_some(), "round {round}");
            assert_eq!(queue.expire(START + LEASE - Duration::from_secs(1)), [], "it still has time");
            let failed = queue.expire(START + LEASE);
            assert_eq!(failed.len(), usize::from(round == MAX_ATTEMPTS), "round {round}");
        }
        assert_eq!(queue.counts(), (0, 0));
    }

    #[test]
    fn a_failure_that_no_other_try_mends_is_final() {
        let mut queue = Queue::default();
        let (fatal, passing) = (
            ScanFailure { message: "no image".to_owned(), retry: false },
            ScanFailure { message: "timed out".to_owned(), retry: true },
        );
        let id = queue.enqueue(request("a", ScanPriority::OnDemand)).unwrap();
        let by = scanner("s");
        queue.lease(Stage::Scan, &by, START);
        assert_eq!(queue.failed(id, &by, &passing), GivenBack::Again);
        assert_eq!(queue.failed(id, &by, &passing), GivenBack::NotIts);
        queue.lease(Stage::Scan, &by, START);
        assert!(matches!(queue.failed(id, &by, &fatal), GivenBack::Failed(_)));
        assert_eq!(queue.state(&request("a", ScanPriority::OnDemand).subject), ScanState::Idle);
    }

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let mut queue = Queue::default();
        for number in 0..MAX_SCANS {
            queue.enqueue(request(&number.to_string(), ScanPriority::Registry)).unwrap();
        }
        assert_eq!(queue.enqueue(request("more", ScanPriority::OnDemand)), Err(EnqueueError::Full));
        assert_eq!(queue.refused, 1);
        assert!(queue.enqueue(request("7", ScanPriority::OnDemand)).is_ok(), "it is there already");
    }

    #[test]
    fn scans_that_are_not_wanted_any_more_go_and_their_scanners_are_named() {
        let mut queue = Queue::default();
        let running = queue.enqueue(request("a", ScanPriority::OnDemand)).unwrap();
        let waiting = queue.enqueue(request("b", ScanPriority::OnDemand)).unwrap();
        queue.lease(Stage::Scan, &scanner("s"), START);
        assert_eq!(queue.cancel(|_| true), [(running, Some(id("s"))), (waiting, None)]);
        assert_eq!(queue.counts(), (0, 0));
    }

    #[test]
    fn a_container_waits_for_its_inventory_before_it_waits_for_a_scanner() {
        let mut queue = Queue::default();
        let workload: nv_model::name::WorkloadId = "w".parse().unwrap();
        let wanted = ScanRequest {
            subject: ScanSubject::Workload(workload.clone()),
            source: ScanSource::Workload(workload),
            priority: ScanPriority::Automatic,
        };
        let id = queue.enqueue(wanted.clone()).unwrap();
        assert!(queue.lease(Stage::Scan, &scanner("s"), START).is_none());
        let asked = queue.lease(Stage::Gather, &Holder::Gatherer, START).unwrap();
        assert_eq!(asked.request, wanted);
        assert_eq!((queue.state(&wanted.subject), queue.counts()), (ScanState::Scheduled, (1, 0)));
        let inventory = BlobId::of(b"inventory");
        queue.gathered(id, inventory);
        let task = queue.lease(Stage::Scan, &scanner("s"), START).unwrap();
        assert_eq!(task.request.source, ScanSource::Inventory(inventory));
        assert_eq!((queue.state(&wanted.subject), queue.counts()), (ScanState::Scanning, (0, 1)));
    }
}
