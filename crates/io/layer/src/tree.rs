//! A folder and everything below it, by descriptors: no link is followed, so nothing outside is ever opened, whatever
//! changes in the folder meanwhile.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::content::{FolderFile, ReadFile};

/// Deepest folder; deeper ones are faults.
const MAX_DEPTH: usize = 200;
/// Most entries of a tree.
const MAX_ENTRIES: usize = 20_000_000;

/// Why a part of a tree could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be read", path.display())]
pub struct TreeError {
    /// Its path below the root.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// What the visitor says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Go on; into the folder, if it is one.
    On,
    /// Do not go into this folder.
    Skip,
}

/// One regular file or folder.
pub struct Entry<'a> {
    /// Its path below the root, without a slash at the beginning.
    pub path: &'a Path,
    /// Whether it is a folder.
    pub is_folder: bool,
    folder: BorrowedFd<'a>,
    name: &'a CStr,
}

impl Entry<'_> {
    /// Its size in bytes and its mode bits.
    ///
    /// # Errors
    /// When it is gone.
    pub fn stat(&self) -> Result<(u64, u32), TreeError> {
        let stat =
            statat(self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.error(e.into()))?;
        Ok((u64::try_from(stat.st_size).unwrap_or(0), stat.st_mode))
    }

    /// The device that it is on: another one than the root's is where something is mounted.
    ///
    /// # Errors
    /// When it is gone.
    pub fn device(&self) -> Result<u64, TreeError> {
        statat(self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| stat.st_dev)
            .map_err(|e| self.error(e.into()))
    }

    /// Opens the file to read it. Neither links nor pipes are opened.
    ///
    /// # Errors
    /// When it is gone, is no regular file any more, or may not be read.
    pub fn open(&self) -> Result<File, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = openat(self.folder, self.name, flags, Mode::empty()).map_err(|e| self.error(e.into()))?;
        let stat = rustix::fs::fstat(&file).map_err(|e| self.error(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error(std::io::Error::other("it is no regular file any more")));
        }
        Ok(File::from(file))
    }

    /// Its content, opened when it is first read.
    pub fn content(&self) -> impl ReadFile {
        FolderFile::new(|| self.open().map_err(|error| error.source))
    }

    /// Its content, if it is not larger than `cap` bytes.
    ///
    /// # Errors
    /// As [`Entry::open`], and when it is larger.
    pub fn read(&self, cap: u64) -> Result<Vec<u8>, TreeError> {
        self.content().whole(cap).map_err(|e| self.error(e))
    }

    /// Opens another regular file of the same folder.
    ///
    /// # Errors
    /// As [`Entry::open`].
    pub fn open_beside(&self, name: &CStr) -> Result<File, TreeError> {
        Entry { path: self.path, is_folder: false, folder: self.folder, name }.open()
    }

    /// The content of another regular file of the same folder, if it is not larger than `cap` bytes.
    ///
    /// # Errors
    /// As [`Entry::read`].
    pub fn beside(&self, name: &CStr, cap: u64) -> Result<Vec<u8>, TreeError> {
        Entry { path: self.path, is_folder: false, folder: self.folder, name }.read(cap)
    }

    fn error(&self, source: std::io::Error) -> TreeError {
        TreeError { path: self.path.to_owned(), source }
    }
}

struct Folder {
    descriptor: OwnedFd,
    entries: Dir,
    path: PathBuf,
}

/// Visits every regular file and folder below `root`, and hands on what could not be read.
///
/// # Errors
/// [`TreeError`] when the root itself can not be read, or has more entries than are visited.
pub fn walk_tree(
    root: &Path,
    visit: &mut dyn FnMut(&Entry<'_>) -> Visit,
    fault: &mut dyn FnMut(TreeError),
) -> Result<(), TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at_root = |e: Errno| TreeError { path: root.to_owned(), source: e.into() };
    let descriptor = rustix::fs::open(root, flags, Mode::empty()).map_err(at_root)?;
    let entries = Dir::read_from(&descriptor).map_err(at_root)?;
    let mut folders = vec![Folder { descriptor, entries, path: PathBuf::new() }];
    let mut seen = 0_usize;
    while let Some(folder) = folders.last_mut() {
        let entry = match folder.entries.read() {
            None => {
                folders.pop();
                continue;
            }
            Some(Err(e)) => {
                fault(TreeError { path: folder.path.clone(), source: e.into() });
                folders.pop();
                continue;
            }
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        seen += 1;
        if seen > MAX_ENTRIES {
            let source = std::io::Error::other(format!("the tree has more than {MAX_ENTRIES} entries"));
            return Err(TreeError { path: root.to_owned(), source });
        }
        let kind = match entry.file_type() {
            FileType::Unknown => statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            continue;
        }
        let path = folder.path.join(OsStr::from_bytes(name.to_bytes()));
        let is_folder = kind == FileType::Directory;
        let visited = visit(&Entry { path: &path, is_folder, folder: folder.descriptor.as_fd(), name });
        if !is_folder || visited == Visit::Skip {
            continue;
        }
        let opened = openat(&folder.descriptor, name, flags | OFlags::NOFOLLOW, Mode::empty())
            .and_then(|descriptor| Ok((Dir::read_from(&descriptor)?, descriptor)));
        match opened {
            Ok((entries, descriptor)) if folders.len() < MAX_DEPTH => {
                folders.push(Folder { descriptor, entries, path });
            }
            Ok(_) => {
                let source = std::io::Error::other(format!("folders are deeper than {MAX_DEPTH}"));
                fault(TreeError { path, source });
            }
            Err(e) => fault(TreeError { path, source: e.into() }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_file_is_visited_once_and_no_link_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::create_dir_all(root.path().join("skipped/c")).unwrap();
        std::fs::write(root.path().join("a/b/file"), "12345").unwrap();
        symlink(outside.path(), root.path().join("a/out")).unwrap();
        symlink(root.path(), root.path().join("a/b/circle")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("a/link")).unwrap();
        let mut seen = Vec::new();
        let mut visit = |entry: &Entry<'_>| {
            seen.push(entry.path.display().to_string());
            if !entry.is_folder {
                let mut content = entry.content();
                assert_eq!(content.whole(5).unwrap(), b"12345");
                let refused = content.whole(4).unwrap_err();
                assert!(refused.to_string().contains("5 bytes"), "{refused:?}");
            }
            if entry.path.ends_with("skipped") { Visit::Skip } else { Visit::On }
        };
        walk_tree(root.path(), &mut visit, &mut |fault| panic!("{fault:?}")).unwrap();
        seen.sort();
        assert_eq!(seen, ["a", "a/b", "a/b/file", "skipped"]);
    }
}
