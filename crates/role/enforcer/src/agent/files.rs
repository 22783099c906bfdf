//! Files: what the keeper is to watch, and what it saw.

use std::collections::HashMap;
use std::time::Duration;

use nv_model::file::FileOperation;
use nv_model::name::{GroupName, WorkloadId};
use nv_model::observation::{FileObservation, Observation};
use nv_model::question::{Answer, AnswerError};
use nv_model::verdict::{Mechanism, Verdict};
use nv_policy::file;

use super::{Agent, FOLD_INCIDENTS, Later, MAX_FOLDED};
use crate::activity::processes::Process;
use crate::identity::workloads::Owner;
use crate::keeper::{Place, Rules, Seen, Watch, Watched};
use crate::policy::kernel::{self, new_services};

impl Agent {
    /// Has the keeper watch what the policy says of what runs, when that is another than what it watches. One request is
    /// under way at a time; what changes meanwhile is asked for when its answer is here.
    pub(super) fn watch_files(&mut self) {
        if self.setup.capabilities.file.is_none() || self.files.asked {
            return;
        }
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let watch = self.to_watch();
        if self.files.watched.as_ref() == Some(&watch) {
            return;
        }
        self.files.asked = true;
        self.files.sent = watch.clone();
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let done = keeper.files(&watch).map_err(|error| error.to_string());
            drop(later.blocking_send(Later::Watched(Box::new(watch), done)));
        });
    }

    pub(super) fn files_watched(&mut self, watch: Watch, done: Result<Watched, String>) {
        self.files.asked = false;
        match done {
            Ok(watched) => {
                tracing::debug!(?watched, places = watch.places.len(), "files are watched");
                self.files.watched = Some(watch);
                self.watch_files();
            }
            // The next second tries again.
            Err(error) => tracing::error!(error, "files are not watched as the policy says"),
        }
    }

    /// Has the keeper say which files are watched; the answer comes back as work done.
    pub(super) fn watched_files(
        &self,
        id: u64,
        workload: Option<WorkloadId>,
    ) -> Option<Result<Answer, AnswerError>> {
        if workload.as_ref().is_some_and(|wanted| self.workloads.get(wanted).is_none()) {
            return Some(Err(AnswerError::UnknownWorkload));
        }
        let Some(keeper) = self.setup.keeper.clone() else {
            return Some(Err(AnswerError::Failed("the keeper is being started".to_owned())));
        };
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let listed = keeper.watched_files(workload).map(Answer::WatchedFiles);
            let answer = listed.map_err(|error| AnswerError::Failed(error.to_string()));
            drop(later.blocking_send(Later::Answer(id, answer)));
        });
        None
    }

    /// Every container that runs, and the host.
    fn to_watch(&self) -> Watch {
        let completed = kernel::complete(self.setup.held.policy.clone(), &self.workloads);
        let mut watch = Watch::default();
        let mut numbers: std::collections::BTreeMap<GroupName, usize> = Default::default();
        let mut profile = |watch: &mut Watch, group: GroupName| -> Option<usize> {
            if let Some(number) = numbers.get(&group) {
                return Some(*number);
            }
            let held = completed.profiles.get(&group).or_else(|| completed.profiles.get(&new_services()))?;
            let number = watch.profiles.len();
            watch.profiles.push(Rules {
                group: group.clone(),
                number: self.profile_number(&group),
                mode: held.mode,
                fault: held.fault,
                rules: file::rules(held).map(|(group, rule)| (group.clone(), rule.clone())).collect(),
            });
            numbers.insert(group, number);
            Some(number)
        };
        if let Some(number) = profile(&mut watch, GroupName::nodes()) {
            watch.places.push(Place { workload: None, cgroup: "/".to_owned(), pid: 1, profile: number });
        }
        for local in self.workloads.all() {
            let workload = &local.workload;
            // A pod's sandbox has no files of its own.
            if !workload.running || workload.is_sandbox || workload.pid == 0 || workload.cgroup.is_empty() {
                continue;
            }
            let group = self.workloads.group(&workload.id).unwrap_or_else(new_services);
            let Some(number) = profile(&mut watch, group) else { continue };
            watch.places.push(Place {
                workload: Some(workload.id.clone()),
                cgroup: workload.cgroup.clone(),
                pid: workload.pid,
                profile: number,
            });
        }
        watch
    }

    /// The keeper saw something.
    pub(crate) fn file(&mut self, seen: Seen) {
        self.files.lost = self.files.lost.saturating_add(seen.dropped);
        let mechanism = (seen.verdict == Verdict::Deny).then_some(Mechanism::Fanotify);
        self.tell_file(seen, mechanism);
    }

    fn tell_file(&mut self, seen: Seen, mechanism: Option<Mechanism>) {
        let known = self.processes.get(seen.pid).cloned().unwrap_or_default();
        let parent = if seen.parent_pid == 0 { known.parent } else { seen.parent_pid };
        let parent: Process = self.processes.get(parent).cloned().unwrap_or_default();
        let or = |told: String, known: &str| if told.is_empty() { known.to_owned() } else { told };
        let (known, parent) = (known.program, parent.program);
        self.tell(Observation::File(Box::new(FileObservation {
            user: crate::identity::users::name_of(seen.pid, seen.real_uid),
            workload: seen.workload,
            group: seen.group,
            rule_group: seen.rule_group,
            filter: seen.filter,
            behavior: seen.behavior,
            path: seen.path,
            operation: seen.operation,
            pid: seen.pid,
            process: or(seen.process, &known.name),
            process_path: or(seen.process_path, &known.path),
            command: or(seen.command, &known.command),
            real_uid: seen.real_uid,
            effective_uid: seen.effective_uid,
            parent_name: parent.name.clone(),
            parent_path: parent.path.clone(),
            mechanism,
            verdict: seen.verdict,
            decision_nanos: seen.decision_nanos,
            count: seen.count.max(1),
            at: self.setup.clock.now(),
        })));
        self.pump();
    }
}

