//! Opening a log as the last process left it, however that ended.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use nv_telemetry::Clock;
use tokio::sync::broadcast;

use super::frame::HEADER;
use super::index::{Index, Summary, read_summary};
use super::segments::{Active, Counted, Log, State, index_path, open_segment, segment_path};
use super::{Retention, SUBSCRIBER_QUEUE};
use crate::StoreError;

pub(super) fn open(directory: &Path, retention: Retention, clock: Arc<dyn Clock>) -> Result<Log, StoreError> {
    let counted = Counted::default();
    let mut firsts = segments(directory)?;
    let last = firsts.pop();
    let sealed: VecDeque<Summary> =
        firsts.into_iter().filter_map(|first| summarize(directory, first, &counted)).collect();
    let floor = sealed.back().map_or(1, |summary| summary.last.saturating_add(1));
    let (active, next) = resume(directory, last, floor, &counted)?;
    let (wake, woken) = mpsc::sync_channel(1);
    let log = Log {
        directory: directory.to_owned(),
        retention,
        clock,
        state: Mutex::new(State { sealed, active, next, unsynced: Vec::new() }),
        subscribers: broadcast::channel(SUBSCRIBER_QUEUE).0,
        counted,
        cached: Mutex::new(None),
        syncing: Mutex::new(()),
        wake,
        woken: Mutex::new(Some(woken)),
    };
    log.retire(&mut log.state(), log.clock.now());
    Ok(log)
}

/// First sequences of the segments there are, the oldest first.
fn segments(directory: &Path) -> Result<Vec<u64>, StoreError> {
    let read = |error| StoreError::io("read", directory, error);
    let mut firsts = Vec::new();
    for file in fs::read_dir(directory).map_err(read)? {
        let name = file.map_err(read)?.file_name();
        let first: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("events-")?.strip_suffix(".log")?.parse().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// What a sealed segment holds; `None` when nothing of it can be read.
fn summarize(directory: &Path, first: u64, counted: &Counted) -> Option<Summary> {
    let segment = segment_path(directory, first);
    let index = index_path(directory, first);
    let length = fs::metadata(&segment).map(|metadata| metadata.len());
    if let Ok(length) = length
        && let Ok(Some(summary)) = read_summary(&index, length)
    {
        counted.damaged.fetch_add(u64::from(summary.damaged), Ordering::Relaxed);
        return Some(summary);
    }
    match Index::rebuild(first, &segment) {
        Ok((mut built, end)) => {
            if (end as u64) < built.summary.bytes {
                built.summary.damaged = built.summary.damaged.saturating_add(1);
            }
            if built.slots.is_empty() && built.summary.bytes > 0 {
                tracing::error!(segment = %segment.display(), "nothing in this log segment can be read; it is skipped");
                counted.damaged_segments.fetch_add(1, Ordering::Relaxed);
            } else if built.summary.damaged > 0 {
                tracing::error!(segment = %segment.display(), places = built.summary.damaged, "this log segment is damaged; the records there are skipped");
                counted.damaged.fetch_add(u64::from(built.summary.damaged), Ordering::Relaxed);
            }
            if let Err(error) = built.write(&index) {
                tracing::warn!(%error, index = %index.display(), "cannot write the index of a log segment");
            }
            Some(built.summary)
        }
        Err(error) => {
            tracing::error!(%error, segment = %segment.display(), "this log segment cannot be read; it is skipped");
            counted.damaged_segments.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// The segment to go on in, and the next sequence.
fn resume(
    directory: &Path,
    last: Option<u64>,
    floor: u64,
    counted: &Counted,
) -> Result<(Active, u64), StoreError> {
    let Some(first) = last else { return start(directory, floor) };
    let path = segment_path(directory, first);
    let (mut index, end) = match Index::rebuild(first, &path) {
        Ok(built) => built,
        Err(error) => {
            tracing::error!(%error, segment = %path.display(), "the last log segment cannot be read");
            return set_aside(directory, first, floor, counted);
        }
    };
    let end = end as u64;
    if end == 0 && index.summary.bytes > HEADER as u64 {
        tracing::error!(segment = %path.display(), "nothing in the last log segment can be read");
        return set_aside(directory, first, floor, counted);
    }
    let file = open_segment(directory, first)?;
    if end < index.summary.bytes {
        let torn = index.summary.bytes.saturating_sub(end);
        tracing::warn!(segment = %path.display(), bytes = torn, "the last append was cut short; it is taken off");
        counted.torn_bytes.fetch_add(torn, Ordering::Relaxed);
        file.set_len(end).map_err(|error| StoreError::io("write to", &path, error))?;
        index.summary.bytes = end;
    }
    if index.summary.damaged > 0 {
        tracing::error!(segment = %path.display(), places = index.summary.damaged, "this log segment is damaged; the records there are skipped");
        counted.damaged.fetch_add(u64::from(index.summary.damaged), Ordering::Relaxed);
    }
    let next = index.summary.last.saturating_add(1).max(floor);
    Ok((Active { file: Arc::new(file), index, dirty: true }, next))
}

fn start(directory: &Path, next: u64) -> Result<(Active, u64), StoreError> {
    let file = open_segment(directory, next)?;
    Ok((Active { file: Arc::new(file), index: Index::empty(next), dirty: true }, next))
}

/// Keeps an unreadable last segment under another name and starts behind every sequence it may have held: a sequence
/// is never given twice, even if that leaves a gap.
fn set_aside(
    directory: &Path,
    first: u64,
    floor: u64,
    counted: &Counted,
) -> Result<(Active, u64), StoreError> {
    let path = segment_path(directory, first);
    counted.damaged_segments.fetch_add(1, Ordering::Relaxed);
    let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    fs::rename(&path, path.with_extension("damaged"))
        .map_err(|error| StoreError::io("rename", &path, error))?;
    let most = length / HEADER as u64;
    start(directory, first.saturating_add(most).saturating_add(1).max(floor))
}
