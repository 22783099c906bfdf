//! Leadership on top of transactions, watches and leases, the same for every backend.
//!
//! Whoever put `election/<name>` first, with a live lease, leads. The key's created revision is the fencing token:
//! it grows with every new leader, and a write guarded by [`Leadership::guard`] fails once another leads.

use std::collections::VecDeque;
use std::pin::Pin;

use futures::stream::{Stream, StreamExt, unfold};

use crate::store::{Change, Entry, LeaseId, Revision, Store, WatchStream};
use crate::transaction::{Compare, validate_key};
use crate::{Outcome, StoreError, Transaction};

/// A leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Of what.
    pub name: String,
    /// Who.
    pub candidate: String,
    /// Grows with every new leader of this name.
    pub token: Revision,
    /// Ends with this lease.
    pub lease: LeaseId,
}

impl Leadership {
    /// Holds as long as this leader leads: put it into every transaction that only the leader may do.
    #[must_use]
    pub fn guard(&self) -> Compare {
        Compare::Modified { key: key(&self.name), revision: self.token }
    }

    fn from_entry(name: &str, entry: &Entry) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            candidate: String::from_utf8_lossy(&entry.value).into_owned(),
            token: entry.created,
            lease: entry.lease?,
        })
    }
}

/// The leader now, `None` for nobody, and each change.
pub type LeaderStream = Pin<Box<dyn Stream<Item = Result<Option<Leadership>, StoreError>> + Send>>;

fn key(name: &str) -> String {
    format!("election/{name}")
}

pub(crate) async fn campaign<S: Store + ?Sized>(
    store: &S,
    name: &str,
    candidate: &str,
    lease: LeaseId,
) -> Result<Leadership, StoreError> {
    let key = key(name);
    validate_key(&key)?;
    loop {
        let claim = Transaction::new().expect_absent(key.as_str()).put_leased(
            key.as_str(),
            candidate.to_owned().into_bytes(),
            lease,
        );
        if let Outcome::Committed(token) = store.commit(claim).await? {
            return Ok(Leadership { name: name.to_owned(), candidate: candidate.to_owned(), token, lease });
        }
        let held = store.list(&key).await?;
        let Some(entry) = held.entries.iter().find(|entry| entry.key == key) else { continue };
        match Leadership::from_entry(name, entry) {
            // An earlier call won, and its answer was lost.
            Some(leader) if leader.lease == lease && leader.candidate == candidate => return Ok(leader),
            _ => {}
        }
        let mut changes = store.watch(&key, held.revision).await?;
        wait_for_delete(&key, &mut changes).await?;
    }
}

/// Returns when the key was deleted, or when only another look can tell.
async fn wait_for_delete(key: &str, changes: &mut WatchStream) -> Result<(), StoreError> {
    while let Some(batch) = changes.next().await {
        match batch {
            Ok(batch) => {
                if batch
                    .changes
                    .iter()
                    .any(|change| matches!(change, Change::Delete { key: gone } if gone == key))
                {
                    return Ok(());
                }
            }
            Err(StoreError::Compacted { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Closed)
}

pub(crate) async fn resign<S: Store + ?Sized>(store: &S, leadership: &Leadership) -> Result<(), StoreError> {
    store.commit(Transaction::new().expect_that(leadership.guard()).delete(key(&leadership.name))).await?;
    Ok(())
}

pub(crate) async fn observe<S: Store + ?Sized>(store: &S, name: &str) -> Result<LeaderStream, StoreError> {
    let key = key(name);
    validate_key(&key)?;
    let now = store.list(&key).await?;
    let leader = now.entries.iter().find(|entry| entry.key == key);
    let first = leader.and_then(|entry| Leadership::from_entry(name, entry));
    let changes = store.watch(&key, now.revision).await?;
    let pending = VecDeque::from([Ok(first)]);
    let state = (changes, pending, key, name.to_owned());
    Ok(Box::pin(unfold(state, |(mut changes, mut pending, key, name)| async move {
        loop {
            if let Some(item) = pending.pop_front() {
                return Some((item, (changes, pending, key, name)));
            }
            match changes.next().await? {
                Ok(batch) => pending.extend(batch.changes.iter().filter_map(|change| match change {
                    Change::Put(entry) if entry.key == key => Some(Ok(Leadership::from_entry(&name, entry))),
                    Change::Delete { key: gone } if *gone == key => Some(Ok(None)),
                    Change::Put(_) | Change::Delete { .. } => None,
                })),
                Err(error) => pending.push_back(Err(error)),
            }
        }
    })))
}
