//! Following on and on.

use std::pin::pin;
use std::time::Duration;

use crate::StoreError;

/// How long it is until what has ended begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// Has `follow` begin anew whenever it ends, until `shutdown`. `what` is followed, for the log.
pub async fn keep_following<F>(what: &str, shutdown: impl Future<Output = ()>, mut follow: impl FnMut() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            outcome = follow() => {
                if let Err(error) = outcome {
                    tracing::warn!(%error, what, "a watch of the store ended; it starts again");
                }
            }
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
