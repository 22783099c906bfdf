use std::path::Path;

use futures::StreamExt;
use nv_store::{EventLog, Outcome, RedbStore, Retention, Store, StoreError, Transaction};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{event, next_number, output, start};

/// Larger than an empty store, and reached within a second.
const LIMIT: u64 = 4 * 1024 * 1024;

/// As if somebody had made space.
fn lift_limit() {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
}

/// Commits until the file may not grow, and checks what is promised then.
pub(crate) fn fill_store(directory: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = RedbStore::open(directory).unwrap();
        let start = store.revision().await.unwrap();
        let mut watch = store.watch("k/", start).await.unwrap();
        let mut acknowledged = 0_u64;
        let put = |i: u64| Transaction::new().put(format!("k/{i:06}"), vec![b'v'; 20_000]);
        let error = loop {
            match store.commit(put(acknowledged)).await {
                Ok(Outcome::Committed(_)) => acknowledged += 1,
                Ok(conflict) => panic!("{conflict:?}"),
                Err(error) => break error,
            }
            assert!(acknowledged < 10_000, "the limit is never reached");
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().contains("store.redb") && error.is_retryable(), "{error}");
        for _ in 0..3 {
            let again = store.commit(put(acknowledged)).await.expect_err("it is still full");
            assert!(matches!(again, StoreError::Full { .. }), "{again:?}");
            let listing = store.list("k/").await.unwrap();
            assert_eq!(listing.entries.len() as u64, acknowledged, "reading goes on");
        }
        for _ in 0..acknowledged {
            watch.next().await.unwrap().unwrap();
        }
        lift_limit();
        for i in acknowledged..acknowledged + 50 {
            assert!(matches!(store.commit(put(i)).await, Ok(Outcome::Committed(_))), "writing goes on");
        }
        assert!(watch.next().await.unwrap().is_ok(), "watching goes on");
        println!("acknowledged {}", acknowledged + 50);
    });
}

pub(crate) fn fill_log(directory: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let retention = Retention { max_bytes: 1024 * 1024 * 1024, ..Retention::default() };
        let log = EventLog::open(directory, retention).unwrap();
        let mut next = 1;
        let error = loop {
            match log.append(&[event(next)]) {
                Ok(last) => assert_eq!(last, next),
                Err(error) => break error,
            }
            next += 1;
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(log.append(&[event(next)]).is_err());
        assert_eq!(log.last_sequence(), next - 1);
        assert_eq!(log.since(next - 11, 100).await.unwrap().len(), 10, "reading goes on");
        lift_limit();
        assert_eq!(log.append(&[event(next)]).unwrap(), next, "writing goes on without a gap");
        println!("acknowledged {next}");
    });
}

#[tokio::test]
async fn a_store_on_a_full_disk_says_so_reads_on_loses_nothing_and_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start("fill-store", directory.path(), Some(LIMIT));
    let mut lines = output(&mut child);
    let acknowledged = next_number(&mut lines, "acknowledged").expect("the child's checks hold");
    assert!(child.wait().unwrap().success());
    let store = RedbStore::open(directory.path()).unwrap();
    let listing = store.list("k/").await.unwrap();
    assert_eq!(listing.entries.len() as u64, acknowledged);
    assert_eq!(listing.revision.0, acknowledged);
    assert!(listing.entries.iter().all(|entry| entry.value.len() == 20_000));
}

#[tokio::test]
async fn a_log_on_a_full_disk_says_so_reads_on_loses_nothing_and_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start("fill-log", directory.path(), Some(LIMIT));
    let mut lines = output(&mut child);
    let acknowledged = next_number(&mut lines, "acknowledged").expect("the child's checks hold");
    assert!(child.wait().unwrap().success());
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    assert_eq!((log.last_sequence(), log.counters().damaged), (acknowledged, 0));
    let mut after = 0;
    while after < acknowledged {
        let page = log.since(after, 1000).await.unwrap();
        for (sequence, record) in page {
            after += 1;
            assert_eq!((sequence, record), (after, event(after)));
        }
    }
}
