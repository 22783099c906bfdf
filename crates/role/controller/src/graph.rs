//! The graph of conversations, shared: the hub writes, everyone reads.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nv_graph::graph::{Checkpoint, Graph, Limits};

/// A graph behind a lock that is held for the time of one look only.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedGraph(Arc<RwLock<Graph>>);

impl SharedGraph {
    // A panic while the lock was held leaves a graph that may lack one connection: it is still of use.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Graph> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Graph> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn restore(&self, checkpoint: Checkpoint) {
        *self.write() = Graph::restore(checkpoint, Limits::default());
    }
}
