//! Addresses that do not come from workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nv_model::group::{Group, GroupKind};
use nv_model::name::{GroupName, NodeId};
use nv_model::workload::Workload;

use super::nets::NetMap;
use crate::address::{AddressValue, host_net, is_routable};
use crate::state::{State, is_live};

/// Addresses that do not come from workloads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fixed {
    /// Address groups and pseudo groups (`Host:<ip>`, `Workload:<ip>`) by their networks.
    pub(super) groups: NetMap<BTreeSet<GroupName>>,
    /// Networks inside of the cluster.
    pub(super) internal: NetMap<usize>,
    /// Pseudo groups of one node (`Host:<id or name>`).
    pub(super) node_groups: BTreeMap<NodeId, BTreeSet<GroupName>>,
}

/// Stands for "by configuration" among the counts of [`Fixed::internal`].
const CONFIGURED: usize = usize::MAX / 2;

impl Fixed {
    /// Those of a state.
    pub(super) fn of(state: &State) -> Self {
        let mut fixed = Self::default();
        let add = |fixed: &mut Self, net: IpNet, group: &GroupName| {
            fixed.groups.0.entry(net).or_default().insert(group.clone());
        };
        let addresses = |group: &&Group| matches!(group.kind, GroupKind::Address | GroupKind::IpService);
        for group in state.groups.values().filter(addresses) {
            for criterion in group.criteria.iter().filter(|criterion| criterion.key == "address") {
                let Ok(value) = criterion.value.parse::<AddressValue>() else { continue };
                for net in value.nets() {
                    add(&mut fixed, *net, &group.name);
                }
            }
        }
        for name in state.rules.iter().flat_map(|rule| [&rule.from, &rule.to]) {
            let raw = name.as_str();
            let Some(rest) = raw.strip_prefix("Host:").or_else(|| raw.strip_prefix("Workload:")) else {
                continue;
            };
            if let Ok(ip) = rest.parse::<IpAddr>() {
                add(&mut fixed, host_net(ip), name);
            } else if raw.starts_with("Host:") {
                for node in state.nodes.values().filter(|node| node.id.as_str() == rest || node.name == rest)
                {
                    fixed.node_groups.entry(node.id.clone()).or_default().insert(name.clone());
                }
            }
        }
        fixed.internal.0.extend(state.internal_subnets.iter().map(|net| (net.trunc(), CONFIGURED)));
        for workload in state.workloads.values().filter(|workload| is_live(workload)) {
            fixed.count_inner(interface_nets(workload), true);
        }
        fixed
    }
    /// A workload with interfaces in these networks came (or went); whether the networks stay the same by that.
    pub(crate) fn count_inner(&mut self, nets: impl Iterator<Item = IpNet>, came: bool) -> bool {
        let mut same = true;
        for net in nets {
            let held = self.internal.0.entry(net).or_default();
            same &= if came { *held > 0 } else { *held > 1 };
            *held = if came { held.saturating_add(1) } else { held.saturating_sub(1) };
        }
        same
    }
    /// Whether a group or a network of exactly this extent exists, whoever else has the address.
    pub(crate) fn has(&self, net: IpNet) -> bool {
        self.groups.0.contains_key(&net) || self.internal.0.contains_key(&net)
    }
    pub(super) fn groups_at(&self, net: IpNet) -> impl Iterator<Item = &GroupName> {
        self.groups.covering(net).flat_map(|(_, groups)| groups)
    }
    /// Whether an address that only this table knows would be taken for an external one.
    pub(super) fn is_external(&self, net: IpNet) -> bool {
        self.internal.covering(net).next().is_none()
    }
}

/// The networks that a workload's interfaces say are inside of the cluster.
pub(crate) fn interface_nets(workload: &Workload) -> impl Iterator<Item = IpNet> {
    workload
        .interfaces
        .iter()
        .filter(|interface| !workload.host_network && is_routable(interface.address.addr()))
        .map(|interface| interface.address.trunc())
        .filter(|net| match net {
            IpNet::V4(net) => (8..32).contains(&net.prefix_len()),
            IpNet::V6(net) => (32..128).contains(&net.prefix_len()),
        })
}
