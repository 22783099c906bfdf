//! Who is of a container's family, where no BPF program keeps it: a process comes into a container with the first program that
//! it runs there, sent by the container's runtime or by somebody else, and whatever it makes is of the same kind. Names play
//! no part in it.

use std::collections::{BTreeSet, HashMap};

use nv_probe::fanotify::Inode;

use super::super::guard::who;
use super::MAX_PROCESSES;

/// How far up the runtime is looked for, as far as the kernel's programs look.
const ANCESTORS: usize = 32;
/// How often a line of ancestors is looked at that ends before it was read.
const LINES: usize = 8;

/// By whom a process, or the one that it descends from, was sent into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// By the container's runtime.
    Family,
    /// By somebody else.
    Stranger,
}

/// Processes, and what is known of each; of those that are in no container yet, nothing.
#[derive(Debug, Default)]
pub(super) struct Kinship(HashMap<u32, Option<Kin>>);

impl Kinship {
    /// The kernel has told of it, or never will: there is no room.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.0.contains_key(&pid) || self.0.len() >= MAX_PROCESSES
    }
    /// A process is there; of its parent it has what that has.
    pub(super) fn made(&mut self, pid: u32, parent: Option<u32>) {
        let kin = parent.and_then(|parent| self.of(parent));
        if self.0.len() < MAX_PROCESSES || self.0.contains_key(&pid) {
            // It may have run its first program already.
            let held = self.0.entry(pid).or_default();
            *held = held.or(kin);
        }
    }
    /// It is gone.
    pub(super) fn ended(&mut self, pid: u32) {
        self.0.remove(&pid);
    }
    /// Only these are left.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|pid, _| is_there(*pid));
    }
    /// Whether it has run a program in a container, or descends from one that has.
    pub(super) fn is_of_container(&self, pid: u32) -> bool {
        self.of(pid).is_some()
    }
    fn of(&self, pid: u32) -> Option<Kin> {
        self.0.get(&pid).copied().flatten()
    }
    /// Whose kin a process is that runs a program in a container, which `starter` has started: by what it descends from, where
    /// that is known, else by whether one of its ancestors runs `starter`'s executable or a runtime's. Process 1 says nothing:
    /// whoever has lost his parent is its child.
    pub(super) fn decide(
        &mut self,
        pid: u32,
        starter: Inode,
        runtimes: &BTreeSet<Inode>,
        up: &impl Above,
    ) -> Kin {
        let kin = self.of(pid).unwrap_or_else(|| {
            let kin = self.look_up(pid, starter, runtimes, up);
            tracing::debug!(pid, ?kin, ?starter, "a process comes into a container");
            kin
        });
        if let Some(held) = self.0.get_mut(&pid) {
            *held = Some(kin);
        }
        kin
    }

    fn look_up(&self, pid: u32, starter: Inode, runtimes: &BTreeSet<Inode>, up: &impl Above) -> Kin {
        // An ancestor that ends while it is looked at leaves its children to one above it: the line is another one then.
        (0..LINES).find_map(|_| self.along(pid, starter, runtimes, up)).unwrap_or(Kin::Stranger)
    }

    /// Along one line of ancestors; `None` when one of them has ended.
    fn along(
        &self,
        mut pid: u32,
        starter: Inode,
        runtimes: &BTreeSet<Inode>,
        up: &impl Above,
    ) -> Option<Kin> {
        for _ in 0..ANCESTORS {
            pid = up.parent(pid)?;
            if pid <= 1 {
                return Some(Kin::Stranger);
            }
            if let Some(kin) = self.of(pid) {
                return Some(kin);
            }
            if up.program(pid).is_some_and(|runs| runs == starter || runtimes.contains(&runs)) {
                return Some(Kin::Family);
            }
        }
        Some(Kin::Stranger)
    }
}

/// What is above a process.
pub(super) trait Above {
    /// Its parent.
    fn parent(&self, pid: u32) -> Option<u32>;
    /// What it runs.
    fn program(&self, pid: u32) -> Option<Inode>;
}

