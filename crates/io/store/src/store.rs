//! The trait, and what it speaks of.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::leadership::{self, LeaderStream, Leadership};
use crate::{Outcome, StoreError, Transaction};

/// Shortest lease.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// Longest lease (366 days).
pub const MAX_LEASE: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most leases at a time.
pub const MAX_LEASES: usize = 65_536;

/// Number of a commit that changed something: 0 is the empty store, and each adds one. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every commit.
    pub const ZERO: Self = Self(0);
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease; never given twice by one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {}", self.0)
    }
}

/// A key's value, and when it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision that put the key where there was none.
    pub created: Revision,
    /// Revision that put this value.
    pub modified: Revision,
    /// The lease that it ends with.
    pub lease: Option<LeaseId>,
}

/// All entries below a prefix, as they were at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys' bytes.
    pub entries: Vec<Entry>,
    /// The revision; [`Store::watch`] after it misses nothing and repeats nothing.
    pub revision: Revision,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this value now.
    Put(Entry),
    /// It has none any more.
    Delete {
        /// The key.
        key: String,
    },
}

impl Change {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key } => key,
        }
    }
}

/// All that one commit changed below the watched prefix; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The commit. To resume, watch after this.
    pub revision: Revision,
    /// Each key once, in the order of the transaction.
    pub changes: Vec<Change>,
}

/// Commits in order, without gap. Ends after an error.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch, StoreError>> + Send>>;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Revision it was taken at.
    pub revision: Revision,
    /// Entries in it.
    pub entries: u64,
}

/// A revisioned key-value store. Keys are UTF-8 text with `/` between their parts, values are bytes.
///
/// A commit is atomic, durable before it is acknowledged, and seen by every read that begins after that. Dropping
/// the future of a commit does not undo it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry of a key, if it has one.
    ///
    /// # Errors
    /// [`StoreError::Key`], or what the backend meets.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All entries whose key begins with `prefix`, at one revision; an empty prefix is every key.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Does all of a transaction in one revision, or nothing.
    ///
    /// # Errors
    /// What [`Transaction::validate`] finds, [`StoreError::LeaseNotFound`], [`StoreError::Full`] and other failures
    /// to write. After an error nothing was done, except that after [`StoreError::Io`] of a broken disk a later read
    /// decides.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError>;

    /// Every commit after revision `after` that changed a key that begins with `prefix`. A watcher never holds up
    /// a commit: one that is slower than the history is kept is told [`StoreError::Compacted`] in the stream.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the history does not reach back that far, [`StoreError::Ahead`] when `after`
    /// is not reached yet; and as [`Store::get`].
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// A lease that ends `ttl` after the last [`Store::keep_alive`], on a clock that never jumps. When the store
    /// starts again, every lease starts again too.
    ///
    /// # Errors
    /// [`StoreError::LeaseTtl`], [`StoreError::TooManyLeases`], or a failure to write.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts a lease's time again.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`].
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease now: its keys are deleted in one commit.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`], or a failure to write.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Writes all entries, as they are at one revision, without those that belong to a lease: whoever holds
    /// a lease now does not hold it where the snapshot is restored.
    ///
    /// # Errors
    /// [`StoreError::SnapshotStream`], or a failure to read.
    async fn snapshot(
        &self,
        into: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<SnapshotSummary, StoreError>;

    /// Replaces everything by a snapshot, in one commit whose revision is above this store's and the snapshot's.
    /// Entries keep their created and modified revisions; leases end; every watcher is told
    /// [`StoreError::Compacted`].
    ///
    /// # Errors
    /// [`StoreError::Snapshot`] when it is not whole, and [`StoreError::SnapshotStream`]; or a failure to write.
    async fn restore(&self, from: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Revision, StoreError>;

    /// Forgets the history up to and with `revision`; entries stay. Backends do this by themselves as well.
    ///
    /// # Errors
    /// [`StoreError::Ahead`], or a failure to write. A revision already forgotten is no error.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The last commit's revision.
    ///
    /// # Errors
    /// What the backend meets.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Waits until `candidate` leads `name`, for as long as `lease` lives. See [`Leadership`].
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] when the lease ended, [`StoreError::Key`] for a bad name; and as
    /// [`Store::commit`].
    async fn campaign(&self, name: &str, candidate: &str, lease: LeaseId) -> Result<Leadership, StoreError> {
        leadership::campaign(self, name, candidate, lease).await
    }

    /// Gives leadership up, so that the next candidate has it at once. Nothing if it was lost before.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn resign(&self, leadership: &Leadership) -> Result<(), StoreError> {
        leadership::resign(self, leadership).await
    }

    /// Who leads `name` now, `None` for nobody, and then each change of it.
    ///
    /// # Errors
    /// [`StoreError::Key`] for a bad name; and as [`Store::watch`].
    async fn observe(&self, name: &str) -> Result<LeaderStream, StoreError> {
        leadership::observe(self, name).await
    }
}
