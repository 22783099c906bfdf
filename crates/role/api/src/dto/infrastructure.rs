//! Hosts, controllers, enforcers, namespaces.

use std::collections::BTreeMap;

use nv_model::mode::Mode;
use nv_model::name::{GroupName, NodeId};
use nv_model::node::{Capabilities, ConnectionState, Controller as ControllerModel, Enforcer, Node};
use nv_model::scan::ScanSubject;
use nv_policy::state::is_host;
use nv_role_controller::View;
use serde::Serialize;
use utoipa::ToSchema;

use super::workload::interfaces;
use super::{IpAddress, ScanBrief};
use crate::answer::Named;
use crate::scanned::Place;

/// A host.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Node id.
    pub id: String,
    /// Container runtime.
    pub runtime: String,
    /// Its version.
    pub runtime_version: String,
    /// Version of its interface; empty when unknown.
    pub runtime_api_version: String,
    /// Platform.
    pub platform: String,
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// CPUs.
    pub cpus: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Version of the cgroup tree.
    pub cgroup_version: i64,
    /// Running containers, without sandboxes.
    pub containers: i64,
    /// Running pods.
    pub pods: i64,
    /// Addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddress>>,
    /// discover, monitor or protect; `unmanaged` while its enforcer is not in touch.
    pub state: String,
    /// The Docker benchmark can run.
    pub cap_docker_bench: bool,
    /// The Kubernetes benchmark can run.
    pub cap_kube_bench: bool,
    /// Network mode.
    pub policy_mode: String,
    /// Process mode.
    pub profile_mode: String,
    /// Summary of its scan.
    pub scan_summary: ScanBrief,
    /// Storage driver of the runtime.
    pub storage_driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}
impl Named for Host {
    const ONE: &'static str = "host";
    const MANY: &'static str = "hosts";
}

/// The contract's word for the state of something in a mode.
#[must_use]
pub const fn state_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Discover => "discover",
        Mode::Monitor => "monitor",
        Mode::Protect => "protect",
    }
}

/// Running containers and pods by node, counted in one walk.
#[derive(Clone, Debug, Default)]
pub struct Running(BTreeMap<NodeId, (i64, i64)>);

impl Running {
    /// Of every node.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let mut counts: BTreeMap<NodeId, (i64, i64)> = BTreeMap::new();
        for workload in view.state.workloads.values().filter(|w| w.running && !is_host(w)) {
            let (containers, pods) = counts.entry(workload.node.clone()).or_default();
            let count = if workload.is_sandbox { pods } else { containers };
            *count = count.saturating_add(1);
        }
        Self(counts)
    }
}

impl Host {
    /// As the view has it.
    #[must_use]
    pub fn of(view: &View, node: &Node, running: &Running) -> Self {
        let modes = view.state.modes_of(&GroupName::nodes()).unwrap_or(view.state.settings.new_service);
        let (containers, pods) = running.0.get(&node.id).copied().unwrap_or_default();
        let enforcer = view.enforcers.get(node.id.as_str());
        let managed = enforcer.is_some_and(|enforcer| enforcer.state == ConnectionState::Connected);
        Self {
            name: node.name.clone(),
            id: node.id.to_string(),
            runtime: node.runtime.clone(),
            runtime_version: node.runtime_version.clone(),
            runtime_api_version: String::new(),
            platform: node.platform.clone(),
            os: node.os.clone(),
            kernel: node.kernel.clone(),
            cpus: node.cpus.into(),
            memory: node.memory,
            cgroup_version: node.cgroup_version.into(),
            containers,
            pods,
            interfaces: interfaces(&node.interfaces),
            state: if managed { state_word(modes.network) } else { "unmanaged" }.to_owned(),
            cap_docker_bench: false,
            cap_kube_bench: false,
            policy_mode: modes.network.as_str().to_owned(),
            profile_mode: modes.profile.as_str().to_owned(),
            scan_summary: ScanBrief::of(
                view,
                &view.scan(&ScanSubject::Node(node.id.clone())),
                &Place::default(),
            ),
            storage_driver: node.storage_driver.clone(),
            labels: node.labels.clone(),
            annotations: node.annotations.clone(),
        }
    }
}

