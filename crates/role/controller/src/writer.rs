//! The one writer of policy: plans against the newest view, commits with compares, tries again on conflict.
//!
//! A commit compares every key that it touches with the revision that its plan was made from, and carries the leader's
//! guard, so that a controller that lost the lead without noticing writes nothing. The answer comes when the view shows
//! the change: whoever asked reads what was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nv_policy::change::Change as PolicyChange;
use nv_store::{Compare, Outcome, Revision, Store, Transaction};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::change::{ChangeError, ChangeResult, Edit, Planner};
use crate::keys;
use crate::view::View;

/// Changes that may wait; more are refused.
pub(crate) const QUEUE: usize = 256;
/// Attempts at a change that meets conflicts.
const MAX_ATTEMPTS: u32 = 10;
/// Bytes of a piece of a rule set: what the store takes as one value.
const RULE_SET_PIECE_BYTES: usize = nv_store::MAX_VALUE_BYTES;
/// How long the view may take to show a commit.
const VIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// A change that waits for its turn.
pub(crate) struct Request {
    pub(crate) plan: Planner,
    pub(crate) reply: oneshot::Sender<ChangeResult>,
}

/// What the writer works with.
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) changes: watch::Receiver<u64>,
    /// The leader's guard while this controller leads.
    pub(crate) lead: watch::Receiver<Option<Compare>>,
}

impl Writer {
    /// Takes one request after the other, until `shutdown` or every sender is gone.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>, shutdown: CancellationToken) {
        loop {
            let request = tokio::select! {
                () = shutdown.cancelled() => return,
                request = requests.recv() => request,
            };
            let Some(mut request) = request else { return };
            let outcome = self.write(&mut request.plan).await;
            // Nobody waits any more: the change is made all the same.
            drop(request.reply.send(outcome));
        }
    }

    async fn write(&mut self, plan: &mut Planner) -> ChangeResult {
        let mut conflict = String::new();
        for _attempt in 0..MAX_ATTEMPTS {
            let Some(guard) = self.lead.borrow().clone() else {
                return Err(ChangeError::Unavailable { why: "this controller does not lead" });
            };
            let view = self.view.load_full();
            let edits = plan(&view)?;
            if edits.is_empty() {
                return Ok(view.revision);
            }
            let guard_key = guard.key().to_owned();
            let transaction = transaction(&view, &edits)?.expect_that(guard);
            match self.store.commit(transaction).await? {
                Outcome::Committed(revision) => {
                    self.shown(revision).await;
                    return Ok(revision);
                }
                Outcome::Conflict { key } if key == guard_key => {
                    return Err(ChangeError::Unavailable { why: "this controller lost the lead" });
                }
                Outcome::Conflict { key } => {
                    conflict = key;
                    let now = self.store.revision().await?;
                    self.shown(now).await;
                }
            }
        }
        Err(ChangeError::Conflict { what: conflict })
    }

    /// Waits until the view holds `revision`.
    async fn shown(&mut self, revision: Revision) {
        let wait = async {
            while self.view.load().revision < revision {
                if self.changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(VIEW_TIMEOUT, wait).await.is_err() {
            tracing::warn!(%revision, "the view does not follow the store");
        }
    }
}

/// Puts and deletes by key: the last edit of a key counts, as a transaction may touch it once.
#[derive(Default)]
struct Puts(BTreeMap<String, Option<Vec<u8>>>);

impl Puts {
    fn put(&mut self, key: String, value: &impl Serialize) -> Result<(), ChangeError> {
        let bytes = serde_json::to_vec(value).map_err(ChangeError::invalid)?;
        self.0.insert(key, Some(bytes));
        Ok(())
    }
    fn delete(&mut self, key: String) {
        self.0.insert(key, None);
    }
}

/// The transaction for a list of edits, on top of what `view` shows.
fn transaction(view: &View, edits: &[Edit]) -> Result<Transaction, ChangeError> {
    let mut puts = Puts::default();
    let mut state = None;
    for edit in edits {
        match edit {
            Edit::Policy(change) => {
                policy(&mut puts, view, change)?;
                state.get_or_insert_with(|| (*view.state).clone()).apply(change);
            }
            Edit::Config(config) => puts.put(keys::CONFIG.to_owned(), config)?,
            Edit::Quarantine(id, true) => puts.put(keys::quarantine(id), &true)?,
            Edit::Quarantine(id, false) => puts.delete(keys::quarantine(id)),
            Edit::Node(node) => puts.put(keys::node(&node.id), node)?,
            Edit::Enforcer(enforcer) => puts.put(keys::enforcer(&enforcer.id), enforcer)?,
        }
    }
    if let Some(state) = state {
        let ids =
            |rules: &[nv_model::rule::NetworkRule]| rules.iter().map(|rule| rule.id).collect::<Vec<_>>();
        let order = ids(&state.rules);
        if order != ids(&view.state.rules) {
            puts.put(keys::ORDER.to_owned(), &order)?;
        }
    }
    let mut transaction = Transaction::new();
    for (key, value) in puts.0 {
        let held = view.modified.get(&key);
        transaction = match held {
            Some(revision) => transaction.expect_modified(key.as_str(), *revision),
            None => transaction.expect_absent(key.as_str()),
        };
        transaction = match value {
            Some(value) => transaction.put(key, value),
            None => transaction.delete(key),
        };
    }
    Ok(transaction)
}

fn policy(puts: &mut Puts, view: &View, change: &PolicyChange) -> Result<(), ChangeError> {
    match change {
        PolicyChange::PutGroup(group) => puts.put(keys::group(&group.name), group)?,
        PolicyChange::DeleteGroup(name) => {
            puts.delete(keys::group(name));
            puts.delete(keys::profile(name));
            puts.delete(keys::files(name));
            puts.delete(keys::sensor_profile(name));
        }
        PolicyChange::PutRule(rule) => puts.put(keys::rule(rule.id), rule)?,
        PolicyChange::DeleteRule(id) => puts.delete(keys::rule(*id)),
        // Written once, from the state that all edits lead to.
        PolicyChange::OrderRules(_) => {}
        PolicyChange::PutProfile(profile) => puts.put(keys::profile(&profile.group), profile)?,
        PolicyChange::DeleteProfile(name) => puts.delete(keys::profile(name)),
        PolicyChange::PutFiles(profile) => puts.put(keys::files(&profile.group), profile)?,
        PolicyChange::PutSensor(sensor) => puts.put(keys::sensor(&sensor.id()), sensor)?,
        PolicyChange::DeleteSensor(id) => puts.delete(keys::sensor(id)),
        PolicyChange::PutRuleSet(blob) => {
            for (number, piece) in blob.bytes().chunks(RULE_SET_PIECE_BYTES).enumerate() {
                puts.0.insert(keys::rule_set(blob.id(), number), Some(piece.to_vec()));
            }
        }
        PolicyChange::DeleteRuleSet(id) => {
            let begin = format!("{}{id}/", keys::RULE_SET);
            let pieces = view.modified.range(begin.clone()..).take_while(|(key, _)| key.starts_with(&begin));
            pieces.for_each(|(key, _)| puts.delete(key.clone()));
        }
        PolicyChange::PutSensors(profile) => puts.put(keys::sensor_profile(&profile.group), profile)?,
    }
    Ok(())
}
