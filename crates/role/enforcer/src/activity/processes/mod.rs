//! The processes of the node, as far as exec, fork and exit records tell: who a process is, who started it, and what
//! ran before.

mod history;
mod listing;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nv_model::behaviour::Stdio;
use nv_model::verdict::Verdict;

pub(crate) use history::{History, Past};
pub(crate) use listing::{Listing, list, parent_of};

/// Most processes that are remembered. Beyond it those that have ended, the longest ago first, are forgotten, then
/// new ones are not taken in.
const MAX_PROCESSES: usize = 65_536;
/// Ended processes that are kept, because their children's records may come after their end.
const MAX_ENDED: usize = 8192;

/// A program as it was run; a process that was forked shares its parent's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// Last part of its path.
    pub(crate) name: String,
    /// Its executable, as the process sees it.
    pub(crate) path: String,
    /// Its arguments, secrets redacted.
    pub(crate) command: String,
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Parent's process id.
    pub(crate) parent: u32,
    /// What it runs.
    pub(crate) program: Arc<Program>,
    /// Real user id.
    pub(crate) uid: u32,
    /// Effective user id.
    pub(crate) euid: u32,
    /// Its cgroup.
    pub(crate) cgroup: u64,
    /// The cgroup in which the program was run; a fork may have been moved since.
    pub(crate) origin: u64,
    /// When it began to run this program, or was forked; since boot.
    pub(crate) started: Duration,
    /// What was decided; `None` for one that ran before this enforcer.
    pub(crate) verdict: Option<Verdict>,
    /// It ran the program itself, and is no fork of one that did.
    pub(crate) executed: bool,
    /// Standard input and output, when it ran the program.
    pub(crate) stdio: [Stdio; 2],
}

#[derive(Debug)]
struct Entry {
    process: Process,
    /// Numbers are given again by the kernel; each use is a life of its own.
    life: u64,
    ended: bool,
}

/// Processes by their id in the host's numbering.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    known: HashMap<u32, Entry>,
    /// Ended ones, the longest ago first: process id, and which life of that number.
    ended: VecDeque<(u32, u64)>,
    lives: u64,
    /// How many were not taken in.
    overflow: u64,
}

impl Processes {
    /// Takes in what runs already. `cgroup_root` is where the v2 tree is mounted; without it nobody's cgroup is known.
    pub(crate) fn scan(&mut self, cgroup_root: Option<&Path>) {
        let mut cgroups = HashMap::new();
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if let Some(process) = listing::look_up(pid, cgroup_root, &mut cgroups) {
                self.put(pid, process);
            }
        }
    }
    /// A process runs another program now. Gives what it was before, if that was a program that it ran itself.
    pub(crate) fn exec(&mut self, pid: u32, process: Process) -> Option<Process> {
        let before = self.known.get(&pid).filter(|entry| !entry.ended && entry.process.executed);
        let before = before.map(|entry| entry.process.clone());
        self.put(pid, process);
        before
    }
    /// A process was forked: until it runs another program it is what its parent is.
    pub(crate) fn fork(&mut self, parent: u32, child: u32, cgroup: u64, started: Duration) {
        if let Some(entry) = self.known.get(&parent) {
            let process = Process { parent, cgroup, started, executed: false, ..entry.process.clone() };
            self.put(child, process);
        }
    }
    /// A process has ended. Gives what it was, unless that was told already.
    pub(crate) fn exit(&mut self, pid: u32) -> Option<Process> {
        let entry = self.known.get_mut(&pid).filter(|entry| !entry.ended)?;
        entry.ended = true;
        let (process, life) = (entry.process.clone(), entry.life);
        self.ended.push_back((pid, life));
        if self.ended.len() > MAX_ENDED {
            self.forget_oldest();
        }
        Some(process)
    }
    /// What is known of a process, also of one that has ended not long ago.
    pub(crate) fn get(&self, pid: u32) -> Option<&Process> {
        self.known.get(&pid).map(|entry| &entry.process)
    }
    /// A process that lives.
    pub(crate) fn living_one(&self, pid: u32) -> Option<&Process> {
        self.known.get(&pid).filter(|entry| !entry.ended).map(|entry| &entry.process)
    }
    /// Those that live.
    pub(crate) fn living(&self) -> impl Iterator<Item = (u32, &Process)> {
        self.known.iter().filter(|(_, entry)| !entry.ended).map(|(pid, entry)| (*pid, &entry.process))
    }
    /// How many could not be taken in.
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow
    }

    fn put(&mut self, pid: u32, process: Process) {
        while self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&pid) {
            if !self.forget_oldest() {
                self.overflow += 1;
                return;
            }
        }
        self.lives += 1;
        self.known.insert(pid, Entry { process, life: self.lives, ended: false });
    }

    /// Drops the process that ended the longest ago; false when none has ended.
    fn forget_oldest(&mut self) -> bool {
        let Some((pid, life)) = self.ended.pop_front() else { return false };
        if self.known.get(&pid).is_some_and(|entry| entry.life == life) {
            self.known.remove(&pid);
        }
        true
    }
}

/// Last part of a path.
pub(crate) fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, path: &str) -> Process {
        let program = Program { name: last_part(path), path: path.into(), command: String::new() };
        Process { parent, program: Arc::new(program), executed: true, ..Process::default() }
    }

    #[test]
    fn a_forked_process_is_its_parent_until_it_runs_another_program() {
        let mut table = Processes::default();
        table.exec(10, process(1, "/bin/sh"));
        table.fork(10, 11, 5, Duration::from_secs(1));
        let forked = table.get(11).unwrap();
        assert_eq!((forked.program.path.as_str(), forked.parent, forked.cgroup), ("/bin/sh", 10, 5));
        assert!(!forked.executed);
        assert_eq!(table.exec(11, process(10, "/bin/ls")), None, "a fork is no program of its own");
        assert_eq!(table.exec(11, process(10, "/bin/cat")), Some(process(10, "/bin/ls")));
        assert_eq!(table.exit(10), Some(process(1, "/bin/sh")));
        assert_eq!(table.exit(10), None, "an end is told once");
        assert_eq!(table.get(10), Some(&process(1, "/bin/sh")), "a parent that has ended is still known");
        assert_eq!(table.living().map(|(pid, _)| pid).collect::<Vec<_>>(), [11]);
    }

    #[test]
    fn ended_processes_are_forgotten_in_order() {
        let mut table = Processes::default();
        for pid in 0..20_000 {
            table.exec(pid, process(1, "/bin/x"));
            table.exit(pid);
        }
        assert!(table.known.len() <= MAX_ENDED && table.get(19_999).is_some() && table.get(0).is_none());
    }
}
