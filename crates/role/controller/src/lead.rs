//! Who leads: one controller decides, every one answers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use nv_model::name::ControllerId;
use nv_store::{Compare, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the election.
const ELECTION: &str = "controller";
/// Life of the lease: a leader that is gone is replaced after this.
const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is renewed.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// Pause after a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);

/// Campaigns until `shutdown`, then gives the lead back. `lead` holds the guard while this controller leads.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    id: ControllerId,
    lead: watch::Sender<Option<Compare>>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let term = term(store.as_ref(), &id, &lead, &shutdown).await;
        lead.send_replace(None);
        if let Err(error) = term {
            tracing::warn!(%error, "the lead is not held");
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

async fn term(
    store: &dyn Store,
    id: &ControllerId,
    lead: &watch::Sender<Option<Compare>>,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    // The lease of an earlier process of this same controller: it was killed, so it does not lead any more.
    if let Some(Ok(Some(held))) = store.observe(ELECTION).await?.next().await
        && held.candidate == id.as_str()
    {
        match store.revoke(held.lease).await {
            Ok(()) | Err(StoreError::LeaseNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let lease = store.grant(LEASE).await?;
    let leadership = {
        let campaign = store.campaign(ELECTION, id.as_str(), lease);
        tokio::pin!(campaign);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return store.revoke(lease).await,
                won = &mut campaign => break won?,
                () = tokio::time::sleep(KEEP_ALIVE) => store.keep_alive(lease).await?,
            }
        }
    };
    lead.send_replace(Some(leadership.guard()));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => {
                lead.send_replace(None);
                store.resign(&leadership).await?;
                return store.revoke(lease).await;
            }
            () = tokio::time::sleep(KEEP_ALIVE) => store.keep_alive(lease).await?,
        }
    }
}
