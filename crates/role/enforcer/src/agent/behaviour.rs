//! Suspicious behaviour on its way to the controller.

use std::collections::HashMap;
use std::time::Duration;

use nv_model::behaviour::{Behaviour, BehaviourObservation};
use nv_model::name::WorkloadId;
use nv_model::observation::{Observation, ProcessObservation};
use nv_model::port::Protocol;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_policy::behaviour::Finding;

use super::{Agent, FOLD_INCIDENTS, MAX_FOLDED};
use crate::activity::hashes::{Hashed, Job, hex};
use crate::activity::processes::Process;
use crate::identity::workloads::Owner;

/// Most scans whose process is waited for; beyond it they are told without.
const MAX_SCANNERS: usize = 64;

/// What was seen where: the executable, how it was recognised (which tells the programs of a busybox apart), the verdict.
type Key = (Option<WorkloadId>, Behaviour, String, String, Verdict);
/// The same within [`FOLD_INCIDENTS`]: when it was told, and what came since.
pub(super) type Folded = HashMap<Key, (Duration, BehaviourObservation)>;

/// A scan whose process is waited for, by the next second or the one after it.
#[derive(Debug)]
pub(super) struct Scanner {
    finding: Finding,
    connect: nv_capture::ConnectEvent,
    waited: bool,
}

impl Agent {
    /// Tells of suspicious behaviour by what is known of the process; the same again is counted.
    pub(super) fn suspicious(&mut self, finding: Finding, process: ProcessObservation) {
        let Finding { behaviour, message } = finding;
        let key =
            (process.workload.clone(), behaviour, process.path.clone(), message.clone(), process.verdict);
        if let Some((_, folded)) = self.behaviours.get_mut(&key) {
            folded.process.count = folded.process.count.saturating_add(1);
            return;
        }
        let seen = BehaviourObservation { behaviour, message, process };
        tracing::debug!(behaviour = behaviour.as_str(), path = seen.process.path, "suspicious");
        if self.behaviours.len() < MAX_FOLDED {
            let mut folded = seen.clone();
            folded.process.count = 0;
            self.behaviours.insert(key, (self.setup.clock.monotonic(), folded));
        }
        self.tell(Observation::Behaviour(Box::new(seen)));
    }

    /// Has the executable of a container hashed.
    pub(super) fn hash(&mut self, exec: &nv_probe::events::Exec, seen: &ProcessObservation) {
        let Some(workload) = &seen.workload else { return };
        let known = self.hashes.get(workload, &exec.path).is_some();
        self.hashes.ask(Job {
            workload: workload.clone(),
            pid: exec.pid,
            first: self.workloads.get(workload).map_or(0, |local| local.workload.pid),
            path: exec.path.clone(),
            of_image: !exec.drifted,
            seen: known.then(|| Box::new(seen.clone())),
        });
    }

    /// An executable was hashed: is it the one that it was?
    pub(super) fn hashed(&mut self, hashed: Hashed) {
        let Hashed { job, hash } = hashed;
        let before = self.hashes.found(&job, hash);
        let (Some(before), Some(now), Some(seen)) = (before, hash, job.seen) else { return };
        let message = format!(
            "{} is another program than before: its SHA-256 was {} and is {}",
            job.path,
            hex(&before),
            hex(&now)
        );
        self.suspicious(Finding { behaviour: Behaviour::ChangedExecutable, message }, *seen);
        self.pump();
    }

    /// Tells of what was folded, and of scans whose process is known by now.
    pub(super) fn repeat_behaviours(&mut self) {
        for Scanner { finding, connect, waited } in std::mem::take(&mut self.scanners) {
            let is_known =
                self.processes.get(connect.pid).is_some_and(|process| !process.program.path.is_empty());
            // It may have been found just now.
            if is_known || waited {
                self.scanner(finding, &connect);
            } else {
                self.scanners.push(Scanner { finding, connect, waited: true });
            }
        }
        let now = self.setup.clock.monotonic();
        let mut due = Vec::new();
        self.behaviours.retain(|_, (since, folded)| {
            if now.saturating_sub(*since) < FOLD_INCIDENTS {
                return true;
            }
            if folded.process.count > 0 {
                due.push(folded.clone());
            }
            false
        });
        for seen in due {
            self.tell(Observation::Behaviour(Box::new(seen)));
        }
    }

    /// A program asked for a destination: is it scanning?
    pub(super) fn scanned(&mut self, connect: &nv_capture::ConnectEvent) {
        if !matches!(connect.protocol, Protocol::Tcp | Protocol::Udp) || connect.address.is_loopback() {
            return;
        }
        let now = self.setup.clock.monotonic();
        let Some(finding) = self.scans.asked(connect.pid, connect.address, connect.port, now) else { return };
        // Who it is may be told a moment later than what it asked for, as that comes by another ring.
        if self.scanners.len() < MAX_SCANNERS {
            self.scanners.push(Scanner { finding, connect: connect.clone(), waited: false });
        } else {
            self.scanner(finding, connect);
        }
    }

    /// A process of a container asked the kernel for something.
    pub(super) fn did(&mut self, did: &nv_probe::events::DeedEvent) {
        let owner = self.workloads.owner(did.cgroup);
        let who = Doer {
            pid: did.pid,
            parent: did.parent_pid,
            name: did.name.clone(),
            ids: Some((did.uid, did.euid)),
            at: self.wall(did.at),
        };
        let seen = self.doer(who, owner);
        self.suspicious(nv_policy::behaviour::of_deed(&did.deed), seen);
        self.pump();
    }

    /// Tells of a scan.
    fn scanner(&mut self, finding: Finding, connect: &nv_capture::ConnectEvent) {
        let who = Doer {
            pid: connect.pid,
            parent: self.processes.get(connect.pid).map(|process| process.parent).unwrap_or_default(),
            name: connect.command.clone(),
            ids: None,
            at: connect.at,
        };
        let seen = self.doer(who, self.workloads.owner(connect.cgroup));
        self.suspicious(finding, seen);
    }

    /// A process that did something, with what is known of it.
    fn doer(&self, who: Doer, owner: Owner) -> ProcessObservation {
        let process = self.processes.get(who.pid).cloned().unwrap_or_default();
        let (workload, group) = self.named(owner);
        let Process { program, uid, euid, verdict, .. } = process;
        let (uid, euid) = who.ids.unwrap_or((uid, euid));
        let parent = self.processes.get(who.parent).cloned().unwrap_or_default().program;
        ProcessObservation {
            workload,
            rule_group: group.clone(),
            group,
            rule_uuid: String::new(),
            pid: who.pid,
            parent_pid: who.parent,
            name: if program.name.is_empty() { who.name } else { program.name.clone() },
            path: program.path.clone(),
            command: program.command.clone(),
            real_uid: uid,
            effective_uid: euid,
            user: crate::identity::users::name_of(who.pid, uid),
            parent_name: parent.name.clone(),
            parent_path: parent.path.clone(),
            drifted: false,
            fileless: false,
            verdict: verdict.unwrap_or(Verdict::Open),
            mechanism: None,
            decision_nanos: 0,
            count: 1,
            at: who.at,
        }
    }
}

/// Who did something.
struct Doer {
    pid: u32,
    parent: u32,
    /// The task's name, should its program not be known.
    name: String,
    /// Real and effective user; `None` for those it had when it ran its program.
    ids: Option<(u32, u32)>,
    at: Timestamp,
}
