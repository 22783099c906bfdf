//! Conversations: connections folded by the pair of endpoints.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{GroupName, NodeId, WorkloadId};

/// One end of a conversation. Its text form is the contract's endpoint id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointId {
    /// A managed workload.
    Workload(WorkloadId),
    /// A managed host's own processes (`Host:<name or id>`).
    Host(NodeId),
    /// An address inside of the cluster that no managed workload has (`Workload:<ip>`).
    UnmanagedWorkload(std::net::IpAddr),
    /// An address of a host without an enforcer (`Host:<ip>`).
    UnmanagedHost(std::net::IpAddr),
    /// Addresses of a user's address group.
    Address(GroupName),
    /// A service's own address (`nv.ip.…`).
    IpService(GroupName),
    /// Everything outside of the cluster.
    External,
}

impl EndpointId {
    /// The contract's endpoint kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Workload(_) => "container",
            Self::Host(_) | Self::UnmanagedHost(_) => "node_ip",
            Self::UnmanagedWorkload(_) => "workload_ip",
            Self::Address(_) => "address",
            Self::IpService(_) => "ip_service",
            Self::External => "external",
        }
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "{id}"),
            Self::Host(id) => write!(f, "Host:{id}"),
            Self::UnmanagedWorkload(ip) => write!(f, "Workload:{ip}"),
            Self::UnmanagedHost(ip) => write!(f, "Host:{ip}"),
            Self::Address(group) | Self::IpService(group) => write!(f, "{group}"),
            Self::External => f.write_str("external"),
        }
    }
}
