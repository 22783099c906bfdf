//! What commits, watches and records cost. The disk is the limit of most: compare rows of one run, not runs.
//!
//! `commit` with 64 writers against 1 shows what sharing a durable transaction gains (at least 5 times); `transaction`
//! shows that keys in one commit are nearly free.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use futures::StreamExt;
use futures::future::join_all;
use nv_model::record::{Event, Record, Topic};
use nv_store::{EventLog, RedbStore, Retention, Store, Transaction};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

fn store() -> (TempDir, Runtime, Arc<RedbStore>) {
    let directory = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = Arc::new(RedbStore::open(directory.path()).unwrap());
    (directory, runtime, store)
}

fn put(i: usize, writer: usize) -> Transaction {
    Transaction::new().put(format!("k/{writer}/{}", i % 100), vec![b'v'; 512])
}

/// Durable commits of one key of 512 bytes, by writers that each wait for theirs.
#[divan::bench(args = [1, 8, 64], sample_count = 10)]
fn commit(bencher: Bencher<'_, '_>, writers: usize) {
    const EACH: usize = 20;
    let (_directory, runtime, store) = store();
    bencher.counter(ItemsCount::new(writers * EACH)).bench_local(|| {
        runtime.block_on(join_all((0..writers).map(|writer| {
            let store = Arc::clone(&store);
            runtime.spawn(async move {
                for i in 0..EACH {
                    store.commit(put(i, writer)).await.unwrap();
                }
            })
        })))
    });
}

/// One commit of many keys.
#[divan::bench(args = [1, 100, 1000], sample_count = 20)]
fn transaction(bencher: Bencher<'_, '_>, keys: usize) {
    let (_directory, runtime, store) = store();
    let all = (0..keys).fold(Transaction::new(), |all, i| all.put(format!("k/{i}"), vec![b'v'; 512]));
    bencher
        .counter(ItemsCount::new(keys))
        .bench_local(|| runtime.block_on(store.commit(all.clone())).unwrap());
}

/// From the call of a commit to its sight by a watcher.
#[divan::bench(sample_count = 50)]
fn commit_to_watcher(bencher: Bencher<'_, '_>) {
    let (_directory, runtime, store) = store();
    let revision = runtime.block_on(store.revision()).unwrap();
    let mut watch = runtime.block_on(store.watch("k/", revision)).unwrap();
    bencher.bench_local(|| {
        runtime.block_on(async {
            store.commit(put(1, 1)).await.unwrap();
            watch.next().await.unwrap().unwrap()
        })
    });
}

/// Reads beside nothing else.
#[divan::bench(sample_count = 50, sample_size = 20)]
fn get(bencher: Bencher<'_, '_>) {
    let (_directory, runtime, store) = store();
    runtime.block_on(store.commit(put(1, 1))).unwrap();
    bencher.bench_local(|| runtime.block_on(store.get("k/1/1")).unwrap());
}

/// A listing of 512-byte values.
#[divan::bench(args = [100, 2000], sample_count = 20)]
fn list(bencher: Bencher<'_, '_>, keys: usize) {
    let (_directory, runtime, store) = store();
    let all = (0..keys).fold(Transaction::new(), |all, i| all.put(format!("k/{i}"), vec![b'v'; 512]));
    runtime.block_on(store.commit(all)).unwrap();
    bencher.counter(ItemsCount::new(keys)).bench_local(|| runtime.block_on(store.list("k/")).unwrap());
}

fn record(i: usize) -> Record {
    Record::Event(Box::new(Event { message: format!("container {i} was started"), ..Event::default() }))
}

/// Appends to the event log in batches of a size; syncs happen beside them.
#[divan::bench(args = [1, 100], sample_count = 50, sample_size = 20)]
fn append(bencher: Bencher<'_, '_>, batch: usize) {
    let directory = TempDir::new().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    let records: Vec<Record> = (0..batch).map(record).collect();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| log.append(&records).unwrap());
}

/// The newest records of a topic among many.
#[divan::bench(args = [50, 1000], sample_count = 20)]
fn read_newest(bencher: Bencher<'_, '_>, limit: usize) {
    let directory = TempDir::new().unwrap();
    let runtime = Runtime::new().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    for batch in 0..100 {
        let records: Vec<Record> = (0..500).map(|i| record(batch * 500 + i)).collect();
        log.append(&records).unwrap();
    }
    let read = || runtime.block_on(log.read(Topic::Event, None, limit)).unwrap();
    bencher.counter(ItemsCount::new(limit)).bench_local(read);
}