/// From the kernel's report: the rule by its number, the workload by its cgroup.
impl Agent {
    pub(super) fn file_record(&mut self, event: nv_probe::events::FileEvent) {
        let Some(rules) = self.files.sent.profiles.iter().find(|rules| rules.number == event.profile) else {
            // Of a profile that is gone since.
            self.files.lost = self.files.lost.saturating_add(1);
            return;
        };
        let Some((rule_group, rule)) = usize::try_from(event.rule).ok().and_then(|at| rules.rules.get(at))
        else {
            self.files.lost = self.files.lost.saturating_add(1);
            return;
        };
        let workload = match self.workloads.owner(event.cgroup) {
            Owner::Host => None,
            Owner::Workload(id) => Some(id),
        };
        let process = self.processes.get(event.pid).cloned().unwrap_or_default();
        let key = (
            workload.clone(),
            event.path.clone(),
            event.operation,
            process.program.path.clone(),
            event.verdict,
        );
        let now = self.setup.clock.monotonic();
        if let Some((_, folded)) = self.files.folded.get_mut(&key) {
            folded.count = folded.count.saturating_add(1);
            return;
        }
        let seen = Seen {
            workload,
            group: rules.group.clone(),
            rule_group: rule_group.clone(),
            filter: rule.filter.clone(),
            behavior: rule.behavior,
            path: event.path,
            operation: event.operation,
            pid: event.pid,
            process: event.name,
            process_path: process.program.path.clone(),
            command: String::new(),
            parent_pid: event.parent_pid,
            real_uid: event.uid,
            effective_uid: event.euid,
            verdict: event.verdict,
            decision_nanos: event.decision_nanos.into(),
            count: 1,
            dropped: 0,
        };
        if self.files.folded.len() < MAX_FOLDED {
            self.files.folded.insert(key, (now, Seen { count: 0, ..seen.clone() }));
        }
        self.tell_file(seen, event.mechanism);
    }

    /// Every second: repeats are told.
    pub(super) fn flush_files(&mut self) {
        let now = self.setup.clock.monotonic();
        let mut due = Vec::new();
        self.files.folded.retain(|_, (since, folded)| {
            if now.saturating_sub(*since) < FOLD_INCIDENTS {
                return true;
            }
            if folded.count > 0 {
                due.push(folded.clone());
            }
            false
        });
        for seen in due {
            let mechanism = if seen.verdict == Verdict::Deny { self.setup.capabilities.file } else { None };
            self.tell_file(seen, mechanism);
        }
    }
}

/// What the kernel reported within the second: place, path, operation, executable, verdict.
type Kind = (Option<WorkloadId>, String, FileOperation, String, Verdict);

/// What the keeper watches, as far as the agent knows.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// What it was asked for last: by this its rules have their numbers.
    pub(super) sent: Watch,
    /// `None` when it has to be asked anew.
    pub(super) watched: Option<Watch>,
    /// A request is under way.
    pub(super) asked: bool,
    /// The kernel's reports of the last second, with how often each came again.
    pub(super) folded: HashMap<Kind, (Duration, Seen)>,
    /// Reports that were lost on the way.
    pub(super) lost: u64,
}
