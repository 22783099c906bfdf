//! Where state is kept.
//!
//! Two things, for two kinds of state. [`Store`] holds what is decided (configuration, policy, users): few, small
//! values that change together, watched by whoever acts on them. [`EventLog`] holds what happened: many records that
//! never change and are dropped by age.
//!
//! ```text
//! commit ─► queue ─► writer thread ─► one durable redb transaction for all that wait ─► acknowledged
//!                                              │ entries + history
//! watch ◄── reads the history after its revision ◄─┘ told of each new revision
//!
//! append ─► sequence, segment file ─► subscribers        every 200 ms: sync
//! ```
//!
//! A watcher has no queue of its own: the history on disk is its queue, so that it resumes from any revision that is
//! still kept, never holds up a commit, and is told when it fell behind the history.

mod error;
mod following;
mod leadership;
mod lock;
pub mod log;
mod redb;
mod sealed;
mod snapshot;
mod store;
mod transaction;

pub use error::StoreError;
pub use following::keep_following;
pub use leadership::{LeaderStream, Leadership};
pub use log::{EventLog, LogCounters, Retention};
pub use redb::{History, RedbStore};
pub use sealed::{SealError, SealedStore, SealingKeys, SecretFields};
pub use store::{
    Change, Entry, LeaseId, Listing, MAX_LEASE, MAX_LEASES, MIN_LEASE, Revision, SnapshotSummary, Store,
    WatchBatch, WatchStream,
};
pub use transaction::{
    Compare, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Operation, Outcome,
    Transaction, validate_key, validate_prefix,
};
