//! The hub: one task that owns what the controller holds in memory. Everything reaches it as a [`Message`], in order.
//!
//! ```text
//! links ─┐                ┌─ observe: inventory, records, graph, what is to be learned
//! store ─┼─► inbox ─► hub ┼─ commit: event log, journal, then acknowledgements
//! lead  ─┘                ├─ push: compile, one delta a node
//!                         └─ publish: the view that readers see
//! ```

mod ask;
mod commit;
mod connections;
mod containers;
mod incidents;
mod keep;
mod learn;
mod nodes;
mod observe;
mod push;
mod thresholds;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::{Controller, Enforcer, Node, Usage};
use nv_model::observation::{Observation, Sequence};
use nv_model::question::{Answer, AnswerError, Question};
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
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::fold::Fold;
use crate::follow::StoreNews;
use crate::graph::SharedGraph;
use crate::journal::{Entry, Journal};
use crate::link::Outbound;
use crate::records::{Category, Scene, common, event};
use crate::stored::Stored;
use crate::view::{NodeLosses, NodePolicyState, RuleMatch, View};
use crate::writer::Request;

/// Messages that may wait; behind that, links are held back.
pub(crate) const INBOX: usize = 1024;
/// Messages that are taken in before what they say is made durable.
const ROUND: usize = 32;
/// How often timeouts, folded records and ages are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How soon readers see a change of the inventory.
const PUBLISH_SOON: Duration = Duration::from_millis(50);
/// How soon readers see counters.
const PUBLISH_LATER: Duration = Duration::from_secs(1);
/// Removed workloads that are remembered, so that records and conversations can still name them.
const MAX_REMOVED: usize = 2048;
/// Ids of the last records, so that a batch that comes twice around a kill is logged once.
const RECENT_RECORDS: usize = 8192;

/// Number of a link, unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(u64);

impl SessionId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the hub is told.
pub(crate) enum Message {
    /// The store changed.
    Store(StoreNews),
    /// A node got its certificate.
    Joined { node: NodeId },
    /// A link is open.
    Hello {
        session: SessionId,
        greeting: Box<Greeting>,
        address: Option<SocketAddr>,
        outbound: Outbound,
        close: CancellationToken,
    },
    /// Observations came.
    Batch {
        session: SessionId,
        node: NodeId,
        batch: proto::Batch,
        observations: Vec<(Sequence, Observation)>,
    },
    /// A node took its policy, or did not.
    PolicyAck { session: SessionId, node: NodeId, ack: proto::PolicyAck },
    /// A node lives.
    Heartbeat { session: SessionId, node: NodeId, beat: Box<Vitals> },
    /// Someone wants to know something of a node.
    Ask { node: NodeId, question: Question, reply: ask::Reply },
    /// A node answers.
    Answer { session: SessionId, node: NodeId, id: u64, answer: Result<Answer, AnswerError> },
    /// A link is closed.
    Closed { session: SessionId, node: NodeId },
    /// What was to be learned is in the store, or is not.
    Learned { outcome: learn::LearnOutcome },
}

/// An open link.
struct Session {
    id: SessionId,
    outbound: Outbound,
    close: CancellationToken,
    /// When it was last heard of, on the clock that never jumps.
    seen: Duration,
    sent: push::Sent,
    /// An acknowledgement found the link's queue full.
    ack_due: bool,
    /// Questions that are not answered yet; with the link they are gone, and whoever waits is told.
    asked: ask::Asked,
}

/// Where a node's numbered observations are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    /// The stream.
    pub(crate) stream: String,
    /// The last one that is taken in.
    pub(crate) taken: u64,
}

/// Incidents of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
struct IncidentKey(NodeId, Option<WorkloadId>, String, String, nv_model::verdict::Verdict, String);

/// Violations of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ViolationKey {
    client: String,
    server: String,
    protocol: nv_model::port::Protocol,
    port: u16,
    verdict: nv_model::verdict::Verdict,
    rule: RuleId,
    ingress: bool,
    host: String,
}

