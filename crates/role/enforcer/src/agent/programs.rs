//! Programs that were run or stopped.

use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{GroupName, WorkloadId};
use nv_model::observation::{NOT_OF_FAMILY, Observation, ProcessObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_policy::behaviour::Finding;

use super::early::Early;
use super::{Agent, LEARN_AGAIN, MAX_FOLDED, MAX_LEARNED};
use crate::activity::processes::{Past, Process, Program, last_part};
use crate::identity::workloads::Owner;
use crate::policy::kernel::new_services;

impl Agent {
    /// Records of the process programs.
    pub(crate) fn process_events(&mut self, events: Vec<nv_probe::Event>) {
        for event in events {
            match event {
                nv_probe::Event::Exec(exec) if self.is_early(&exec) => self.hold(Early::Exec(exec)),
                nv_probe::Event::Exec(exec) => self.exec(*exec),
                nv_probe::Event::File(file) => self.file_record(*file),
                nv_probe::Event::Deed(did) if self.is_early_deed(&did) => self.hold(Early::Deed(did)),
                nv_probe::Event::Deed(did) => self.did(&did),
                nv_probe::Event::Fork { at, cgroup, pid, parent_pid } => {
                    self.processes.fork(parent_pid, pid, cgroup, at);
                }
                nv_probe::Event::Exit { at, pid, code, .. } => {
                    if let Some(process) = self.processes.exit(pid) {
                        self.past(Past { pid, process, ended: at, exit: Some(code) });
                    }
                }
                // These come by a ring of their own.
                nv_probe::Event::CgroupMade { .. } | nv_probe::Event::CgroupGone { .. } => {}
            }
        }
    }

    pub(super) fn exec(&mut self, mut exec: nv_probe::events::Exec) {
        tracing::trace!(
            path = exec.path,
            cgroup = exec.cgroup,
            profile = exec.profile,
            verdict = exec.verdict.as_str(),
            runtime = exec.runtime,
            "exec"
        );
        let owner = self.workloads.owner(exec.cgroup);
        // A process whose parent has ended has another one now; where the parent lives, it is another process.
        let same = |before: &&Process| {
            before.parent == exec.parent_pid || self.processes.living_one(before.parent).is_none()
        };
        let before = self.processes.living_one(exec.pid).filter(same);
        // A runtime starts itself anew in the container's cgroup; what ran a program of the container before is none.
        let inside = |before: &&Process| {
            matches!(owner, Owner::Workload(_))
                && before.verdict.is_some()
                && self.workloads.owner(before.origin) == owner
        };
        let left = exec.host_mounts && !exec.runtime && matches!(owner, Owner::Workload(_));
        let escaped = left || exec.runtime && before.as_ref().is_some_and(inside);
        if exec.runtime && !escaped {
            return;
        }
        let before = before.map(|before| (before.uid, before.euid));
        let parent = self.processes.get(exec.parent_pid).map(|parent| Arc::clone(&parent.program));
        let parent = parent
            .unwrap_or_else(|| Arc::new(Program { name: exec.parent_name.clone(), ..Program::default() }));
        // Its interpreter runs, and is told on its own.
        let interpreted = exec.script && exec.verdict != Verdict::Deny;
        if !interpreted {
            self.ran(&exec);
        }
        let (workload, group) = self.named(owner);
        if workload.is_none() && exec.verdict == Verdict::Learn && self.is_nobodys(exec.profile) {
            // Of a container that is not known yet: what runs in it is looked at when it is.
            return;
        }
        if workload.is_some() && self.is_nobodys(exec.profile) {
            exec.verdict = self.verdict_afterwards(&group, &exec);
        }
        let mut findings = nv_policy::behaviour::of_exec(&nv_policy::behaviour::Exec {
            container: workload.is_some(),
            entered: self.workloads.owner(exec.parent_cgroup) != self.workloads.owner(exec.cgroup),
            path: &exec.path,
            called: &exec.filename,
            command: &exec.command,
            stdio: exec.stdio,
            parent_stdio: exec.parent_stdio,
            uid: exec.uid,
            euid: exec.euid,
            before,
            drifted: exec.drifted,
            replaced: exec.drifted
                && workload.as_ref().is_some_and(|id| self.hashes.replaced(id, &exec.path)),
            fileless: exec.fileless,
            escaped,
            verdict: exec.verdict,
        });
        if interpreted {
            findings.clear();
        }
        // What only attacks do is not taken into a profile as what the service usually does.
        let unlearnable = findings.iter().any(Finding::unlearnable);
        // What is from the image does not change without being copied up, which is what `drifted` says.
        if let Some(id) = &workload
            && exec.verdict.passes()
            && !exec.fileless
            && !exec.truncated
            && self.hashes.wanted(id, &exec.path, exec.drifted)
        {
            let seen = self.observed(&exec, workload.clone(), group.clone(), &parent);
            self.hash(&exec, &seen);
        }
        if !findings.is_empty() {
            let mut seen = self.observed(&exec, workload.clone(), group.clone(), &parent);
            if seen.user.is_empty() {
                seen.user = crate::identity::users::name_of(exec.parent_pid, exec.uid);
            }
            for finding in findings {
                self.suspicious(finding, seen.clone());
            }
            self.pump();
        }
        let now = self.setup.clock.monotonic();
        match exec.verdict {
            Verdict::Open | Verdict::Allow => return,
            Verdict::Learn if unlearnable => return,
            Verdict::Learn => {
                let key = (group.clone(), exec.path.clone());
                if self.learned.get(&key).is_some_and(|at| now.saturating_sub(*at) < LEARN_AGAIN) {
                    return;
                }
                if self.learned.len() >= MAX_LEARNED {
                    self.learned.retain(|_, at| now.saturating_sub(*at) < LEARN_AGAIN);
                }
                if self.learned.len() < MAX_LEARNED {
                    self.learned.insert(key, now);
                }
            }
            Verdict::Violate | Verdict::Deny => {
                let key = (workload.clone(), exec.path.clone(), exec.verdict, exec.rule);
                if let Some((_, folded)) = self.incidents.get_mut(&key) {
                    folded.count = folded.count.saturating_add(1);
                    return;
                }
            }
        }
        tracing::debug!(path = exec.path, %group, cgroup = exec.cgroup, verdict = exec.verdict.as_str(), "program");
        let observation = self.observed(&exec, workload.clone(), group, &parent);
        if exec.verdict.is_violation() && self.incidents.len() < MAX_FOLDED {
            let folded = ProcessObservation { count: 0, ..observation.clone() };
            self.incidents.insert((workload, exec.path, exec.verdict, exec.rule), (now, folded));
        }
        self.tell(Observation::Process(Box::new(observation)));
        self.pump();
    }

    /// What is told of an exec.
    fn observed(
        &self,
        exec: &nv_probe::events::Exec,
        workload: Option<WorkloadId>,
        group: GroupName,
        parent: &Program,
    ) -> ProcessObservation {
        let rule = exec.rule.and_then(|rule| self.rule_of(exec.profile, rule));
        let (rule_group, rule_uuid) = rule.unwrap_or_else(|| {
            let uuid = if exec.is_against_family() { NOT_OF_FAMILY } else { "" };
            (group.clone(), uuid.to_owned())
        });
        ProcessObservation {
            rule_group,
            rule_uuid,
            user: if exec.verdict != Verdict::Learn {
                // The denied process is gone; its parent has the same file system.
                crate::identity::users::name_of(exec.parent_pid, exec.uid)
            } else {
                String::new()
            },
            workload,
            group,
            pid: exec.pid,
            parent_pid: exec.parent_pid,
            name: last_part(&exec.path),
            path: exec.path.clone(),
            command: exec.command.clone(),
            real_uid: exec.uid,
            effective_uid: exec.euid,
            parent_name: parent.name.clone(),
            parent_path: parent.path.clone(),
            drifted: exec.drifted,
            fileless: exec.fileless,
            verdict: exec.verdict,
            mechanism: exec.mechanism,
            decision_nanos: u64::from(exec.decision_nanos),
            count: 1,
            at: self.wall(exec.at),
        }
    }

    /// The workload of a cgroup, and the group whose profile counts.
    pub(super) fn named(&self, owner: Owner) -> (Option<WorkloadId>, GroupName) {
        match owner {
            Owner::Host => (None, GroupName::nodes()),
            Owner::Workload(id) => {
                let group = self.workloads.group(&id).unwrap_or_else(new_services);
                (Some(id), group)
            }
        }
    }

    /// Keeps the process tree and its history.
    fn ran(&mut self, exec: &nv_probe::events::Exec) {
        let program = Arc::new(Program {
            name: last_part(&exec.path),
            path: exec.path.clone(),
            command: exec.command.clone(),
        });
        let process = Process {
            parent: exec.parent_pid,
            program,
            uid: exec.uid,
            euid: exec.euid,
            cgroup: exec.cgroup,
            origin: exec.cgroup,
            started: exec.at,
            verdict: Some(exec.verdict),
            executed: true,
            stdio: exec.stdio,
        };
        // What is killed at its exec is a process until its end is told; what is refused never was one.
        let killed = matches!(exec.mechanism, Some(Mechanism::TracepointKill | Mechanism::UserspaceKill));
        let refused = exec.verdict == Verdict::Deny && !killed;
        let before = if refused { Some(process) } else { self.processes.exec(exec.pid, process) };
        if let Some(process) = before {
            self.past(Past { pid: exec.pid, process, ended: exec.at, exit: None });
        }
    }

    fn past(&mut self, past: Past) {
        let owner = match self.workloads.owner(past.process.cgroup) {
            Owner::Workload(id) => Some(id),
            Owner::Host => None,
        };
        self.history.add(owner, past);
    }

    /// Wall time of a moment given in time since boot.
    pub(super) fn wall(&self, since_boot: Duration) -> Timestamp {
        let ago = nv_probe::events::since_boot().saturating_sub(since_boot);
        let ago = i64::try_from(ago.as_nanos()).unwrap_or(0);
        Timestamp::from_nanos(self.setup.clock.now().nanos().saturating_sub(ago))
    }
}
