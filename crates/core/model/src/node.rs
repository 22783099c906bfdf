//! Nodes and the components that run on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{ControllerId, EnforcerId, NodeId};
use crate::time::Timestamp;
use crate::verdict::Mechanism;
use crate::workload::InterfaceAddress;

/// A node of the cluster as its enforcer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its host name.
    pub name: String,
    /// Container runtime in use (`containerd`), empty when there is none.
    #[serde(default)]
    pub runtime: String,
    /// The runtime's version.
    #[serde(default)]
    pub runtime_version: String,
    /// Platform: `Kubernetes`, `Docker`, or empty.
    #[serde(default)]
    pub platform: String,
    /// Operating system, as `/etc/os-release` names it.
    #[serde(default)]
    pub os: String,
    /// Kernel release (`uname -r`).
    #[serde(default)]
    pub kernel: String,
    /// Number of CPUs.
    #[serde(default)]
    pub cpus: u32,
    /// Memory in bytes.
    #[serde(default)]
    pub memory: i64,
    /// 1, 2, or 1 with a v2 tree beside it (hybrid), which counts as 1.
    #[serde(default)]
    pub cgroup_version: u8,
    /// Storage driver of the runtime (`overlayfs`).
    #[serde(default)]
    pub storage_driver: String,
    /// Its addresses.
    #[serde(default)]
    pub interfaces: Vec<InterfaceAddress>,
    /// Kubernetes labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Whether a component is in touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// In touch.
    #[default]
    Connected,
    /// Not heard of.
    Disconnected,
}

impl ConnectionState {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}

/// One mechanism that was tried at start, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Capability {
    /// What was tried.
    pub mechanism: Mechanism,
    /// It was loaded, attached, fired and did stop the act.
    pub works: bool,
    /// Why not, in one sentence; empty when it works.
    #[serde(default)]
    pub reason: String,
    /// How long the trial took, in microseconds.
    #[serde(default)]
    pub trial_micros: u64,
}

/// What the kernel of a node allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Capabilities {
    /// Kernel release.
    pub kernel: String,
    /// 1 (BPF LSM) to 4 (fanotify and proc connector), 0 when processes cannot be stopped at all.
    pub tier: u8,
    /// What stops processes.
    pub process: Option<Mechanism>,
    /// What stops packets.
    pub network: Option<Mechanism>,
    /// What stops opens of files.
    #[serde(default)]
    pub file: Option<Mechanism>,
    /// Every trial.
    pub trials: Vec<Capability>,
    /// What is lost against tier 1, a sentence each.
    pub lost: Vec<String>,
}

/// An enforcer as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcer {
    /// Its id.
    pub id: EnforcerId,
    /// Its node.
    pub node: NodeId,
    /// Host name of the node.
    pub host_name: String,
    /// Product version.
    pub version: String,
    /// Address that it is reached at.
    #[serde(default)]
    pub address: String,
    /// When its process started.
    pub started: Timestamp,
    /// When it joined this controller.
    pub joined: Timestamp,
    /// In touch or not.
    pub state: ConnectionState,
    /// Since when it is not.
    #[serde(default)]
    pub disconnected: Timestamp,
    /// What its kernel allows.
    pub capabilities: Capabilities,
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its id.
    pub id: ControllerId,
    /// Host name of its node.
    pub host_name: String,
    /// Product version.
    pub version: String,
    /// Address that the others reach it at.
    #[serde(default)]
    pub address: String,
    /// When its process started.
    pub started: Timestamp,
    /// It decides.
    pub leader: bool,
    /// In touch or not.
    pub state: ConnectionState,
}

/// What a node or a workload uses, sampled every 5 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Share of one CPU, 1.0 for all of one.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Packets to it.
    pub packets_in: u64,
    /// Packets from it.
    pub packets_out: u64,
    /// Bytes to it.
    pub bytes_in: u64,
    /// Bytes from it.
    pub bytes_out: u64,
    /// Sessions that it accepted.
    pub sessions_in: u32,
    /// Sessions that it opened.
    pub sessions_out: u32,
}
