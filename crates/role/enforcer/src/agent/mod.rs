//! The agent: everything that happens on the node comes in here, one after the other, and leaves as writes to the
//! kernel's tables and as observations for the controller.
//!
//! ```text
//! runtime events ──┐                       ┌──▶ kernel tables (policy, cgroups, endpoints)
//! exec, cgroup   ──┤   Agent (one task,    ├──▶ keeper (attach)
//! flows, connect ──┼──▶ no locks)      ────┼──▶ outbox ──▶ link ──▶ controller
//! policy, acks   ──┘                       └──▶ disk (the policy held)
//! ```

mod files;
mod interfaces;
mod keeper;
mod newcomers;
mod place;
mod policy;
mod programs;
mod question;
mod ticks;
mod traffic;
mod vitals;
mod workloads;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{GroupName, WorkloadId};
use nv_model::node::{Capabilities, Node};
use nv_model::observation::{Observation, ProcessObservation, Sequence};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_model::vitals::Drops;
use nv_model::workload::{ListeningPort, Workload};
use nv_telemetry::Clock;
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use tokio::sync::mpsc;

use crate::Budget;
use crate::attribution::Attribution;
use crate::backlog::Tally;
use crate::connections::Connections;
use crate::gate::Gate;
use crate::held::Held;
use crate::inventory::Inventory;
use crate::keeper::{Keeper, KeeperCommand, Seen, Watch, Watched};
use crate::kernel::Kernel;
use crate::link::LinkEvent;
use crate::load::Load;
use crate::outbox::Outbox;
use crate::placer::Placement;
use crate::processes::Processes;
use crate::usage::UsageMeter;

/// How long a program that is to be learned is not reported again.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
/// Most programs whose report is remembered.
const MAX_LEARNED: usize = 16_384;
/// Most processes of a workload that are looked at when it is found running.
const MAX_RUNNING: usize = 4096;
/// Most violations that are folded at one time; beyond it each is told by itself.
const MAX_FOLDED: usize = 16_384;
/// How long the same violation by the same program of a workload is folded into one report.
const FOLD_INCIDENTS: Duration = Duration::from_secs(1);

/// What the agent is started with.
pub(crate) struct Setup {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: Node,
    pub(crate) capabilities: Capabilities,
    pub(crate) started: Timestamp,
    pub(crate) held: Held,
    pub(crate) held_path: PathBuf,
    pub(crate) kernel: Option<Kernel>,
    /// `None` while a new one is started.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) keeper_command: KeeperCommand,
    /// Where the reader of the keeper's reports on files hands them on.
    pub(crate) file_records: mpsc::Sender<Seen>,
    pub(crate) bpf_dir: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) log_level: String,
    /// What the reader of the process records dropped.
    pub(crate) tally: Arc<Tally>,
    /// Numbers of profiles for new containers; written here, read by the thread that places them.
    pub(crate) placement: Arc<Placement>,
    pub(crate) cgroup_root: Option<PathBuf>,
    pub(crate) identifiers: Vec<nv_runtime::Identifier>,
    /// Where the outcome of work elsewhere comes back.
    pub(crate) later: mpsc::Sender<Later>,
}

/// What the policy says of a workload, as numbers of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    profile: u32,
    /// The policy has a profile for its group.
    known: bool,
    identity: u32,
    quarantined: u32,
}

/// Work that was done elsewhere meanwhile.
#[derive(Debug)]
pub(crate) enum Later {
    /// The runtime has said which container a new cgroup is.
    Identified(Box<Workload>, u64),
    /// The network interfaces of a workload were looked up.
    Interfaces(WorkloadId, Vec<nv_capture::netns::Interface>),
    /// The ports that the workloads of a network listen on were looked up.
    Ports(WorkloadId, Vec<ListeningPort>),
    /// A new keeper was started in the place of one that was killed, or not; with where it reports files.
    Keeper(Result<(Keeper, Option<OwnedFd>), String>),
    /// The keeper watches these files, or not.
    Watched(Box<Watch>, Result<Watched, String>),
    /// The network programs are on an interface, or not.
    Attached(WorkloadId, u32, Result<(), String>),
}

