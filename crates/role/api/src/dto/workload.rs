//! Workloads.

use std::collections::BTreeMap;

use nv_model::name::WorkloadId;
use nv_model::workload::{InterfaceAddress, Workload as Model};
use nv_policy::state::home_group;
use nv_role_controller::View;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IpAddress, ScanBrief};
use crate::answer::Named;
use crate::scanned::Place;

/// What both the short and the long form of a workload have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkloadHead {
    /// Id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The pod's name, or the container's.
    pub display_name: String,
    /// Pod.
    pub pod_name: String,
    /// Host name of its node.
    pub host_name: String,
    /// Its node.
    pub host_id: String,
    /// Image reference.
    pub image: String,
    /// Image id.
    pub image_id: String,
    /// Digest of the image; empty when unknown.
    pub image_digest: String,
    /// Digests in repositories.
    pub image_repo_digests: Vec<String>,
    /// When the image was made; empty when unknown.
    pub image_created_at: String,
    /// The image was scanned in a registry.
    pub image_reg_scanned: bool,
    /// Empty, `core` or `addon`.
    pub platform_role: String,
    /// Namespace.
    pub domain: String,
    /// exit, discover, monitor, protect or quarantined.
    pub state: String,
    /// Service with its namespace.
    pub service: String,
    /// Author of the image.
    pub author: String,
    /// Learned group.
    pub service_group: String,
    /// The pod's sandbox whose network it shares.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub share_ns_with: String,
    /// Packets can be captured.
    pub cap_sniff: bool,
    /// Its connections are seen and judged.
    pub has_datapath: bool,
    /// It can be quarantined.
    pub cap_quarantine: bool,
    /// Its mode can be changed.
    pub cap_change_mode: bool,
    /// Part of a service mesh.
    pub service_mesh: bool,
    /// The mesh's sidecar.
    pub service_mesh_sidecar: bool,
    /// Network mode.
    pub policy_mode: String,
    /// Process mode.
    pub profile_mode: String,
    /// Why it is quarantined.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub quarantine_reason: String,
    /// basic or zero-drift.
    pub baseline_profile: String,
    /// Summary of its scan.
    pub scan_summary: ScanBrief,
    /// All privileges.
    pub privileged: bool,
    /// Its first process is user 0's.
    pub run_as_root: bool,
}

/// A workload in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkloadBrief {
    /// All but the children.
    #[serde(flatten)]
    pub head: WorkloadHead,
    /// Containers of the pod.
    #[schema(no_recursion)]
    pub children: Vec<WorkloadBrief>,
}
impl Named for WorkloadBrief {
    const ONE: &'static str = "workload";
    const MANY: &'static str = "workloads";
}

/// A port that a workload listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkloadPorts {
    /// IP protocol.
    pub ip_proto: u8,
    /// Port.
    pub port: u16,
    /// Host address it is mapped to.
    pub host_ip: String,
    /// Host port it is mapped to; 0 for none.
    pub host_port: u16,
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Workload {
    /// In short, without children.
    #[serde(flatten)]
    pub head: WorkloadHead,
    /// Enforcer.
    pub enforcer_id: String,
    /// Its name.
    pub enforcer_name: String,
    /// `host`, or empty.
    pub network_mode: String,
    /// When it was created.
    pub created_at: String,
    /// When it was started.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// When its policy was first in the kernel.
    pub secured_at: String,
    /// It runs.
    pub running: bool,
    /// How it ended.
    pub exit_code: i64,
    /// Addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddress>>,
    /// Ports it listens on.
    pub ports: Vec<WorkloadPorts>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Applications that were recognised.
    pub applications: Vec<String>,
    /// Memory limit in bytes; 0 for none.
    pub memory_limit: i64,
    /// CPUs it may use; empty for all.
    pub cpus: String,
    /// Service account.
    pub service_account: String,
    /// Containers of the pod.
    #[schema(no_recursion)]
    pub children: Vec<Workload>,
}
impl Named for Workload {
    const ONE: &'static str = "workload";
    const MANY: &'static str = "workloads";
}

/// A workload with its groups.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadDetail {
    /// The workload.
    #[serde(flatten)]
    pub workload: Workload,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// Application by port.
    pub app_ports: BTreeMap<String, String>,
}
impl Named for WorkloadDetail {
    const ONE: &'static str = "workload";
    const MANY: &'static str = "workloads";
}

/// Ids of workloads.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct WorkloadIds {
    /// The ids.
    #[serde(default)]
    pub ids: Vec<String>,
}

/// Changes to a workload.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct WorkloadConfigCfg {
    /// How its packets are looked into; `default`.
    #[serde(default)]
    pub wire: Option<String>,
    /// Cut it off from the network, or end that.
    #[serde(default)]
    pub quarantine: Option<bool>,
}

