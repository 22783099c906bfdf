//! The agent: everything that happens on the node comes in here, one after the other, and leaves as writes to the
//! kernel's tables and as observations for the controller.
//!
//! ```text
//! runtime events ──┐                       ┌──▶ kernel tables (policy, cgroups, endpoints)
//! exec, cgroup   ──┤   Agent (one task,    ├──▶ keeper (attach)
//! flows, connect ──┼──▶ no locks)      ────┼──▶ outbox ──▶ link ──▶ controller
//! policy, acks   ──┘                       └──▶ disk (the policy held)
//! ```

mod behaviour;
mod captures;
mod early;
mod files;
mod inspection;
mod inspectors;
mod interfaces;
mod introductions;
mod keeper;
mod layer7;
mod link;
mod meters;
mod names;
mod newcomers;
mod opened;
mod place;
mod policy;
mod programs;
mod question;
mod queues;
mod rules;
mod seats;
mod sessions;
mod sockets;
mod ticks;
mod traffic;
mod vitals;
mod workloads;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{GroupName, WorkloadId};
use nv_model::node::{Capabilities, Node};
use nv_model::observation::{Observation, ProcessObservation, Sequence};
use nv_model::profile::EffectiveProfile;
use nv_model::question::{Answer, AnswerError};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_model::vitals::Drops;
use nv_model::workload::ListeningPort;
use nv_telemetry::Clock;
use nv_wire::enforcer::v1 as proto;
use tokio::sync::mpsc;

use crate::Budget;
use crate::activity::captures::{Captures, Plan};
use crate::activity::connections::Connections;
use crate::activity::hashes::{Hashed, Hashes};
use crate::activity::ingress::IngressMeter;
use crate::activity::installed::Installed;
use crate::activity::processes::{History, Processes};
use crate::activity::usage::UsageMeter;
use crate::identity::attribution::Attribution;
use crate::identity::leaving::Leaving;
use crate::identity::placer::Placement;
use crate::identity::workloads::Workloads;
use crate::inspector::{Heard, Inspector};
use crate::intake::backlog::Tally;
use crate::intake::records::Readers;
use crate::keeper::{Keeper, Launcher, QueueCounts, Seen, Told, Watch, Watched};
use crate::policy::held::Held;
use crate::policy::kernel::Kernel;
use crate::uplink::gate::Gate;
use crate::uplink::load::Load;
use crate::uplink::outbox::Outbox;

pub(crate) use self::seats::Seating;

/// How long a program that is to be learned is not reported again.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
/// Most programs whose report is remembered.
const MAX_LEARNED: usize = 16_384;
/// Most processes of a workload that are looked at when it is found running.
const MAX_RUNNING: usize = 4096;
/// How long the greeting waits for a runtime that does not answer.
const GREET_AT_LAST: Duration = Duration::from_secs(3);
/// How long what an earlier version has pinned stays when no runtime tells what runs.
const RETIRE_AT_LAST: Duration = Duration::from_secs(60);
/// How long it stays after the runtime has told: the programs have to be on every interface first.
const RETIRE_AFTER_LIST: Duration = Duration::from_secs(5);
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
    /// What the keeper judges programs by; `None` where the kernel's programs do it all.
    pub(crate) seating: Option<Seating>,
    /// Where the reader of what it tells of them hands it on.
    pub(crate) programs_told: mpsc::Sender<Told>,
    /// `None` while a new one is started.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) launcher: Arc<Launcher>,
    /// How many inspectors there are; `None`: by the CPUs.
    pub(crate) inspectors: Option<u8>,
    /// Files of containers are searched for secrets.
    pub(crate) secrets: bool,
    /// Where the reader of the keeper's reports on files hands them on.
    pub(crate) file_records: mpsc::Sender<Seen>,
    pub(crate) bpf_dir: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) log_level: String,
    /// What the reader of the process records dropped.
    pub(crate) tally: Arc<Tally>,
    /// Numbers of profiles for new containers; written here, read by the thread that places them.
    pub(crate) placement: Arc<Placement>,
    /// The programs in the kernel outlive the keeper.
    pub(crate) pinned: bool,
    /// How the rings of a new keeper are read; `None` where there is no kernel to read from.
    pub(crate) readers: Option<Readers>,
    pub(crate) cgroup_root: Option<PathBuf>,
    pub(crate) identifiers: nv_runtime::Identifiers,
    /// Where what inspectors say comes in.
    pub(crate) heard: mpsc::Sender<Heard>,
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

