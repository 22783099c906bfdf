//! The agent: everything that happens on the node comes in here, one after the other, and leaves as writes to the
//! kernel's tables and as observations for the controller.
//!
//! ```text
//! runtime events ──┐                       ┌──▶ kernel tables (policy, cgroups, endpoints)
//! exec, cgroup   ──┤   Agent (one task,    ├──▶ keeper (attach)
//! flows, connect ──┼──▶ no locks)      ────┼──▶ outbox ──▶ link ──▶ controller
//! policy, acks   ──┘                       └──▶ disk (the policy held)
//! ```

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nv_model::name::{GroupName, WorkloadId};
use nv_model::node::{Capabilities, Node};
use nv_model::observation::{ConnectionObservation, Observation, Peer, ProcessObservation, Sequence};
use nv_model::policy::{DeltaError, IdentityId, PolicyDelta};
use nv_model::profile::EffectiveProfile;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_model::workload::{ListeningPort, Workload};
use nv_runtime::RuntimeEvent;
use nv_telemetry::Clock;
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use tokio::sync::mpsc;

use crate::attribution::{Attribution, Destination, Opener};
use crate::connections::Connections;
use crate::held::Held;
use crate::inventory::{Inventory, Owner, owns_network};
use crate::keeper::Keeper;
use crate::kernel::{self, Kernel, new_services};
use crate::link::LinkEvent;
use crate::outbox::Outbox;
use crate::processes::{Process, Processes, last_part};
use crate::usage::UsageMeter;

