//! Watchers: each reads the history from where it is, and waits for the next commit at its end.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use futures::stream::unfold;
use tokio::sync::watch as latest;

use super::Shared;
use super::history::{Chunk, read_after};
use crate::StoreError;
use crate::store::{Revision, WatchBatch, WatchStream};

struct Watcher {
    /// A watcher alone does not keep the store open.
    shared: Weak<Shared>,
    reached: latest::Receiver<Revision>,
    prefix: String,
    /// All up to and with this was read.
    read: Revision,
    ready: VecDeque<WatchBatch>,
    ended: bool,
}

pub(super) async fn watch(
    shared: &Arc<Shared>,
    prefix: &str,
    after: Revision,
) -> Result<WatchStream, StoreError> {
    let mut watcher = Watcher {
        shared: Arc::downgrade(shared),
        reached: shared.revision.subscribe(),
        prefix: prefix.to_owned(),
        read: after,
        ready: VecDeque::new(),
        ended: false,
    };
    // The first read is done here, so that a revision that cannot be watched is refused at once.
    watcher.fill(shared).await?;
    Ok(Box::pin(unfold(watcher, Watcher::next)))
}

impl Watcher {
    async fn fill(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        let (prefix, after) = (self.prefix.clone(), self.read);
        let Chunk { batches, upto } =
            shared.read(move |transaction| read_after(transaction, &prefix, after)).await??;
        self.ready.extend(batches);
        self.read = upto;
        Ok(())
    }

    async fn next(mut self) -> Option<(Result<WatchBatch, StoreError>, Self)> {
        if self.ended {
            return None;
        }
        match self.batch().await {
            Ok(batch) => Some((Ok(batch), self)),
            Err(error) => {
                self.ended = true;
                Some((Err(error), self))
            }
        }
    }

    async fn batch(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let read = self.read;
            self.reached.wait_for(|reached| *reached > read).await.map_err(|_gone| StoreError::Closed)?;
            let shared = self.shared.upgrade().ok_or(StoreError::Closed)?;
            self.fill(&shared).await?;
        }
    }
}