/// A controller.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Controller {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Name shown.
    pub display_name: String,
    /// Host name of its node.
    pub host_name: String,
    /// Its node; empty when unknown.
    pub host_id: String,
    /// Product version.
    pub version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Namespace.
    pub domain: String,
    /// When it was created.
    pub created_at: String,
    /// When it was started.
    pub started_at: String,
    /// When it joined.
    pub joined_at: String,
    /// Memory limit in bytes; 0 for none.
    pub memory_limit: i64,
    /// CPUs it may use; empty for all.
    pub cpus: String,
    /// Address.
    pub cluster_ip: String,
    /// It decides.
    pub leader: bool,
    /// connected or disconnected.
    pub connection_state: String,
    /// Since when it is not in touch.
    pub disconnected_at: String,
    /// State of the link to the orchestrator; empty without one.
    pub orch_conn_status: String,
    /// Last error of that link.
    pub orch_conn_last_error: String,
    /// Reads the vendor's configuration.
    pub read_prime_config: bool,
}
impl Named for Controller {
    const ONE: &'static str = "controller";
    const MANY: &'static str = "controllers";
}

impl From<&ControllerModel> for Controller {
    fn from(controller: &ControllerModel) -> Self {
        Self {
            id: controller.id.to_string(),
            name: controller.host_name.clone(),
            display_name: controller.host_name.clone(),
            host_name: controller.host_name.clone(),
            host_id: String::new(),
            version: controller.version.clone(),
            labels: BTreeMap::new(),
            domain: String::new(),
            created_at: controller.started.rfc3339(),
            started_at: controller.started.rfc3339(),
            joined_at: controller.started.rfc3339(),
            memory_limit: 0,
            cpus: String::new(),
            cluster_ip: controller.address.clone(),
            leader: controller.leader,
            connection_state: controller.state.as_str().to_owned(),
            disconnected_at: String::new(),
            orch_conn_status: String::new(),
            orch_conn_last_error: String::new(),
            read_prime_config: false,
        }
    }
}

/// An enforcer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Agent {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Name shown.
    pub display_name: String,
    /// Host name of its node.
    pub host_name: String,
    /// Its node.
    pub host_id: String,
    /// Product version.
    pub version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Namespace.
    pub domain: String,
    /// Process namespace.
    pub pid_mode: String,
    /// Network namespace.
    pub network_mode: String,
    /// When it was created.
    pub created_at: String,
    /// When it was started.
    pub started_at: String,
    /// When it joined.
    pub joined_at: String,
    /// Memory limit in bytes; 0 for none.
    pub memory_limit: i64,
    /// CPUs it may use; empty for all.
    pub cpus: String,
    /// Address.
    pub cluster_ip: String,
    /// connected or disconnected.
    pub connection_state: String,
    /// Since when it is not in touch.
    pub disconnected_at: String,
    /// It guards itself.
    pub nv_protect: bool,
    /// How processes are stopped on this node; empty when they cannot be.
    pub process_tier: String,
    /// How packets are stopped on this node; empty when they cannot be.
    pub network_tier: String,
    /// What the node's kernel allows, and what was tried.
    pub capabilities: Capabilities,
    /// How far it is with its policy.
    pub policy: PolicyProgress,
}

/// How far an enforcer is with its policy. Revisions are numbered for each node, from 1.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PolicyProgress {
    /// It enforces all that this API shows: modes, rules, profiles, groups, sensors.
    pub enforced: bool,
    /// Newest revision that was sent to it; 0 for none.
    pub sent_revision: u64,
    /// Newest revision that it enforces; 0 for none.
    pub enforced_revision: u64,
    /// Microseconds from the arrival of that revision until the kernel judged by it.
    pub apply_micros: u64,
    /// Since when it has not acknowledged what was sent; empty when it has.
    pub waiting_since: String,
    /// Why it did not take the newest revision; empty when it did.
    pub error: String,
}

impl PolicyProgress {
    fn of(view: &View, node: &NodeId) -> Self {
        let state = view.policies.get(node).cloned().unwrap_or_default();
        Self {
            enforced: view.is_enforced_on(node),
            sent_revision: state.sent.0,
            enforced_revision: state.enforced.0,
            apply_micros: state.apply_micros,
            waiting_since: state.waiting_since.rfc3339(),
            error: state.error,
        }
    }
}

