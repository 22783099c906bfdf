//! Workloads: containers, and the processes of a host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::{Domain, GroupName, NodeId, ServiceName, WorkloadId};
use crate::port::Protocol;
use crate::time::Timestamp;

/// What a platform uses a workload for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformRole {
    /// An ordinary workload.
    #[default]
    None,
    /// Part of the platform (kubelet's own pods, the cluster's DNS, …).
    Core,
    /// An add-on.
    Addon,
}

impl PlatformRole {
    /// The contract's word; ordinary is `""`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Core => "core",
            Self::Addon => "addon",
        }
    }
}

/// A port that a workload listens on, and where it is mapped to on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListeningPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port in the workload.
    pub port: u16,
    /// Host address of the mapping, when there is one.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// Host port of the mapping, 0 when there is none.
    #[serde(default)]
    pub host_port: u16,
}

/// A network interface of a workload or a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// Name of the interface (`eth0`).
    pub interface: String,
    /// Address and prefix length.
    pub address: IpNet,
    /// Default gateway on this interface.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A container. Pods are given by their sandbox: its members name it in `pod_sandbox` and share its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Id as the runtime gives it.
    pub id: WorkloadId,
    /// The container's name.
    pub name: String,
    /// The node it runs on.
    pub node: NodeId,
    /// Host name of that node.
    #[serde(default)]
    pub host_name: String,
    /// The service it is an instance of.
    pub service: ServiceName,
    /// Its namespace.
    #[serde(default)]
    pub domain: Option<Domain>,
    /// Pod name; empty outside of pods.
    #[serde(default)]
    pub pod_name: String,
    /// The pod's sandbox, or outside of pods the container, whose network it shares; `None` when it has its own.
    #[serde(default)]
    pub pod_sandbox: Option<WorkloadId>,
    /// It is a pod's sandbox (pause container).
    #[serde(default)]
    pub is_sandbox: bool,
    /// Image reference (`docker.io/library/nginx:1.27`).
    #[serde(default)]
    pub image: String,
    /// Digest of the image's configuration.
    #[serde(default)]
    pub image_id: String,
    /// Labels of container and pod.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the platform uses it for.
    #[serde(default)]
    pub role: PlatformRole,
    /// Process id of its first process in the host's numbering; 0 when not running.
    #[serde(default)]
    pub pid: u32,
    /// Path in the cgroup v2 hierarchy, for instance `/kubepods/burstable/pod…/<id>`.
    #[serde(default)]
    pub cgroup: String,
    /// Inode of the cgroup's folder: what the kernel calls the cgroup id; 0 when unknown.
    #[serde(default)]
    pub cgroup_id: u64,
    /// Inode of its network namespace; 0 when unknown.
    #[serde(default)]
    pub network_namespace: u64,
    /// It shares the host's network.
    #[serde(default)]
    pub host_network: bool,
    /// Addresses, IPv4 and IPv6.
    #[serde(default)]
    pub interfaces: Vec<InterfaceAddress>,
    /// Ports it listens on.
    #[serde(default)]
    pub ports: Vec<ListeningPort>,
    /// Runs with all privileges.
    #[serde(default)]
    pub privileged: bool,
    /// Its first process runs as user 0.
    #[serde(default)]
    pub run_as_root: bool,
    /// Memory limit in bytes; 0 for none.
    #[serde(default)]
    pub memory_limit: i64,
    /// CPUs it may use, as the kernel lists them; empty for all.
    #[serde(default)]
    pub cpus: String,
    /// Kubernetes service account.
    #[serde(default)]
    pub service_account: String,
    /// The runtime: `containerd`, `cri-o`, `docker`.
    #[serde(default)]
    pub runtime: String,
    /// When it was created.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was started.
    #[serde(default)]
    pub started: Timestamp,
    /// When it ended; never while it runs.
    #[serde(default)]
    pub finished: Timestamp,
    /// When its policy was first in the kernel.
    #[serde(default)]
    pub secured: Timestamp,
    /// It runs.
    #[serde(default)]
    pub running: bool,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i32,
}

impl Workload {
    /// The learned group of its service.
    #[must_use]
    pub fn learned_group(&self) -> GroupName {
        GroupName::learned(&self.service, self.domain.as_ref())
    }
    /// It is in a pod, or is a pod's sandbox. A container outside of pods may share another's network as well.
    #[must_use]
    pub fn is_in_pod(&self) -> bool {
        self.is_sandbox || (self.pod_sandbox.is_some() && !self.pod_name.is_empty())
    }
    /// The name shown: the pod's, or the container's outside of pods.
    #[must_use]
    pub fn display_name(&self) -> &str {
        if self.pod_name.is_empty() { &self.name } else { &self.pod_name }
    }
}