/// As `/proc` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proc;

impl Above for Proc {
    fn parent(&self, pid: u32) -> Option<u32> {
        who::parent(pid)
    }
    fn program(&self, pid: u32) -> Option<Inode> {
        who::program(pid).inode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: Inode = Inode { device: 1, number: 10 };
    const SHELL: Inode = Inode { device: 1, number: 20 };

    /// 1 ── 50 (the shim) ── 51 (the container's first) ── 52; 1 ── 60 (a shell) ── 61.
    struct Tree;

    impl Above for Tree {
        fn parent(&self, pid: u32) -> Option<u32> {
            [(50, 1), (51, 50), (52, 51), (53, 51), (60, 1), (61, 60), (62, 61), (63, 1)]
                .into_iter()
                .find_map(|(child, parent)| (child == pid).then_some(parent))
        }
        fn program(&self, pid: u32) -> Option<Inode> {
            Some(if pid == 50 { SHIM } else { SHELL })
        }
    }

    fn kin(kinship: &mut Kinship, pid: u32) -> Kin {
        kinship.decide(pid, SHIM, &BTreeSet::new(), &Tree)
    }

    #[test]
    fn whoever_the_runtime_sends_is_of_the_family_and_who_comes_past_it_is_a_stranger_with_all_that_it_makes()
    {
        let mut kinship = Kinship::default();
        for pid in [50, 51, 52, 60, 61] {
            kinship.made(pid, None);
        }
        for (pid, want) in [(51, Kin::Family), (52, Kin::Family), (61, Kin::Stranger)] {
            assert_eq!(kin(&mut kinship, pid), want, "{pid}");
        }
        // Its child stays one when it has ended and process 1 has adopted the child.
        kinship.made(63, Some(61));
        kinship.ended(61);
        assert_eq!(kin(&mut kinship, 63), Kin::Stranger);
        // A child of the container's own that is adopted by the host stays one of the family.
        kinship.made(64, Some(52));
        assert_eq!(kin(&mut kinship, 64), Kin::Family);
    }

    /// The one that the runtime sends by is gone when its own parent is asked for; its child is the shim's then.
    #[derive(Default)]
    struct Leaving(std::cell::Cell<bool>);

    impl Above for Leaving {
        fn parent(&self, pid: u32) -> Option<u32> {
            match pid {
                71 if self.0.get() => Some(50),
                71 => Some(70),
                70 => {
                    self.0.set(true);
                    None
                }
                other => Tree.parent(other),
            }
        }
        fn program(&self, pid: u32) -> Option<Inode> {
            Tree.program(pid)
        }
    }

    #[test]
    fn a_parent_that_ends_meanwhile_makes_nobody_a_stranger() {
        let kin = Kinship::default().decide(71, SHIM, &BTreeSet::new(), &Leaving::default());
        assert_eq!(kin, Kin::Family);
    }

    #[test]
    fn what_a_known_runtime_sends_is_of_the_family_too_and_a_late_word_changes_nothing() {
        let mut kinship = Kinship::default();
        kinship.made(62, Some(61));
        assert_eq!(kinship.decide(62, SHIM, &BTreeSet::from([SHELL]), &Tree), Kin::Family);
        kinship.made(61, None);
        assert_eq!(kin(&mut kinship, 61), Kin::Stranger);
        kinship.made(62, Some(61));
        assert_eq!(kin(&mut kinship, 62), Kin::Family);
    }

    #[test]
    fn what_the_kernel_has_not_told_of_is_not_known_until_there_is_no_room() {
        let mut kinship = Kinship::default();
        assert!(!kinship.knows(7));
        for pid in 0..=u32::try_from(MAX_PROCESSES).unwrap() {
            kinship.made(pid.saturating_add(100), None);
        }
        assert_eq!(kinship.0.len(), MAX_PROCESSES);
        assert!(kinship.knows(7));
        kinship.keep(|pid| pid < 200);
        assert!(!kinship.knows(7) && kinship.knows(150));
    }
}
