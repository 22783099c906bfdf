//! Reports to the agent, and what the kernel tells of changes in watched folders.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nv_model::file::{FileBehavior, FileOperation};
use nv_model::name::WorkloadId;
use nv_model::verdict::Verdict;
use nv_policy::file;
use nv_probe::fanotify::{Done, Notice};
use rustix::event::{PollFd, PollFlags, poll};

use super::super::protocol::{self, ProtocolError};
use super::tables::{Folder, Tables, Ward};
use super::{Groups, Seen, now, who};

/// For how long an act like one that was reported is only counted.
const FOLD: Duration = Duration::from_secs(1);
/// Most acts that are remembered for that.
const MAX_FOLDED: usize = 4096;

/// Something that is to be reported.
pub(super) struct Act {
    pub(super) ward: Arc<Ward>,
    /// Index of the rule.
    pub(super) rule: usize,
    pub(super) path: String,
    pub(super) operation: FileOperation,
    pub(super) pid: u32,
    /// The executable.
    pub(super) program: String,
    pub(super) verdict: Verdict,
    pub(super) decision: Duration,
}

type Kind = (Option<WorkloadId>, String, FileOperation, String, Verdict);

/// An act that was reported, and how often it happened since.
struct Folded {
    since: Instant,
    repeats: u32,
    seen: Seen,
}

/// The way to the agent: never waits, and counts what found it full.
pub(super) struct Sink {
    socket: OwnedFd,
    folded: Mutex<HashMap<Kind, Folded>>,
    dropped: AtomicU64,
}

impl Sink {
    pub(super) fn new(socket: OwnedFd) -> Result<Self, String> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| format!("the socket for files: {error}"))?;
        Ok(Self { socket, folded: Mutex::default(), dropped: AtomicU64::new(0) })
    }

    /// Reports it, or counts it with the one of its kind that was reported within the second.
    pub(super) fn act(&self, act: &Act) {
        let kind: Kind = (
            act.ward.place.workload.clone(),
            act.path.clone(),
            act.operation,
            act.program.clone(),
            act.verdict,
        );
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folded) = folded.get_mut(&kind) {
            folded.repeats = folded.repeats.saturating_add(1);
            return;
        }
        if folded.len() >= MAX_FOLDED {
            self.lost(1);
            return;
        }
        let Some(seen) = seen(act) else { return };
        self.send(&seen);
        folded.insert(kind, Folded { since: Instant::now(), repeats: 0, seen });
    }

    /// Reports the repeats whose second is over. To be called now and then.
    pub(super) fn flush(&self) {
        let mut over = Vec::new();
        self.folded.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, folded| {
            if folded.since.elapsed() < FOLD {
                return true;
            }
            if folded.repeats > 0 {
                over.push(Seen { count: folded.repeats, ..folded.seen.clone() });
            }
            false
        });
        for seen in over {
            self.send(&seen);
        }
    }

    fn send(&self, seen: &Seen) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        match protocol::send(self.socket.as_fd(), &Seen { dropped, ..seen.clone() }, &[]) {
            Ok(()) | Err(ProtocolError::Closed) => {}
            Err(error) => {
                tracing::debug!(%error, "a report on a file finds the agent busy");
                self.lost(dropped.saturating_add(seen.count.into()));
            }
        }
    }

    pub(super) fn lost(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

fn seen(act: &Act) -> Option<Seen> {
    let (rule_group, rule) = act.ward.rule(act.rule)?;
    let facts = who::facts(act.pid);
    Some(Seen {
        workload: act.ward.place.workload.clone(),
        group: act.ward.rules.group.clone(),
        rule_group: rule_group.clone(),
        filter: rule.filter.clone(),
        behavior: rule.behavior,
        path: act.path.clone(),
        operation: act.operation,
        pid: act.pid,
        process: facts.name,
        process_path: act.program.clone(),
        command: facts.command,
        parent_pid: facts.parent,
        real_uid: facts.real_uid,
        effective_uid: facts.effective_uid,
        verdict: act.verdict,
        decision_nanos: u64::try_from(act.decision.as_nanos()).unwrap_or(u64::MAX),
        count: 1,
        dropped: 0,
    })
}

/// Starts the thread that hears of changes.
pub(super) fn spawn(
    groups: &Arc<Groups>,
    tables: &Arc<Mutex<Arc<Tables>>>,
    sink: &Arc<Sink>,
) -> Result<(), String> {
    if groups.telling.is_none() {
        return Ok(());
    }
    let (groups, tables, sink) = (Arc::clone(groups), Arc::clone(tables), Arc::clone(sink));
    std::thread::Builder::new()
        .name("file-changes".to_owned())
        .spawn(move || hear(&groups, &tables, &sink))
        .map(drop)
        .map_err(|error| format!("a thread for files: {error}"))
}

fn hear(groups: &Groups, tables: &Mutex<Arc<Tables>>, sink: &Sink) {
    let Some(telling) = &groups.telling else { return };
    let mut notices = Vec::new();
    loop {
        let mut ready = [PollFd::new(telling, PollFlags::IN)];
        if let Err(error) = poll(&mut ready, None) {
            tracing::warn!(%error, "waiting for changes of files");
            std::thread::sleep(FOLD);
            continue;
        }
        match telling.read(&mut notices) {
            Ok(lost) => sink.lost(lost),
            Err(error) => {
                tracing::error!(%error, "changes of files are not heard of any more");
                return;
            }
        }
        let tables = now(tables);
        for notice in notices.drain(..) {
            for (ward, folders) in tables.by_folder(&notice.folder) {
                if let Some((folder, name)) = meant(ward, folders, &notice) {
                    report(ward, folder, &name, &notice, sink);
                }
            }
        }
    }
}

/// The first rule that means what was changed.
fn meant<'a>(ward: &Ward, folders: &'a [Folder], notice: &Notice) -> Option<(&'a Folder, String)> {
    if notice.name == b"." || notice.name.is_empty() {
        return None;
    }
    let name = String::from_utf8_lossy(&notice.name).into_owned();
    let folder = folders.iter().find(|folder| {
        folder.inside
            || ward.rule(folder.rule).is_some_and(|(_, rule)| {
                let last = rule.filter.as_str().rsplit('/').next().unwrap_or_default();
                nv_model::file::matches_component(last, &name)
            })
    })?;
    Some((folder, name))
}

