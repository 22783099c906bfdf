//! From rules to rows of the kernel's tables, where BPF refuses: it is the same walk as for marks.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nv_model::file::FileBehavior;
use nv_model::name::WorkloadId;
use nv_probe::file::{FileRow, KernelInode, Mounts, Rows, Tables, scope};
use rustix::fs::OFlags;

use super::apart::Apart;
use super::listing::{Kept, Listing};
use super::names::{Heard, Key};
use super::place::{MAX_MARKS, lives, root, same};
use super::resolve::{self, Found, Names};
use super::{Place, Rules, Watch, Watched};

/// The tables, and what was put there for each place.
pub(crate) struct RowGuard {
    tables: Tables,
    heard: Arc<Heard>,
    apart: Apart,
    held: HashMap<Key, Held>,
    /// The order of the places, in which they are given rows.
    order: Vec<Key>,
}

struct Held {
    place: Place,
    rules: Arc<Rules>,
    found: Rowed,
}

/// Rows of one place, by the number of the rule.
struct Rowed {
    files: Vec<(KernelInode, FileRow)>,
    applications: Vec<(u32, KernelInode)>,
    refused: u64,
}

/// Takes the rows of one place.
struct PlaceRows<'a> {
    heard: &'a Heard,
    place: &'a Key,
    mounts: Mounts,
    /// The filter's last part.
    part: &'a str,
    rule: u32,
    blocks: bool,
    recursive: bool,
    files: Vec<(KernelInode, FileRow)>,
    applications: Vec<(u32, KernelInode)>,
    refused: u64,
}

impl RowGuard {
    pub(super) fn new(descriptors: Vec<(String, OwnedFd)>, heard: Arc<Heard>) -> Result<Self, String> {
        let tables = Tables::from_descriptors(descriptors).map_err(|error| nv_telemetry::chain(&error))?;
        Ok(Self { tables, heard, apart: Apart::default(), held: HashMap::new(), order: Vec::new() })
    }

    /// Looks up what is new, and makes the tables say just what is wanted.
    pub(super) fn watch(&mut self, watch: &Watch) -> Result<Watched, String> {
        let mut gone = 0;
        let profiles: Vec<Arc<Rules>> = watch.profiles.iter().cloned().map(Arc::new).collect();
        let mut before = std::mem::take(&mut self.held);
        self.order.clear();
        for place in &watch.places {
            let Some(rules) = profiles.get(place.profile) else { continue };
            let held = match before.remove(&place.workload) {
                Some(held) if same(&held.place, place) && *held.rules == **rules => held,
                _ => match self.look_up(place, rules, None) {
                    Some(found) => Held { place: place.clone(), rules: Arc::clone(rules), found },
                    None => {
                        gone += 1;
                        continue;
                    }
                },
            };
            self.held.insert(place.workload.clone(), held);
            self.order.push(place.workload.clone());
        }
        for key in before.keys() {
            self.heard.forget(key);
        }
        Ok(Watched { gone, ..self.write()? })
    }

    /// Looks up what has the names of the rules by now in these places. Applications stay what they were.
    pub(super) fn renew(&mut self, places: &HashSet<Key>) -> Result<(), String> {
        for key in places {
            let Some(held) = self.held.get(key).filter(|held| lives(&held.place)) else { continue };
            let found = self.look_up(&held.place, &held.rules, Some(held.found.applications.clone()));
            if let (Some(held), Some(found)) = (self.held.get_mut(key), found) {
                held.found = found;
            }
        }
        self.write().map(drop)
    }

    /// What has rows, of a workload or of every place.
    pub(super) fn list(&self, workload: Option<&WorkloadId>, listing: &mut Listing) {
        for key in self.order.iter().filter(|key| workload.is_none() || key.as_ref() == workload) {
            let Some(held) = self.held.get(key) else { continue };
            let inodes = held.found.files.iter().map(|(inode, _)| *inode).collect();
            let (place, rules) = (held.place.clone(), Arc::clone(&held.rules));
            let look = move || {
                let mounts = Mounts::of(place.pid).ok()?;
                Some(Listing::of(&place, &rules, &HeldRows { mounts, inodes }))
            };
            listing.extend(self.apart.look(key, look).flatten());
        }
    }

    /// `None` when the place's root is gone.
    fn look_up(
        &self,
        place: &Place,
        rules: &Arc<Rules>,
        known: Option<Vec<(u32, KernelInode)>>,
    ) -> Option<Rowed> {
        let (heard, at, by) = (Arc::clone(&self.heard), place.clone(), Arc::clone(rules));
        let applications = known.clone();
        self.apart.look(&place.workload, move || look_up(&heard, &at, &by, applications)).unwrap_or_else(|| {
            tracing::error!(workload = ?place.workload, "its files are not kept: a file system in it does not answer");
            Some(Rowed { files: Vec::new(), applications: known.unwrap_or_default(), refused: 1 })
        })
    }

