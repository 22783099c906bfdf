//! The store in a file of this process, with redb below: the default, and the whole of it on a single machine.

mod database;
mod file;
mod history;
mod lease;
mod row;
mod tables;
mod watch;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use nv_telemetry::{Clock, SystemClock};
use redb::{ReadTransaction, ReadableTable};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch as latest};

use self::database::DatabaseFile;
pub use self::history::History;
use self::lease::Leases;
use self::row::{ENTRIES, LEASES, STATE, decode_entry};
use self::tables::counters;
use self::writer::{Command, Done, QUEUE, Work};
use crate::lock::DirectoryLock;
use crate::snapshot::{Encoder, SpooledSnapshot};
use crate::store::{
    Entry, LeaseId, Listing, MAX_LEASE, MIN_LEASE, Revision, SnapshotSummary, Store, WatchStream,
};
use crate::transaction::{validate_key, validate_prefix};
use crate::{Outcome, StoreError, Transaction};

/// Bytes of a snapshot that are prepared ahead of a slow receiver: at most two pieces of this.
const SNAPSHOT_PIECE: usize = 256 * 1024;

/// A store in a directory of its own: `store.redb`, and `store.lock` against a second process.
///
/// Commits wait in a bounded queue for one writer thread; reads run beside it and see the last commit. Dropping the
/// last handle finishes what is queued and closes the file.
pub struct RedbStore {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: DirectoryLock,
}

/// What the writer, readers and watchers have in common.
pub(crate) struct Shared {
    file: DatabaseFile,
    directory: PathBuf,
    leases: Leases,
    /// Last commit that is on disk; watchers wait on it.
    revision: latest::Sender<Revision>,
    history: History,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the store in `directory`, making both (0700) where they are missing. Checks the whole file, so this
    /// takes about a second for each few hundred MiB.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Corrupt`], [`StoreError::Format`], [`StoreError::Full`] or
    /// [`StoreError::Io`]. A file that cannot be read is left as it is; the store never starts empty in its place.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(directory, History::default(), Arc::new(SystemClock::new()))
    }

    /// As [`RedbStore::open`], keeping `history`, and measuring leases by `clock`.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_with(
        directory: impl AsRef<Path>,
        history: History,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let directory = directory.as_ref().to_owned();
        let lock = DirectoryLock::take(&directory, "store.lock")?;
        let file = DatabaseFile::open(&directory)?;
        let leases = Leases::default();
        let (revision, held) = file.read(|transaction| {
            let revision = counters(&transaction.open_table(STATE)?)?.revision;
            let mut held = Vec::new();
            for row in transaction.open_table(LEASES)?.iter()? {
                let (id, ttl) = row?;
                held.push((LeaseId(id.value()), Duration::from_millis(ttl.value())));
            }
            Ok((revision, held))
        })?;
        for (id, ttl) in held {
            leases.insert(id, ttl, clock.monotonic());
        }
        let (revision, _) = latest::channel(revision);
        let thread_error = |error| StoreError::io("start the writer of", &directory, error);
        let timer =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(thread_error)?;
        let shared =
            Arc::new(Shared { file, directory: directory.clone(), leases, revision, history, clock });
        let (commands, queue) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&shared, queue, &timer)
            })
            .map_err(|error| StoreError::io("start the writer of", &directory, error))?;
        Ok(Self { shared, commands: Some(commands), writer: Mutex::new(Some(writer)), _lock: lock })
    }

    async fn ask(&self, work: Work) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or(StoreError::Closed)?;
        commands.send(Command { work, answer }).await.map_err(|_gone| StoreError::Closed)?;
        answered.await.map_err(|_gone| StoreError::Closed)?
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // The writer ends when the queue is empty and closed.
        self.commands = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(directory = %self.shared.directory.display(), "the store's writer had stopped");
        }
        // Watchers may hold what is shared for a moment longer; the file is free from here on.
        self.shared.file.close();
    }
}

impl Shared {
    /// Reads on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || shared.file.read(read)).await;
        done.unwrap_or_else(|stopped| {
            Err(if stopped.is_panic() {
                StoreError::corrupt(self.file.path(), "its pages do not fit together")
            } else {
                StoreError::Closed
            })
        })
    }
}

