//! From addresses and workloads to the ends of conversations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nv_model::conversation::EndpointId;
use nv_model::group::GroupKind;
use nv_model::name::{GroupName, WorkloadId};

use crate::address::{AddressValue, host_net, is_routable};
use crate::compile::interface_nets;
use crate::compile::nets::NetMap;
use crate::state::{State, is_host, is_live, pod_of};

/// Who has which address, over the whole cluster. Build one from a state and ask it often.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    addresses: BTreeMap<IpNet, EndpointId>,
    groups: NetMap<GroupName>,
    internal: NetMap<()>,
    pods: BTreeMap<WorkloadId, EndpointId>,
}

impl Directory {
    /// Reads every live workload, node and address group.
    #[must_use]
    pub fn new(state: &State) -> Self {
        let mut directory = Self::default();
        for node in state.nodes.values() {
            for ip in node.interfaces.iter().map(|interface| interface.address.addr()) {
                if is_routable(ip) {
                    directory.addresses.insert(host_net(ip), EndpointId::Host(node.id.clone()));
                }
            }
        }
        let mut live: Vec<_> = state.workloads.values().filter(|workload| is_live(workload)).collect();
        live.sort_by_key(|workload| (workload.started, &workload.id));
        for workload in live {
            let pod = state.workloads.get(pod_of(workload)).unwrap_or(workload);
            let end = if is_host(workload) {
                EndpointId::Host(workload.node.clone())
            } else {
                EndpointId::Workload(pod.id.clone())
            };
            if matches!(end, EndpointId::Workload(_)) && !workload.host_network && !pod.host_network {
                for interface in &workload.interfaces {
                    let ip = interface.address.addr();
                    if is_routable(ip) {
                        directory.addresses.insert(host_net(ip), end.clone());
                    }
                }
                directory.internal.0.extend(interface_nets(workload).map(|net| (net, ())));
            }
            directory.pods.insert(workload.id.clone(), end);
        }
        directory.internal.0.extend(state.internal_subnets.iter().map(|net| (net.trunc(), ())));
        for group in state.groups.values() {
            if !matches!(group.kind, GroupKind::Address | GroupKind::IpService) {
                continue;
            }
            for criterion in group.criteria.iter().filter(|criterion| criterion.key == "address") {
                let Ok(value) = criterion.value.parse::<AddressValue>() else { continue };
                for net in value.nets() {
                    directory.groups.0.entry(*net).or_insert_with(|| group.name.clone());
                }
            }
        }
        directory
    }

    /// Who has the address.
    #[must_use]
    pub fn endpoint(&self, ip: IpAddr) -> EndpointId {
        let net = host_net(ip);
        if let Some(end) = self.addresses.get(&net) {
            return end.clone();
        }
        let group = self.groups.covering(net).map(|(_, group)| group).next();
        match group {
            Some(service) if service.as_str().starts_with("nv.ip.") => EndpointId::IpService(service.clone()),
            // Inside of the cluster the address itself is the end, as a rule learned for it names it and not the
            // group that a user put it into.
            _ if self.internal.covering(net).next().is_some() => {
                EndpointId::UnmanagedWorkload(ip.to_canonical())
            }
            Some(group) => EndpointId::Address(group.clone()),
            None => EndpointId::External,
        }
    }

    /// The end that a workload is: its pod's sandbox. `None` for one that is not there (any more).
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<EndpointId> {
        self.pods.get(id).cloned()
    }

    /// The end that a node says a connection has: its workload when it knows one, else whoever has the address.
    #[must_use]
    pub fn end(&self, workload: Option<&WorkloadId>, ip: IpAddr) -> EndpointId {
        workload.and_then(|id| self.workload(id)).unwrap_or_else(|| self.endpoint(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, group, name, node, state, workload};

    #[test]
    fn an_address_is_found_from_the_most_to_the_least_specific() {
        let mut member = workload("c1", "n1", "web", "shop");
        member.pod_sandbox = Some("p1".parse().unwrap());
        let mut host_pod = at(workload("h1", "n1", "proxy", "kube-system"), "192.168.1.1/24");
        host_pod.host_network = true;
        let mut state = state(&[at(workload("p1", "n1", "web", "shop"), "10.0.0.5/24"), member, host_pod]);
        let node = node("n1", "192.168.1.1/24");
        state.nodes.insert(node.id.clone(), node);
        state.groups.insert(name("db"), group("db", &[("address", "=", "8.8.0.0/16")]));
        state.groups.insert(name("inner"), group("inner", &[("address", "=", "10.9.2.0/24")]));
        let mut service = group("nv.ip.web.shop", &[("address", "=", "10.9.3.1")]);
        service.kind = GroupKind::IpService;
        state.groups.insert(service.name.clone(), service);
        state.internal_subnets.push("10.9.0.0/16".parse().unwrap());
        let directory = Directory::new(&state);
        for (ip, want) in [
            ("10.0.0.5", EndpointId::Workload("p1".parse().unwrap())),
            ("::ffff:10.0.0.5", EndpointId::Workload("p1".parse().unwrap())),
            ("10.0.0.6", EndpointId::UnmanagedWorkload("10.0.0.6".parse().unwrap())),
            ("10.9.1.1", EndpointId::UnmanagedWorkload("10.9.1.1".parse().unwrap())),
            ("10.9.2.1", EndpointId::UnmanagedWorkload("10.9.2.1".parse().unwrap())),
            ("10.9.3.1", EndpointId::IpService(name("nv.ip.web.shop"))),
            ("192.168.1.1", EndpointId::Host("n1".parse().unwrap())),
            ("192.168.1.2", EndpointId::External),
            ("8.8.4.4", EndpointId::Address(name("db"))),
            ("1.1.1.1", EndpointId::External),
        ] {
            assert_eq!(directory.endpoint(ip.parse().unwrap()), want, "{ip}");
        }
        let pod = Some(EndpointId::Workload("p1".parse().unwrap()));
        assert_eq!(directory.workload(&"c1".parse().unwrap()), pod);
        // Its address is the host's, but its node knows it by name.
        let host_pod = Some(EndpointId::Workload("h1".parse().unwrap()));
        assert_eq!(directory.workload(&"h1".parse().unwrap()), host_pod);
        assert_eq!(directory.workload(&"gone".parse().unwrap()), None);
    }
}