/// The node's state and its way in and out.
pub(crate) struct Agent {
    setup: Setup,
    inventory: Inventory,
    processes: Processes,
    attribution: Attribution,
    connections: Connections,
    /// New flows whose session was reported at once and must not be counted again by the next sweep.
    reported: HashMap<nv_capture::Ends, u32>,
    learned: HashMap<(GroupName, String), Duration>,
    /// Workloads that are known from their bundle alone: what runs in them was not looked at yet.
    unscanned: HashSet<WorkloadId>,
    /// Cgroups that containers are made in.
    parents: HashSet<u64>,
    /// A keeper is to be started.
    keeper_due: bool,
    /// Where each workload was put last.
    placed: HashMap<WorkloadId, Place>,
    incidents: HashMap<(Option<WorkloadId>, String, Verdict), (Duration, ProcessObservation)>,
    files: files::Files,
    usage: UsageMeter,
    gate: Gate,
    load: Load,
    /// CPU time of agent and keeper at a moment, and their share since the moment before.
    own_use: (Duration, Duration, f64),
    memory: u64,
    outbox: Outbox,
    stream: String,
    link: Option<mpsc::Sender<proto::FromEnforcer>>,
    welcomed: bool,
    told_dropped: Drops,
}

impl Agent {
    /// Enforces the held policy, and takes in what runs already.
    pub(crate) fn new(setup: Setup) -> Self {
        let mut agent = Self {
            setup,
            inventory: Inventory::default(),
            processes: Processes::default(),
            attribution: Attribution::default(),
            connections: Connections::default(),
            reported: HashMap::new(),
            learned: HashMap::new(),
            unscanned: HashSet::new(),
            parents: HashSet::new(),
            keeper_due: false,
            placed: HashMap::new(),
            incidents: HashMap::new(),
            files: files::Files::default(),
            usage: UsageMeter::new(),
            gate: Gate::new(),
            load: Load::default(),
            own_use: Default::default(),
            memory: 0,
            outbox: Outbox::new(Sequence(1)),
            stream: uuid::Uuid::new_v4().to_string(),
            link: None,
            welcomed: false,
            told_dropped: Drops::default(),
        };
        agent.processes.scan();
        if let Err(error) = agent.enforce() {
            tracing::error!(%error, "the held policy is not enforced");
        }
        agent.place_cgroups();
        agent
    }

    /// Something happened on the link.
    pub(crate) fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Open(outgoing) => {
                self.link = Some(outgoing);
                let greeting = Greeting {
                    version: nv_telemetry::VERSION.to_owned(),
                    node: self.setup.node.clone(),
                    capabilities: self.setup.capabilities.clone(),
                    started: self.setup.started,
                    held_revision: self.setup.held.policy.revision,
                    held_digest: self.setup.held.policy.digest(),
                    workloads: self
                        .inventory
                        .all()
                        .filter(|local| !local.provisional)
                        .map(|local| local.workload.clone())
                        .collect(),
                    oldest_sequence: self.outbox.oldest(),
                    stream_id: self.stream.clone(),
                };
                self.send(proto::from_enforcer::Message::Hello(greeting.into()));
            }
            LinkEvent::Welcome { acknowledged } => {
                self.outbox.rewind();
                self.outbox.acknowledge(acknowledged);
                self.welcomed = true;
                self.pump();
            }
            LinkEvent::Acknowledged(through) => {
                self.outbox.acknowledge(through);
                self.pump();
            }
            LinkEvent::Policy(delta) => self.policy(&delta),
            LinkEvent::Ask { id, question } => self.question(id, question),
            LinkEvent::Closed => {
                self.link = None;
                self.welcomed = false;
            }
        }
    }

    fn tell(&mut self, observation: Observation) {
        let now = self.setup.clock.monotonic();
        if self.gate.admits(&observation, self.load.shedding(), now) {
            self.outbox.push(observation);
        }
    }

    /// Sends what waits, as far as the network takes it now.
    fn pump(&mut self) {
        if !self.welcomed {
            return;
        }
        while let Some(link) = &self.link {
            // Some places stay free for acknowledgements and signs of life, which do not wait.
            if link.capacity() <= crate::link::RESERVED {
                return;
            }
            // A place in the queue first: what was taken out of the outbox must not be lost.
            let Ok(place) = link.try_reserve() else { return };
            let Some((first, observations)) = self.outbox.next_batch() else { return };
            let batch = proto::Batch {
                first_sequence: first.0,
                observations: observations.into_iter().map(Into::into).collect(),
            };
            place.send(proto::FromEnforcer { message: Some(proto::from_enforcer::Message::Batch(batch)) });
        }
    }

    fn send(&mut self, message: proto::from_enforcer::Message) {
        if let Some(link) = &self.link
            && let Err(error) = link.try_send(proto::FromEnforcer { message: Some(message) })
        {
            // Greeting, acknowledgements and signs of life are few; a full queue means that the link is stuck, and
            // a new one starts over.
            tracing::warn!(%error, "the link does not take a message and is dropped");
            self.link = None;
            self.welcomed = false;
        }
    }
}
