//! The system: summary, requests, small documents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// The system in numbers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SystemSummary {
    /// Hosts.
    pub hosts: i64,
    /// Controllers.
    pub controllers: i64,
    /// Enforcers.
    pub enforcers: i64,
    /// Enforcers that are not in touch.
    pub disconnected_enforcers: i64,
    /// Namespaces.
    pub domains: i64,
    /// Containers.
    pub workloads: i64,
    /// Running ones.
    pub running_workloads: i64,
    /// Running pods.
    pub running_pods: i64,
    /// Services.
    pub services: i64,
    /// Network rules.
    pub policy_rules: i64,
    /// Scanners.
    pub scanners: i64,
    /// Platform.
    pub platform: String,
    /// Version of Kubernetes.
    pub kube_version: String,
    /// Version of OpenShift.
    pub openshift_version: String,
    /// Version of the vulnerability database.
    pub cvedb_version: String,
    /// When it was made.
    pub cvedb_create_time: String,
    /// Versions of the components.
    pub component_versions: Vec<String>,
}
impl Named for SystemSummary {
    const ONE: &'static str = "summary";
    const MANY: &'static str = "summaries";
}

/// Ends quarantines.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UnquarReq {
    /// Of workloads that this response rule cut off.
    #[serde(default)]
    pub response_rule: Option<u32>,
    /// Of workloads in this group.
    #[serde(default)]
    pub group: Option<String>,
}

/// Something for the whole system.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemRequest {
    /// Network mode of all groups.
    #[serde(default)]
    pub policy_mode: Option<String>,
    /// Process mode of all groups.
    #[serde(default)]
    pub profile_mode: Option<String>,
    /// Baseline of all services.
    #[serde(default)]
    pub baseline_profile: Option<String>,
    /// Ends quarantines.
    #[serde(default)]
    pub unquarantine: Option<UnquarReq>,
}

/// Something for the whole system.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemRequestData {
    /// What.
    #[serde(default)]
    pub request: Option<SystemRequest>,
}

/// The licence agreement.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = EULA)]
pub struct Eula {
    /// It was accepted.
    pub accepted: bool,
}

/// The licence agreement.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = EULAData)]
pub struct EulaData {
    /// Whether it was accepted.
    pub eula: Eula,
}

/// Words for the console's choices.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApplicationList {
    /// Applications that rules may name.
    pub application: Vec<String>,
}
impl Named for ApplicationList {
    const ONE: &'static str = "list";
    const MANY: &'static str = "lists";
}

/// An address of a REST server.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = CLUSRestServerInfo)]
pub struct RestServerInfo {
    /// Host.
    pub server: String,
    /// Port.
    pub port: u32,
}

/// Place of this cluster in a federation.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = FedMembereshipData)]
pub struct FedMembership {
    /// master, joint, or empty outside of a federation.
    pub fed_role: String,
    /// This cluster's address in the federation.
    pub local_rest_info: RestServerInfo,
    /// Managed clusters.
    pub joint_clusters: Vec<String>,
    /// A proxy is used.
    pub use_proxy: String,
    /// Results of repository scans are handed on.
    pub deploy_repo_scan_data: bool,
}

/// What a probe is told.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Health {
    /// ok.
    pub status: &'static str,
}