impl Named for Agent {
    const ONE: &'static str = "enforcer";
    const MANY: &'static str = "enforcers";
}

impl Agent {
    /// As the view has it.
    #[must_use]
    pub fn of(view: &View, enforcer: &Enforcer) -> Self {
        let word = |mechanism: Option<nv_model::verdict::Mechanism>| {
            mechanism.map(nv_model::verdict::Mechanism::as_str).unwrap_or_default().to_owned()
        };
        Self {
            id: enforcer.id.to_string(),
            name: enforcer.host_name.clone(),
            display_name: enforcer.host_name.clone(),
            host_name: enforcer.host_name.clone(),
            host_id: enforcer.node.to_string(),
            version: enforcer.version.clone(),
            labels: BTreeMap::new(),
            domain: String::new(),
            pid_mode: "host".to_owned(),
            network_mode: "host".to_owned(),
            created_at: enforcer.started.rfc3339(),
            started_at: enforcer.started.rfc3339(),
            joined_at: enforcer.joined.rfc3339(),
            memory_limit: 0,
            cpus: String::new(),
            cluster_ip: enforcer.address.clone(),
            connection_state: enforcer.state.as_str().to_owned(),
            disconnected_at: enforcer.disconnected.rfc3339(),
            nv_protect: false,
            process_tier: word(enforcer.capabilities.process),
            network_tier: word(enforcer.capabilities.network),
            capabilities: enforcer.capabilities.clone(),
            policy: PolicyProgress::of(view, &enforcer.node),
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Workloads.
    pub workloads: i64,
    /// Running ones.
    pub running_workloads: i64,
    /// Running pods.
    pub running_pods: i64,
    /// Services.
    pub services: i64,
    /// Tags for compliance.
    pub tags: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its boundary is enforced.
    pub nbe: bool,
}

/// All namespaces.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DomainsData {
    /// The namespaces.
    pub domains: Vec<Domain>,
    /// Tags count by namespace.
    pub tag_per_domain: bool,
}

/// Use at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Metry {
    /// Share of one CPU.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Sessions accepted.
    pub session_in: u32,
    /// Sessions opened.
    pub session_out: u32,
    /// Packets to it.
    pub packet_in: u64,
    /// Packets from it.
    pub packet_out: u64,
    /// Bytes to it.
    pub byte_in: u64,
    /// Bytes from it.
    pub byte_out: u64,
}

impl Metry {
    /// Both together.
    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory: self.memory.saturating_add(other.memory),
            session_in: self.session_in.saturating_add(other.session_in),
            session_out: self.session_out.saturating_add(other.session_out),
            packet_in: self.packet_in.saturating_add(other.packet_in),
            packet_out: self.packet_out.saturating_add(other.packet_out),
            byte_in: self.byte_in.saturating_add(other.byte_in),
            byte_out: self.byte_out.saturating_add(other.byte_out),
        }
    }
}

/// Use over the last sample, minute and five minutes.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Stats {
    /// Seconds between two samples.
    pub interval: u32,
    /// Since the start; counters that are not kept that long are 0.
    pub total: Metry,
    /// The last sample.
    pub span_1: Metry,
    /// The last minute.
    pub span_12: Metry,
    /// The last five minutes.
    pub span_60: Metry,
}

impl Stats {
    /// Both together; the samples are as far apart as the other's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            interval: other.interval,
            total: self.total.plus(other.total),
            span_1: self.span_1.plus(other.span_1),
            span_12: self.span_12.plus(other.span_12),
            span_60: self.span_60.plus(other.span_60),
        }
    }
}

/// Use of a group's workloads together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupStatsData {
    /// The group.
    pub name: String,
    /// When it was read.
    pub read_at: String,
    /// How much.
    pub stats: Stats,
}

/// Use of one node or workload.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StatsData {
    /// Whose.
    pub id: String,
    /// When it was read.
    pub read_at: String,
    /// How much.
    pub stats: Stats,
}
