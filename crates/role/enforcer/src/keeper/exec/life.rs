//! What the kernel tells of processes that run: told on to the agent, with what was judged before; and what fanotify was not
//! asked about is judged now.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nv_model::verdict::{Mechanism, Verdict};
use nv_probe::Event;
use nv_probe::connector::{Connector, Notice};
use nv_probe::events::{Exec, since_boot};
use nv_probe::fanotify::Inode;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::guard::who;
use super::judge::{Belongs, How, Judged};
use super::look::{self, Runner};
use super::{MAX_PROCESSES, Warden, held};

/// Messages that are taken at once.
const BATCH: usize = 512;

/// A process, as far as it is needed when it ends, or when messages are lost.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    cgroup: u64,
    /// The file that was judged.
    runs: Option<Inode>,
}

/// Takes messages for as long as there are any.
pub(super) fn follow(warden: &Warden, connector: &Connector) {
    let mut notices = Vec::new();
    let mut lives: HashMap<u32, Life> = HashMap::new();
    {
        let mut kinship = held(&warden.kinship);
        processes().for_each(|pid| kinship.made(pid, None));
    }
    loop {
        if let Err(error) = connector.read(Duration::from_secs(1), BATCH, &mut notices) {
            tracing::error!(%error, "what runs is not told any more");
            return;
        }
        for notice in notices.drain(..) {
            match notice {
                Notice::Fork { parent, pid } => {
                    held(&warden.kinship).made(pid, Some(parent));
                    let own = look::cgroups(pid, warden.cgroup_root()).first().copied();
                    let before = lives.get(&parent).copied().unwrap_or_default();
                    let cgroup = own.unwrap_or(before.cgroup);
                    if lives.len() < MAX_PROCESSES {
                        lives.insert(pid, Life { cgroup, ..before });
                    }
                    warden.sink.event(Event::Fork { at: since_boot(), cgroup, pid, parent_pid: parent });
                }
                Notice::Exec { pid } => {
                    if let Some(Judged { file, exec }) = warden.ran(pid, lives.contains_key(&pid)) {
                        if lives.len() < MAX_PROCESSES {
                            lives.insert(pid, Life { cgroup: exec.cgroup, runs: Some(file) });
                        }
                        warden.sink.event(Event::Exec(exec));
                    } else if look::runs(pid).is_none() {
                        warden.sink.unseen();
                    }
                }
                Notice::Exit { pid, code } => {
                    held(&warden.judged).remove(&pid);
                    held(&warden.expected).remove(&pid);
                    held(&warden.kinship).ended(pid);
                    let cgroup = lives.remove(&pid).unwrap_or_default().cgroup;
                    warden.sink.event(Event::Exit { at: since_boot(), cgroup, pid, code });
                }
                Notice::Lost => {
                    tracing::warn!("the kernel has lost messages on processes; all of them are looked at");
                    warden.sink.lost();
                    warden.look_at_all(&mut lives);
                }
            }
        }
    }
}

/// All that run now.
fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl Warden {
    /// A process runs another program: what is told of it. `made`: it was seen to be made.
    fn ran(&self, pid: u32, made: bool) -> Option<Judged> {
        let judged = held(&self.judged).remove(&pid);
        held(&self.expected).remove(&pid);
        let runs = look::runs(pid);
        match (judged, runs) {
            // It has ended since.
            (Some(judged), None) => Some(judged),
            (Some(judged), Some(runs)) if judged.file == runs => {
                let facts = who::facts(pid);
                let (command, uid, euid) = (facts.command, facts.real_uid, facts.effective_uid);
                Some(Judged { exec: Box::new(Exec { command, uid, euid, ..*judged.exec }), ..judged })
            }
            _ => self.late(pid, made),
        }
    }

    /// Judges what a process runs, and kills it where that is not allowed.
    fn late(&self, pid: u32, made: bool) -> Option<Judged> {
        let begin = Instant::now();
        // Before it is looked at, so that it is the very process that is killed.
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
        let runner = look::runner(pid, self.cgroup_root())?;
        let file = look::executable(pid)?;
        let seats = self.seats();
        let how = How { begin, script: false, late: true };
        let (found, runtime) = match self.belongs(&runner, &seats, true) {
            Belongs::Nowhere | Belongs::Soon => return None,
            Belongs::Runtime(found) => (found, true),
            Belongs::Under(found) => (found, false),
        };
        if found.seat.container {
            self.marks.see(&self.asking, runner.mounts, pid);
        }
        let comes_in = made && found.seat.container && self.comes_in(&runner);
        let judged = self.judge(&runner, &found, &seats, file.as_fd(), how).ok()??;
        // Whoever waits for the program's end may unmount what it was on.
        drop(file);
        let Judged { file, mut exec } = judged;
        let runtime = runtime || (comes_in && (exec.other_mount || exec.fileless));
        if runtime {
            let open = Exec { runtime, verdict: Verdict::Open, rule: None, mechanism: None, ..*exec };
            return Some(Judged { file, exec: Box::new(open) });
        }
        if exec.verdict == Verdict::Deny {
            match pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) => exec.mechanism = Some(Mechanism::UserspaceKill),
                Err(error) => {
                    tracing::error!(%error, pid, path = exec.path, "a program that is not allowed is not killed");
                    exec.verdict = Verdict::Violate;
                }
            }
        }
        Some(Judged { file, exec })
    }

    /// Whether a process that was seen to be made has run nothing of its container yet, and its parent is the host's. It may run a
    /// runtime's program, started outside, that has gone in before it was looked at: what it runs next is the first of the
    /// container.
    fn comes_in(&self, runner: &Runner) -> bool {
        let of_host =
            |pid| nv_probe::cgroup::mount_namespace(Some(pid)).is_ok_and(|now| now == self.host_mounts);
        !held(&self.kinship).is_of_container(runner.pid) && of_host(runner.facts.parent)
    }

    /// Messages were lost: whatever runs in a container and was not judged is judged now.
    fn look_at_all(&self, lives: &mut HashMap<u32, Life>) {
        let pids: std::collections::HashSet<u32> = processes().collect();
        if pids.is_empty() {
            return;
        }
        lives.retain(|pid, _| pids.contains(pid));
        {
            let mut kinship = held(&self.kinship);
            kinship.keep(|pid| pids.contains(&pid));
            pids.iter().for_each(|pid| kinship.made(*pid, who::parent(*pid)));
        }
        for pid in pids {
            let in_container =
                nv_probe::cgroup::mount_namespace(Some(pid)).is_ok_and(|mounts| mounts != self.host_mounts);
            let runs = look::runs(pid);
            let judged = runs.is_some() && lives.get(&pid).and_then(|life| life.runs) == runs;
            if let Some(Judged { file, exec }) =
                (in_container && !judged).then(|| self.late(pid, false)).flatten()
            {
                if lives.len() < MAX_PROCESSES {
                    lives.insert(pid, Life { cgroup: exec.cgroup, runs: Some(file) });
                }
                if exec.verdict.is_violation() {
                    self.sink.event(Event::Exec(exec));
                }
            }
        }
    }
}