fn report(ward: &Arc<Ward>, folder: &Folder, name: &str, notice: &Notice, sink: &Sink) {
    let Some((_, rule)) = ward.rule(folder.rule) else { return };
    let program = who::program(notice.pid);
    if rule.behavior == FileBehavior::BlockAccess && ward.lets_in(folder.rule, program.inode) {
        return;
    }
    let path = format!("{}/{name}", folder.path.trim_end_matches('/'));
    for operation in operations(notice.done) {
        let verdict = match file::decide(rule, ward.rules.mode, operation, "") {
            // It has happened.
            Verdict::Deny => Verdict::Violate,
            // A program is let in by what it opens; what it changed is told all the same.
            Verdict::Learn | Verdict::Allow | Verdict::Open => continue,
            Verdict::Violate => Verdict::Violate,
        };
        sink.act(&Act {
            ward: Arc::clone(ward),
            rule: folder.rule,
            path: path.clone(),
            operation,
            pid: notice.pid,
            program: program.path.clone(),
            verdict,
            decision: Duration::ZERO,
        });
    }
}

/// What was done, without what goes without saying: a new file is written, too.
fn operations(done: Done) -> impl Iterator<Item = FileOperation> {
    let made = done.created || done.moved_to;
    [
        (made, FileOperation::Create),
        (done.deleted, FileOperation::Delete),
        (done.moved_from, FileOperation::Rename),
        (done.modified && !made, FileOperation::Modify),
        (done.attributes && !made && !done.deleted && !done.modified, FileOperation::Attribute),
    ]
    .into_iter()
    .filter_map(|(is, operation)| is.then_some(operation))
}
