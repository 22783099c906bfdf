use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nv_store::{EventLog, Outcome, RedbStore, Retention, Store, StoreError, Transaction};

use crate::{event, next_number, output, start};

/// Eight writers; each acknowledged commit is printed, with two keys that must be there together.
pub(crate) fn commit_for_ever(directory: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(directory).unwrap());
        let next = Arc::new(AtomicU64::new(1));
        let writers = (0..8).map(|_| {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::SeqCst);
                    let both = Transaction::new()
                        .put(format!("a/{i}"), i.to_string())
                        .put(format!("b/{i}"), i.to_string());
                    let outcome = store.commit(both).await.unwrap();
                    assert!(matches!(outcome, Outcome::Committed(_)));
                    println!("acknowledged {i}");
                }
            })
        });
        futures::future::join_all(writers).await;
    });
}

pub(crate) fn append_for_ever(directory: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = EventLog::open(directory, Retention::default()).unwrap();
        for i in log.last_sequence() + 1.. {
            assert_eq!(log.append(&[event(i)]).unwrap(), i);
            if i % 10 == 0 {
                log.flush().await.unwrap();
            }
            println!("acknowledged {i}");
        }
    });
}

pub(crate) fn hold_open(directory: &Path) {
    let _store = RedbStore::open(directory).unwrap();
    println!("acknowledged 1");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[tokio::test]
async fn a_store_whose_process_was_killed_has_every_acknowledged_commit_whole() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let place = directory.path().join(round.to_string());
        let mut child = start("commit", &place, None);
        let mut lines = output(&mut child);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 200 {
            acknowledged.push(next_number(&mut lines, "acknowledged").expect("the child goes on"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(std::iter::from_fn(|| next_number(&mut lines, "acknowledged")));

        let store = RedbStore::open(&place).unwrap();
        let (a, b) = (store.list("a/").await.unwrap(), store.list("b/").await.unwrap());
        for i in &acknowledged {
            let entry = a.entries.iter().find(|entry| entry.key == format!("a/{i}"));
            assert!(entry.is_some(), "round {round}: {i} of {} was lost", acknowledged.len());
        }
        let tail = |keys: &[nv_store::Entry]| -> Vec<String> {
            keys.iter().map(|entry| entry.key.get(1..).unwrap().to_owned()).collect()
        };
        assert_eq!(tail(&a.entries), tail(&b.entries), "a transaction was torn");
        assert_eq!(a.revision.0, a.entries.len() as u64, "each commit has one revision");
        let outcome = store.commit(Transaction::new().put("after", "1")).await.unwrap();
        assert_eq!(outcome.committed(), Some(a.revision.next()));
    }
}

#[tokio::test]
async fn a_log_whose_process_was_killed_has_every_record_and_goes_on_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..5 {
        let mut child = start("append", directory.path(), None);
        let mut lines = output(&mut child);
        for _ in 0..300 {
            last = next_number(&mut lines, "acknowledged").expect("the child goes on");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(i) = next_number(&mut lines, "acknowledged") {
            last = i;
        }
        let log = EventLog::open(directory.path(), Retention::default()).unwrap();
        assert!(log.last_sequence() >= last, "round {round}: {} of {last} are left", log.last_sequence());
        let found = log.since(last.saturating_sub(200), 200).await.unwrap();
        assert!(found.iter().all(|(sequence, record)| *record == event(*sequence)));
        assert_eq!((found.len(), log.counters().damaged), (200, 0));
    }
}

#[test]
fn a_second_process_is_told_which_one_has_the_directory_until_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start("hold", directory.path(), None);
    let mut lines = output(&mut child);
    next_number(&mut lines, "acknowledged").expect("the child opens the store");
    let refused = RedbStore::open(directory.path()).expect_err("it is in use");
    let want = format!("state directory {} is in use by process {}", directory.path().display(), child.id());
    assert!(refused.to_string().starts_with(&want), "{refused}");
    assert!(matches!(refused, StoreError::InUse { .. }));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(RedbStore::open(directory.path()).is_ok());
}
