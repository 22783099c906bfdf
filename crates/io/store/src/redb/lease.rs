//! Which leases live, until when.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::LeaseId;

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    /// On the monotonic clock.
    deadline: Duration,
    /// It expired or was revoked; its keys go with the next commit that succeeds.
    ending: bool,
}

/// Deadlines are in memory alone: keeping a lease alive writes nothing, and a restart starts every lease anew.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<LeaseId, Lease>>);

impl Leases {
    fn held(&self) -> MutexGuard<'_, HashMap<LeaseId, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn len(&self) -> usize {
        self.held().len()
    }
    pub(super) fn insert(&self, id: LeaseId, ttl: Duration, now: Duration) {
        let lease = Lease { ttl, deadline: now.saturating_add(ttl), ending: false };
        self.held().insert(id, lease);
    }
    pub(super) fn is_alive(&self, id: LeaseId) -> bool {
        self.held().get(&id).is_some_and(|lease| !lease.ending)
    }
    /// Starts its time again; `false` when it is no more.
    pub(super) fn keep_alive(&self, id: LeaseId, now: Duration) -> bool {
        match self.held().get_mut(&id) {
            Some(lease) if !lease.ending && lease.deadline > now => {
                lease.deadline = now.saturating_add(lease.ttl);
                true
            }
            _ => false,
        }
    }
    /// From here on it is no more for anyone who asks; `false` when it was not before either.
    pub(super) fn end(&self, id: LeaseId) -> bool {
        match self.held().get_mut(&id) {
            Some(lease) if !lease.ending => {
                lease.ending = true;
                true
            }
            _ => false,
        }
    }
    /// Ends what is past its deadline, and returns all that end, the oldest first.
    pub(super) fn expire(&self, now: Duration) -> Vec<LeaseId> {
        let mut ended = Vec::new();
        for (id, lease) in self.held().iter_mut() {
            lease.ending |= lease.deadline <= now;
            if lease.ending {
                ended.push(*id);
            }
        }
        ended.sort_unstable();
        ended
    }
    /// Forgets one whose keys are gone.
    pub(super) fn forget(&self, id: LeaseId) {
        self.held().remove(&id);
    }
    pub(super) fn clear(&self) {
        self.held().clear();
    }
}
