//! From rules to marks: what is new is resolved and marked, what went is unmarked, what stayed is left alone.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nv_model::file::FileBehavior;
use nv_model::name::WorkloadId;
use nv_probe::fanotify::{Ask, Handle, Inode, handle_of};
use rustix::fs::{Mode, OFlags};

use super::super::mounts::{Mounts, host};
use super::apart::Apart;
use super::listing::{Kept, Listing};
use super::names::{Heard, Key};
use super::resolve::{self, Found, Names};
use super::tables::{Folder, Tables, Ward};
use super::{Groups, Place, Rules, Watch, Watched, who};

/// Most marks of one place. A mark is some hundred bytes in the kernel.
pub(super) const MAX_MARKS: usize = 32_768;

/// Marks of a place, each with the path below its root by which it is found again.
#[derive(Clone, Debug, Default)]
struct Marks {
    asked: HashMap<Inode, String>,
    told: HashMap<Handle, String>,
}

impl Kept for Marks {
    fn has_file(&self, file: BorrowedFd<'_>) -> bool {
        Inode::of(file).is_ok_and(|inode| self.asked.contains_key(&inode))
    }
    fn has_folder(&self, folder: BorrowedFd<'_>) -> bool {
        self.has_file(folder) || handle_of(folder).is_ok_and(|handle| self.told.contains_key(&handle))
    }
}

struct Held {
    ward: Arc<Ward>,
    marks: Arc<Marks>,
    refused: u64,
}

/// What is watched now.
pub(super) struct Placed {
    heard: Arc<Heard>,
    apart: Apart,
    held: HashMap<Key, Held>,
}

impl Placed {
    pub(super) fn new(heard: Arc<Heard>) -> Self {
        Self { heard, apart: Apart::default(), held: HashMap::new() }
    }

