use std::time::Duration;

use super::{Checked, Subject, committed, gone, next, put};
use nv_store::{Change, LeaseId, StoreError, Transaction};

const TTL: Duration = Duration::from_secs(2);

pub(super) async fn a_lease_that_expires_deletes_its_keys_in_one_watched_commit(subject: Subject) -> Checked {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    let leased =
        Transaction::new().put_leased("l/a", "1", lease).put_leased("l/b", "1", lease).put("l/c", "1");
    let at = committed(store, leased).await?;
    let entry = store.get("l/a").await?.ok_or("l/a is missing")?;
    assert_eq!(entry.lease, Some(lease));
    let mut watch = store.watch("l/", at).await?;
    (subject.pass)(TTL.saturating_add(Duration::from_secs(1))).await;
    let batch = next(&mut watch).await?;
    let want: Vec<Change> = ["l/a", "l/b"].map(|key| Change::Delete { key: key.to_owned() }).into();
    assert_eq!((batch.revision, batch.changes), (at.next(), want));
    let left = store.list("l/").await?;
    assert_eq!(left.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["l/c"]);
    let refused = store.keep_alive(lease).await;
    assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
    Ok(())
}

pub(super) async fn a_lease_lives_as_long_as_it_is_kept_alive(subject: Subject) -> Checked {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    committed(store, Transaction::new().put_leased("l/a", "1", lease)).await?;
    for _ in 0..4 {
        (subject.pass)(TTL / 2).await;
        store.keep_alive(lease).await?;
    }
    assert!(store.get("l/a").await?.is_some(), "kept alive for twice its time");
    (subject.pass)(TTL.saturating_add(Duration::from_secs(1))).await;
    gone(store, "l/a").await
}

pub(super) async fn a_lease_that_ended_takes_no_more_keys(subject: Subject) -> Checked {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    committed(store, Transaction::new().put_leased("l/a", "1", lease)).await?;
    store.revoke(lease).await?;
    assert_eq!(store.get("l/a").await?, None, "its keys are gone when it is revoked");
    let before = store.revision().await?;
    for lease in [lease, LeaseId(987_654)] {
        let refused = store.commit(Transaction::new().put("x", "1").put_leased("l/a", "2", lease)).await;
        assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
        let refused = store.revoke(lease).await;
        assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
        let refused = store.keep_alive(lease).await;
        assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
    }
    assert_eq!((store.get("x").await?, store.revision().await?), (None, before));
    assert_ne!(store.grant(TTL).await?, lease, "an id is never given twice");
    Ok(())
}

pub(super) async fn a_key_put_without_its_lease_outlives_it(subject: Subject) -> Checked {
    let store = &*subject.store;
    let (first, second) = (store.grant(TTL).await?, store.grant(TTL).await?);
    let both = Transaction::new().put_leased("l/a", "1", first).put_leased("l/b", "1", first);
    committed(store, both).await?;
    put(store, "l/a", "2").await?;
    committed(store, Transaction::new().put_leased("l/b", "2", second)).await?;
    store.revoke(first).await?;
    assert_eq!(store.list("l/").await?.entries.len(), 2);
    store.revoke(second).await?;
    let left = store.list("l/").await?;
    assert_eq!(left.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["l/a"]);
    Ok(())
}

pub(super) async fn a_time_to_live_out_of_range_is_refused(subject: Subject) -> Checked {
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(367 * 24 * 3600)] {
        let refused = subject.store.grant(ttl).await;
        assert!(matches!(refused, Err(StoreError::LeaseTtl { .. })), "{ttl:?}: {refused:?}");
    }
    Ok(())
}
