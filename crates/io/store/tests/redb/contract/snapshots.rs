use std::time::Duration;

use futures::StreamExt;

use super::{Checked, Subject, committed, put};
use nv_store::{StoreError, Transaction};

pub(super) async fn a_snapshot_restores_every_entry_into_an_empty_store(subject: Subject) -> Checked {
    let store = &*subject.store;
    for i in 0..300_u32 {
        let value = vec![u8::try_from(i % 251)?; usize::try_from(i.saturating_mul(37))?];
        committed(store, Transaction::new().put(format!("k/{}", i % 100), value)).await?;
    }
    let before = store.list("").await?;
    let mut snapshot = Vec::new();
    let taken = store.snapshot(&mut snapshot).await?;
    assert_eq!((taken.revision, taken.entries), (before.revision, 100));
    committed(store, Transaction::new().delete_prefix("")).await?;
    put(store, "later", "x").await?;
    let at = store.revision().await?;
    assert_eq!(store.restore(&mut snapshot.as_slice()).await?, at.next());
    let after = store.list("").await?;
    assert_eq!((after.entries, after.revision), (before.entries, at.next()));
    let mut again = Vec::new();
    store.snapshot(&mut again).await?;
    assert_eq!(
        again.get(16..again.len().saturating_sub(32)),
        snapshot.get(16..snapshot.len().saturating_sub(32))
    );
    Ok(())
}

pub(super) async fn a_restore_replaces_everything_and_tells_watchers_and_leases(subject: Subject) -> Checked {
    let store = &*subject.store;
    let lease = store.grant(Duration::from_secs(3600)).await?;
    committed(store, Transaction::new().put("kept", "1").put_leased("leased", "1", lease)).await?;
    let mut snapshot = Vec::new();
    assert_eq!(store.snapshot(&mut snapshot).await?.entries, 1, "what belongs to a lease is not in it");
    let at = put(store, "later", "1").await?;
    let mut watch = store.watch("", at).await?;
    let restored = store.restore(&mut snapshot.as_slice()).await?;
    let told = tokio::time::timeout(Duration::from_secs(10), watch.next()).await?;
    assert!(matches!(told, Some(Err(StoreError::Compacted { oldest })) if oldest == restored), "{told:?}");
    let keys: Vec<String> = store.list("").await?.entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["kept"]);
    let refused = store.keep_alive(lease).await;
    assert!(matches!(refused, Err(StoreError::LeaseNotFound { .. })), "{refused:?}");
    assert_eq!(put(store, "kept", "2").await?, restored.next());
    Ok(())
}

pub(super) async fn a_damaged_snapshot_changes_nothing(subject: Subject) -> Checked {
    let store = &*subject.store;
    put(store, "a", "1").await?;
    let mut snapshot = Vec::new();
    store.snapshot(&mut snapshot).await?;
    let before = store.list("").await?;
    let short = snapshot.get(..snapshot.len().saturating_sub(1)).unwrap_or_default();
    for broken in [short, b"", b"not a snapshot at all"] {
        let refused = store.restore(&mut &*broken).await;
        assert!(matches!(refused, Err(StoreError::Snapshot { .. })), "{refused:?}");
        assert_eq!(store.list("").await?, before);
    }
    Ok(())
}