/// How long a program that is to be learned is not reported again.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
/// Most programs whose report is remembered.
const MAX_LEARNED: usize = 16_384;
/// Most processes of a workload that are looked at when it is found running.
const MAX_RUNNING: usize = 4096;
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
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) cgroup_root: Option<PathBuf>,
    pub(crate) identifiers: Vec<nv_runtime::Identifier>,
    /// Where the outcome of work elsewhere comes back.
    pub(crate) later: mpsc::Sender<Later>,
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
    incidents: HashMap<(Option<WorkloadId>, String, Verdict), (Duration, ProcessObservation)>,
    usage: UsageMeter,
    outbox: Outbox,
    stream: String,
    link: Option<mpsc::Sender<proto::FromEnforcer>>,
    welcomed: bool,
    told_dropped: (u64, u64),
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
            incidents: HashMap::new(),
            usage: UsageMeter::new(),
            outbox: Outbox::new(Sequence(1)),
            stream: uuid::Uuid::new_v4().to_string(),
            link: None,
            welcomed: false,
            told_dropped: (0, 0),
        };
        agent.processes.scan();
        if let Err(error) = agent.enforce() {
            tracing::error!(%error, "the held policy is not enforced");
        }
        agent.place_cgroups();
        agent
    }

    // ---- policy

    /// Writes the held policy to the kernel.
    fn enforce(&mut self) -> Result<(), kernel::KernelError> {
        match &mut self.setup.kernel {
            Some(kernel) => {
                kernel.apply(&self.setup.held.policy, &self.inventory, &mut self.setup.held.numbers)
            }
            None => Ok(()),
        }
    }

    /// A policy came: enforce it, keep it, say so. Whole or not at all.
    fn policy(&mut self, delta: &PolicyDelta) {
        let begin = Instant::now();
        let before = self.setup.held.clone();
        let mut ack = proto::PolicyAck { revision: delta.revision.0, ..proto::PolicyAck::default() };
        match before.policy.apply(delta) {
            Err(error) => {
                ack.resend_whole = matches!(error, DeltaError::Base { .. });
                ack.error = error.to_string();
            }
            Ok(next) => {
                self.setup.held.policy = next;
                if let Err(error) = self.enforce() {
                    ack.error = error.to_string();
                    tracing::error!(%error, revision = delta.revision.0, "a policy cannot be enforced, the one before stays");
                    self.setup.held = before;
                    if let Err(error) = self.enforce() {
                        tracing::error!(%error, "the policy before cannot be enforced either");
                    }
                } else {
                    self.place_workloads();
                    ack.apply_micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if let Err(error) = self.setup.held.store(&self.setup.held_path) {
                        // It is enforced, but a restart would not have it: the controller must know.
                        tracing::error!(%error, "the policy is enforced but not kept");
                        ack.error = error.to_string();
                    }
                    tracing::debug!(
                        revision = delta.revision.0,
                        micros = ack.apply_micros,
                        "policy enforced"
                    );
                }
            }
        }
        ack.digest = self.setup.held.policy.digest();
        self.send(proto::from_enforcer::Message::PolicyAck(ack));
    }

    // ---- where programs and packets belong

    /// The profile number of a group; that of new services when the policy does not know it.
    fn profile_number(&self, group: &GroupName) -> u32 {
        let numbers = &self.setup.held.numbers;
        numbers.get(group).or_else(|| numbers.get(&new_services())).unwrap_or(0)
    }

    /// Every cgroup of the host gets the host's profile; those of containers get theirs when they are told.
    fn place_cgroups(&mut self) {
        let (Some(kernel), Some(root)) = (&self.setup.kernel, &self.setup.cgroup_root) else { return };
        let held = kernel.process.cgroups().unwrap_or_default();
        let profile = self.profile_number(&GroupName::nodes());
        match nv_probe::cgroup::walk(root) {
            Ok(cgroups) => {
                for (id, _) in cgroups {
                    // Rows of an earlier run stay until the runtime has told: they are better than a guess.
                    if !held.get(&id).is_some_and(|row| row.container) {
                        self.place(id, profile, false);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, root = %root.display(), "the cgroups of this machine cannot be read");
            }
        }
    }

    fn place(&self, cgroup: u64, profile: u32, container: bool) {
        if let Some(kernel) = &self.setup.kernel
            && let Err(error) =
                kernel.process.set_cgroup(cgroup, nv_probe::tables::CgroupRow { profile, container })
        {
            tracing::error!(%error, cgroup, "a cgroup is without its profile");
        }
    }

    /// Puts a workload's profile on its cgroup and, for a pod, on the pod's, so that what comes later inherits it.
    fn place_workload(&mut self, id: &WorkloadId) {
        let Some(local) = self.inventory.get(id) else { return };
        let workload = &local.workload;
        let profile = self.profile_number(&workload.learned_group());
        let known = self.setup.held.policy.profiles.contains_key(&workload.learned_group());
        let in_pod = workload.is_sandbox || workload.pod_sandbox.is_some();
        let cgroup = workload.cgroup_id;
        let pod = in_pod.then(|| self.parent_cgroup(&workload.cgroup)).flatten();
        let attached = local.attached.clone();
        if cgroup != 0 {
            self.place(cgroup, profile, true);
            for below in self
                .cgroups_below(&self.inventory.get(id).map(|l| l.workload.cgroup.clone()).unwrap_or_default())
            {
                self.place(below, profile, true);
            }
        }
        if let Some(pod) = pod {
            self.place(pod, profile, true);
        }
        let endpoint = self.endpoint_row(id);
        if let Some(kernel) = &mut self.setup.kernel {
            for one in &attached {
                let row = nv_capture::Endpoint { number: one.endpoint, ..endpoint };
                if let Err(error) = kernel.network.set_endpoint(one.ifindex, row) {
                    tracing::error!(%error, workload = %id, ifindex = one.ifindex, "an interface is without its identity");
                }
            }
        }
        if known
            && let Some(local) = self.inventory.get_mut(id)
            && local.workload.secured == Timestamp::NEVER
            && !local.provisional
        {
            local.workload.secured = self.setup.clock.now();
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
        }
    }

    fn place_workloads(&mut self) {
        let ids: Vec<WorkloadId> = self.inventory.all().map(|local| local.workload.id.clone()).collect();
        for id in ids {
            self.place_workload(&id);
        }
        if let Some(root) = self.setup.cgroup_root.clone()
            && let Ok(id) = nv_probe::cgroup::id(&root)
        {
            self.place(id, self.profile_number(&GroupName::nodes()), false);
        }
    }

    fn parent_cgroup(&self, cgroup: &str) -> Option<u64> {
        let root = self.setup.cgroup_root.as_ref()?;
        let (parent, _) = cgroup.rsplit_once('/')?;
        if parent.is_empty() {
            return None;
        }
        nv_probe::cgroup::id(&root.join(parent.trim_start_matches('/'))).ok()
    }

    fn cgroups_below(&self, cgroup: &str) -> Vec<u64> {
        let Some(root) = &self.setup.cgroup_root else { return Vec::new() };
        if cgroup.trim_matches('/').is_empty() {
            return Vec::new();
        }
        let found = nv_probe::cgroup::walk(&root.join(cgroup.trim_start_matches('/'))).unwrap_or_default();
        found.into_iter().skip(1).map(|(id, _)| id).collect()
    }

    fn endpoint_row(&self, id: &WorkloadId) -> nv_capture::Endpoint {
        let policy = self.setup.held.policy.workloads.get(id);
        nv_capture::Endpoint {
            identity: policy.map_or(IdentityId::NEW, |workload| workload.identity).0,
            number: 0,
            quarantined: u32::from(policy.is_some_and(|workload| workload.quarantined)),
        }
    }

    // ---- workloads

    /// Something happened at a runtime.
    pub(crate) fn runtime(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Workload(workload) => self.workload(*workload, false),
            RuntimeEvent::Stopped { id, exit_code, at } => {
                if let Some(local) = self.inventory.get_mut(&id) {
                    local.workload.running = false;
                    local.workload.exit_code = exit_code;
                    local.workload.finished = at;
                    let workload = local.workload.clone();
                    self.detach(&id);
                    self.tell(Observation::Workload(Box::new(workload)));
                }
            }
            RuntimeEvent::Removed { id } => {
                self.detach(&id);
                self.unscanned.remove(&id);
                if self.inventory.remove(&id).is_some() {
                    self.usage.forget(&id);
                    self.attribution.forget(&id);
                    self.tell(Observation::WorkloadGone { id, at: self.setup.clock.now() });
                }
            }
            other => self.runtime_state(other),
        }
    }

    fn workload(&mut self, mut workload: Workload, provisional: bool) {
        workload.node = self.setup.node.id.clone();
        workload.host_name.clone_from(&self.setup.node.name);
        let id = workload.id.clone();
        let running = workload.running;
        let known = self.inventory.get(&id).map(|local| local.workload.clone());
        if let Some(known) = &known {
            // What this node found out itself is not in what the runtime tells.
            workload.ports.clone_from(&known.ports);
            if !known.interfaces.is_empty() {
                workload.interfaces.clone_from(&known.interfaces);
            }
            workload.secured = known.secured;
        }
        self.inventory.put(workload, provisional);
        let Some(local) = self.inventory.get(&id) else { return };
        let current = local.workload.clone();
        let first = !provisional && known.as_ref().is_none_or(|_| self.unscanned.remove(&id));
        if provisional {
            self.unscanned.insert(id.clone());
        }
        if known.as_ref() != Some(&current) && !provisional {
            self.tell(Observation::Workload(Box::new(current.clone())));
        }
        self.place_workload(&id);
        if first && running {
            self.learn_running(&current);
        }
        if running && owns_network(&current) && current.pid != 0 && self.setup.kernel.is_some() {
            let (later, pid) = (self.setup.later.clone(), current.pid);
            tokio::task::spawn_blocking(move || match nv_capture::netns::interfaces(pid) {
                Ok(interfaces) => drop(later.blocking_send(Later::Interfaces(id, interfaces))),
                Err(error) => {
                    tracing::warn!(%error, workload = %id, pid, "the network of a workload cannot be looked up");
                }
            });
        }
    }

    /// What ran before this enforcer watched is learned too, as far as the profile learns.
    fn learn_running(&mut self, workload: &Workload) {
        let Some(root) = &self.setup.cgroup_root else { return };
        let group = workload.learned_group();
        let unknown = EffectiveProfile {
            group: group.clone(),
            mode: self.setup.held.policy.settings.new_service.profile,
            baseline: self.setup.held.policy.settings.new_service.baseline,
            rules: Vec::new(),
            alert_disabled: false,
        };
        let profile = self.setup.held.policy.profiles.get(&group).unwrap_or(&unknown);
        let members = root.join(workload.cgroup.trim_start_matches('/')).join("cgroup.procs");
        let at = self.setup.clock.now();
        let mut seen = Vec::new();
        let pids = crate::node::read_small(members);
        for pid in pids.lines().take(MAX_RUNNING).filter_map(|line| line.trim().parse::<u32>().ok()) {
            // It may have ended since; then the next one of its kind tells.
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let path = path.to_string_lossy().into_owned();
            let facts = nv_policy::decide::ProgramFacts { drifted: false };
            if path.ends_with(" (deleted)")
                || nv_policy::decide::process(profile, &path, facts).verdict != Verdict::Learn
            {
                continue;
            }
            seen.push((pid, path));
        }
        seen.sort_by(|left, right| left.1.cmp(&right.1));
        seen.dedup_by(|left, right| left.1 == right.1);
        for (pid, path) in seen {
            tracing::debug!(path, %group, "program that runs already");
            self.tell(Observation::Process(Box::new(ProcessObservation {
                workload: Some(workload.id.clone()),
                group: group.clone(),
                rule_group: group.clone(),
                rule_uuid: String::new(),
                pid,
                parent_pid: 0,
                name: last_part(&path),
                path,
                command: String::new(),
                real_uid: 0,
                effective_uid: 0,
                user: String::new(),
                parent_name: String::new(),
                parent_path: String::new(),
                drifted: false,
                fileless: false,
                verdict: Verdict::Learn,
                mechanism: None,
                decision_nanos: 0,
                count: 1,
                at,
            })));
        }
    }

    /// Work elsewhere is done.
    pub(crate) fn later(&mut self, done: Later) {
        match done {
            Later::Identified(workload, cgroup_id) => {
                if self.inventory.get(&workload.id).is_none_or(|local| local.provisional) {
                    self.workload(Workload { cgroup_id, ..*workload }, true);
                }
            }
            Later::Interfaces(id, interfaces) => self.interfaces(&id, &interfaces),
            Later::Ports(network, ports) => self.ports(&network, &ports),
            Later::Attached(id, ifindex, Ok(())) => {
                tracing::debug!(workload = %id, ifindex, "network programs attached");
            }
            Later::Attached(id, ifindex, Err(reason)) => {
                tracing::error!(workload = %id, ifindex, reason, "network programs not attached: its connections are not judged");
            }
        }
    }

    fn interfaces(&mut self, id: &WorkloadId, interfaces: &[nv_capture::netns::Interface]) {
        let Some(local) = self.inventory.get_mut(id) else { return };
        let found = crate::node::addresses(interfaces);
        if !found.is_empty() && local.workload.interfaces != found {
            local.workload.interfaces = found;
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
            // The kernel must know its addresses before its first packet is judged.
            if let Err(error) = self.enforce() {
                tracing::error!(%error, workload = %id, "the addresses of a workload are not in the kernel");
            }
        }
        for peer in interfaces.iter().filter_map(|interface| interface.peer) {
            let Some(attached) = self.inventory.attach(id, peer) else { continue };
            let row = nv_capture::Endpoint { number: attached.endpoint, ..self.endpoint_row(id) };
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.set_endpoint(peer, row)
            {
                tracing::error!(%error, workload = %id, ifindex = peer, "an interface is without its identity");
            }
            if let Some(keeper) = self.setup.keeper.clone() {
                let (later, id) = (self.setup.later.clone(), id.clone());
                tokio::task::spawn_blocking(move || {
                    let done = keeper.attach(peer).map_err(|error| error.to_string());
                    drop(later.blocking_send(Later::Attached(id, peer, done)));
                });
            }
        }
    }

    /// A pod's ports are those of all its containers: their sockets are in one namespace.
    fn ports(&mut self, network: &WorkloadId, ports: &[ListeningPort]) {
        let members: Vec<WorkloadId> = self
            .inventory
            .all()
            .map(|local| &local.workload)
            .filter(|workload| workload.id == *network || workload.pod_sandbox.as_ref() == Some(network))
            .map(|workload| workload.id.clone())
            .collect();
        for id in members {
            let Some(local) = self.inventory.get_mut(&id) else { continue };
            if local.provisional || local.workload.ports == ports {
                continue;
            }
            local.workload.ports = ports.to_vec();
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
        }
    }

    /// Looks up who listens where, away from this task.
    fn look_for_ports(&self) {
        let networks: Vec<(WorkloadId, u32)> = self
            .inventory
            .all()
            .map(|local| &local.workload)
            .filter(|workload| workload.running && owns_network(workload) && workload.pid != 0)
            .map(|workload| (workload.id.clone(), workload.pid))
            .collect();
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            for (id, pid) in networks {
                // A process that has just ended has no ports any more, which is no news.
                let Ok(found) = nv_capture::netns::listening(pid) else { continue };
                let mut ports: Vec<ListeningPort> = found
                    .iter()
                    .filter(|socket| !socket.address.is_loopback())
                    .map(|socket| ListeningPort {
                        protocol: socket.protocol,
                        port: socket.port,
                        host_ip: None,
                        host_port: 0,
                    })
                    .collect();
                ports.sort_unstable();
                ports.dedup();
                if later.blocking_send(Later::Ports(id, ports)).is_err() {
                    return;
                }
            }
        });
    }

    fn detach(&mut self, id: &WorkloadId) {
        let Some(local) = self.inventory.get_mut(id) else { return };
        let attached = std::mem::take(&mut local.attached);
        for one in attached {
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.remove_endpoint(one.ifindex)
            {
                tracing::warn!(%error, ifindex = one.ifindex, "an interface's row stays");
            }
            if let Some(keeper) = self.setup.keeper.clone() {
                // The veth is usually gone already, and its programs with it.
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = keeper.detach(one.ifindex) {
                        tracing::debug!(%error, ifindex = one.ifindex, "nothing to detach");
                    }
                });
            }
        }
    }

    fn runtime_state(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Up { runtime, version } => {
                tracing::info!(runtime, version, "container runtime");
                self.setup.node.runtime = runtime;
                self.setup.node.runtime_version = version;
            }
            RuntimeEvent::Down { reason } => {
                tracing::warn!(
                    reason,
                    "the container runtime does not answer; its containers stay protected"
                );
            }
            RuntimeEvent::Listed
            | RuntimeEvent::Workload(_)
            | RuntimeEvent::Stopped { .. }
            | RuntimeEvent::Removed { .. } => {}
        }
    }

    // ---- programs

    /// Records of the process programs.
    pub(crate) fn process_events(&mut self, events: Vec<nv_probe::Event>) {
        for event in events {
            match event {
                nv_probe::Event::Exec(exec) => self.exec(*exec),
                nv_probe::Event::Fork { parent_pid, pid, .. } => self.processes.fork(parent_pid, pid),
                nv_probe::Event::Exit { pid, .. } => self.processes.exit(pid),
                nv_probe::Event::CgroupMade { id, parent, path, .. } => self.cgroup_made(id, parent, &path),
                nv_probe::Event::CgroupGone { id, .. } => self.inventory.cgroup_gone(id),
            }
        }
    }

    /// A cgroup was made. If it is a container's, its bundle says which one, before it runs anything of its own.
    fn cgroup_made(&mut self, id: u64, parent: u64, path: &str) {
        self.inventory.cgroup_made(id, parent);
        for identifier in &self.setup.identifiers {
            let Some(found) = identifier.identify_now(path) else { continue };
            if self.inventory.get(&found.id).is_some_and(|local| !local.provisional) {
                return;
            }
            let complete = !found.pod_name.is_empty() || !found.image.is_empty();
            if !complete {
                // A container outside of pods is known by its image, which only the runtime tells.
                let (identifier, later, path) =
                    (identifier.clone(), self.setup.later.clone(), path.to_owned());
                tokio::spawn(async move {
                    if let Some(workload) = identifier.identify(&path).await {
                        drop(later.send(Later::Identified(Box::new(workload), id)).await);
                    }
                });
                return;
            }
            self.workload(Workload { cgroup_id: id, ..found }, true);
            return;
        }
    }

    fn exec(&mut self, exec: nv_probe::events::Exec) {
        tracing::trace!(
            path = exec.path,
            cgroup = exec.cgroup,
            profile = exec.profile,
            verdict = exec.verdict.as_str(),
            runtime = exec.runtime,
            "exec"
        );
        if exec.runtime {
            return;
        }
        let parent = self
            .processes
            .get(exec.parent_pid)
            .cloned()
            .unwrap_or_else(|| Process { name: exec.parent_name.clone(), ..Process::default() });
        let name = last_part(&exec.path);
        if exec.verdict.passes() {
            let process = Process { parent: exec.parent_pid, name: name.clone(), path: exec.path.clone() };
            self.processes.exec(exec.pid, process);
        }
        let owner = self.inventory.owner(exec.cgroup);
        let (workload, group) = match owner {
            Owner::Host => (None, GroupName::nodes()),
            Owner::Workload(id) => {
                let group = self.inventory.group(&id).unwrap_or_else(new_services);
                (Some(id), group)
            }
        };
        let now = self.setup.clock.monotonic();
        match exec.verdict {
            Verdict::Open | Verdict::Allow => return,
            Verdict::Learn => {
                let key = (group.clone(), exec.path.clone());
                if self.learned.get(&key).is_some_and(|at| now.saturating_sub(*at) < LEARN_AGAIN) {
                    return;
                }
                if self.learned.len() >= MAX_LEARNED {
                    self.learned.retain(|_, at| now.saturating_sub(*at) < LEARN_AGAIN);
                }
                if self.learned.len() < MAX_LEARNED {
                    self.learned.insert(key, now);
                }
            }
            Verdict::Violate | Verdict::Deny => {
                let key = (workload.clone(), exec.path.clone(), exec.verdict);
                if let Some((_, folded)) = self.incidents.get_mut(&key) {
                    folded.count = folded.count.saturating_add(1);
                    return;
                }
            }
        }
        tracing::debug!(path = exec.path, %group, cgroup = exec.cgroup, verdict = exec.verdict.as_str(), "program");
        let rule = exec
            .rule
            .and_then(|rule| self.setup.kernel.as_ref().and_then(|kernel| kernel.rule(exec.profile, rule)));
        let observation = ProcessObservation {
            rule_group: rule.map_or_else(|| group.clone(), |rule| rule.group.clone()),
            rule_uuid: rule.map(|rule| rule.uuid.clone()).unwrap_or_default(),
            user: if exec.verdict.is_violation() {
                // The denied process is gone; its parent has the same file system.
                crate::users::name_of(exec.parent_pid, exec.uid)
            } else {
                String::new()
            },
            workload: workload.clone(),
            group,
            pid: exec.pid,
            parent_pid: exec.parent_pid,
            name,
            path: exec.path.clone(),
            command: exec.command,
            real_uid: exec.uid,
            effective_uid: exec.euid,
            parent_name: parent.name,
            parent_path: parent.path,
            drifted: exec.drifted,
            fileless: exec.fileless,
            verdict: exec.verdict,
            mechanism: exec.mechanism,
            decision_nanos: u64::from(exec.decision_nanos),
            count: 1,
            at: self.wall(exec.at),
        };
        if exec.verdict.is_violation() {
            let folded = ProcessObservation { count: 0, ..observation.clone() };
            self.incidents.insert((workload, exec.path, exec.verdict), (now, folded));
        }
        self.tell(Observation::Process(Box::new(observation)));
        self.pump();
    }

    /// Wall time of a moment given in time since boot.
    fn wall(&self, since_boot: Duration) -> Timestamp {
        let ago = nv_probe::events::since_boot().saturating_sub(since_boot);
        let ago = i64::try_from(ago.as_nanos()).unwrap_or(0);
        Timestamp::from_nanos(self.setup.clock.now().nanos().saturating_sub(ago))
    }

    // ---- connections

    /// Records of the network programs.
    pub(crate) fn network_events(&mut self, events: Vec<nv_capture::Event>) {
        for event in events {
            match event {
                nv_capture::Event::Flow(flow) => self.flow(&flow),
                nv_capture::Event::Connect(connect) => self.connect(connect),
            }
        }
        self.pump();
    }

    fn flow(&mut self, flow: &nv_capture::FlowEvent) {
        // Only what is against the rules cannot wait for the next sweep.
        if !flow.verdict.is_violation() || matches!(flow.change, nv_capture::FlowChange::Turned) {
            return;
        }
        *self.reported.entry(flow.ends).or_insert(0) += 1;
        let seen = self.connection(&flow.ends, flow.endpoint, (flow.client, flow.server), flow.verdict);
        let seen =
            ConnectionObservation { rule: flow.rule, sessions: 1, first: flow.at, last: flow.at, ..seen };
        self.tell(Observation::Connection(Box::new(seen)));
    }

    fn connection(
        &self,
        ends: &nv_capture::Ends,
        endpoint: u32,
        identities: (IdentityId, IdentityId),
        verdict: Verdict,
    ) -> ConnectionObservation {
        let local = self.inventory.endpoint(endpoint).cloned();
        let other = |address: IpAddr| self.inventory.by_address(address).cloned();
        let (client, server) =
            if ends.ingress { (other(ends.client), local) } else { (local, other(ends.server)) };
        let opener = self
            .attribution
            .opener(
                &Destination {
                    from: client.clone(),
                    protocol: ends.protocol,
                    address: ends.server,
                    port: ends.server_port,
                },
                self.setup.clock.monotonic(),
            )
            .cloned()
            .unwrap_or_default();
        ConnectionObservation {
            client: Peer { workload: client, identity: identities.0, address: ends.client },
            server: Peer { workload: server, identity: identities.1, address: ends.server },
            ingress: ends.ingress,
            protocol: ends.protocol,
            port: ends.server_port,
            application: None,
            bytes: 0,
            sessions: 0,
            verdict,
            rule: Default::default(),
            process: opener.name,
            process_path: opener.path,
            first: Timestamp::NEVER,
            last: Timestamp::NEVER,
        }
    }

    /// A program asked for a destination. For pods this says who opened what the veth will show; for the host's
    /// network, which has no veth, it is the connection itself.
    fn connect(&mut self, connect: nv_capture::ConnectEvent) {
        let path = self.processes.get(connect.pid).map(|process| process.path.clone()).unwrap_or_default();
        let opener = Opener { name: connect.command, path };
        let workload = match self.inventory.owner(connect.cgroup) {
            Owner::Host => None,
            Owner::Workload(id) => Some(id),
        };
        let network = workload.as_ref().and_then(|id| self.inventory.network_of(id));
        let destination = Destination {
            from: network.clone(),
            protocol: connect.protocol,
            address: connect.address,
            port: connect.port,
        };
        self.attribution.note(destination, opener.clone(), self.setup.clock.monotonic());
        if network.is_some() || connect.address.is_loopback() || connect.address.is_unspecified() {
            return;
        }
        let policy = &self.setup.held.policy;
        let server = kernel::identity_of(policy, connect.address);
        let own = self.setup.node.interfaces.iter().find(|held| {
            held.address.addr().is_ipv4() == connect.address.is_ipv4() && !held.address.addr().is_loopback()
        });
        let Some(own) = own.map(|held| held.address.addr()) else { return };
        if own == connect.address {
            return;
        }
        let decision = nv_policy::decide::connection(
            policy,
            nv_policy::decide::Flow {
                client: IdentityId::NODES,
                server,
                protocol: connect.protocol,
                port: connect.port,
                application: None,
                quarantined: false,
            },
        );
        let seen = ConnectionObservation {
            client: Peer { workload, identity: IdentityId::NODES, address: own },
            server: Peer {
                workload: self.inventory.by_address(connect.address).cloned(),
                identity: server,
                address: connect.address,
            },
            ingress: false,
            protocol: connect.protocol,
            port: connect.port,
            application: None,
            bytes: 0,
            sessions: 1,
            // Nothing judges the host's network in the kernel, so nothing was stopped.
            verdict: if decision.verdict == Verdict::Deny { Verdict::Violate } else { decision.verdict },
            rule: decision.rule,
            process: opener.name,
            process_path: opener.path,
            first: connect.at,
            last: connect.at,
        };
        self.connections.add(seen);
    }

    /// Every two seconds: what the flows moved since the last time.
    pub(crate) fn sweep(&mut self) {
        let swept = match &mut self.setup.kernel {
            Some(kernel) => kernel.flows.sweep(&nv_capture::IdleLimits::default()),
            None => return,
        };
        match swept {
            Ok(sweep) => {
                for flow in sweep.flows {
                    let told = self.reported.remove(&flow.ends).unwrap_or(0);
                    let seen =
                        self.connection(&flow.ends, flow.endpoint, (flow.client, flow.server), flow.verdict);
                    self.connections.add(ConnectionObservation {
                        rule: flow.rule,
                        bytes: flow.bytes_to_client.saturating_add(flow.bytes_to_server),
                        sessions: flow.sessions.saturating_sub(told),
                        first: flow.first,
                        last: flow.last,
                        ..seen
                    });
                }
            }
            Err(error) => tracing::error!(%error, "the flows cannot be read"),
        }
        self.reported.clear();
        let (seen, dropped) = self.connections.take();
        if dropped > 0 {
            tracing::warn!(dropped, "more different connections than can be reported at once");
        }
        for one in seen.into_iter().filter(|one| one.bytes > 0 || one.sessions > 0) {
            self.tell(Observation::Connection(Box::new(one)));
        }
        self.pump();
    }

    // ---- time

    /// Every second: folded incidents are told, batches go out.
    pub(crate) fn second(&mut self) {
        let now = self.setup.clock.monotonic();
        let mut due = Vec::new();
        self.incidents.retain(|_, (since, folded)| {
            if now.saturating_sub(*since) < FOLD_INCIDENTS {
                return true;
            }
            if folded.count > 0 {
                due.push(folded.clone());
            }
            false
        });
        for observation in due {
            self.tell(Observation::Process(Box::new(observation)));
        }
        self.pump();
    }

    /// Every five seconds: use of CPU and memory, drops, a sign of life.
    pub(crate) fn five_seconds(&mut self) {
        let (at, now) = (self.setup.clock.now(), self.setup.clock.monotonic());
        let running: Vec<(WorkloadId, String)> = self
            .inventory
            .all()
            .filter(|local| local.workload.running && !local.workload.cgroup.is_empty())
            .map(|local| (local.workload.id.clone(), local.workload.cgroup.clone()))
            .collect();
        for (id, cgroup) in running {
            if let Some(usage) = self.usage.workload(&id, &cgroup, now) {
                self.tell(Observation::Usage { workload: Some(id), usage, at });
            }
        }
        self.look_for_ports();
        let usage = self.usage.node(now);
        self.tell(Observation::Usage { workload: None, usage, at });
        let kernel = self.kernel_dropped();
        let dropped = (kernel, self.outbox.dropped());
        if dropped != self.told_dropped {
            self.told_dropped = dropped;
            self.tell(Observation::Dropped { kernel: dropped.0, queue: dropped.1 });
        }
        if self.welcomed {
            self.send(proto::from_enforcer::Message::Heartbeat(proto::Heartbeat {
                at: at.nanos(),
                kernel_dropped: dropped.0,
                queue_dropped: dropped.1,
                queued: self.outbox.len() as u64,
            }));
        }
        self.pump();
    }

    fn kernel_dropped(&self) -> u64 {
        let Some(kernel) = &self.setup.kernel else { return 0 };
        let process = kernel.process.counters().map(|counters| counters.dropped()).unwrap_or(0);
        process.saturating_add(self.processes.overflow())
    }

    // ---- the link

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
            LinkEvent::Closed => {
                self.link = None;
                self.welcomed = false;
            }
        }
    }

    fn tell(&mut self, observation: Observation) {
        self.outbox.push(observation);
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

#[cfg(test)]
mod tests {
    use nv_model::policy::NodePolicy;

    use super::*;

    #[test]
    fn a_policy_knows_the_identity_of_an_address_by_its_longest_prefix() {
        let mut policy = NodePolicy::default();
        policy.addresses.insert("10.0.0.0/8".parse().unwrap(), IdentityId(20));
        policy.addresses.insert("10.1.0.0/16".parse().unwrap(), IdentityId(21));
        for (address, want) in [("10.1.2.3", 21), ("10.2.2.3", 20), ("192.0.2.1", 1)] {
            assert_eq!(kernel::identity_of(&policy, address.parse().unwrap()), IdentityId(want), "{address}");
        }
    }
}