/// What came with a new keeper.
#[derive(Debug)]
pub(crate) struct Renewed {
    /// Its tables, when those of the old one ended with it.
    kernel: Option<Box<Kernel>>,
    /// Where it reports files.
    files: Option<OwnedFd>,
    /// Where it judges programs.
    seating: Option<Seating>,
}

/// Work that was done elsewhere meanwhile.
#[derive(Debug)]
pub(crate) enum Later {
    /// The network interfaces of a workload were looked up.
    Interfaces(WorkloadId, Vec<nv_capture::netns::Interface>),
    /// The ports that the workloads of a network listen on were looked up.
    Ports(WorkloadId, Vec<ListeningPort>),
    /// A new keeper was started in the place of one that was killed, or not.
    Keeper(Result<(Keeper, Renewed), String>),
    /// What earlier versions had pinned is out of the kernel, or not.
    Retired(Result<(), String>),
    /// The keeper watches these files, or not.
    Watched(Box<Watch>, Result<Watched, String>),
    /// An executable was hashed.
    Hashed(Box<Hashed>),
    /// An answer that took a while to look up.
    Answer(u64, Result<Answer, AnswerError>),
    /// A socket for the capture that somebody asked for, or not.
    Packets(u64, Box<Plan>, Result<OwnedFd, String>),
    /// The programs of sockets are on a cgroup of the workload, or not.
    Sockets(WorkloadId, u64, Result<(), String>),
    /// The inspector of a share was started, or not.
    Inspector(nv_capture::Share, Result<Inspector, String>),
    /// The keeper was asked for queues; its counts.
    Queues(Vec<queues::Asked>, Option<QueueCounts>),
    /// The network programs are on an interface, or not.
    Attached(WorkloadId, u32, Result<(), String>),
}

/// A program against a profile: where, its path, what was decided, and by which rule of the profile.
type Offence = (Option<WorkloadId>, String, Verdict, Option<u32>);

/// The node's state and its way in and out.
pub(crate) struct Agent {
    setup: Setup,
    workloads: Workloads,
    processes: Processes,
    history: History,
    hashes: Hashes,
    captures: Captures,
    installed: Installed,
    attribution: Attribution,
    connections: Connections,
    inspection: inspectors::Inspection,
    metering: meters::Metering,
    queues: queues::Queues,
    spoken: layer7::Spoken,
    opened: opened::Opened,
    names: names::HostNames,
    /// New flows whose session was reported at once and must not be counted again by the next sweep.
    reported: HashMap<nv_capture::Ends, u32>,
    learned: HashMap<(GroupName, String), Duration>,
    /// Workloads that are known from their bundle alone: what runs in them was not looked at yet.
    unscanned: HashSet<WorkloadId>,
    /// Programs and deeds of containers that are not known yet, each with when it came.
    early: Vec<(Duration, early::Early)>,
    /// What ended a moment ago.
    leaving: Leaving,
    /// Cgroups that containers are made in.
    parents: HashSet<u64>,
    /// Connects that were stopped in containers that are not known yet.
    early_connects: Vec<(Duration, nv_capture::ConnectEvent)>,
    /// Workloads whose network has an attached interface: its packets are judged there.
    guarded: HashSet<WorkloadId>,
    /// Cgroups whose sockets are judged.
    sockets: HashSet<u64>,
    /// Networks with addresses on other interfaces than veths, with the own ends of their veths.
    apart: HashMap<WorkloadId, [u32; 2]>,
    /// When what earlier versions have pinned goes, as a monotonic time.
    retire_at: Option<Duration>,
    /// A keeper is to be started.
    keeper_due: bool,
    /// Where each workload was put last.
    placed: HashMap<WorkloadId, Place>,
    /// Programs against a profile that were told within the last second, by the rule that was against them.
    incidents: HashMap<Offence, (Duration, ProcessObservation)>,
    behaviours: behaviour::Folded,
    scans: nv_policy::behaviour::Scans,
    scanners: Vec<behaviour::Scanner>,
    files: files::Files,
    usage: UsageMeter,
    ingress: IngressMeter,
    gate: Gate,
    load: Load,
    /// CPU time of agent and keeper at a moment, and their share since the moment before.
    own_use: (Duration, Duration, f64),
    memory: u64,
    outbox: Outbox,
    stream: String,
    link: Option<mpsc::Sender<proto::FromEnforcer>>,
    /// A runtime has told everything that runs.
    listed: bool,
    /// The greeting does not wait for that beyond this monotonic time.
    greet_at: Duration,
    greeted: bool,
    /// Profiles of what runs here that the policy has no more; see [`Agent::policy`].
    kept: BTreeMap<GroupName, EffectiveProfile>,
    welcomed: bool,
    told_dropped: Drops,
    /// Events of programs that the keeper judges which did not come.
    programs_lost: u64,
}

