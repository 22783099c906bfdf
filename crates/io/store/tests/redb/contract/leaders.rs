use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{Checked, Subject};
use nv_store::{LeaderStream, Leadership, Outcome, Store, StoreError, Transaction};

const TTL: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(3600);

type Campaign = tokio::task::JoinHandle<Result<Leadership, StoreError>>;

fn campaign(store: &Arc<dyn Store>, candidate: &'static str, lease: nv_store::LeaseId) -> Campaign {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.campaign("leader", candidate, lease).await })
}

pub(super) async fn one_candidate_leads_and_the_next_follows_when_it_resigns(subject: Subject) -> Checked {
    let store = &*subject.store;
    let (a, b) = (store.grant(LONG).await?, store.grant(LONG).await?);
    let first = store.campaign("leader", "a", a).await?;
    assert_eq!((first.candidate.as_str(), first.lease), ("a", a));
    assert_eq!(store.campaign("leader", "a", a).await?, first, "asking again changes nothing");
    let waiting = campaign(&subject.store, "b", b);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "b waits while a leads");
    let elsewhere = store.campaign("other", "b", b).await?;
    assert_eq!(elsewhere.name, "other", "names are apart");
    store.resign(&first).await?;
    let second = tokio::time::timeout(Duration::from_secs(10), waiting).await???;
    assert_eq!(second.candidate, "b");
    assert!(second.token > first.token);
    store.resign(&first).await?;
    let guarded = store.commit(Transaction::new().expect_that(second.guard()).put("x", "1")).await?;
    assert!(guarded.committed().is_some(), "a late resignation of the first does not touch the second");
    Ok(())
}

pub(super) async fn the_leader_is_replaced_when_its_lease_expires_and_its_guard_fails(
    subject: Subject,
) -> Checked {
    let store = &*subject.store;
    let (a, b) = (store.grant(TTL).await?, store.grant(LONG).await?);
    let first = store.campaign("leader", "a", a).await?;
    let write = |leader: &Leadership| Transaction::new().expect_that(leader.guard()).put("x", "1");
    assert!(store.commit(write(&first)).await?.committed().is_some());
    let waiting = campaign(&subject.store, "b", b);
    (subject.pass)(TTL.saturating_add(Duration::from_secs(1))).await;
    let second = tokio::time::timeout(Duration::from_secs(10), waiting).await???;
    assert!(second.token > first.token);
    let refused = store.commit(write(&first)).await?;
    assert!(matches!(refused, Outcome::Conflict { .. }), "the first wrote after it was replaced");
    assert!(store.commit(write(&second)).await?.committed().is_some());
    let refused = store.campaign("other", "a", a).await;
    assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
    Ok(())
}

pub(super) async fn observers_see_every_leader(subject: Subject) -> Checked {
    async fn leader(
        stream: &mut LeaderStream,
    ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await?;
        Ok(next.ok_or("the stream ended")??.map(|leader| leader.candidate))
    }
    let store = &*subject.store;
    let lease = store.grant(LONG).await?;
    let mut seen = store.observe("leader").await?;
    assert_eq!(leader(&mut seen).await?, None);
    let first = store.campaign("leader", "a", lease).await?;
    assert_eq!(leader(&mut seen).await?.as_deref(), Some("a"));
    let other = store.campaign("leader2", "z", lease).await?;
    assert_eq!(other.candidate, "z", "a name that begins like another is apart");
    store.resign(&first).await?;
    assert_eq!(leader(&mut seen).await?, None);
    store.campaign("leader", "b", lease).await?;
    assert_eq!(leader(&mut seen).await?.as_deref(), Some("b"));
    let mut late = store.observe("leader").await?;
    assert_eq!(leader(&mut late).await?.as_deref(), Some("b"));
    Ok(())
}
