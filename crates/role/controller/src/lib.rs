//! The controller: it keeps what operators decide, learns what workloads do, tells each node its policy, and logs what
//! nodes saw.
//!
//! ```text
//! enforcer ──Join, Link (gRPC, mTLS, 18400)──► link ─► hub ─► event log, journal, graph ──► acknowledged
//!                                                      │ └─► what is to be learned ─► writer ─┐
//! API ── change() ─► writer: plan, compare, commit ────┼──────────────────────────► store ◄───┘
//!                                                      │◄── follow: every commit ─────┘
//!         view() ◄── one immutable View ◄──────────────┴─► compile ─► one delta a node ─► enforcer
//! ```
//!
//! * One task, the hub, owns all memory; links and the store tell it what happened over one bounded queue.
//! * One task, the writer, makes every change of policy, as a transaction that compares what it was planned from; only
//!   the leader's commits.
//! * Nothing is acknowledged to a node before it is on the disk: records in the event log, batches in the journal.
//! * A node that is out of touch goes on with its last policy; when it returns, it gets the difference, or the whole
//!   policy when the digests disagree.

mod ask;
mod change;
mod counters;
mod fold;
mod follow;
mod graph;
mod hub;
mod import;
mod journal;
mod keys;
mod lead;
mod link;
mod plan;
mod records;
pub mod registry;
pub mod scan;
mod start;
mod stored;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::net::SocketAddr;
use std::sync::{Arc, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use nv_graph::graph::Graph;
use nv_model::name::{ControllerId, NodeId};
use nv_model::record::Record;
use nv_pki::{Authority, PkiError, token};
use nv_store::{EventLog, Revision, Store, StoreError, Transaction};
use nv_telemetry::Clock;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ask::AskError;
pub use change::{Change, ChangeError, ChangeResult, Edit, Planner};
pub use counters::Counters;
pub use import::{GroupPolicy, Import};
pub use journal::JournalError;
pub use keys::SECRETS;
pub use start::{ControllerConfig, ControllerError, Deps, start};
pub use view::{NodeLosses, NodePolicyState, RuleMatch, View};

pub(crate) use start::Bootstrap;

/// A running controller; cheap to clone.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

struct Inner {
    id: ControllerId,
    address: SocketAddr,
    authority: Arc<Authority>,
    store: Arc<dyn Store>,
    events: EventLog,
    clock: Arc<dyn Clock>,
    view: Arc<ArcSwap<View>>,
    changes: watch::Receiver<u64>,
    writer: mpsc::Sender<writer::Request>,
    hub: mpsc::Sender<hub::Message>,
    graph: graph::SharedGraph,
    counters: Arc<Counters>,
    scans: scan::Scans,
    registries: registry::Registries,
    accepted: Arc<nv_pki::accept::AcceptCounters>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("id", &self.inner.id)
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Registries that are scanned, and whose signatures count.
    #[must_use]
    pub fn registries(&self) -> &registry::Registries {
        &self.inner.registries
    }

    /// This controller's id, the same over restarts.
    #[must_use]
    pub fn id(&self) -> &ControllerId {
        &self.inner.id
    }

    /// Where enforcers dial; the port is the real one also when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The cluster's certificate authority, to issue certificates for other servers of this controller.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.inner.authority
    }

    /// Everything as it is now. It does not change; ask again for a newer one.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.inner.view.load_full()
    }

    /// Tells of each new view: a number that grows.
    #[must_use]
    pub fn view_changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.clone()
    }

    /// Makes a change. When this returns, it is durable, [`Self::view`] shows it, and the nodes are being told.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed then, except after [`ChangeError::Store`] of a broken disk, where a later
    /// look tells.
    pub async fn change(&self, change: Change) -> ChangeResult {
        let clock = Arc::clone(&self.inner.clock);
        self.transact(Box::new(move |view| plan::plan(view, &change, clock.now()))).await
    }

    /// Makes a change whose steps are worked out from what is there: `planner` is called with the newest view, and
    /// again after a conflict. Steps are not validated here: use it for what [`Change`] has no word for.
    ///
    /// # Errors
    /// As [`Self::change`], and what `planner` gives.
    pub async fn transact(&self, planner: Planner) -> ChangeResult {
        let (reply, answer) = oneshot::channel();
        match self.inner.writer.try_send(writer::Request { plan: planner, reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(ChangeError::Unavailable { why: "too many changes are waiting" });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(ChangeError::Unavailable { why: "the controller is stopping" });
            }
        }
        answer.await.map_err(|_stopped| ChangeError::Unavailable { why: "the controller is stopping" })?
    }

    /// The conversations. Hold it for one look only, never over an await: the hub waits for it.
    pub fn graph(&self) -> RwLockReadGuard<'_, Graph> {
        self.inner.graph.read()
    }

    /// Forgets conversations, as operators ask for it.
    pub fn edit_graph<R>(&self, edit: impl FnOnce(&mut Graph) -> R) -> R {
        edit(&mut self.inner.graph.write())
    }

    /// Logs a record, for instance of a login. Its cluster name, and for events the controller, are filled in.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be written.
    pub fn log(&self, mut record: Record) -> Result<(), StoreError> {
        let view = self.view();
        let common = match &mut record {
            Record::Threat(record) => &mut record.common,
            Record::Violation(record) => &mut record.common,
            Record::Incident(record) => &mut record.common,
            Record::Event(record) | Record::Activity(record) => {
                if record.controller_id.is_empty() {
                    record.controller_id = self.inner.id.to_string();
                    record.controller_name = view
                        .controllers
                        .first()
                        .map(|controller| controller.host_name.clone())
                        .unwrap_or_default();
                }
                &mut record.common
            }
            Record::Audit(record) => &mut record.common,
        };
        if common.cluster_name.is_empty() {
            common.cluster_name.clone_from(&view.config.cluster_name);
        }
        if common.reported_timestamp == 0 {
            let now = self.inner.clock.now();
            (common.reported_at, common.reported_timestamp) = (now.rfc3339(), now.seconds());
        }
        self.inner.events.append(std::slice::from_ref(&record)).map(drop)
    }

    /// The log.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Scans for vulnerabilities.
    #[must_use]
    pub fn scans(&self) -> &scan::Scans {
        &self.inner.scans
    }

    /// What was refused before it was a link.
    #[must_use]
    pub fn accepted(&self) -> &nv_pki::accept::AcceptCounters {
        &self.inner.accepted
    }

    /// A new join token. Without `node` any node may use it, once; with one, this node may, until it expires.
    ///
    /// # Errors
    /// [`JoinTokenError`].
    pub async fn join_token(
        &self,
        node: Option<NodeId>,
        life: Duration,
    ) -> Result<SecretString, JoinTokenError> {
        self.token(token::TokenRecord {
            node,
            expires: self.inner.clock.now().after(life),
            role: token::TokenRole::Enforcer,
        })
        .await
    }

    /// A new join token for scanners: good for any number of them, until it expires.
    ///
    /// # Errors
    /// [`JoinTokenError`].
    pub async fn scanner_token(&self, life: Duration) -> Result<SecretString, JoinTokenError> {
        self.token(token::TokenRecord {
            node: None,
            expires: self.inner.clock.now().after(life),
            role: token::TokenRole::Scanner,
        })
        .await
    }

    async fn token(&self, record: token::TokenRecord) -> Result<SecretString, JoinTokenError> {
        let token = token::generate(self.inner.authority.fingerprint())?;
        let value = serde_json::to_vec(&record)?;
        let key = keys::join(&token::hash(&token)?);
        self.inner.store.commit(Transaction::new().put(key, value)).await?;
        Ok(token)
    }

    /// Waits until everything has ended after the shutdown: what was taken in is on the disk then.
    pub async fn stopped(&self) {
        self.inner.shutdown.cancelled().await;
        self.inner.tasks.wait().await;
    }

    /// Waits until the view holds `revision` of the store.
    pub async fn caught_up(&self, revision: Revision) {
        let mut changes = self.view_changes();
        while self.view().revision < revision {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinTokenError {
    /// It cannot be made.
    #[error("a join token cannot be made")]
    Pki(#[from] PkiError),
    /// It cannot be kept.
    #[error("a join token cannot be kept")]
    Store(#[from] StoreError),
    /// Its record cannot be written as JSON.
    #[error("a join token's record cannot be written")]
    Json(#[from] serde_json::Error),
}