    /// Brings marks to what `watch` says. A place whose root is gone is left out, and its marks went with it.
    pub(super) fn place(&mut self, groups: &Arc<Groups>, watch: &Watch) -> (Tables, Watched) {
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
            let old = old.filter(|old| old.ward.place.pid == place.pid);
            let held = self.mark(groups, place, rules, root, None, old.map(|old| old.marks));
            self.held.insert(place.workload.clone(), held);
        }
        // Containers that are gone took their marks along; one that is only not watched any more has a root.
        for (key, gone) in before {
            self.heard.forget(&key);
            if let Some(root) = root(gone.ward.place.pid) {
                let (groups, useless) = (Arc::clone(groups), self.useless(gone.marks));
                self.apart.look(&key, move || unmark(&groups, root.as_fd(), &useless, None));
            }
        }
        self.heard.sweep();
        for held in self.held.values() {
            watched.asked += u64::try_from(held.marks.asked.len()).unwrap_or(u64::MAX);
            watched.told += u64::try_from(held.marks.told.len()).unwrap_or(u64::MAX);
            watched.refused += held.refused;
        }
        (self.tables(), watched)
    }

    /// Marks what has the names of the rules by now in these places. Applications stay what they were.
    pub(super) fn renew(&mut self, groups: &Arc<Groups>, places: &HashSet<Key>) -> Tables {
        for key in places {
            let Some(old) = self.held.remove(key) else { continue };
            let (place, rules) = (&old.ward.place, Arc::clone(&old.ward.rules));
            let held = match root(place.pid).filter(|_| lives(place)) {
                Some(root) => {
                    let applications = Some(old.ward.applications.clone());
                    self.mark(groups, place, rules, root, applications, Some(old.marks))
                }
                // Its end is on the way.
                None => old,
            };
            self.held.insert(key.clone(), held);
        }
        self.heard.sweep();
        self.tables()
    }

    /// What is marked, of a workload or of every place.
    pub(super) fn list(&self, workload: Option<&WorkloadId>, listing: &mut Listing) {
        let mut places: Vec<_> =
            self.held.iter().filter(|(key, _)| workload.is_none() || key.as_ref() == workload).collect();
        places.sort_by_key(|(key, _)| *key);
        for (key, held) in places {
            let (ward, marks) = (Arc::clone(&held.ward), Arc::clone(&held.marks));
            listing.extend(self.apart.look(key, move || Listing::of(&ward.place, &ward.rules, &*marks)));
        }
    }

    fn tables(&self) -> Tables {
        Tables::new(self.held.values().map(|held| Arc::clone(&held.ward)).collect())
    }

    /// Marks what the rules of a place mean, and takes off what was marked before and is not any more.
    fn mark(
        &self,
        groups: &Arc<Groups>,
        place: &Place,
        rules: Arc<Rules>,
        root: OwnedFd,
        known: Option<HashMap<usize, HashSet<Inode>>>,
        old: Option<Arc<Marks>>,
    ) -> Held {
        let useless = old.map(|old| self.useless(old));
        let (groups, heard) = (Arc::clone(groups), Arc::clone(&self.heard));
        let (at, by, applications) = (place.clone(), Arc::clone(&rules), known.clone());
        let look = move || {
            let held = mark(&groups, &heard, &at, by, root.as_fd(), applications);
            if let Some(useless) = useless {
                unmark(&groups, root.as_fd(), &useless, Some(&held.marks));
            }
            held
        };
        self.apart.look(&place.workload, look).unwrap_or_else(|| {
            tracing::error!(workload = ?place.workload, "its files are not kept: a file system in it does not answer");
            Held {
                ward: Arc::new(Ward {
                    place: place.clone(),
                    rules,
                    files: HashMap::new(),
                    applications: known.unwrap_or_default(),
                    folders: HashMap::new(),
                }),
                marks: Arc::default(),
                refused: 1,
            }
        })
    }

    /// Those that no other place has.
    fn useless(&self, marks: Arc<Marks>) -> Marks {
        let mut marks = Arc::unwrap_or_clone(marks);
        let held = || self.held.values().map(|held| &*held.marks);
        marks.asked.retain(|inode, _| !held().any(|marks| marks.asked.contains_key(inode)));
        marks.told.retain(|handle, _| !held().any(|marks| marks.told.contains_key(handle)));
        marks
    }
}

/// Takes marks off that are not in `kept`.
fn unmark(groups: &Groups, root: BorrowedFd<'_>, marks: &Marks, kept: Option<&Marks>) {
    for (inode, path) in &marks.asked {
        if kept.is_some_and(|kept| kept.asked.contains_key(inode)) {
            continue;
        }
        // Another file may have this name by now, and a mark of its own; the one that is meant is of no use then.
        if let Some(target) = resolve::open_in(root, path, OFlags::PATH)
            && Inode::of(&target).is_ok_and(|now| now == *inode)
            && let Err(error) = groups.asking.remove(Ask::Open, target.as_fd())
        {
            tracing::debug!(%error, path, "no such mark");
        }
    }
    for (handle, path) in &marks.told {
        if kept.is_some_and(|kept| kept.told.contains_key(handle)) {
            continue;
        }
        if let Some(telling) = &groups.telling
            && let Some(target) = resolve::open_in(root, path, OFlags::PATH)
            && handle_of(target.as_fd()).is_ok_and(|now| now == *handle)
            && let Err(error) = telling.remove(target.as_fd())
        {
            tracing::debug!(%error, path, "no such mark");
        }
    }
}

/// The same container with the same root. The index of its profile says nothing.
pub(super) fn same(held: &Place, place: &Place) -> bool {
    (&held.cgroup, held.pid) == (&place.cgroup, place.pid)
}

