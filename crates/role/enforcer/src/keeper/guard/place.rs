//! From rules to marks: what is new is resolved and marked, what went is unmarked, what stayed is left alone.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nv_model::file::FileBehavior;
use nv_model::name::WorkloadId;
use nv_probe::fanotify::{Ask, Handle, Inode};
use rustix::fs::{Mode, OFlags};

use super::resolve::{self, Found, Names};
use super::tables::{Folder, Tables, Ward};
use super::{Groups, Place, Rules, Watch, Watched};

/// Most marks of one place. A mark is some hundred bytes in the kernel.
pub(super) const MAX_MARKS: usize = 32_768;

/// Marks of a place, each with the path below its root by which it is found again.
#[derive(Debug, Default)]
struct Marks {
    asked: HashMap<Inode, String>,
    told: HashMap<Handle, String>,
}

struct Held {
    ward: Arc<Ward>,
    marks: Marks,
    refused: u64,
}

/// What is watched now.
#[derive(Default)]
pub(super) struct Placed {
    held: HashMap<Option<WorkloadId>, Held>,
}

impl Placed {
    /// Brings marks to what `watch` says. A place whose root is gone is left out, and its marks went with it.
    pub(super) fn place(&mut self, groups: &Groups, watch: &Watch) -> (Tables, Watched) {
        let mut watched = Watched::default();
        let profiles: Vec<Arc<Rules>> = watch.profiles.iter().cloned().map(Arc::new).collect();
        let mut before = std::mem::take(&mut self.held);
        let mut fresh = Vec::new();
        for place in &watch.places {
            let Some(rules) = profiles.get(place.profile) else { continue };
            let key = place.workload.clone();
            match before.remove(&key) {
                Some(held) if same(&held.ward.place, place) && *held.ward.rules == **rules => {
                    self.held.insert(key, held);
                }
                old => fresh.push((place, Arc::clone(rules), old)),
            }
        }
        for (place, rules, old) in fresh {
            let Some(root) = root(place.pid) else {
                watched.gone += 1;
                continue;
            };
            let held = mark(groups, place, rules, root.as_fd());
            if let Some(old) = old.filter(|old| old.ward.place.pid == place.pid) {
                self.unmark(groups, root.as_fd(), &old.marks, Some(&held.marks));
            }
            self.held.insert(place.workload.clone(), held);
        }
        // Containers that are gone took their marks along; one that is only not watched any more has a root.
        for (_, gone) in before {
            if let Some(root) = root(gone.ward.place.pid) {
                self.unmark(groups, root.as_fd(), &gone.marks, None);
            }
        }
        for held in self.held.values() {
            watched.asked += u64::try_from(held.marks.asked.len()).unwrap_or(u64::MAX);
            watched.told += u64::try_from(held.marks.told.len()).unwrap_or(u64::MAX);
            watched.refused += held.refused;
        }
        (Tables::new(self.held.values().map(|held| Arc::clone(&held.ward)).collect()), watched)
    }

    /// Takes marks off that are not in `kept` and that no other place has.
    fn unmark(&self, groups: &Groups, root: BorrowedFd<'_>, marks: &Marks, kept: Option<&Marks>) {
        let shared_file = |inode: &Inode| self.held.values().any(|held| held.marks.asked.contains_key(inode));
        let shared_folder =
            |handle: &Handle| self.held.values().any(|held| held.marks.told.contains_key(handle));
        for (inode, path) in &marks.asked {
            if kept.is_some_and(|kept| kept.asked.contains_key(inode)) || shared_file(inode) {
                continue;
            }
            // Another file under this name by now has no mark; the marked one has no name and is of no use.
            if let Some(target) = resolve::open_in(root, path, OFlags::PATH)
                && let Err(error) = groups.asking.remove(Ask::Open, target.as_fd())
            {
                tracing::debug!(%error, path, "no such mark");
            }
        }
        for (handle, path) in &marks.told {
            if kept.is_some_and(|kept| kept.told.contains_key(handle)) || shared_folder(handle) {
                continue;
            }
            if let Some(telling) = &groups.telling
                && let Some(target) = resolve::open_in(root, path, OFlags::PATH)
                && let Err(error) = telling.remove(target.as_fd())
            {
                tracing::debug!(%error, path, "no such mark");
            }
        }
    }
}

