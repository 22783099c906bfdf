//! The store does what a few maps in memory do, over any sequence of operations and restarts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use futures::StreamExt;
use nv_store::{
    Change, Compare, Entry, Operation, Outcome, RedbStore, Revision, Store, StoreError, Transaction,
    WatchBatch,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(Transaction),
    Compact(u64),
    Restart,
    RestoreOwnSnapshot,
}

/// The store as it should be.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    revision: u64,
    compacted: u64,
    history: Vec<WatchBatch>,
}

impl Model {
    fn commit(&mut self, transaction: &Transaction) -> Outcome {
        for compare in &transaction.compares {
            if !compare.holds(self.entries.get(compare.key()).map(|entry| entry.modified)) {
                return Outcome::Conflict { key: compare.key().to_owned() };
            }
        }
        let next = Revision(self.revision + 1);
        let mut changes = Vec::new();
        for operation in &transaction.operations {
            match operation {
                Operation::Put { key, value, .. } => {
                    let created = self.entries.get(key).map_or(next, |entry| entry.created);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        created,
                        modified: next,
                        lease: None,
                    };
                    self.entries.insert(key.clone(), entry.clone());
                    changes.push(Change::Put(entry));
                }
                Operation::Delete { key } => {
                    changes.extend(self.entries.remove(key).map(|entry| Change::Delete { key: entry.key }));
                }
                Operation::DeletePrefix { prefix } => {
                    let gone: Vec<String> =
                        self.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
                    for key in gone {
                        self.entries.remove(&key);
                        changes.push(Change::Delete { key });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = next.0;
            self.history.push(WatchBatch { revision: next, changes });
        }
        Outcome::Committed(Revision(self.revision))
    }

    fn watched(&self, prefix: &str, after: u64) -> Vec<WatchBatch> {
        let below = |batch: &WatchBatch| {
            let changes: Vec<Change> =
                batch.changes.iter().filter(|change| change.key().starts_with(prefix)).cloned().collect();
            (!changes.is_empty()).then_some(WatchBatch { revision: batch.revision, changes })
        };
        self.history.iter().filter(|batch| batch.revision.0 > after).filter_map(below).collect()
    }
}

fn key() -> impl Strategy<Value = String> {
    // Few keys, some the beginning of others, so that they meet.
    prop::sample::select(vec!["a", "a/", "a/1", "a/2", "a/2/x", "b/1", "ä", "z"]).prop_map(str::to_owned)
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        key().prop_map(|key| Compare::Absent { key }),
        key().prop_map(|key| Compare::Exists { key }),
        (key(), 0..30_u64)
            .prop_map(|(key, revision)| Compare::Modified { key, revision: Revision(revision) }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (key(), vec(any::<u8>(), 0..20))
            .prop_map(|(key, value)| Operation::Put { key, value: value.into(), lease: None }),
        2 => key().prop_map(|key| Operation::Delete { key }),
        1 => prop::sample::select(vec!["", "a", "a/", "b/"])
            .prop_map(|prefix| Operation::DeletePrefix { prefix: prefix.to_owned() }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let commit = (vec(compare(), 0..2), vec(operation(), 0..4))
        .prop_map(|(compares, operations)| Step::Commit(Transaction { compares, operations }));
    prop_oneof![
        20 => commit,
        1 => (0..40_u64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
        1 => Just(Step::RestoreOwnSnapshot),
    ]
}

/// What a watch gives until there is nothing more to give.
async fn drain(
    store: &RedbStore,
    prefix: &str,
    after: u64,
    want: usize,
) -> Result<Vec<WatchBatch>, StoreError> {
    let mut watch = store.watch(prefix, Revision(after)).await?;
    let mut batches = Vec::new();
    while batches.len() < want {
        match watch.next().await {
            Some(batch) => batches.push(batch?),
            None => break,
        }
    }
    Ok(batches)
}

async fn check(store: &RedbStore, model: &Model) -> Result<(), TestCaseError> {
    for prefix in ["", "a", "a/", "b/", "none"] {
        let listing = store.list(prefix).await.unwrap();
        let below = model.entries.values().filter(|entry| entry.key.starts_with(prefix));
        let want: Vec<Entry> = below.cloned().collect();
        prop_assert_eq!(listing.entries, want);
        prop_assert_eq!(listing.revision.0, model.revision);
        for after in [model.compacted, (model.compacted + model.revision) / 2, model.revision] {
            let want = model.watched(prefix, after);
            prop_assert_eq!(drain(store, prefix, after, want.len()).await.unwrap(), want);
        }
    }
    if let Some(before) = model.compacted.checked_sub(1) {
        let refused = drain(store, "", before, 1).await;
        let told = matches!(refused, Err(StoreError::Compacted { oldest }) if oldest.0 == model.compacted);
        prop_assert!(told, "{refused:?}");
    }
    Ok(())
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(directory.path()).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(transaction) => match store.commit(transaction.clone()).await {
                Err(StoreError::Overlap { .. }) => prop_assert!(transaction.validate().is_err()),
                outcome => prop_assert_eq!(outcome.unwrap(), model.commit(&transaction)),
            },
            Step::Compact(revision) => {
                let done = store.compact(Revision(revision)).await;
                if revision > model.revision {
                    let refused = matches!(done, Err(StoreError::Ahead { .. }));
                    prop_assert!(refused);
                } else {
                    done.unwrap();
                    model.compacted = model.compacted.max(revision);
                }
            }
            Step::Restart => {
                drop(store);
                store = RedbStore::open(directory.path()).unwrap();
            }
            Step::RestoreOwnSnapshot => {
                let mut snapshot = Vec::new();
                store.snapshot(&mut snapshot).await.unwrap();
                let restored = store.restore(&mut snapshot.as_slice()).await.unwrap();
                model.revision += 1;
                model.compacted = model.revision;
                prop_assert_eq!(restored.0, model.revision);
            }
        }
    }
    check(&store, &model).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_store_does_what_its_model_does(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}
