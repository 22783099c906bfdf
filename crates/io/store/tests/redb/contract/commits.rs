use std::sync::Arc;

use super::{Checked, Subject, committed, put, values};
use nv_store::{MAX_OPERATIONS, MAX_VALUE_BYTES, Outcome, Revision, StoreError, Transaction};

pub(super) async fn a_commit_raises_the_revision_by_one_and_stamps_its_entries(subject: Subject) -> Checked {
    let store = &*subject.store;
    let start = store.revision().await?;
    let first = put(store, "a", "1").await?;
    assert_eq!(first, start.next());
    let second = committed(store, Transaction::new().put("a", "2").put("b", "1")).await?;
    assert_eq!(second, first.next());
    let a = store.get("a").await?.ok_or("a is missing")?;
    assert_eq!((a.created, a.modified, &a.value[..]), (first, second, &b"2"[..]));
    let b = store.get("b").await?.ok_or("b is missing")?;
    assert_eq!((b.created, b.modified), (second, second));
    committed(store, Transaction::new().delete("a")).await?;
    assert_eq!(store.get("a").await?, None);
    let again = put(store, "a", "3").await?;
    let a = store.get("a").await?.ok_or("a is missing")?;
    assert_eq!(a.created, again, "a key that was deleted is created anew");
    assert_eq!(store.revision().await?, again);
    Ok(())
}

pub(super) async fn a_commit_that_changes_nothing_raises_no_revision(subject: Subject) -> Checked {
    let store = &*subject.store;
    let at = put(store, "a", "1").await?;
    for nothing in [
        Transaction::new(),
        Transaction::new().expect_exists("a"),
        Transaction::new().delete("missing"),
        Transaction::new().delete_prefix("missing/"),
    ] {
        assert_eq!(committed(store, nothing.clone()).await?, at, "{nothing:?}");
    }
    assert_eq!(put(store, "a", "1").await?, at.next(), "a put of the same value is a change");
    Ok(())
}

pub(super) async fn a_transaction_happens_whole_or_not_at_all(subject: Subject) -> Checked {
    let store = &*subject.store;
    let old = put(store, "a", "1").await?;
    let now = put(store, "a", "2").await?;
    let write = || Transaction::new().put("x", "1").put("y", "1").delete("a");
    for (transaction, key) in [
        (write().expect_absent("a"), "a"),
        (write().expect_exists("missing"), "missing"),
        (write().expect_modified("a", old), "a"),
        (write().expect_modified("missing", now), "missing"),
        (write().expect_modified("missing", Revision::ZERO), "missing"),
        (write().expect_modified("a", now).expect_absent("missing").expect_exists("x"), "x"),
    ] {
        let outcome = store.commit(transaction.clone()).await?;
        assert_eq!(outcome, Outcome::Conflict { key: key.to_owned() }, "{transaction:?}");
        assert_eq!(values(&store.list("").await?.entries), [("a".to_owned(), "2".to_owned())]);
    }
    assert_eq!(store.revision().await?, now, "a conflict is no commit");
    let whole = write().expect_modified("a", now).expect_exists("a").expect_absent("x");
    assert_eq!(committed(store, whole).await?, now.next());
    let keys: Vec<String> = store.list("").await?.entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["x", "y"]);
    Ok(())
}

pub(super) async fn a_transaction_over_its_bounds_is_refused_and_one_at_them_is_not_split(
    subject: Subject,
) -> Checked {
    let store = &*subject.store;
    let start = store.revision().await?;
    let wide = |count: usize| (0..count).fold(Transaction::new(), |all, i| all.put(format!("k/{i:05}"), "v"));
    let refused = store.commit(wide(MAX_OPERATIONS.saturating_add(1))).await;
    assert!(matches!(refused, Err(StoreError::TooManyOperations { .. })), "{refused:?}");
    let refused = store.commit(Transaction::new().put("k", vec![0; MAX_VALUE_BYTES.saturating_add(1)])).await;
    assert!(matches!(refused, Err(StoreError::ValueTooLarge { .. })), "{refused:?}");
    let refused = store.commit(Transaction::new().put("k".repeat(1025), "v")).await;
    assert!(matches!(refused, Err(StoreError::Key { .. })), "{refused:?}");
    let refused = store.commit(Transaction::new().put("k", "1").put("k", "2")).await;
    assert!(matches!(refused, Err(StoreError::Overlap { .. })), "{refused:?}");
    assert_eq!(store.revision().await?, start);

    let whole = committed(store, wide(MAX_OPERATIONS)).await?;
    assert_eq!(whole, start.next());
    let listing = store.list("k/").await?;
    assert_eq!(listing.entries.len(), MAX_OPERATIONS);
    assert!(listing.entries.iter().all(|entry| entry.created == whole));
    put(store, &"k".repeat(1024), "v").await?;
    committed(store, Transaction::new().put("large", vec![7; MAX_VALUE_BYTES])).await?;
    let large = store.get("large").await?.ok_or("large is missing")?;
    assert_eq!(large.value.len(), MAX_VALUE_BYTES);
    Ok(())
}

pub(super) async fn concurrent_compare_and_put_loses_no_update(subject: Subject) -> Checked {
    put(&*subject.store, "count", "0").await?;
    let mut writers = Vec::new();
    for _ in 0..8 {
        let store = Arc::clone(&subject.store);
        writers.push(tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let entry = store.get("count").await?.ok_or("count is missing")?;
                    let count: u64 = std::str::from_utf8(&entry.value)?.parse()?;
                    let next = Transaction::new()
                        .expect_modified("count", entry.modified)
                        .put("count", count.saturating_add(1).to_string());
                    if store.commit(next).await?.committed().is_some() {
                        break;
                    }
                }
            }
            Checked::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let entry = subject.store.get("count").await?.ok_or("count is missing")?;
    assert_eq!(&entry.value[..], b"80");
    Ok(())
}

pub(super) async fn a_listing_has_what_begins_with_the_prefix_in_order(subject: Subject) -> Checked {
    let store = &*subject.store;
    let mut last = Revision::ZERO;
    for key in ["group/b", "group/a", "group", "group0", "groups/x", "group/ä", "node/1", "group/a/b"] {
        last = put(store, key, key).await?;
    }
    for (prefix, want) in [
        ("group/", vec!["group/a", "group/a/b", "group/b", "group/ä"]),
        ("group/a", vec!["group/a", "group/a/b"]),
        ("node/", vec!["node/1"]),
        ("none/", vec![]),
        ("", vec!["group", "group/a", "group/a/b", "group/b", "group/ä", "group0", "groups/x", "node/1"]),
    ] {
        let listing = store.list(prefix).await?;
        let keys: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!((keys, listing.revision), (want, last), "prefix {prefix:?}");
    }
    Ok(())
}

pub(super) async fn a_prefix_is_deleted_in_one_revision(subject: Subject) -> Checked {
    let store = &*subject.store;
    for key in ["p/1", "p/2", "p", "q/1"] {
        put(store, key, "v").await?;
    }
    let before = store.revision().await?;
    let at = committed(store, Transaction::new().delete_prefix("p/").put("q/2", "v")).await?;
    assert_eq!(at, before.next());
    let keys: Vec<String> = store.list("").await?.entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["p", "q/1", "q/2"]);
    Ok(())
}