impl Agent {
    /// Enforces the held policy, and takes in what runs already.
    pub(crate) fn new(setup: Setup) -> Self {
        let hashes = Hashes::start(setup.later.clone());
        let captures = Captures::new(setup.held_path.with_file_name("captures"), Arc::clone(&setup.clock));
        let names = names::HostNames::load(setup.held_path.with_file_name("names.json"), &*setup.clock);
        let installed = Installed::new(Arc::clone(&setup.launcher), setup.secrets);
        let inspectors = inspectors::count(setup.inspectors, setup.node.cpus);
        let mut agent = Self {
            setup,
            workloads: Workloads::default(),
            processes: Processes::default(),
            history: History::default(),
            hashes,
            captures,
            installed,
            attribution: Attribution::default(),
            connections: Connections::default(),
            inspection: inspectors::Inspection::new(inspectors),
            metering: meters::Metering::default(),
            queues: queues::Queues::default(),
            spoken: layer7::Spoken::default(),
            opened: opened::Opened::default(),
            names,
            reported: HashMap::new(),
            learned: HashMap::new(),
            unscanned: HashSet::new(),
            early: Vec::new(),
            leaving: Leaving::default(),
            parents: HashSet::new(),
            guarded: HashSet::new(),
            sockets: HashSet::new(),
            apart: HashMap::new(),
            early_connects: Vec::new(),
            retire_at: None,
            keeper_due: false,
            placed: HashMap::new(),
            incidents: HashMap::new(),
            behaviours: HashMap::new(),
            scans: nv_policy::behaviour::Scans::default(),
            scanners: Vec::new(),
            files: files::Files::default(),
            usage: UsageMeter::new(),
            ingress: IngressMeter::default(),
            gate: Gate::new(),
            load: Load::default(),
            own_use: Default::default(),
            memory: 0,
            outbox: Outbox::new(Sequence(1)),
            stream: uuid::Uuid::new_v4().to_string(),
            link: None,
            listed: false,
            greet_at: Duration::ZERO,
            greeted: false,
            kept: BTreeMap::new(),
            welcomed: false,
            told_dropped: Drops::default(),
            programs_lost: 0,
        };
        agent.greet_at = agent.setup.clock.monotonic().saturating_add(GREET_AT_LAST);
        agent.processes.scan(agent.setup.cgroup_root.as_deref());
        if let Err(error) = agent.enforce() {
            tracing::error!(%error, "the held policy is not enforced");
        }
        agent.place_cgroups();
        agent.retire_within(RETIRE_AT_LAST);
        agent
    }

    fn tell(&mut self, observation: Observation) {
        let now = self.setup.clock.monotonic();
        if self.gate.admits(&observation, self.load.shedding(), now) {
            self.introduce_accused(&observation);
            self.outbox.push(observation);
        }
    }
}
