//! The hub: one task that owns what the controller holds in memory. Everything reaches it as a [`Message`], in order.
//!
//! ```text
//! links ─┐                ┌─ observe: workloads, records, graph, what is to be learned
//! store ─┼─► inbox ─► hub ┼─ commit: event log, journal, then acknowledgements
//! lead  ─┘                ├─ push: compile, one delta a node
//!                         └─ publish: the view that readers see
//! ```

mod ask;
mod commit;
mod connections;
mod containers;
mod events;
mod incidents;
mod keep;
mod learn;
mod message;
mod nodes;
mod observe;
mod publish;
mod push;
mod store;
mod thresholds;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::{Controller, Enforcer, Node, Usage};
use nv_model::record::Record;
use nv_model::rule::RuleId;
use nv_model::vitals::{Shedding, Vitals};
use nv_model::workload::Workload;
use nv_policy::compile::Compiler;
use nv_policy::directory::Directory;
use nv_policy::identity::Identities;
use nv_policy::state::State;
use nv_store::{Compare, EventLog};
use nv_telemetry::Clock;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use connections::{ThreatKey, ViolationKey};
use incidents::IncidentKey;
pub(crate) use message::{INBOX, Message, SessionId};
pub(crate) use nodes::Position;
use nodes::Session;

use crate::counters::Counters;
use crate::fold::Fold;
use crate::graph::SharedGraph;
use crate::journal::{Entry, Journal};
use crate::stored::Stored;
use crate::view::{NodeLosses, NodePolicyState, RuleMatch, View};
use crate::writer::Request;

/// Messages that are taken in before what they say is made durable.
const ROUND: usize = 32;
/// How often timeouts, folded records and ages are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What the hub starts with.
pub(crate) struct Parts {
    pub(crate) controller: Controller,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: EventLog,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) version: watch::Sender<u64>,
    pub(crate) stored: Stored,
    pub(crate) graph: SharedGraph,
    pub(crate) writer: mpsc::Sender<Request>,
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) lead: watch::Receiver<Option<Compare>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bootstrap: crate::Bootstrap,
    pub(crate) scans: crate::scan::SharedScans,
}

/// See the module.
pub(crate) struct Hub {
    parts: Parts,
    state: State,
    /// Nodes as they last said hello, which the store follows a little later.
    live_nodes: BTreeMap<NodeId, Node>,
    enforcers: BTreeMap<nv_model::name::EnforcerId, Enforcer>,
    sessions: BTreeMap<NodeId, Session>,
    positions: BTreeMap<NodeId, Position>,
    removed: Arc<BTreeMap<WorkloadId, Arc<Workload>>>,
    removed_order: VecDeque<WorkloadId>,
    usage: Arc<BTreeMap<WorkloadId, Usage>>,
    node_usage: Arc<BTreeMap<NodeId, Usage>>,
    matches: Arc<BTreeMap<RuleId, RuleMatch>>,
    policies: BTreeMap<NodeId, NodePolicyState>,
    losses: BTreeMap<NodeId, NodeLosses>,
    thresholds: thresholds::Thresholds,
    vitals: BTreeMap<NodeId, Vitals>,
    /// What enforcers leave out, where it is anything.
    shedding: BTreeMap<NodeId, Shedding>,
    incidents: Fold<IncidentKey, (NodeId, String, crate::records::Told)>,
    violations: Fold<ViolationKey, connections::SeenViolation>,
    threats: Fold<ThreatKey, connections::SeenThreat>,
    learner: learn::Learner,
    identities: Identities,
    compiler: Compiler,
    compilation: u64,
    directory: Option<Directory>,
    unused_since: BTreeMap<nv_model::name::GroupName, nv_model::time::Timestamp>,
    journal: Option<Journal>,
    records: Vec<Record>,
    entries: Vec<Entry>,
    acks: BTreeMap<NodeId, u64>,
    recent: HashSet<String>,
    recent_order: VecDeque<String>,
    replaying: bool,
    state_changed: bool,
    publish_at: Option<Instant>,
    push_at: Option<Instant>,
    pushed: Option<Instant>,
    checkpointed: Instant,
    pruned: Duration,
    /// The same by the wall clock.
    pruned_at: nv_model::time::Timestamp,
}