/// An answer of another kind than was asked for: cannot be, and is no reason to stop the process.
fn mixed_up<T>() -> Result<T, StoreError> {
    Err(StoreError::Closed)
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        validate_key(key)?;
        let key = key.to_owned();
        self.shared
            .read(move |transaction| match transaction.open_table(ENTRIES)?.get(key.as_str())? {
                Some(row) => decode_entry(&key, row.value()).map(Some),
                None => Ok(None),
            })
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        validate_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.shared
            .read(move |transaction| {
                let revision = counters(&transaction.open_table(STATE)?)?.revision;
                let mut entries = Vec::new();
                for row in transaction.open_table(ENTRIES)?.range::<&str>(prefix.as_str()..)? {
                    let (key, row) = row?;
                    if !key.value().starts_with(&prefix) {
                        break;
                    }
                    entries.push(decode_entry(key.value(), row.value())?);
                }
                Ok(Listing { entries, revision })
            })
            .await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.validate()?;
        match self.ask(Work::Commit(transaction)).await? {
            Done::Outcome(outcome) => Ok(outcome),
            _ => mixed_up(),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        validate_prefix(prefix)?;
        watch::watch(&self.shared, prefix, after).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        if !(MIN_LEASE..=MAX_LEASE).contains(&ttl) {
            return Err(StoreError::LeaseTtl { ttl });
        }
        match self.ask(Work::Grant(ttl)).await? {
            Done::Granted { lease, .. } => Ok(lease),
            _ => mixed_up(),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        if self.shared.leases.keep_alive(lease, self.shared.clock.monotonic()) {
            Ok(())
        } else {
            Err(StoreError::LeaseNotFound { lease })
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Work::Revoke(lease)).await.map(drop)
    }

    async fn snapshot(
        &self,
        into: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<SnapshotSummary, StoreError> {
        let (pieces, mut ready) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || read_snapshot(&shared, &pieces));
        let broke = |source| StoreError::SnapshotStream { source: Arc::new(source) };
        while let Some(piece) = ready.recv().await {
            into.write_all(&piece).await.map_err(broke)?;
        }
        let summary = reading.await.map_err(|_stopped| StoreError::Closed)??;
        into.flush().await.map_err(broke)?;
        Ok(summary)
    }

    async fn restore(&self, from: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Revision, StoreError> {
        let snapshot = SpooledSnapshot::read(&self.shared.directory, from).await?;
        match self.ask(Work::Restore(snapshot)).await? {
            Done::Restored(revision) => Ok(revision),
            _ => mixed_up(),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(Work::Compact(revision)).await.map(drop)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(*self.shared.revision.borrow())
    }
}

/// Reads one state of all entries into pieces; stops when nobody takes them.
fn read_snapshot(shared: &Shared, pieces: &mpsc::Sender<Vec<u8>>) -> Result<SnapshotSummary, StoreError> {
    let failed = |error: redb::Error| shared.file.failure("read", error);
    let transaction = shared.file.begin_read()?;
    let read = || -> Result<Option<SnapshotSummary>, redb::Error> {
        let revision = counters(&transaction.open_table(STATE)?)?.revision;
        let mut piece = Vec::with_capacity(SNAPSHOT_PIECE);
        let mut encoder = Encoder::new(revision, &mut piece);
        for row in transaction.open_table(ENTRIES)?.iter()? {
            let (key, row) = row?;
            let entry = decode_entry(key.value(), row.value())?;
            if entry.lease.is_some() {
                continue;
            }
            encoder.entry(&entry, &mut piece);
            if piece.len() >= SNAPSHOT_PIECE
                && pieces
                    .blocking_send(std::mem::replace(&mut piece, Vec::with_capacity(SNAPSHOT_PIECE)))
                    .is_err()
            {
                return Ok(None);
            }
        }
        let summary = encoder.finish(&mut piece);
        Ok(pieces.blocking_send(piece).is_ok().then_some(summary))
    };
    read().map_err(failed)?.ok_or(StoreError::Closed)
}
