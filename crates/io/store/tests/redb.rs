//! The contract of stores, held by the one in a file.

#![expect(clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use nv_model::time::Timestamp;
use nv_store::contract::{self, Subject};
use nv_store::{History, RedbStore, Revision, Store, StoreError, Transaction};
use nv_telemetry::ManualClock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_a_file_holds_the_contract() {
    contract::run(async || {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
        let store = RedbStore::open_with(directory.path(), History::default(), clock.clone()).unwrap();
        Subject {
            store: Arc::new(store),
            pass: Arc::new(move |by| {
                clock.advance(by);
                Box::pin(std::future::ready(()))
            }),
            keep: Arc::new(directory),
        }
    })
    .await;
}

#[tokio::test]
async fn leases_start_anew_when_the_store_does_and_then_expire() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
    let open = || RedbStore::open_with(directory.path(), History::default(), clock.clone()).unwrap();
    let store = open();
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    store.commit(Transaction::new().put_leased("k", "v", lease)).await.unwrap();
    clock.advance(Duration::from_secs(9));
    drop(store);
    clock.advance(Duration::from_secs(60));
    let store = open();
    store.keep_alive(lease).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().lease, Some(lease));
    clock.advance(Duration::from_secs(11));
    for _ in 0..100 {
        if store.get("k").await.unwrap().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get("k").await.unwrap(), None);
    assert!(store.grant(Duration::from_secs(10)).await.unwrap() > lease);
}

/// After many commits, the oldest revision that can be watched after.
async fn oldest(store: &RedbStore) -> u64 {
    match store.watch("", Revision(0)).await.map(|_| ()) {
        Err(StoreError::Compacted { oldest }) => oldest.0,
        other => panic!("nothing was forgotten: {other:?}"),
    }
}

#[tokio::test]
async fn history_is_forgotten_by_count_by_size_and_by_age() {
    let long = Duration::from_secs(3600);
    let many = History { revisions: 80, bytes: u64::MAX / 2, age: long };
    let large = History { revisions: u64::MAX / 2, bytes: 50_000, age: long };
    let old = History { revisions: u64::MAX / 2, bytes: u64::MAX / 2, age: Duration::from_secs(100) };
    for (history, kept) in [(many, 80..=91), (large, 45..=60), (old, 100..=108)] {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
        let store = RedbStore::open_with(directory.path(), history, clock.clone()).unwrap();
        let mut watch = store.watch("", Revision(0)).await.unwrap();
        for i in 0..300_u32 {
            store.commit(Transaction::new().put(format!("k/{}", i % 7), vec![0; 950])).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        let kept_now = 300 - oldest(&store).await;
        assert!(kept.contains(&kept_now), "{history:?} keeps {kept_now} commits");
        assert_eq!(store.list("k/").await.unwrap().entries.len(), 7);
        let told = loop {
            if let Err(error) = watch.next().await.unwrap() {
                break error;
            }
        };
        assert!(matches!(told, StoreError::Compacted { .. }), "{told:?}");
    }
}

#[tokio::test]
async fn a_watch_ends_when_the_store_is_closed_and_the_directory_is_free_then() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed))));
    assert!(watch.next().await.is_none());
    RedbStore::open(directory.path()).unwrap();
}