impl Hub {
    pub(crate) fn new(parts: Parts, journal: Journal) -> Self {
        let mut state = State::default();
        parts.stored.write_to(&mut state);
        let enforcers = parts.stored.enforcers.clone();
        let now = Instant::now();
        Self {
            state,
            live_nodes: BTreeMap::new(),
            enforcers,
            sessions: BTreeMap::new(),
            positions: BTreeMap::new(),
            removed: Arc::default(),
            removed_order: VecDeque::new(),
            usage: Arc::default(),
            node_usage: Arc::default(),
            matches: Arc::default(),
            policies: BTreeMap::new(),
            losses: BTreeMap::new(),
            thresholds: thresholds::Thresholds::default(),
            vitals: BTreeMap::new(),
            shedding: BTreeMap::new(),
            incidents: Fold::default(),
            violations: Fold::default(),
            threats: Fold::default(),
            learner: learn::Learner::default(),
            identities: Identities::default(),
            compiler: Compiler::default(),
            compilation: 0,
            directory: None,
            unused_since: BTreeMap::new(),
            journal: Some(journal),
            records: Vec::new(),
            entries: Vec::new(),
            acks: BTreeMap::new(),
            recent: HashSet::new(),
            recent_order: VecDeque::new(),
            replaying: false,
            state_changed: true,
            publish_at: None,
            push_at: None,
            pushed: None,
            checkpointed: now,
            pruned: parts.clock.monotonic(),
            pruned_at: parts.clock.now(),
            parts,
        }
    }

    /// Runs until `shutdown`, then writes what is left.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>, shutdown: CancellationToken) {
        let mut lead = self.parts.lead.clone();
        let mut round = Vec::with_capacity(ROUND);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        self.controller_event("Controller.Start", "started");
        self.publish();
        loop {
            let wake = [self.publish_at, self.push_at, self.learner.due()].into_iter().flatten().min();
            let timer = tokio::time::sleep_until(wake.unwrap_or_else(|| Instant::now() + HOUSEKEEPING));
            tokio::select! {
                () = shutdown.cancelled() => break,
                received = inbox.recv_many(&mut round, ROUND) => if received == 0 { break },
                changed = lead.changed() => if changed.is_err() { break } else {
                    let leads = lead.borrow_and_update().is_some();
                    self.lead_changed(leads);
                },
                _ = housekeeping.tick() => self.keep_house().await,
                () = timer => {}
            }
            for message in round.drain(..) {
                self.take(message);
            }
            self.commit().await;
            let now = Instant::now();
            self.learn(now);
            if self.push_at.is_some_and(|at| at <= now) {
                self.push(now);
            }
            if self.publish_at.is_some_and(|at| at <= now) {
                self.publish();
            }
        }
        self.stop().await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Store(news) => self.store_changed(news),
            Message::Joined { node } => self.node_event(&node, "Enforcer.Join", false, "joined the cluster"),
            Message::Hello { session, greeting, address, outbound, close } => {
                self.hello(session, *greeting, address, outbound, close);
            }
            Message::Batch { session, node, batch, observations } => {
                self.batch(session, &node, batch, observations);
            }
            Message::PolicyAck { session, node, ack } => self.policy_ack(session, &node, &ack),
            Message::Heartbeat { session, node, beat } => self.heartbeat(session, &node, *beat),
            Message::Ask { node, question, reply } => self.ask(&node, question, reply),
            Message::Answer { session, node, id, answer } => self.answer(session, &node, id, answer),
            Message::Closed { session, node } => self.closed(session, &node),
            Message::Learned { outcome } => {
                self.learner.learned(outcome, Instant::now(), &self.parts.counters);
            }
        }
    }
}
