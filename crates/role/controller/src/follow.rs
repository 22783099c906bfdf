//! Follows the store: a listing, then every commit after it, told to the hub in order.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use nv_store::{Change, Listing, Revision, Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::hub::Message;

/// Pause after a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);

/// What happened in the store.
#[derive(Debug)]
pub(crate) enum StoreNews {
    /// Everything, from the start.
    All(Listing),
    /// One commit.
    Commit(Revision, Vec<Change>),
}

/// Follows until `shutdown` or the hub is gone.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    mut after: Revision,
    hub: mpsc::Sender<Message>,
    shutdown: CancellationToken,
) {
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = follow(store.as_ref(), &mut after, &hub) => outcome,
        };
        match outcome {
            Ok(()) => return,
            // Too far behind, or another history: begin anew.
            Err(StoreError::Compacted { .. } | StoreError::Ahead { .. }) => match store.list("").await {
                Ok(listing) => {
                    after = listing.revision;
                    if hub.send(Message::Store(StoreNews::All(listing))).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) => tracing::warn!(%error, "the store cannot be listed"),
            },
            Err(error) => tracing::warn!(%error, "the store cannot be followed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn follow(
    store: &dyn Store,
    after: &mut Revision,
    hub: &mpsc::Sender<Message>,
) -> Result<(), StoreError> {
    let mut commits = store.watch("", *after).await?;
    while let Some(batch) = commits.next().await {
        let batch = batch?;
        *after = batch.revision;
        if hub.send(Message::Store(StoreNews::Commit(batch.revision, batch.changes))).await.is_err() {
            return Ok(());
        }
    }
    Err(StoreError::Closed)
}
