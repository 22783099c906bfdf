//! One process a directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::StoreError;

/// Held for as long as this process uses a directory. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes `directory` (0700) where it is missing, and locks it by its file `name`.
    ///
    /// # Errors
    /// [`StoreError::InUse`], or [`StoreError::Io`] when the directory cannot be made or written to.
    pub(crate) fn take(directory: &Path, name: &str) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| StoreError::io("create", directory, error))?;
        let path = directory.join(name);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
                let process = read.ok().and_then(|_| holder.trim().parse().ok());
                return Err(StoreError::InUse { path: directory.to_owned(), process });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
        }
        // Only for the message of whoever comes second: a full disk must not keep the first from starting.
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!(%error, path = %path.display(), "cannot note the process in the lock file");
        }
        Ok(Self { _file: file })
    }
}

/// Makes a created, renamed or removed file of `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::io("sync", directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_of_a_directory_is_told_who_has_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let first = DirectoryLock::take(&directory, "store.lock").unwrap();
        let error =
            DirectoryLock::take(&directory, "store.lock").expect_err("the directory is in use").to_string();
        let want =
            format!("state directory {} is in use by process {}", directory.display(), std::process::id());
        assert!(error.starts_with(&want), "{error}");
        drop(first);
        assert!(DirectoryLock::take(&directory, "store.lock").is_ok());
    }
}
