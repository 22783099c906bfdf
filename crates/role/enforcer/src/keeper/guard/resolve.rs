//! From a filter to the files and folders that it means in a container, now.
//!
//! Everything is looked up below the container's root (`openat2` with `RESOLVE_IN_ROOT`), so that its symbolic links lead
//! to no file of the host. Only `O_PATH` descriptors are made of files, which asks nobody; folders are opened to be read.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nv_model::file::FileRule;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};

/// Most entries of folders that one rule looks at.
const MAX_ENTRIES: usize = 65_536;
/// Deepest folder below a recursive rule's.
const MAX_DEPTH: usize = 32;

/// What of a folder is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Those that match the filter's last part.
    Some,
    /// All in it.
    All,
    /// All in it, and below.
    Below,
}

/// What a filter means.
pub(super) trait Found {
    /// A folder in which names matter.
    fn folder(&mut self, folder: BorrowedFd<'_>, path: &str, names: Names);
    /// A file that is meant; `whole` when all of its folder is.
    fn file(&mut self, file: BorrowedFd<'_>, whole: bool);
    /// A folder on the way to what is meant, and the name in it that leads on. Called before it is looked up.
    fn way(&mut self, folder: BorrowedFd<'_>, part: &str);
    /// A folder above what is meant, below the root.
    fn above(&mut self, folder: BorrowedFd<'_>);
    /// Something was not looked at, because it was too much or too deep.
    fn too_much(&mut self);
}

/// Opens `path` below the container's root. Symbolic links are followed there.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Option<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
}

/// Walks what `rule` means below `root`, a container's root.
pub(super) fn resolve(root: BorrowedFd<'_>, rule: &FileRule, found: &mut impl Found) {
    let mut walk = Walk { root, rule, found, entries: 0 };
    let parts: Vec<&str> = rule.filter.as_str().split('/').skip(1).collect();
    walk.descend("", &parts);
}

struct Walk<'a, F> {
    root: BorrowedFd<'a>,
    rule: &'a FileRule,
    found: &'a mut F,
    entries: usize,
}

impl<F: Found> Walk<'_, F> {
    /// `folder` is the path so far, empty for the root; `parts` is what is left of the filter.
    fn descend(&mut self, folder: &str, parts: &[&str]) {
        let Some((part, rest)) = parts.split_first() else { return };
        if rest.is_empty() {
            return self.last(folder, part);
        }
        let path = if folder.is_empty() { "/" } else { folder };
        let Some(opened) = open_in(self.root, path, OFlags::PATH | OFlags::DIRECTORY) else { return };
        self.found.way(opened.as_fd(), part);
        drop(opened);
        if !part.contains('*') {
            return self.descend(&format!("{folder}/{part}"), rest);
        }
        for (name, kind) in self.list(folder) {
            if matches!(kind, FileType::Directory | FileType::Symlink) && self.names(part, &name) {
                self.descend(&format!("{folder}/{name}"), rest);
            }
        }
    }

    /// The filter's last part: the folder is heard of, and what matches in it is meant.
    fn last(&mut self, folder: &str, part: &str) {
        let path = if folder.is_empty() { "/" } else { folder };
        let Some(opened) = open_in(self.root, path, OFlags::PATH | OFlags::DIRECTORY) else { return };
        let seen = canonical(&opened).unwrap_or_else(|| path.to_owned());
        let whole = part == "*";
        self.found.folder(opened.as_fd(), &seen, if whole { Names::All } else { Names::Some });
        for (at, _) in folder.match_indices('/').skip(1).chain([(folder.len(), "")]) {
            if let Some(above) = folder.get(..at).filter(|above| !above.is_empty())
                && let Some(opened) = open_in(self.root, above, OFlags::PATH | OFlags::DIRECTORY)
            {
                self.found.above(opened.as_fd());
            }
        }
        let names: Vec<(String, FileType)> = if part.contains('*') {
            self.list(folder).into_iter().filter(|(name, _)| self.names(part, name)).collect()
        } else {
            vec![(part.to_owned(), FileType::Unknown)]
        };
        for (name, kind) in names {
            self.meant(&format!("{folder}/{name}"), kind, whole, 0);
        }
    }

    /// A path that is meant: a file, or with a recursive rule a folder and all below it.
    fn meant(&mut self, path: &str, kind: FileType, whole: bool, depth: usize) {
        let Some(opened) = open_in(self.root, path, OFlags::PATH) else { return };
        let folder = match kind {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => rustix::fs::fstat(&opened)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        };
        if !folder {
            return self.found.file(opened.as_fd(), whole);
        }
        if !self.rule.recursive {
            return;
        }
        if depth >= MAX_DEPTH {
            return self.found.too_much();
        }
        let seen = canonical(&opened).unwrap_or_else(|| path.to_owned());
        self.found.folder(opened.as_fd(), &seen, Names::Below);
        drop(opened);
        for (name, kind) in self.list(path) {
            // Links are not followed below: what they lead to is meant only under its own path.
            if kind != FileType::Symlink {
                self.meant(&format!("{path}/{name}"), kind, true, depth + 1);
            }
        }
    }

    fn names(&self, part: &str, name: &str) -> bool {
        nv_model::file::matches_component(part, name)
    }

    fn list(&mut self, folder: &str) -> Vec<(String, FileType)> {
        let path = if folder.is_empty() { "/" } else { folder };
        let Some(opened) = open_in(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)
        else {
            return Vec::new();
        };
        let Ok(entries) = Dir::new(opened) else { return Vec::new() };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.found.too_much();
                break;
            }
            names.push((OsStr::from_bytes(name).to_string_lossy().into_owned(), entry.file_type()));
        }
        names
    }
}

/// The path of an open file as its container sees it.
fn canonical(opened: &OwnedFd) -> Option<String> {
    use std::os::fd::AsRawFd as _;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()?;
    Some(link.to_string_lossy().into_owned())
}
