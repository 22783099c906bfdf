//! The one thread that writes. All commits that wait share one durable transaction of redb, each with its own
//! revision; every caller is answered when that is on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::history::{forget, trim};
use super::row::STATE;
use super::tables::{Tables, counters};
use crate::snapshot::SpooledSnapshot;
use crate::store::{LeaseId, MAX_LEASES, Revision};
use crate::transaction::Operation;
use crate::{Outcome, StoreError, Transaction};

/// Commits that wait for the writer; further callers wait in line before it.
pub(super) const QUEUE: usize = 1024;
/// Most commands in one durable transaction, and about the most bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// How late a lease's end may be noticed.
const LEASE_TICK: Duration = Duration::from_millis(100);

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Transaction),
    Grant(Duration),
    Revoke(LeaseId),
    Compact(Revision),
    Restore(SpooledSnapshot),
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Outcome(Outcome),
    Granted { lease: LeaseId, ttl: Duration },
    Revoked(LeaseId),
    Compacted,
    Restored(Revision),
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<Done, StoreError>>,
}

impl Command {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Commit(transaction) => transaction.bytes(),
            Work::Grant(_) | Work::Revoke(_) | Work::Compact(_) | Work::Restore(_) => 0,
        }
    }
}

/// Runs until every sender is gone.
pub(super) fn run(
    shared: &Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    timer: &tokio::runtime::Runtime,
) {
    loop {
        let ticking = shared.leases.len() > 0;
        let next = timer.block_on(async {
            if ticking {
                tokio::time::timeout(LEASE_TICK, commands.recv())
                    .await
                    .map_or(Some(None), |next| next.map(Some))
            } else {
                commands.recv().await.map(Some)
            }
        });
        let Some(first) = next else { return };
        let mut bytes = first.as_ref().map_or(0, Command::bytes);
        let mut group: Vec<Command> = first.into_iter().collect();
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(command) = commands.try_recv() else { break };
            bytes = bytes.saturating_add(command.bytes());
            group.push(command);
        }
        let expired = shared.leases.expire(shared.clock.monotonic());
        if !group.is_empty() || !expired.is_empty() {
            write(shared, group, &expired);
        }
    }
}

/// Writes one group, then answers.
fn write(shared: &Shared, group: Vec<Command>, expired: &[LeaseId]) {
    let (generation, begun) = shared.file.begin_write();
    let mut reached = Revision::ZERO;
    let written = catch_unwind(AssertUnwindSafe(|| {
        let transaction = begun?;
        let staged = stage(shared, &transaction, &group, expired)?;
        reached = staged.revision;
        if staged.changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok::<_, redb::Error>(staged.done)
    }));
    let result = match written {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(shared.file.failure("write to", error)),
        Err(_panic) => Err(StoreError::corrupt(shared.file.path(), "its pages do not fit together")),
    };
    let done = match result {
        Ok(done) => done,
        Err(error) => {
            recover(shared, generation, &error);
            for command in group {
                reply(command, Err(error.clone()));
            }
            return;
        }
    };
    for lease in expired {
        shared.leases.forget(*lease);
    }
    for done in done.iter().flatten() {
        match done {
            Done::Granted { lease, ttl } => shared.leases.insert(*lease, *ttl, shared.clock.monotonic()),
            Done::Revoked(lease) => shared.leases.forget(*lease),
            Done::Restored(_) => shared.leases.clear(),
            Done::Outcome(_) | Done::Compacted => {}
        }
    }
    publish(shared, reached);
    for (command, done) in group.into_iter().zip(done) {
        reply(command, done);
    }
}

fn reply(command: Command, done: Result<Done, StoreError>) {
    // Whoever asked may have gone away: what was done stands.
    drop(command.answer.send(done));
}

fn publish(shared: &Shared, reached: Revision) {
    shared.revision.send_if_modified(|revision| {
        let later = reached > *revision;
        *revision = reached.max(*revision);
        later
    });
}

/// Opens the store again after `error`. What failed in its very last step may be there all the same; watchers see it
/// then, as they must.
fn recover(shared: &Shared, generation: u64, error: &StoreError) {
    tracing::error!(%error, "the store could not write");
    let found = shared.file.reopen(generation).and_then(|()| {
        shared.file.read(|transaction| Ok(counters(&transaction.open_table(STATE)?)?.revision))
    });
    match found {
        Ok(found) => publish(shared, found),
        Err(error) => tracing::error!(%error, "the store cannot be opened again yet"),
    }
}

struct Staged {
    done: Vec<Result<Done, StoreError>>,
    revision: Revision,
    changed: bool,
}

/// Brings a group into `transaction`. An error of one caller (a lease that is gone) is only that caller's.
fn stage(
    shared: &Shared,
    transaction: &WriteTransaction,
    group: &[Command],
    expired: &[LeaseId],
) -> Result<Staged, redb::Error> {
    let mut tables = Tables::open(transaction)?;
    let before = tables.counters;
    let mut changed = !expired.is_empty();
    for lease in expired {
        tables.end_lease(*lease)?;
    }
    let mut done = Vec::with_capacity(group.len());
    for command in group {
        let one = match &command.work {
            Work::Commit(transaction) => commit(shared, &mut tables, transaction)?,
            Work::Grant(ttl) => grant(&mut tables, *ttl)?,
            Work::Revoke(lease) if shared.leases.end(*lease) => {
                changed = true;
                tables.end_lease(*lease)?;
                Ok(Done::Revoked(*lease))
            }
            Work::Revoke(lease) => Err(StoreError::LeaseNotFound { lease: *lease }),
            Work::Compact(revision) if *revision > tables.counters.revision => {
                Err(StoreError::Ahead { asked: *revision, current: tables.counters.revision })
            }
            Work::Compact(revision) => {
                forget(&mut tables, *revision)?;
                Ok(Done::Compacted)
            }
            Work::Restore(snapshot) => Ok(Done::Restored(tables.replace(snapshot)?)),
        };
        done.push(one);
    }
    changed |= tables.counters != before;
    if changed {
        trim(&mut tables, shared.history, shared.clock.now())?;
        tables.write_counters()?;
    }
    Ok(Staged { done, revision: tables.counters.revision, changed })
}

type One = Result<Result<Done, StoreError>, redb::Error>;

fn commit(shared: &Shared, tables: &mut Tables<'_>, transaction: &Transaction) -> One {
    for operation in &transaction.operations {
        let Operation::Put { lease: Some(lease), .. } = operation else { continue };
        if !shared.leases.is_alive(*lease) || tables.leases.get(lease.0)?.is_none() {
            return Ok(Err(StoreError::LeaseNotFound { lease: *lease }));
        }
    }
    if let Some(key) = tables.conflict(&transaction.compares)? {
        return Ok(Ok(Done::Outcome(Outcome::Conflict { key })));
    }
    Ok(Ok(Done::Outcome(Outcome::Committed(tables.apply(&transaction.operations)?))))
}

fn grant(tables: &mut Tables<'_>, ttl: Duration) -> One {
    if tables.leases.len()? >= MAX_LEASES as u64 {
        return Ok(Err(StoreError::TooManyLeases));
    }
    let id = tables.counters.lease.saturating_add(1);
    tables.counters.lease = id;
    // At most 366 days.
    tables.leases.insert(id, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
    Ok(Ok(Done::Granted { lease: LeaseId(id), ttl }))
}
