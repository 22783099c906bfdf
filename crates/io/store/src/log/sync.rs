//! Bringing appended records to the disk, and the age limit of a log that is quiet.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::segments::{Log, segment_path};
use crate::StoreError;

/// Longest time that an append is not on the disk.
const EVERY: Duration = Duration::from_millis(200);
/// How often a quiet log looks at its age.
const LOOK: Duration = Duration::from_secs(60);

/// Starts the thread that syncs; it ends with the last handle of the log.
pub(super) fn start(log: &Arc<Log>) -> Result<(), StoreError> {
    let Some(woken) = log.woken.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    let weak = Arc::downgrade(log);
    std::thread::Builder::new()
        .name("event-log-sync".to_owned())
        .spawn(move || run(&weak, &woken))
        .map(drop)
        .map_err(|error| StoreError::io("start the sync of", &log.directory, error))
}

fn run(log: &Weak<Log>, woken: &Receiver<()>) {
    loop {
        let wake = woken.recv_timeout(LOOK);
        let Some(log) = log.upgrade() else { return };
        match wake {
            Ok(()) => {
                if let Err(error) = log.sync() {
                    tracing::error!(%error, "the event log is not on the disk");
                }
                drop(log);
                // Appends of this time share the next sync.
                std::thread::sleep(EVERY);
            }
            Err(RecvTimeoutError::Timeout) => log.age(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Log {
    /// Returns when all that was appended before is on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut files, first) = {
            let mut state = self.state();
            let mut files = std::mem::take(&mut state.unsynced);
            if std::mem::take(&mut state.active.dirty) {
                files.push(Arc::clone(&state.active.file));
            }
            (files, state.active.index.summary.first)
        };
        let mut failed = None;
        files.retain(|file: &Arc<File>| match file.sync_data() {
            Ok(()) => false,
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        let Some(error) = failed else { return Ok(()) };
        // Tried again with the next sync.
        self.state().unsynced.extend(files);
        self.counted.sync_failures.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::io("sync", &segment_path(&self.directory, first), error))
    }

    /// Drops what is too old, without any append.
    pub(super) fn age(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        let summary = state.active.index.summary;
        if summary.records() > 0
            && now.since(summary.newest) > self.retention.max_age
            && let Err(error) = self.roll(&mut state)
        {
            tracing::warn!(%error, "cannot start a new log segment");
        }
        self.retire(&mut state, now);
    }
}
