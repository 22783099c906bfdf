//! The processes of the node, as far as exec, fork and exit records tell: who a process is and who started it.

use std::collections::{HashMap, VecDeque};

/// Most processes that are remembered. Beyond it those that have ended, the longest ago first, are forgotten, then
/// new ones are not taken in.
const MAX_PROCESSES: usize = 65_536;
/// Ended processes that are kept, because their children's records may come after their end.
const MAX_ENDED: usize = 8192;

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Parent's process id.
    pub(crate) parent: u32,
    /// Last part of its path.
    pub(crate) name: String,
    /// Its executable, as it sees it.
    pub(crate) path: String,
}

#[derive(Debug)]
struct Entry {
    process: Process,
    /// Numbers are given again by the kernel; each use is a life of its own.
    life: u64,
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
    /// Takes in what runs already.
    pub(crate) fn scan(&mut self) {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let path = path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
            let stat = crate::node::read_small(format!("/proc/{pid}/stat"));
            self.put(pid, Process { parent: parent_of(&stat).unwrap_or(0), name: last_part(&path), path });
        }
    }
    /// A process runs another program now.
    pub(crate) fn exec(&mut self, pid: u32, process: Process) {
        self.put(pid, process);
    }
    /// A process was forked: until it runs another program it is what its parent is.
    pub(crate) fn fork(&mut self, parent: u32, child: u32) {
        if let Some(entry) = self.known.get(&parent) {
            let process = Process { parent, ..entry.process.clone() };
            self.put(child, process);
        }
    }
    /// A process has ended.
    pub(crate) fn exit(&mut self, pid: u32) {
        let Some(entry) = self.known.get(&pid) else { return };
        self.ended.push_back((pid, entry.life));
        if self.ended.len() > MAX_ENDED {
            self.forget_oldest();
        }
    }
    /// What is known of a process.
    pub(crate) fn get(&self, pid: u32) -> Option<&Process> {
        self.known.get(&pid).map(|entry| &entry.process)
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
        self.known.insert(pid, Entry { process, life: self.lives });
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

/// Parent in `/proc/<pid>/stat`: the second field behind the name, which is in parentheses and may have any character.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, path: &str) -> Process {
        Process { parent, name: last_part(path), path: path.into() }
    }

    #[test]
    fn a_forked_process_is_its_parent_until_it_runs_another_program() {
        let mut table = Processes::default();
        table.exec(10, process(1, "/bin/sh"));
        table.fork(10, 11);
        assert_eq!(table.get(11), Some(&process(10, "/bin/sh")));
        table.exec(11, process(10, "/bin/ls"));
        table.exit(10);
        assert_eq!(table.get(10), Some(&process(1, "/bin/sh")), "a parent that has ended is still known");
        assert_eq!(table.get(11).unwrap().name, "ls");
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

    #[test]
    fn a_name_may_have_any_character() {
        assert_eq!(parent_of("7 (a) b (c)) S 42 7 7"), Some(42));
        assert_eq!(parent_of("nonsense"), None);
    }
}
