//! The contract of stores, held by the one in a file.

use std::sync::Arc;

use nv_model::time::Timestamp;
use nv_store::contract::{self, Subject};
use nv_store::{History, RedbStore};
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
