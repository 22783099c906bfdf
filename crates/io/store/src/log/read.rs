//! Reading records back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use nv_model::record::Record;

use super::frame;
use super::index::{Index, Slot, Summary};
use super::segments::{Log, index_path, segment_path};
use crate::StoreError;

type Records = Vec<(u64, Record)>;

impl Log {
    /// Records of `topic` below `before`, the newest first.
    pub(super) fn read(&self, topic: u8, before: Option<u64>, limit: usize) -> Result<Records, StoreError> {
        let below = |summary: &Summary| {
            summary.count(topic) > 0 && before.is_none_or(|before| summary.first < before)
        };
        let (active, file, sealed) = {
            let state = self.state();
            let slots: Vec<Slot> = state.active.index.newest_first(topic, before).take(limit).collect();
            let sealed: Vec<Summary> = state.sealed.iter().rev().filter(|one| below(one)).copied().collect();
            (slots, Arc::clone(&state.active.file), sealed)
        };
        let mut found = Vec::new();
        self.collect(&file, active, limit, &mut found)?;
        for summary in sealed {
            if found.len() >= limit {
                break;
            }
            let Some((file, index)) = self.open_sealed(&summary)? else { continue };
            self.collect(&file, index.newest_first(topic, before), limit, &mut found)?;
        }
        Ok(found)
    }

    /// Records above `after`, the oldest first.
    pub(super) fn since(&self, after: u64, limit: usize) -> Result<Records, StoreError> {
        let (active, file, sealed) = {
            let state = self.state();
            let slots: Vec<Slot> = state.active.index.oldest_first(after).take(limit).collect();
            let sealed: Vec<Summary> = state.sealed.iter().filter(|one| one.last > after).copied().collect();
            (slots, Arc::clone(&state.active.file), sealed)
        };
        let mut found = Vec::new();
        for summary in sealed {
            if found.len() >= limit {
                return Ok(found);
            }
            let Some((file, index)) = self.open_sealed(&summary)? else { continue };
            self.collect(&file, index.oldest_first(after), limit, &mut found)?;
        }
        self.collect(&file, active, limit, &mut found)?;
        Ok(found)
    }

    fn collect(
        &self,
        file: &File,
        slots: impl IntoIterator<Item = Slot>,
        limit: usize,
        found: &mut Records,
    ) -> Result<(), StoreError> {
        for slot in slots {
            if found.len() >= limit {
                break;
            }
            match record_at(file, slot) {
                Ok(Some(record)) => found.push((slot.sequence, record)),
                Ok(None) => {
                    tracing::error!(sequence = slot.sequence, "a log record is damaged; it is skipped");
                    self.counted.damaged.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(StoreError::io("read a log segment in", &self.directory, error)),
            }
        }
        Ok(())
    }

    /// A sealed segment and its index; `None` when it was dropped since, or cannot be read.
    fn open_sealed(&self, summary: &Summary) -> Result<Option<(File, Arc<Index>)>, StoreError> {
        let path = segment_path(&self.directory, summary.first);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        {
            let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = cached.as_ref().filter(|index| index.summary.first == summary.first) {
                return Ok(Some((file, Arc::clone(index))));
            }
        }
        let stored = Index::read(&index_path(&self.directory, summary.first)).unwrap_or_default();
        let index = match stored {
            Some(index) => Ok(index),
            None => Index::rebuild(summary.first, &path).map(|(index, _)| index),
        };
        match index {
            Ok(index) => {
                let index = Arc::new(index);
                *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&index));
                Ok(Some((file, index)))
            }
            Err(error) => {
                tracing::error!(%error, segment = %path.display(), "this log segment cannot be read; it is skipped");
                self.counted.damaged_segments.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
        }
    }
}

/// The record in a slot; `None` when it is not what was written.
fn record_at(file: &File, slot: Slot) -> io::Result<Option<Record>> {
    let mut bytes = vec![0; usize::try_from(slot.length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, u64::from(slot.offset)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let frame = frame::decode(&bytes).filter(|frame| frame.sequence == slot.sequence);
    Ok(frame.and_then(|frame| serde_json::from_slice(frame.json).ok()))
}
