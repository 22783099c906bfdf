//! The contract of stores, held by the one in a file.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod contract;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use nv_model::time::Timestamp;
use nv_store::{
    Change, History, RedbStore, Revision, SealedStore, SealingKeys, SecretFields, Store, StoreError,
    Transaction,
};
use nv_telemetry::ManualClock;

use crate::contract::Subject;

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

const SECRETS: &[SecretFields] = &[SecretFields { prefix: "registry/", names: &["password", "token"] }];

fn sealing(directory: &std::path::Path, store: Arc<dyn Store>) -> SealedStore {
    SealedStore::new(store, SealingKeys::open(&directory.join("secrets.key")).unwrap(), SECRETS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_seals_secrets_holds_the_contract_too() {
    contract::run(async || {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
        let store = RedbStore::open_with(directory.path(), History::default(), clock.clone()).unwrap();
        Subject {
            store: Arc::new(sealing(directory.path(), Arc::new(store))),
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
async fn secrets_are_in_the_clear_for_readers_and_watchers_and_nowhere_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let raw: Arc<dyn Store> = Arc::new(RedbStore::open(directory.path().join("store")).unwrap());
    let store = sealing(directory.path(), Arc::clone(&raw));
    let mut watch = store.watch("", Revision::ZERO).await.unwrap();
    let value = r#"{"list":[{"token":"hunter2"}],"name":"hub","password":"hunter1","token":""}"#;
    store.commit(Transaction::new().put("registry/hub", value).put("group/a", value)).await.unwrap();
    assert_eq!(store.get("registry/hub").await.unwrap().unwrap().value, value);
    let listed = store.list("").await.unwrap().entries;
    let held: Vec<_> = listed.iter().map(|entry| (entry.key.as_str(), entry.value == value)).collect();
    assert_eq!(held, [("group/a", true), ("registry/hub", true)]);
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.changes.len(), 2);
    assert!(batch.changes.iter().all(|change| matches!(change, Change::Put(entry) if entry.value == value)));
    let on_disk = raw.get("registry/hub").await.unwrap().unwrap().value;
    let on_disk = std::str::from_utf8(&on_disk).unwrap();
    assert!(on_disk.contains("hub") && !on_disk.contains("hunter"), "{on_disk}");
    let mut backup = Vec::new();
    store.commit(Transaction::new().delete("group/a")).await.unwrap();
    store.snapshot(&mut backup).await.unwrap();
    assert!(!backup.windows(6).any(|part| part == b"hunter"));
}

#[tokio::test]
async fn what_lay_in_the_clear_or_under_an_older_key_is_sealed_with_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let raw: Arc<dyn Store> = Arc::new(RedbStore::open(directory.path().join("store")).unwrap());
    let value = r#"{"password":"hunter1"}"#;
    raw.commit(Transaction::new().put("registry/hub", value)).await.unwrap();
    let store = sealing(directory.path(), Arc::clone(&raw));
    assert_eq!(
        store.get("registry/hub").await.unwrap().unwrap().value,
        value,
        "what lies in the clear is read"
    );
    assert_eq!((store.seal_all().await.unwrap(), store.seal_all().await.unwrap()), (1, 0));
    let first = raw.get("registry/hub").await.unwrap().unwrap().value;
    assert!(
        matches!(raw.watch("", Revision::ZERO).await, Err(StoreError::Compacted { .. })),
        "the history is gone"
    );

    let path = directory.path().join("secrets.key");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}\n{old}", "5a".repeat(32))).unwrap();
    let rotated = sealing(directory.path(), Arc::clone(&raw));
    assert_eq!(rotated.get("registry/hub").await.unwrap().unwrap().value, value, "older keys still open");
    assert_eq!((rotated.seal_all().await.unwrap(), rotated.seal_all().await.unwrap()), (1, 0));
    assert_ne!(raw.get("registry/hub").await.unwrap().unwrap().value, first);

    // The old key alone: everything is there but the secret, and its sealed form is left for the key's return.
    std::fs::write(&path, old).unwrap();
    let lost = sealing(directory.path(), Arc::clone(&raw));
    assert_eq!(lost.get("registry/hub").await.unwrap().unwrap().value, r#"{"password":""}"#);
    assert_eq!(lost.seal_all().await.unwrap(), 0);
    assert_eq!(rotated.get("registry/hub").await.unwrap().unwrap().value, value);
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
