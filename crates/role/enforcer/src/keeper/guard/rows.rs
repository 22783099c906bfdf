//! From rules to rows of the kernel's tables, where BPF refuses: it is the same walk as for marks.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nv_model::file::FileBehavior;
use nv_model::name::WorkloadId;
use nv_probe::file::{FileRow, KernelInode, Mounts, Rows, Tables, scope};
use rustix::fs::OFlags;

use super::place::{MAX_MARKS, root, same};
use super::resolve::{self, Found, Names};
use super::{Place, Rules, Watch, Watched};

/// The tables, and what was put there for each place.
pub(crate) struct RowGuard {
    tables: Tables,
    held: HashMap<Option<WorkloadId>, Held>,
}

struct Held {
    place: Place,
    rules: Arc<Rules>,
    found: PlaceRows,
}

/// Rows of one place.
struct PlaceRows {
    mounts: Mounts,
    rule: u32,
    blocks: bool,
    recursive: bool,
    files: Vec<(KernelInode, FileRow)>,
    applications: Vec<(u32, KernelInode)>,
    refused: u64,
}

impl RowGuard {
    pub(super) fn new(descriptors: Vec<(String, OwnedFd)>) -> Result<Self, String> {
        let tables = Tables::from_descriptors(descriptors).map_err(|error| nv_telemetry::chain(&error))?;
        Ok(Self { tables, held: HashMap::new() })
    }

    /// Looks up what is new, and makes the tables say just what is wanted.
    pub(super) fn watch(&mut self, watch: &Watch) -> Result<Watched, String> {
        let mut watched = Watched::default();
        let profiles: Vec<Arc<Rules>> = watch.profiles.iter().cloned().map(Arc::new).collect();
        let mut before = std::mem::take(&mut self.held);
        let mut rows = Rows::default();
        for place in &watch.places {
            let Some(rules) = profiles.get(place.profile) else { continue };
            let held = match before.remove(&place.workload) {
                Some(held) if same(&held.place, place) && *held.rules == **rules => held,
                _ => match look_up(place, rules) {
                    Some(found) => Held { place: place.clone(), rules: Arc::clone(rules), found },
                    None => {
                        watched.gone += 1;
                        continue;
                    }
                },
            };
            watched.refused += held.found.refused;
            for (inode, row) in &held.found.files {
                rows.add(rules.number, *inode, *row);
            }
            let applications = held.found.applications.iter();
            rows.applications.extend(applications.map(|(rule, inode)| (rules.number, *rule, *inode)));
            self.held.insert(place.workload.clone(), held);
        }
        watched.asked = u64::try_from(rows.files.len()).unwrap_or(u64::MAX);
        let replaced = self.tables.replace(&rows).map_err(|error| nv_telemetry::chain(&error))?;
        watched.refused += u64::try_from(replaced.refused).unwrap_or(u64::MAX);
        Ok(watched)
    }
}

/// `None` when the place's root is gone.
fn look_up(place: &Place, rules: &Rules) -> Option<PlaceRows> {
    let (root, mounts) = (root(place.pid)?, Mounts::of(place.pid).ok()?);
    let mut found = PlaceRows {
        mounts,
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
        // The host is never held up, so that its rules only tell.
        found.blocks = rule.behavior == FileBehavior::BlockAccess && place.workload.is_some();
        resolve::resolve(root.as_fd(), rule, &mut found);
        for path in &rule.applications {
            let opened = resolve::open_in(root.as_fd(), path, OFlags::PATH);
            if let Some(inode) = opened.and_then(|opened| found.mounts.inode(opened.as_fd()).ok()) {
                found.applications.push((number, inode));
            }
        }
    }
    Some(found)
}

impl PlaceRows {
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

impl Found for PlaceRows {
    fn folder(&mut self, folder: BorrowedFd<'_>, _path: &str, names: Names) {
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

    fn above(&mut self, folder: BorrowedFd<'_>) {
        if self.blocks {
            self.row(folder, scope::ABOVE);
        }
    }

    fn too_much(&mut self) {
        self.refused += 1;
    }
}
