//! The event log: what happened, in the order it was told, on this disk.
//!
//! Records go into segment files (`events-<first sequence>.log`) and stay as they are; whole segments are dropped by
//! age and size. Append writes to the file at once, so that a killed process loses nothing, and a thread syncs the
//! file to the disk every 200 ms, so that a machine that loses power loses no more than that.
//!
//! Segment files rather than a key-value store: records only ever come at the end and go at the beginning, and a
//! damaged place must cost the records in it and no others.

mod frame;
mod index;
mod read;
mod recover;
mod segments;
mod sync;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nv_model::record::{Record, Topic};
use nv_telemetry::{Clock, SystemClock};
use tokio::sync::broadcast;

use self::frame::topic_number;
use self::segments::Log;
use crate::StoreError;
use crate::lock::DirectoryLock;

/// Longest record as JSON (256 KiB).
pub const MAX_RECORD_BYTES: usize = 256 * 1024;
/// Most bytes of one append, as JSON (32 MiB).
pub const MAX_APPEND_BYTES: usize = 32 * 1024 * 1024;
/// Most records of one read.
pub const MAX_READ: usize = 10_000;
/// Records that wait for a slow subscriber.
const SUBSCRIBER_QUEUE: usize = 1024;

/// How long records are kept: the oldest segments go when either is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age, with up to an eighth more.
    pub max_age: Duration,
    /// Bytes on the disk, at least 1 MiB.
    pub max_bytes: u64,
}

impl Default for Retention {
    /// 30 days, 512 MiB.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30 * 24 * 3600), max_bytes: 512 * 1024 * 1024 }
    }
}

/// What was lost or dropped since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Records dropped by age or size.
    pub retired: u64,
    /// Places in segments that could not be read; each is one or more records.
    pub damaged: u64,
    /// Segments of which nothing could be read.
    pub damaged_segments: u64,
    /// Bytes of a last append that was cut short by a crash.
    pub torn_bytes: u64,
    /// Times that the file could not be synced to the disk.
    pub sync_failures: u64,
}

/// The log. A clone is another handle to the same one.
#[derive(Clone)]
pub struct EventLog {
    open: Arc<Open>,
}

/// What ends with the last handle: the directory is free then, even while the thread that syncs still looks at `log`.
struct Open {
    log: Arc<Log>,
    _lock: DirectoryLock,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Err(error) = self.log.sync() {
            tracing::error!(%error, "the end of the event log is not on the disk");
        }
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("directory", &self.open.log.directory).finish_non_exhaustive()
    }
}

impl EventLog {
    /// Opens the log in `directory`, making that (0700) where it is missing. A last append that was cut short is
    /// taken off; damaged segments are reported and skipped.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Full`] or [`StoreError::Io`].
    pub fn open(directory: impl AsRef<Path>, retention: Retention) -> Result<Self, StoreError> {
        Self::open_with(directory, retention, Arc::new(SystemClock::new()))
    }

    /// As [`EventLog::open`], telling age by `clock`.
    ///
    /// # Errors
    /// As [`EventLog::open`].
    pub fn open_with(
        directory: impl AsRef<Path>,
        retention: Retention,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let lock = DirectoryLock::take(directory.as_ref(), "events.lock")?;
        let log = Arc::new(recover::open(directory.as_ref(), retention, clock)?);
        sync::start(&log)?;
        Ok(Self { open: Arc::new(Open { log, _lock: lock }) })
    }

    /// Adds records, all or none, and returns the sequence of the last one (of the last in the log, for none).
    /// Sequences begin with 1 and have no gaps. Cheap: a write to memory of the kernel, on the disk within 200 ms.
    ///
    /// # Errors
    /// [`StoreError::Record`] when one is too large, [`StoreError::Full`] or [`StoreError::Io`].
    pub fn append(&self, records: &[Record]) -> Result<u64, StoreError> {
        self.open.log.append(records)
    }

    /// Waits until all that was appended is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.blocking(|log| log.sync()).await
    }

    /// Records of `topic` with a sequence below `before`, the newest first, at most `limit` and [`MAX_READ`].
    /// Records that cannot be read are left out and counted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn read(
        &self,
        topic: Topic,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Record)>, StoreError> {
        self.blocking(move |log| log.read(topic_number(topic), before, limit.min(MAX_READ))).await
    }

    /// Records of all topics with a sequence above `after`, the oldest first, at most `limit` and [`MAX_READ`].
    /// The first may be later than `after + 1`: what is between was dropped or cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn since(&self, after: u64, limit: usize) -> Result<Vec<(u64, Record)>, StoreError> {
        self.blocking(move |log| log.since(after, limit.min(MAX_READ))).await
    }

    /// The record of a sequence, if it is still there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn get(&self, sequence: u64) -> Result<Option<Record>, StoreError> {
        let Some(after) = sequence.checked_sub(1) else { return Ok(None) };
        let found = self.since(after, 1).await?;
        Ok(found.into_iter().find(|(found, _)| *found == sequence).map(|(_, record)| record))
    }

    /// Every record from now on, in order. A subscriber that is more than 1,024 records behind gets
    /// [`broadcast::error::RecvError::Lagged`] and reads what it missed with [`EventLog::since`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<(u64, Arc<Record>)> {
        self.open.log.subscribers.subscribe()
    }

    /// Records of `topic` that are there.
    #[must_use]
    pub fn len(&self, topic: Topic) -> u64 {
        self.open.log.count(Some(topic_number(topic)))
    }

    /// Nothing is there, of any topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.log.count(None) == 0
    }

    /// Sequence of the last record ever appended, 0 before the first.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.open.log.last_sequence()
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.open.log.bytes()
    }

    /// What was lost or dropped.
    #[must_use]
    pub fn counters(&self) -> LogCounters {
        self.open.log.counters()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Log) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let log = Arc::clone(&self.open.log);
        tokio::task::spawn_blocking(move || work(&log)).await.unwrap_or(Err(StoreError::Closed))
    }
}