/// Attacks of one kind.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ThreatKey {
    threat: u32,
    client: (String, std::net::IpAddr),
    server: (String, std::net::IpAddr),
    port: u16,
    verdict: nv_model::verdict::Verdict,
}

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
            parts,
        }
    }

    /// Runs until `shutdown`, then writes what is left.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>, shutdown: CancellationToken) {
        let mut lead = self.parts.lead.clone();
        let mut round = Vec::with_capacity(ROUND);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        self.start_events();
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

    fn store_changed(&mut self, news: StoreNews) {
        match news {
            StoreNews::All(listing) => self.parts.stored = Stored::from_listing(&listing),
            StoreNews::Commit(revision, changes) => self.parts.stored.commit(revision, &changes),
        }
        let old = std::mem::take(&mut self.state);
        let mut state = State {
            workloads: old.workloads.clone(),
            namespaces: old.namespaces.clone(),
            ..State::default()
        };
        self.parts.stored.write_to(&mut state);
        for (id, node) in &self.live_nodes {
            state.nodes.insert(id.clone(), node.clone());
        }
        for (id, enforcer) in &self.parts.stored.enforcers {
            self.enforcers.entry(id.clone()).or_insert_with(|| enforcer.clone());
        }
        let policy_changed = state != old;
        let quarantine = old.quarantined.symmetric_difference(&state.quarantined).cloned().collect();
        self.state = state;
        self.quarantine_changed(quarantine);
        if policy_changed {
            self.state_changed = true;
            self.directory = None;
            self.push_soon();
            self.forget_rules(&old.rules);
        }
        // At once: whoever wrote waits to read it.
        self.publish_at = Some(Instant::now());
    }

    /// Conversations and counters of rules that are gone say nothing any more.
    fn forget_rules(&mut self, before: &[nv_model::rule::NetworkRule]) {
        let kept: HashSet<RuleId> = self.state.rules.iter().map(|rule| rule.id).collect();
        let gone: Vec<RuleId> = before.iter().map(|rule| rule.id).filter(|id| !kept.contains(id)).collect();
        if gone.is_empty() {
            return;
        }
        let matches = Arc::make_mut(&mut self.matches);
        let mut graph = self.parts.graph.write();
        for id in gone {
            matches.remove(&id);
            graph.forget_rule(id);
        }
    }

    fn lead_changed(&mut self, leads: bool) {
        self.parts.controller.leader = leads;
        let (name, what) = if leads {
            ("Controller.Lead.Elected", "was elected to lead")
        } else {
            ("Controller.Lead.Lost", "does not lead any more")
        };
        self.controller_event(name, what);
        if leads {
            self.learner.groups_wanted(Instant::now());
        }
        self.publish_at = Some(Instant::now());
    }

    fn start_events(&mut self) {
        self.controller_event("Controller.Start", "started");
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            state: &self.state,
            removed: &self.removed,
            cluster_name: &self.parts.stored.config.cluster_name,
            controller: &self.parts.controller,
        }
    }

    fn controller_event(&mut self, name: &str, what: &str) {
        let at = self.parts.clock.now();
        let scene = self.scene();
        let begin = common(scene, None, name, nv_model::record::Level::Info, at);
        let message = format!("Controller {} {what}", self.parts.controller.host_name);
        self.records.push(event(scene, Category::Controller, begin, None, message));
    }

    fn node_event(&mut self, node: &NodeId, name: &str, warning: bool, what: &str) {
        let level = if warning { nv_model::record::Level::Warning } else { nv_model::record::Level::Info };
        let scene = self.scene();
        let begin = common(scene, Some(node), name, level, self.parts.clock.now());
        let host = if begin.host_name.is_empty() { node.to_string() } else { begin.host_name.clone() };
        let message = format!("Enforcer of {host} {what}");
        self.records.push(event(scene, Category::Enforcer, begin, None, message));
    }

    fn publish_within(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.publish_at = Some(self.publish_at.map_or(at, |planned| planned.min(at)));
    }

    fn inventory_changed(&mut self) {
        self.state_changed = true;
        self.directory = None;
        self.push_soon();
        self.publish_within(PUBLISH_SOON);
    }

    /// Replaces the view.
    fn publish(&mut self) {
        self.publish_at = None;
        let before = self.parts.view.load();
        let state = if self.state_changed { Arc::new(self.state.clone()) } else { Arc::clone(&before.state) };
        self.state_changed = false;
        let view = View {
            revision: self.parts.stored.revision,
            state,
            config: Arc::clone(&self.parts.stored.config),
            removed: Arc::clone(&self.removed),
            enforcers: self.enforcers.clone(),
            controllers: vec![self.parts.controller.clone()],
            usage: Arc::clone(&self.usage),
            node_usage: Arc::clone(&self.node_usage),
            matches: Arc::clone(&self.matches),
            policies: self.policies.clone(),
            losses: self.losses.clone(),
            vitals: self.vitals.clone(),
            scans: self.parts.scans.clone(),
            modified: Arc::clone(&self.parts.stored.modified),
            members: OnceLock::new(),
            directory: OnceLock::new(),
        };
        self.parts.view.store(Arc::new(view));
        self.parts.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}