/// The same container with the same root. The index of its profile says nothing.
pub(super) fn same(held: &Place, place: &Place) -> bool {
    (&held.cgroup, held.pid) == (&place.cgroup, place.pid)
}

/// The root of a process; that of process 1 for the host.
pub(super) fn root(pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()
}

fn mark(groups: &Groups, place: &Place, rules: Arc<Rules>, root: BorrowedFd<'_>) -> Held {
    let mut marker = Marker {
        groups,
        container: place.workload.is_some(),
        rule: 0,
        blocks: false,
        files: HashMap::new(),
        folders: HashMap::new(),
        marks: Marks::default(),
        refused: 0,
    };
    let mut applications: HashMap<usize, HashSet<Inode>> = HashMap::new();
    for (at, (_, rule)) in rules.rules.iter().enumerate() {
        marker.rule = at;
        // The host is never held up, so that its rules only tell.
        marker.blocks = rule.behavior == FileBehavior::BlockAccess && marker.container;
        resolve::resolve(root, rule, &mut marker);
        let executables = rule
            .applications
            .iter()
            .filter_map(|path| Inode::of(resolve::open_in(root, path, OFlags::PATH)?).ok());
        applications.entry(at).or_default().extend(executables);
    }
    let Marker { files, folders, marks, refused, .. } = marker;
    if refused > 0 {
        tracing::warn!(workload = ?place.workload, refused, "not every file of the rules is watched");
    }
    Held {
        ward: Arc::new(Ward { place: place.clone(), rules, files, applications, folders }),
        marks,
        refused,
    }
}

/// Sets marks on what the rules mean, one rule after the other: the first keeps a file.
struct Marker<'a> {
    groups: &'a Groups,
    container: bool,
    rule: usize,
    blocks: bool,
    files: HashMap<Inode, usize>,
    folders: HashMap<Handle, Vec<Folder>>,
    marks: Marks,
    refused: u64,
}

impl Marker<'_> {
    fn full(&self) -> bool {
        self.marks.asked.len() + self.marks.told.len() >= MAX_MARKS
    }

    fn ask(&mut self, target: BorrowedFd<'_>, folder: bool) -> Option<Inode> {
        let inode = Inode::of(target).ok()?;
        if self.marks.asked.contains_key(&inode) {
            return Some(inode);
        }
        if self.full() {
            self.refused += 1;
            return None;
        }
        if let Err(error) = self.groups.asking.add(Ask::Open, target, folder) {
            tracing::debug!(%error, "a file takes no mark");
            self.refused += 1;
            return None;
        }
        self.marks.asked.insert(inode, path_of(target));
        Some(inode)
    }
}

impl Found for Marker<'_> {
    fn folder(&mut self, folder: BorrowedFd<'_>, path: &str, names: Names) {
        if self.blocks {
            // For files that are made in it later.
            self.ask(folder, true);
        }
        let Some(telling) = &self.groups.telling else { return };
        if self.full() {
            self.refused += 1;
            return;
        }
        match telling.add(folder) {
            Ok(handle) => {
                self.marks.told.entry(handle.clone()).or_insert_with(|| path_of(folder));
                let under = Folder { path: path.to_owned(), rule: self.rule, inside: names != Names::Some };
                let rules = self.folders.entry(handle).or_default();
                if !rules.contains(&under) {
                    rules.push(under);
                }
            }
            Err(error) => {
                tracing::debug!(%error, path, "a folder takes no mark");
                self.refused += 1;
            }
        }
    }

    fn file(&mut self, file: BorrowedFd<'_>, _whole: bool) {
        if self.blocks
            && let Some(inode) = self.ask(file, false)
        {
            self.files.entry(inode).or_insert(self.rule);
        }
    }

    /// Mounts are not told.
    fn above(&mut self, _folder: BorrowedFd<'_>) {}

    fn too_much(&mut self) {
        self.refused += 1;
    }
}

fn path_of(target: BorrowedFd<'_>) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd()))
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default()
}
