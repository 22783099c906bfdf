//! The database file: made whole or not at all, checked when it is opened, and opened again after a failure.
//!
//! redb answers every call with an error once one write failed, reads too. Here a failure (a full disk) costs only
//! what failed: the database is closed and opened again, which brings back the last commit.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::file::ReservedFile;
use super::row::{ENTRIES, FORMAT, HISTORY, LEASED, LEASES, MARKS, STATE};
use crate::StoreError;
use crate::lock::sync_directory;

/// Pages kept in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    open: RwLock<Open>,
}

#[derive(Debug)]
struct Open {
    database: Option<Database>,
    /// Counts how often it was opened, so that of many who meet a failure only one opens it again.
    generation: u64,
    closed: bool,
}

impl DatabaseFile {
    /// Opens `store.redb` in `directory`, making it if there is none.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("store.redb");
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(directory, &path)?,
            Err(error) => return Err(StoreError::io("open", &path, error)),
        }
        let database = open(&path, true)?;
        let file =
            Self { path, open: RwLock::new(Open { database: Some(database), generation: 0, closed: false }) };
        let found = file.read(|transaction| {
            let state = transaction.open_table(STATE)?;
            Ok(state.get("format")?.map(|format| format.value()))
        })?;
        match found {
            Some(FORMAT) => Ok(file),
            Some(found) => Err(StoreError::Format { path: file.path, found, known: FORMAT }),
            None => Err(StoreError::corrupt(&file.path, "it has no format number")),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What `error` is to whoever called.
    pub(super) fn failure(&self, what: &'static str, error: redb::Error) -> StoreError {
        failure(&self.path, what, error)
    }

    /// Reads one state of everything.
    pub(super) fn read<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let (generation, first) = self.read_once(&read);
        match first {
            Err(redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::Io(_)) => {
                self.reopen(generation)?;
                self.read_once(&read).1
            }
            other => other,
        }
        .map_err(|error| self.failure("read", error))
    }

    fn read_once<T>(
        &self,
        read: &impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> (u64, Result<T, redb::Error>) {
        let (generation, transaction) = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            let begun = match &open.database {
                Some(database) => database.begin_read().map_err(redb::Error::from),
                None => Err(redb::Error::DatabaseClosed),
            };
            (open.generation, begun)
        };
        (generation, transaction.and_then(|transaction| read(&transaction)))
    }

    /// A transaction that reads, for longer than a call.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let database = open.database.as_ref().ok_or(StoreError::Closed)?;
        database.begin_read().map_err(|error| self.failure("read", error.into()))
    }

    /// A transaction that writes, and the generation to give to [`Self::reopen`] when it fails.
    pub(super) fn begin_write(&self) -> (u64, Result<WriteTransaction, redb::Error>) {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let begun = match &open.database {
            Some(database) => database.begin_write().map_err(redb::Error::from),
            None => Err(redb::Error::DatabaseClosed),
        };
        (open.generation, begun)
    }

    /// Closes the database for good.
    pub(super) fn close(&self) {
        let mut held = self.open.write().unwrap_or_else(PoisonError::into_inner);
        held.closed = true;
        held.close();
    }

    /// Closes the database and opens it again, unless someone did since `generation`.
    pub(super) fn reopen(&self, generation: u64) -> Result<(), StoreError> {
        let mut held = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if held.closed {
            return Err(StoreError::Closed);
        }
        if held.generation != generation {
            return Ok(());
        }
        held.close();
        held.database = Some(open(&self.path, false)?);
        held.generation = held.generation.saturating_add(1);
        Ok(())
    }
}

impl Open {
    /// Closing writes too, and may fail or panic on a disk that just failed; opening repairs what it leaves.
    fn close(&mut self) {
        let last = self.database.take();
        if catch_unwind(AssertUnwindSafe(|| drop(last))).is_err() {
            tracing::warn!("closing the store after a failure failed");
        }
    }
}

fn open(path: &Path, check: bool) -> Result<Database, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StoreError::io("open", path, error))?;
    let length = file.metadata().map_err(|error| StoreError::io("read", path, error))?.len();
    if length == 0 {
        // redb would start an empty database here; files are made elsewhere, whole.
        return Err(StoreError::corrupt(path, "it is empty"));
    }
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let file = ReservedFile::new(file)?;
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            .create_with_backend(file)
    }));
    match opened {
        Ok(opened) => opened.map_err(|error| failure(path, "open", error.into())),
        Err(_panic) => Err(StoreError::corrupt(path, "its pages do not fit together")),
    }
}

/// Makes an empty database beside its name and moves it there, so that a file by that name is always whole.
fn create(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let fresh = directory.join("store.redb.new");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(|error| StoreError::io("create", &fresh, error))?;
    let made = ReservedFile::new(file)
        .and_then(|file| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file))
        .map_err(redb::Error::from)
        .and_then(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(HISTORY)?;
            transaction.open_table(LEASES)?;
            transaction.open_table(LEASED)?;
            transaction.open_table(MARKS)?;
            transaction.open_table(STATE)?.insert("format", FORMAT)?;
            transaction.commit()?;
            Ok(())
        });
    made.map_err(|error| failure(&fresh, "create", error))?;
    fs::rename(&fresh, path).map_err(|error| StoreError::io("create", path, error))?;
    sync_directory(directory)
}

fn failure(path: &Path, what: &'static str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => match error.kind() {
            // redb reports a file that is none of its own, and one that is cut short, as input it cannot read.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                StoreError::corrupt(path, error.to_string())
            }
            _ => StoreError::io(what, path, error),
        },
        redb::Error::Corrupted(what) => StoreError::corrupt(path, what),
        redb::Error::RepairAborted => StoreError::corrupt(path, "it cannot be repaired"),
        redb::Error::TableTypeMismatch { table, .. } | redb::Error::TableDoesNotExist(table) => {
            StoreError::corrupt(path, format!("its table {table} is missing or of another kind"))
        }
        redb::Error::UpgradeRequired(found) => {
            StoreError::Format { path: path.to_owned(), found: u64::from(found), known: FORMAT }
        }
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned(), process: None },
        other => StoreError::io(what, path, io::Error::other(other.to_string())),
    }
}
