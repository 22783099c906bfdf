//! The history of commits: how long it is kept, and reading on from a revision.

use std::time::Duration;

use nv_model::time::Timestamp;
use redb::{ReadTransaction, ReadableTable};

use super::row::{HISTORY, STATE, decode_change};
use super::tables::{Tables, counters};
use crate::StoreError;
use crate::store::{Revision, WatchBatch};

/// How much history is kept. What exceeds any of these is forgotten, with up to an eighth of slack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Commits.
    pub revisions: u64,
    /// Bytes of changed keys and values.
    pub bytes: u64,
    /// Age.
    pub age: Duration,
}

impl Default for History {
    /// 10,000 commits, 64 MiB, 24 hours.
    fn default() -> Self {
        Self { revisions: 10_000, bytes: 64 * 1024 * 1024, age: Duration::from_secs(24 * 3600) }
    }
}

/// Most commits and about the most bytes of changes that a watcher reads at a time.
const READ_BATCHES: usize = 256;
const READ_BYTES: usize = 1024 * 1024;

/// What a watcher reads at a time.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) batches: Vec<WatchBatch>,
    /// All up to and with this revision is in `batches`.
    pub(super) upto: Revision,
}

/// Reads commits after `after` below `prefix`, whole ones only; the inner error is the watcher's.
pub(super) fn read_after(
    transaction: &ReadTransaction,
    prefix: &str,
    after: Revision,
) -> Result<Result<Chunk, StoreError>, redb::Error> {
    let counters = counters(&transaction.open_table(STATE)?)?;
    if after < counters.compacted {
        return Ok(Err(StoreError::Compacted { oldest: counters.compacted }));
    }
    if after > counters.revision {
        return Ok(Err(StoreError::Ahead { asked: after, current: counters.revision }));
    }
    let mut chunk = Chunk { batches: Vec::new(), upto: counters.revision };
    let mut bytes = 0_usize;
    let mut last = after;
    for row in transaction.open_table(HISTORY)?.range((after.next().0, 0)..)? {
        let (key, row) = row?;
        let revision = Revision(key.value().0);
        if revision != last && (chunk.batches.len() >= READ_BATCHES || bytes >= READ_BYTES) {
            chunk.upto = last;
            break;
        }
        last = revision;
        bytes = bytes.saturating_add(row.value().len());
        let Some(change) = decode_change(prefix, row.value())? else { continue };
        match chunk.batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => chunk.batches.push(WatchBatch { revision, changes: vec![change] }),
        }
    }
    Ok(Ok(chunk))
}

/// Forgets the history up to and with `revision`.
pub(super) fn forget(tables: &mut Tables<'_>, revision: Revision) -> Result<(), redb::Error> {
    if revision <= tables.counters.compacted {
        return Ok(());
    }
    let mut freed = 0_u64;
    for row in tables.history.extract_from_if(..(revision.next().0, 0), |_, _| true)? {
        freed = freed.saturating_add(row?.1.value().len() as u64);
    }
    tables.marks.retain(|mark, _| mark > revision.0)?;
    tables.counters.history_bytes = tables.counters.history_bytes.saturating_sub(freed);
    tables.counters.compacted = revision;
    Ok(())
}

/// Forgets what is over the limits of `keep`, and notes the time now and then so that age is known.
pub(super) fn trim(tables: &mut Tables<'_>, keep: History, now: Timestamp) -> Result<(), redb::Error> {
    let newest = tables.marks.last()?.map(|(_, at)| Timestamp::from_nanos(at.value()));
    if newest.is_none_or(|at| now.since(at) >= keep.age / 16 || now < at) {
        tables.marks.insert(tables.counters.revision.0, now.nanos())?;
    }
    let revision = tables.counters.revision.0;
    let kept = revision.saturating_sub(tables.counters.compacted.0);
    let mut upto = 0;
    if kept > keep.revisions.saturating_add(keep.revisions / 8) {
        upto = revision.saturating_sub(keep.revisions);
    }
    if tables.counters.history_bytes > keep.bytes.saturating_add(keep.bytes / 8) {
        upto = upto.max(over_bytes(tables, keep.bytes)?);
    }
    for mark in tables.marks.iter()? {
        let (mark, at) = mark?;
        if now.since(Timestamp::from_nanos(at.value())) < keep.age {
            break;
        }
        upto = upto.max(mark.value());
    }
    // The last commit stays whatever its size, so that a watcher that is up to date never has to list again.
    forget(tables, Revision(upto.min(revision.saturating_sub(1))))
}

/// The revision up to which the history must go so that at most `keep` bytes stay.
fn over_bytes(tables: &Tables<'_>, keep: u64) -> Result<u64, redb::Error> {
    let mut left = tables.counters.history_bytes;
    let mut upto = 0;
    for row in tables.history.iter()? {
        let (key, row) = row?;
        if left <= keep {
            break;
        }
        upto = key.value().0;
        left = left.saturating_sub(row.value().len() as u64);
    }
    Ok(upto)
}
