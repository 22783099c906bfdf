//! The segments of the log: the one that grows, and the sealed ones before it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use nv_model::record::Record;
use nv_model::time::Timestamp;
use nv_telemetry::Clock;
use tokio::sync::broadcast;

use super::frame;
use super::index::{Index, Slot, Summary};
use super::{LogCounters, MAX_APPEND_BYTES, Retention};
use crate::StoreError;

/// Largest segment, but for the append that exceeds it.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

pub(super) struct Log {
    pub(super) directory: PathBuf,
    pub(super) retention: Retention,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Mutex<State>,
    pub(super) subscribers: broadcast::Sender<(u64, Arc<Record>)>,
    pub(super) counted: Counted,
    /// Index of the sealed segment that was read last: readers page through one after the other.
    pub(super) cached: Mutex<Option<Arc<Index>>>,
    /// Held by whoever syncs, so that a flush waits for a sync that is under way.
    pub(super) syncing: Mutex<()>,
    /// Wakes the thread that syncs.
    pub(super) wake: mpsc::SyncSender<()>,
    pub(super) woken: Mutex<Option<mpsc::Receiver<()>>>,
}

#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) retired: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) damaged_segments: AtomicU64,
    pub(super) torn_bytes: AtomicU64,
    pub(super) sync_failures: AtomicU64,
}

pub(super) struct State {
    /// The oldest first.
    pub(super) sealed: VecDeque<Summary>,
    pub(super) active: Active,
    /// Sequence of the next record.
    pub(super) next: u64,
    /// Sealed since the last sync.
    pub(super) unsynced: Vec<Arc<File>>,
}

/// The segment that grows.
pub(super) struct Active {
    pub(super) file: Arc<File>,
    pub(super) index: Index,
    /// Written to since the last sync.
    pub(super) dirty: bool,
}

pub(super) fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("events-{first:020}.log"))
}

pub(super) fn index_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("events-{first:020}.idx"))
}

/// Opens a segment to grow, making it where it is missing.
pub(super) fn open_segment(directory: &Path, first: u64) -> Result<File, StoreError> {
    let path = segment_path(directory, first);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StoreError::io("open", &path, error))
}

impl Log {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, records: &[Record]) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        if records.is_empty() {
            return Ok(state.next.saturating_sub(1));
        }
        let mut bytes = Vec::new();
        let mut slots = Vec::with_capacity(records.len());
        for (sequence, record) in (state.next..).zip(records) {
            let offset = bytes.len();
            frame::encode(record, sequence, now, &mut bytes)?;
            if bytes.len() > MAX_APPEND_BYTES {
                let what = format!("and those before it are more than {MAX_APPEND_BYTES} bytes at a time");
                return Err(StoreError::Record { topic: record.topic().as_str(), what });
            }
            slots.push((sequence, offset, bytes.len(), frame::topic_number(record.topic())));
        }
        if self.is_full(&state, bytes.len() as u64, now) {
            self.roll(&mut state)?;
        }
        let start = state.active.index.summary.bytes;
        if let Err(error) = state.active.file.write_all_at(&bytes, start) {
            // What was written of it must not stand before the next append.
            if let Err(error) = state.active.file.set_len(start) {
                tracing::warn!(%error, "cannot take off a part of an append; it is skipped when the log is read");
            }
            let path = segment_path(&self.directory, state.active.index.summary.first);
            return Err(StoreError::io("write to", &path, error));
        }
        for (sequence, from, to, topic) in slots {
            // A segment is far below 4 GiB.
            let place = |at: usize| u32::try_from(start.saturating_add(at as u64)).unwrap_or(u32::MAX);
            let slot =
                Slot { sequence, offset: place(from), length: place(to).saturating_sub(place(from)), topic };
            state.active.index.add(slot, now);
            state.next = sequence.saturating_add(1);
        }
        state.active.dirty = true;
        self.retire(&mut state, now);
        if self.subscribers.receiver_count() > 0 {
            for (sequence, record) in (state.next.saturating_sub(records.len() as u64)..).zip(records) {
                // Nobody listening is no failure.
                drop(self.subscribers.send((sequence, Arc::new(record.clone()))));
            }
        }
        let last = state.next.saturating_sub(1);
        drop(state);
        // Full means that it is awake already.
        self.wake.try_send(()).ok();
        Ok(last)
    }

    /// The active segment takes no `more` bytes, or is so old that its end must not keep its beginning any longer.
    fn is_full(&self, state: &State, more: u64, now: Timestamp) -> bool {
        let summary = &state.active.index.summary;
        let segment = (self.retention.max_bytes.max(1024 * 1024) / 16).min(SEGMENT_BYTES);
        summary.records() > 0
            && (summary.bytes.saturating_add(more) > segment
                || now.since(summary.oldest) > self.retention.max_age / 8)
    }

    /// Seals the active segment and starts the next. Nothing changes when that cannot be made.
    pub(super) fn roll(&self, state: &mut State) -> Result<(), StoreError> {
        let file = open_segment(&self.directory, state.next)?;
        let next = Active { file: Arc::new(file), index: Index::empty(state.next), dirty: false };
        let sealed = std::mem::replace(&mut state.active, next);
        if sealed.dirty {
            state.unsynced.push(sealed.file);
        }
        let summary = sealed.index.summary;
        if let Err(error) = sealed.index.write(&index_path(&self.directory, summary.first)) {
            tracing::warn!(%error, segment = summary.first, "cannot write the index of a log segment; it is made again when needed");
        }
        state.sealed.push_back(summary);
        Ok(())
    }

    /// Drops the oldest segments that are too old or too many.
    pub(super) fn retire(&self, state: &mut State, now: Timestamp) {
        let limit = self.retention.max_bytes.max(1024 * 1024);
        let sealed: u64 = state.sealed.iter().map(|summary| summary.bytes).sum();
        let mut bytes = sealed.saturating_add(state.active.index.summary.bytes);
        while let Some(summary) = state.sealed.front().copied() {
            if bytes <= limit && now.since(summary.newest) <= self.retention.max_age {
                break;
            }
            let gone = fs::remove_file(segment_path(&self.directory, summary.first));
            if let Err(error) = gone.or_else(is_missing) {
                tracing::warn!(%error, segment = summary.first, "cannot remove a log segment");
                break;
            }
            if let Err(error) =
                fs::remove_file(index_path(&self.directory, summary.first)).or_else(is_missing)
            {
                tracing::warn!(%error, segment = summary.first, "cannot remove the index of a log segment");
            }
            bytes = bytes.saturating_sub(summary.bytes);
            self.counted.retired.fetch_add(summary.records(), Ordering::Relaxed);
            state.sealed.pop_front();
        }
    }

    /// Records that are there, of one topic or of all.
    pub(super) fn count(&self, topic: Option<u8>) -> u64 {
        let state = self.state();
        let all = state.sealed.iter().chain([&state.active.index.summary]);
        all.map(|summary| topic.map_or_else(|| summary.records(), |topic| u64::from(summary.count(topic))))
            .sum()
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.state().next.saturating_sub(1)
    }

    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        state.sealed.iter().chain([&state.active.index.summary]).map(|summary| summary.bytes).sum()
    }

    pub(super) fn counters(&self) -> LogCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogCounters {
            retired: load(&self.counted.retired),
            damaged: load(&self.counted.damaged),
            damaged_segments: load(&self.counted.damaged_segments),
            torn_bytes: load(&self.counted.torn_bytes),
            sync_failures: load(&self.counted.sync_failures),
        }
    }
}

fn is_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
