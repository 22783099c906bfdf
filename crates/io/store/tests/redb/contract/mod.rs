//! What every backend of [`Store`] must do, as tests that any of them is run through.
//!
//! A backend's own tests make a [`Subject`] for each rule and call [`run`].

mod commits;
mod leaders;
mod leases;
mod snapshots;
mod watches;

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use nv_store::{Entry, Outcome, Revision, Store, Transaction, WatchBatch, WatchStream};

/// Lets time pass for the leases of a store: moves its clock, or waits.
pub(crate) type Pass = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// An empty store, to be used by one rule.
#[derive(Clone)]
pub(crate) struct Subject {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Lets its leases grow older.
    pub(crate) pass: Pass,
    /// Whatever must live as long as the store does (its directory).
    #[expect(dead_code, reason = "it is dropped when the last of the store is")]
    pub(crate) keep: Arc<dyn std::any::Any + Send + Sync>,
}

type Checked = Result<(), Box<dyn Error + Send + Sync>>;
type Rule = fn(Subject) -> Pin<Box<dyn Future<Output = Checked> + Send>>;

macro_rules! rules {
    ($($module:ident :: $rule:ident),* $(,)?) => {
        const RULES: &[(&str, Rule)] =
            &[$((stringify!($rule), |subject| Box::pin($module::$rule(subject)))),*];
    };
}

rules! {
    commits::a_commit_raises_the_revision_by_one_and_stamps_its_entries,
    commits::a_commit_that_changes_nothing_raises_no_revision,
    commits::a_transaction_happens_whole_or_not_at_all,
    commits::a_transaction_over_its_bounds_is_refused_and_one_at_them_is_not_split,
    commits::concurrent_compare_and_put_loses_no_update,
    commits::a_listing_has_what_begins_with_the_prefix_in_order,
    commits::a_prefix_is_deleted_in_one_revision,
    watches::a_watch_resumes_after_any_revision_without_gap_or_repeat,
    watches::a_live_watcher_gets_each_commit_below_its_prefix_once,
    watches::a_watch_after_a_forgotten_or_unreached_revision_is_refused,
    watches::a_slow_watcher_holds_up_no_commit_and_is_told_when_it_fell_behind,
    watches::compaction_keeps_every_entry,
    leases::a_lease_that_expires_deletes_its_keys_in_one_watched_commit,
    leases::a_lease_lives_as_long_as_it_is_kept_alive,
    leases::a_lease_that_ended_takes_no_more_keys,
    leases::a_key_put_without_its_lease_outlives_it,
    leases::a_time_to_live_out_of_range_is_refused,
    leaders::one_candidate_leads_and_the_next_follows_when_it_resigns,
    leaders::the_leader_is_replaced_when_its_lease_expires_and_its_guard_fails,
    leaders::observers_see_every_leader,
    snapshots::a_snapshot_restores_every_entry_into_an_empty_store,
    snapshots::a_restore_replaces_everything_and_tells_watchers_and_leases,
    snapshots::a_damaged_snapshot_changes_nothing,
}

/// Runs every rule on a store of its own, and panics with the names of those that do not hold.
pub(crate) async fn run(make: impl AsyncFn() -> Subject) {
    let mut broken = Vec::new();
    for (name, rule) in RULES {
        let subject = make().await;
        let held = std::panic::AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(60), rule(subject)));
        match held.catch_unwind().await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => broken.push(format!("{name}: {error}")),
            Ok(Err(_late)) => broken.push(format!("{name}: no answer within a minute")),
            Err(_panic) => broken.push(format!("{name}: see the panic above")),
        }
    }
    if !broken.is_empty() {
        panic!("{} of {} rules do not hold:\n{}", broken.len(), RULES.len(), broken.join("\n"));
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Result<Revision, Box<dyn Error + Send + Sync>> {
    committed(store, Transaction::new().put(key, value.to_owned())).await
}

async fn committed(
    store: &dyn Store,
    transaction: Transaction,
) -> Result<Revision, Box<dyn Error + Send + Sync>> {
    match store.commit(transaction).await? {
        Outcome::Committed(revision) => Ok(revision),
        Outcome::Conflict { key } => Err(format!("unexpected conflict on {key}").into()),
    }
}

async fn next(stream: &mut WatchStream) -> Result<WatchBatch, Box<dyn Error + Send + Sync>> {
    let batch = tokio::time::timeout(Duration::from_secs(10), stream.next()).await?;
    Ok(batch.ok_or("the watch ended")??)
}

fn values(entries: &[Entry]) -> Vec<(String, String)> {
    entries
        .iter()
        .map(|entry| (entry.key.clone(), String::from_utf8_lossy(&entry.value).into_owned()))
        .collect()
}

/// Waits until `key` has no value; leases are noticed a little late.
async fn gone(store: &dyn Store, key: &str) -> Checked {
    for _ in 0..200 {
        if store.get(key).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Err(format!("{key} is still there after 5 s").into())
}