    fn write(&mut self) -> Result<Watched, String> {
        self.heard.sweep();
        let mut watched = Watched::default();
        let mut rows = Rows::default();
        for held in self.order.iter().filter_map(|key| self.held.get(key)) {
            let number = held.rules.number;
            watched.refused += held.found.refused;
            for (inode, row) in &held.found.files {
                rows.add(number, *inode, *row);
            }
            let applications = held.found.applications.iter();
            rows.applications.extend(applications.map(|(rule, inode)| (number, *rule, *inode)));
        }
        watched.asked = u64::try_from(rows.files.len()).unwrap_or(u64::MAX);
        let replaced = self.tables.replace(&rows).map_err(|error| nv_telemetry::chain(&error))?;
        watched.refused += u64::try_from(replaced.refused).unwrap_or(u64::MAX);
        Ok(watched)
    }
}

/// Inodes of a place that have rows.
struct HeldRows {
    mounts: Mounts,
    inodes: HashSet<KernelInode>,
}

impl Kept for HeldRows {
    fn has_file(&self, file: BorrowedFd<'_>) -> bool {
        self.mounts.inode(file).is_ok_and(|inode| self.inodes.contains(&inode))
    }
    fn has_folder(&self, folder: BorrowedFd<'_>) -> bool {
        self.has_file(folder)
    }
}

/// `None` when the place's root is gone. `known` are the applications of a place that was looked up before with the same
/// rules.
fn look_up(
    heard: &Heard,
    place: &Place,
    rules: &Rules,
    known: Option<Vec<(u32, KernelInode)>>,
) -> Option<Rowed> {
    let (root, mounts) = (root(place.pid)?, Mounts::of(place.pid).ok()?);
    heard.forget(&place.workload);
    let mut found = PlaceRows {
        heard,
        place: &place.workload,
        mounts,
        part: "",
        rule: 0,
        blocks: false,
        recursive: false,
        files: Vec::new(),
        applications: Vec::new(),
        refused: 0,
    };
    for (number, (_, rule)) in (0_u32..).zip(&rules.rules) {
        found.rule = number;
        found.recursive = rule.recursive;
        found.part = rule.filter.as_str().rsplit('/').next().unwrap_or_default();
        // The host is never held up, so that its rules only tell.
        found.blocks = rule.behavior == FileBehavior::BlockAccess && place.workload.is_some();
        resolve::resolve(root.as_fd(), rule, &mut found);
        if known.is_some() {
            continue;
        }
        for path in &rule.applications {
            let opened = resolve::open_in(root.as_fd(), path, OFlags::PATH);
            if let Some(inode) = opened.and_then(|opened| found.mounts.inode(opened.as_fd()).ok()) {
                found.applications.push((number, inode));
            }
        }
    }
    let applications = known.unwrap_or(found.applications);
    Some(Rowed { files: found.files, applications, refused: found.refused })
}

impl PlaceRows<'_> {
    fn hear(&mut self, folder: BorrowedFd<'_>, part: &str) {
        if let Err(error) = self.heard.add(self.place, folder, part, false) {
            tracing::debug!(%error, "names in a folder are not heard of");
            self.refused += 1;
        }
    }

    fn row(&mut self, file: BorrowedFd<'_>, scope: u8) {
        if self.files.len() >= MAX_MARKS {
            self.refused += 1;
            return;
        }
        match self.mounts.inode(file) {
            Ok(inode) => self.files.push((inode, FileRow { rule: self.rule, blocks: self.blocks, scope })),
            Err(error) => {
                tracing::debug!(%error, "a file has no row");
                self.refused += 1;
            }
        }
    }
}

impl Found for PlaceRows<'_> {
    fn folder(&mut self, folder: BorrowedFd<'_>, _path: &str, names: Names) {
        // What is made in a folder that is meant as a whole has the folder's row, at once.
        if names == Names::Some {
            self.hear(folder, self.part);
        } else if self.blocks {
            self.hear(folder, "*");
        }
        match names {
            Names::Some => {}
            Names::All if !self.recursive => self.row(folder, scope::IN),
            Names::All | Names::Below => self.row(folder, scope::IN | scope::BELOW),
        }
    }

    fn file(&mut self, file: BorrowedFd<'_>, whole: bool) {
        // Under a rule that only tells, the folder's row is enough; one that blocks holds by every name of the file.
        if self.blocks || !whole {
            self.row(file, scope::ITSELF);
        }
    }

    fn way(&mut self, folder: BorrowedFd<'_>, part: &str) {
        self.hear(folder, part);
    }

    fn above(&mut self, folder: BorrowedFd<'_>) {
        if self.blocks {
            self.row(folder, scope::ABOVE);
        }
    }

    fn too_much(&mut self) {
        self.refused += 1;
    }
}
