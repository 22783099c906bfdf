use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{LeaseId, Revision};

/// Why the store or the event log did not do what it was asked. What failed was not done, not even in part.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A key is empty, longer than [`crate::MAX_KEY_BYTES`] or holds a control character.
    #[error("store key {key:?} {what}")]
    Key {
        /// The key, cut to 64 characters.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A value is longer than [`crate::MAX_VALUE_BYTES`].
    #[error(
        "the value of store key {key:?} has {bytes} bytes, more than the {} allowed",
        crate::MAX_VALUE_BYTES
    )]
    ValueTooLarge {
        /// Its key.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// A transaction has more than [`crate::MAX_OPERATIONS`] compares and operations. It is never split: ask for less.
    #[error("a transaction of {count} operations is more than the {} allowed in one", crate::MAX_OPERATIONS)]
    TooManyOperations {
        /// Compares and operations in it.
        count: usize,
    },
    /// The keys and values of a transaction exceed [`crate::MAX_TRANSACTION_BYTES`]. It is never split: ask for less.
    #[error(
        "a transaction of {bytes} bytes is more than the {} allowed in one",
        crate::MAX_TRANSACTION_BYTES
    )]
    TransactionTooLarge {
        /// Bytes of its keys and values.
        bytes: usize,
    },
    /// A transaction puts a key twice, or puts and deletes it, so that its result would hang on the order.
    #[error("a transaction changes store key {key:?} more than once")]
    Overlap {
        /// The key.
        key: String,
    },
    /// The lease expired, was revoked or never was.
    #[error("{lease} has expired or was revoked: ask for a new one")]
    LeaseNotFound {
        /// The lease.
        lease: LeaseId,
    },
    /// A time to live outside of [`crate::MIN_LEASE`] to [`crate::MAX_LEASE`].
    #[error("a lease of {ttl:?} is outside of {:?} to {:?}", crate::MIN_LEASE, crate::MAX_LEASE)]
    LeaseTtl {
        /// What was asked for.
        ttl: Duration,
    },
    /// [`crate::MAX_LEASES`] leases exist.
    #[error("there are {} leases, and no more can be granted", crate::MAX_LEASES)]
    TooManyLeases,
    /// The changes after the asked revision are no longer kept: list again, and watch from the listing's revision.
    #[error("changes before store revision {oldest} are no longer kept: list again and watch from there")]
    Compacted {
        /// Oldest revision that can be watched after.
        oldest: Revision,
    },
    /// The asked revision is not reached: whoever asks knows another store, or one that lost its end.
    #[error("store revision {asked} is ahead of this store, which is at {current}: list again")]
    Ahead {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// Another process has the directory open.
    #[error("state directory {} is in use by {}: stop it, or choose another directory", path.display(), holder(*process))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, when it could be read.
        process: Option<u32>,
    },
    /// A file is not what was written. Nothing was changed or thrown away.
    #[error(
        "{} is damaged ({what}): move it away and restore a snapshot, or move it away to start empty; it was left untouched",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A file was written by a later version.
    #[error("{} has format {found}, and this version reads up to {known}: use the version that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The latest format known here.
        known: u64,
    },
    /// The disk is full. Reading goes on, and writing does as soon as there is space.
    #[error("no space is left for {}: free some; what was acknowledged is kept, and this was not done", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried: "read", "write to".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Arc<io::Error>,
    },
    /// A snapshot is cut short, altered or of another format. Nothing was restored.
    #[error("the snapshot {what}: nothing was restored")]
    Snapshot {
        /// What is wrong with it.
        what: String,
    },
    /// A snapshot could not be read from or written to the other side.
    #[error("the snapshot's stream broke")]
    SnapshotStream {
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A secret of a value cannot be sealed, so that the value was not stored.
    #[error("a secret of {key:?} cannot be sealed")]
    Seal {
        /// Its key.
        key: String,
    },
    /// A log record is larger than [`crate::log::MAX_RECORD_BYTES`] or cannot be written as JSON.
    #[error("a {topic} record {what}")]
    Record {
        /// Its log.
        topic: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

impl StoreError {
    /// The same call may succeed later without any change by the caller.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. } | Self::TooManyLeases)
    }

    /// From an error of the operating system on `path`.
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path: path.to_owned() }
            }
            _ => Self::Io { what, path: path.to_owned(), source: Arc::new(source) },
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }
}
