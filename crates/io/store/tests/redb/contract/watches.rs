use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{Checked, Subject, committed, next, put, values};
use nv_store::{Change, Revision, StoreError, Transaction};

pub(super) async fn a_watch_resumes_after_any_revision_without_gap_or_repeat(subject: Subject) -> Checked {
    let store = &*subject.store;
    let start = store.revision().await?;
    let mut want = Vec::new();
    for i in 0..20_u32 {
        let transaction = match i % 4 {
            0 => Transaction::new().put("w/a", i.to_string()).put("w/b", i.to_string()),
            1 => Transaction::new().put("other", "x"),
            2 => Transaction::new().put("w/c", i.to_string()).put("other", "y"),
            _ => Transaction::new().delete_prefix("w/"),
        };
        let revision = committed(store, transaction).await?;
        let keys = match i % 4 {
            0 => vec!["w/a", "w/b"],
            1 => continue,
            2 => vec!["w/c"],
            _ => vec!["w/a", "w/b", "w/c"],
        };
        want.push((revision, keys));
    }
    let end = store.revision().await?;
    for after in start.0..=end.0 {
        let mut watch = store.watch("w/", Revision(after)).await?;
        for (revision, keys) in want.iter().filter(|(revision, _)| revision.0 > after) {
            let batch = next(&mut watch).await?;
            let changed: Vec<&str> = batch.changes.iter().map(Change::key).collect();
            assert_eq!((batch.revision, &changed), (*revision, keys), "after {after}");
        }
        assert!(tokio::time::timeout(Duration::from_millis(5), watch.next()).await.is_err(), "after {after}");
    }
    Ok(())
}

pub(super) async fn a_live_watcher_gets_each_commit_below_its_prefix_once(subject: Subject) -> Checked {
    let listing = subject.store.list("w/").await?;
    let mut watch = subject.store.watch("w/", listing.revision).await?;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let store = Arc::clone(&subject.store);
        writers.push(tokio::spawn(async move {
            for i in 0..25 {
                put(&*store, &format!("w/{writer}/{i}"), "v").await?;
                put(&*store, &format!("v/{writer}/{i}"), "v").await?;
            }
            Checked::Ok(())
        }));
    }
    let mut seen = Vec::new();
    let mut last = listing.revision;
    while seen.len() < 100 {
        let batch = next(&mut watch).await?;
        assert!(batch.revision > last, "{} after {last}", batch.revision);
        last = batch.revision;
        seen.extend(batch.changes.iter().map(|change| change.key().to_owned()));
    }
    for writer in writers {
        writer.await??;
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().all(|key| key.starts_with("w/")));
    Ok(())
}

pub(super) async fn a_watch_after_a_forgotten_or_unreached_revision_is_refused(subject: Subject) -> Checked {
    let store = &*subject.store;
    for i in 0..10 {
        put(store, "k", &i.to_string()).await?;
    }
    let now = store.revision().await?;
    let oldest = Revision(now.0.saturating_sub(4));
    store.compact(oldest).await?;
    store.compact(Revision::ZERO).await?;
    let refused = store.watch("k", Revision(oldest.0.saturating_sub(1))).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Compacted { oldest: told }) if told == oldest), "{refused:?}");
    let mut watch = store.watch("k", oldest).await?;
    for back in (0..4).rev() {
        assert_eq!(next(&mut watch).await?.revision.0, now.0.saturating_sub(back));
    }
    let refused = store.watch("k", now.next()).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Ahead { current, .. }) if current == now), "{refused:?}");
    let refused = store.compact(now.next()).await;
    assert!(matches!(refused, Err(StoreError::Ahead { .. })), "{refused:?}");
    Ok(())
}

pub(super) async fn a_slow_watcher_holds_up_no_commit_and_is_told_when_it_fell_behind(
    subject: Subject,
) -> Checked {
    let store = &*subject.store;
    let start = store.revision().await?;
    let mut slow = store.watch("", start).await?;
    for i in 0..1000_u32 {
        let key = format!("k/{}", i % 10);
        tokio::time::timeout(Duration::from_secs(10), put(store, &key, &i.to_string())).await??;
    }
    let now = store.revision().await?;
    store.compact(Revision(now.0.saturating_sub(1))).await?;
    let oldest = loop {
        match slow.next().await.ok_or("the watch ended without a word")? {
            Ok(_) => {}
            Err(StoreError::Compacted { oldest }) => break oldest,
            Err(error) => return Err(error.into()),
        }
    };
    assert!(slow.next().await.is_none(), "a watch ends after its error");
    let listing = store.list("").await?;
    assert!(listing.revision >= oldest);
    let mut resumed = store.watch("", listing.revision).await?;
    let after = put(store, "k/last", "v").await?;
    assert_eq!(next(&mut resumed).await?.revision, after);
    Ok(())
}

pub(super) async fn compaction_keeps_every_entry(subject: Subject) -> Checked {
    let store = &*subject.store;
    for i in 0..20_u32 {
        put(store, &format!("k/{}", i % 5), &i.to_string()).await?;
    }
    let before = store.list("").await?;
    store.compact(before.revision).await?;
    assert_eq!(store.list("").await?, before);
    assert_eq!(values(&before.entries).len(), 5);
    Ok(())
}