/// Whether the place's process is still the one that it was, as far as its cgroup says it.
pub(super) fn lives(place: &Place) -> bool {
    place.workload.is_none()
        || who::cgroup(place.pid).is_some_and(|cgroup| {
            cgroup.strip_prefix(&place.cgroup).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// The root of a process; that of process 1 for the host.
pub(super) fn root(pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()
}

/// Marks what the rules mean. `known` are the applications of a place that was marked before with the same rules.
fn mark(
    groups: &Groups,
    heard: &Heard,
    place: &Place,
    rules: Arc<Rules>,
    root: BorrowedFd<'_>,
    known: Option<HashMap<usize, HashSet<Inode>>>,
) -> Held {
    heard.forget(&place.workload);
    let mut marker = Marker {
        mounts: Served::of(place.pid),
        groups,
        heard,
        place: &place.workload,
        part: "",
        recursive: false,
        container: place.workload.is_some(),
        rule: 0,
        blocks: false,
        files: HashMap::new(),
        folders: HashMap::new(),
        marks: Marks::default(),
        refused: 0,
    };
    let look_up = known.is_none();
    let mut applications = known.unwrap_or_default();
    for (at, (_, rule)) in rules.rules.iter().enumerate() {
        marker.rule = at;
        // The host is never held up, so that its rules only tell.
        marker.blocks = rule.behavior == FileBehavior::BlockAccess && marker.container;
        marker.recursive = rule.recursive;
        marker.part = rule.filter.as_str().rsplit('/').next().unwrap_or_default();
        resolve::resolve(root, rule, &mut marker);
        if !look_up {
            continue;
        }
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
        marks: Arc::new(marks),
        refused,
    }
}

/// Mounts of a container, and the devices that the host has mounted. What the container serves itself is not asked about:
/// the kernel opens a file for whoever reads a question about it, and may have to wait for the container for that.
struct Served {
    pid: u32,
    mounts: Mounts,
    hosts: HashSet<u32>,
}

impl Served {
    fn of(pid: u32) -> Self {
        let (hosts, mounts) = (Mounts::of(host()).unwrap_or_default(), Mounts::of(pid).unwrap_or_default());
        // A runtime may mount a container's root where the host does not see it.
        let root = mounts.all().filter(|mount| mount.point == "/" && mount.kind == "overlay");
        let hosts = hosts.all().chain(root).map(|mount| mount.device).collect();
        Self { pid, mounts, hosts }
    }
    fn serve(&mut self, target: BorrowedFd<'_>) -> bool {
        if self.mounts.on(target).is_none() {
            // It was mounted since.
            self.mounts = Mounts::of(self.pid).unwrap_or_default();
        }
        self.mounts.is_served(target, &self.hosts)
    }
}

/// Sets marks on what the rules mean, one rule after the other: the first keeps a file.
struct Marker<'a> {
    mounts: Served,
    groups: &'a Groups,
    heard: &'a Heard,
    place: &'a Key,
    /// The filter's last part.
    part: &'a str,
    recursive: bool,
    container: bool,
    rule: usize,
    blocks: bool,
    files: HashMap<Inode, usize>,
    folders: HashMap<Handle, Vec<Folder>>,
    marks: Marks,
    refused: u64,
}

impl Marker<'_> {
    fn hear(&mut self, folder: BorrowedFd<'_>, part: &str, folders: bool) {
        if let Err(error) = self.heard.add(self.place, folder, part, folders) {
            tracing::debug!(%error, "names in a folder are not heard of");
            self.refused += 1;
        }
    }

    fn full(&self) -> bool {
        self.marks.asked.len() + self.marks.told.len() >= MAX_MARKS
    }

    fn ask(&mut self, target: BorrowedFd<'_>, folder: bool) -> Option<Inode> {
        let inode = Inode::of(target).ok()?;
        if self.container && self.mounts.serve(target) {
            self.refused += 1;
            return None;
        }
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
        // Of files that are only watched the folder itself tells.
        if self.blocks || self.recursive {
            let part = if names == Names::Some { self.part } else { "*" };
            self.hear(folder, part, !self.blocks);
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

    fn way(&mut self, folder: BorrowedFd<'_>, part: &str) {
        self.hear(folder, part, false);
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
