//! Workloads in the contract's second version: the first one's keys in groups.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::workload::{Workload, WorkloadPorts};
use super::{IpAddress, ScanBrief};
use crate::answer::Named;

/// What a workload is (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadBriefV2 {
    /// Id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The pod's name, or the container's.
    pub display_name: String,
    /// Host name of its node.
    pub host_name: String,
    /// Its node.
    pub host_id: String,
    /// Image reference.
    pub image: String,
    /// Image id.
    pub image_id: String,
    /// Digest of the image.
    pub image_digest: String,
    /// Digests in repositories.
    pub image_repo_digests: Vec<String>,
    /// When the image was made.
    pub image_created_at: String,
    /// The image was scanned in a registry.
    pub image_reg_scanned: bool,
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
}

/// How a workload is protected (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadSecurityV2 {
    /// Packets can be captured.
    pub cap_sniff: bool,
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
    /// basic or zero-drift.
    pub baseline_profile: String,
    /// Why it is quarantined.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub quarantine_reason: String,
    /// Summary of its scan.
    pub scan_summary: ScanBrief,
}

/// How a workload runs (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadRtAttribesV2 {
    /// Pod.
    pub pod_name: String,
    /// The pod's sandbox whose network it shares.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub share_ns_with: String,
    /// All privileges.
    pub privileged: bool,
    /// Its first process is user 0's.
    pub run_as_root: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Memory limit in bytes; 0 for none.
    pub memory_limit: i64,
    /// CPUs it may use; empty for all.
    pub cpus: String,
    /// Service account.
    pub service_account: String,
    /// `host`, or empty.
    pub network_mode: String,
    /// Addresses by interface.
    pub interfaces: BTreeMap<String, Vec<IpAddress>>,
    /// Ports it listens on.
    pub ports: Vec<WorkloadPorts>,
    /// Applications that were recognised.
    pub applications: Vec<String>,
}

/// A workload (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadV2 {
    /// What it is.
    pub brief: WorkloadBriefV2,
    /// How it is protected.
    pub security: WorkloadSecurityV2,
    /// How it runs.
    pub rt_attributes: WorkloadRtAttribesV2,
    /// Containers of the pod.
    #[schema(no_recursion)]
    pub children: Vec<WorkloadV2>,
    /// Enforcer.
    pub enforcer_id: String,
    /// Its name.
    pub enforcer_name: String,
    /// Empty, `core` or `addon`.
    pub platform_role: String,
    /// When it was created.
    pub created_at: String,
    /// When it was started.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// It runs.
    pub running: bool,
    /// When its policy was first in the kernel.
    pub secured_at: String,
    /// How it ended.
    pub exit_code: i64,
}
impl Named for WorkloadV2 {
    const ONE: &'static str = "workload";
    const MANY: &'static str = "workloads";
}

/// Further facts of a workload (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadDetailMiscV2 {
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// Application by port.
    pub app_ports: BTreeMap<String, String>,
    /// Containers of the pod.
    pub children: Vec<WorkloadV2>,
}

/// A workload with its groups (second version).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkloadDetailV2 {
    /// The workload.
    #[serde(flatten)]
    pub workload: WorkloadV2,
    /// Further facts.
    pub misc: WorkloadDetailMiscV2,
}
impl Named for WorkloadDetailV2 {
    const ONE: &'static str = "workload";
    const MANY: &'static str = "workloads";
}

impl From<Workload> for WorkloadV2 {
    fn from(workload: Workload) -> Self {
        let head = workload.head;
        Self {
            brief: WorkloadBriefV2 {
                id: head.id,
                name: head.name,
                display_name: head.display_name,
                host_name: head.host_name,
                host_id: head.host_id,
                image: head.image,
                image_id: head.image_id,
                image_digest: head.image_digest,
                image_repo_digests: head.image_repo_digests,
                image_created_at: head.image_created_at,
                image_reg_scanned: head.image_reg_scanned,
                domain: head.domain,
                state: head.state,
                service: head.service,
                author: head.author,
                service_group: head.service_group,
            },
            security: WorkloadSecurityV2 {
                cap_sniff: head.cap_sniff,
                cap_quarantine: head.cap_quarantine,
                cap_change_mode: head.cap_change_mode,
                service_mesh: head.service_mesh,
                service_mesh_sidecar: head.service_mesh_sidecar,
                policy_mode: head.policy_mode,
                profile_mode: head.profile_mode,
                baseline_profile: head.baseline_profile,
                quarantine_reason: head.quarantine_reason,
                scan_summary: head.scan_summary,
            },
            rt_attributes: WorkloadRtAttribesV2 {
                pod_name: head.pod_name,
                share_ns_with: head.share_ns_with,
                privileged: head.privileged,
                run_as_root: head.run_as_root,
                labels: workload.labels,
                memory_limit: workload.memory_limit,
                cpus: workload.cpus,
                service_account: workload.service_account,
                network_mode: workload.network_mode,
                interfaces: workload.interfaces,
                ports: workload.ports,
                applications: workload.applications,
            },
            children: workload.children.into_iter().map(Into::into).collect(),
            enforcer_id: workload.enforcer_id,
            enforcer_name: workload.enforcer_name,
            platform_role: head.platform_role,
            created_at: workload.created_at,
            started_at: workload.started_at,
            finished_at: workload.finished_at,
            running: workload.running,
            secured_at: workload.secured_at,
            exit_code: workload.exit_code,
        }
    }
}
