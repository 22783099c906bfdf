//! Which files are kept: what the rules mean now, as far as it has its mark or row.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nv_model::file::FileBehavior;
use nv_model::question::{MAX_WATCHED, MAX_WATCHED_NAMES, WatchedFile};

use super::resolve::{self, Found, Names};
use super::{Place, Rules};

/// What is told of a file's names and content, in the bits of fanotify(7): `FAN_MODIFY`, `FAN_ATTRIB`, `FAN_MOVED_FROM`,
/// `FAN_MOVED_TO`, `FAN_CREATE`, `FAN_DELETE`.
const TOLD: u64 = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200;
/// What waits for an answer: `FAN_OPEN_PERM`.
const ASKED: u64 = 0x1_0000;
/// Most names of all folders.
const MAX_NAMES: usize = 8192;

/// What a place's mark or row is looked for by.
pub(super) trait Kept {
    /// Whether a file has one.
    fn has_file(&self, file: BorrowedFd<'_>) -> bool;
    /// Whether a folder has one.
    fn has_folder(&self, folder: BorrowedFd<'_>) -> bool;
}

/// Takes what is kept, place after place.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) files: Vec<WatchedFile>,
    names: usize,
}

struct Taker<'a, K> {
    listing: &'a mut Listing,
    kept: &'a K,
    place: &'a Place,
    blocks: bool,
    /// The folder whose names are given one by one.
    folder: Option<usize>,
}

impl Listing {
    /// What of a place is kept. One whose root is gone has nothing.
    pub(super) fn of<K: Kept>(place: &Place, rules: &Rules, kept: &K) -> Self {
        let mut listing = Self::default();
        let Some(root) = super::place::root(place.pid) else { return listing };
        for (_, rule) in &rules.rules {
            let blocks = rule.behavior == FileBehavior::BlockAccess && place.workload.is_some();
            let mut taker = Taker { listing: &mut listing, kept, place, blocks, folder: None };
            resolve::resolve(std::os::fd::AsFd::as_fd(&root), rule, &mut taker);
        }
        listing
    }

    /// Adds a place, `None` where a file system in it does not answer, until there are enough files and names.
    pub(super) fn extend(&mut self, place: Option<Self>) {
        for mut file in place.into_iter().flat_map(|place| place.files) {
            if self.files.len() >= MAX_WATCHED {
                return;
            }
            file.names.truncate(MAX_NAMES.saturating_sub(self.names));
            self.names = self.names.saturating_add(file.names.len());
            self.files.push(file);
        }
    }
}

impl<K> Taker<'_, K> {
    /// Adds a line, unless there are enough or it is there.
    fn push(&mut self, path: String, is_dir: bool) -> Option<usize> {
        let files = &mut self.listing.files;
        let same = |known: &WatchedFile| {
            known.path == path && known.workload == self.place.workload && known.protect == self.blocks
        };
        if let Some(at) = files.iter().rposition(same) {
            return Some(at);
        }
        if files.len() >= MAX_WATCHED {
            return None;
        }
        files.push(WatchedFile {
            workload: self.place.workload.clone(),
            path,
            mask: if self.blocks { TOLD | ASKED } else { TOLD },
            is_dir,
            protect: self.blocks,
            names: Vec::new(),
        });
        files.len().checked_sub(1)
    }
}

impl<K: Kept> Found for Taker<'_, K> {
    fn folder(&mut self, folder: BorrowedFd<'_>, path: &str, names: Names) {
        self.folder = None;
        // Where some names alone are meant, files are kept, and of the folder its names are heard.
        if names == Names::Some || self.kept.has_folder(folder) {
            let at = self.push(path.to_owned(), true);
            self.folder = at.filter(|_| names == Names::Some);
        }
    }

    fn file(&mut self, file: BorrowedFd<'_>, whole: bool) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let Ok(path) = link.map(|path| path.to_string_lossy().into_owned()) else { return };
        if let Some(folder) = self.folder.filter(|_| !whole)
            && self.listing.names < MAX_NAMES
            && let Some(listed) = self.listing.files.get_mut(folder)
            && listed.names.len() < MAX_WATCHED_NAMES
        {
            let name = path.rsplit('/').next().unwrap_or_default();
            if !listed.names.iter().any(|known| known == name) {
                listed.names.push(name.to_owned());
                self.listing.names = self.listing.names.saturating_add(1);
            }
        }
        if self.kept.has_file(file) {
            self.push(path, false);
        }
    }

    fn way(&mut self, _folder: BorrowedFd<'_>, _part: &str) {}

    fn above(&mut self, _folder: BorrowedFd<'_>) {}

    fn too_much(&mut self) {}
}