/// What is configured for a workload.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadConfig {
    /// How its packets are looked into.
    pub wire: String,
    /// Cut off from the network.
    pub quarantine: bool,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub quarantine_reason: String,
}
impl Named for WorkloadConfig {
    const ONE: &'static str = "config";
    const MANY: &'static str = "configs";
}

/// Addresses by interface.
#[must_use]
pub fn interfaces(addresses: &[InterfaceAddress]) -> BTreeMap<String, Vec<IpAddress>> {
    let mut by_name: BTreeMap<String, Vec<IpAddress>> = BTreeMap::new();
    for held in addresses {
        by_name.entry(held.interface.clone()).or_default().push(IpAddress {
            ip: held.address.addr().to_string(),
            ip_prefix: i64::from(held.address.prefix_len()),
            gateway: held.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        });
    }
    by_name
}

/// Why a workload that an administrator cut off is so.
const BY_CONFIG: &str = "user-configured";

impl WorkloadHead {
    /// As the view has it.
    #[must_use]
    pub fn of(view: &View, workload: &Model) -> Self {
        let group = home_group(workload);
        let modes = view.state.modes_of(&group).unwrap_or(view.state.settings.new_service);
        let quarantined = view.state.quarantined.contains(&workload.id);
        let state = if !workload.running {
            "exit"
        } else if quarantined {
            "quarantined"
        } else {
            match modes.network {
                nv_model::mode::Mode::Discover => "discover",
                nv_model::mode::Mode::Monitor => "monitor",
                nv_model::mode::Mode::Protect => "protect",
            }
        };
        let has_datapath = workload.running && !workload.host_network && !workload.interfaces.is_empty();
        let can_change =
            view.state.groups.get(&group).is_none_or(|g| g.origin != nv_model::group::Origin::Ground);
        Self {
            id: workload.id.to_string(),
            name: workload.name.clone(),
            display_name: workload.display_name().to_owned(),
            pod_name: workload.pod_name.clone(),
            host_name: workload.host_name.clone(),
            host_id: workload.node.to_string(),
            image: workload.image.clone(),
            scan_summary: ScanBrief::of(view, &view.scan_of(workload), &Place::of(workload)),
            image_id: workload.image_id.clone(),
            platform_role: workload.role.as_str().to_owned(),
            domain: workload.domain.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: state.to_owned(),
            service: group.as_str().strip_prefix("nv.").unwrap_or(group.as_str()).to_owned(),
            service_group: group.to_string(),
            share_ns_with: workload.pod_sandbox.as_ref().map(ToString::to_string).unwrap_or_default(),
            has_datapath,
            cap_quarantine: has_datapath,
            cap_change_mode: can_change,
            policy_mode: modes.network.as_str().to_owned(),
            profile_mode: modes.profile.as_str().to_owned(),
            quarantine_reason: if quarantined { BY_CONFIG.to_owned() } else { String::new() },
            baseline_profile: modes.baseline.as_str().to_owned(),
            privileged: workload.privileged,
            run_as_root: workload.run_as_root,
            ..Self::default()
        }
    }
}

impl WorkloadBrief {
    /// As the view has it, with these children.
    #[must_use]
    pub fn of(view: &View, workload: &Model, children: &[WorkloadId]) -> Self {
        let child = |id| view.state.workloads.get(id).map(|child| Self::of(view, child, &[]));
        Self { head: WorkloadHead::of(view, workload), children: children.iter().filter_map(child).collect() }
    }
}

impl Workload {
    /// As the view has it, with these children.
    #[must_use]
    pub fn of(view: &View, workload: &Model, children: &[WorkloadId]) -> Self {
        // An enforcer has its node's id.
        let enforcer = view.enforcers.get(workload.node.as_str());
        let child = |id| view.state.workloads.get(id).map(|child| Self::of(view, child, &[]));
        Self {
            head: WorkloadHead::of(view, workload),
            enforcer_id: enforcer.map(|e| e.id.to_string()).unwrap_or_default(),
            enforcer_name: enforcer.map(|e| e.host_name.clone()).unwrap_or_default(),
            network_mode: if workload.host_network { "host" } else { "" }.to_owned(),
            created_at: workload.created.rfc3339(),
            started_at: workload.started.rfc3339(),
            finished_at: workload.finished.rfc3339(),
            secured_at: workload.secured.rfc3339(),
            running: workload.running,
            exit_code: workload.exit_code.into(),
            interfaces: interfaces(&workload.interfaces),
            ports: workload
                .ports
                .iter()
                .map(|port| WorkloadPorts {
                    ip_proto: port.protocol.number(),
                    port: port.port,
                    host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                    host_port: port.host_port,
                })
                .collect(),
            labels: workload.labels.clone(),
            applications: Vec::new(),
            memory_limit: workload.memory_limit,
            cpus: workload.cpus.clone(),
            service_account: workload.service_account.clone(),
            children: children.iter().filter_map(child).collect(),
        }
    }
}
