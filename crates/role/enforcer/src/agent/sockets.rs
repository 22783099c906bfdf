//! Containers whose packets pass no veth, on the host's network or on interfaces of other kinds (macvlan, ipvlan, a
//! device moved into the pod): the keeper puts programs on their cgroups, and their sockets are an endpoint each.

use nv_capture::netns::Interface;
use nv_model::name::WorkloadId;
use nv_model::time::Timestamp;

use super::{Agent, Later};

impl Agent {
    /// Has the sockets of a workload judged where its packets pass no veth and they are not yet.
    pub(super) fn look_at_sockets(&mut self, id: &WorkloadId) {
        let Some(workload) = self.workloads.get(id).map(|local| &local.workload) else { return };
        let without_veth = workload.host_network
            || self.workloads.network_of(id).is_some_and(|network| self.apart.contains_key(&network));
        // A sandbox holds the network and opens no socket.
        if !without_veth || workload.is_sandbox || workload.finished != Timestamp::NEVER {
            return;
        }
        // Without programs nothing is seen there.
        if self.setup.kernel.is_none() {
            return;
        }
        let Some(attached) = self.workloads.attach_sockets(id) else { return };
        let row = nv_capture::Endpoint { number: attached.endpoint, ..self.endpoint_row(id) };
        if let Some(kernel) = &mut self.setup.kernel
            && let Err(error) = kernel.network.set_endpoint(attached.ifindex, row)
        {
            tracing::error!(%error, workload = %id, "the sockets of a workload are without their identity");
        }
        if let Some(cgroup) = attached.cgroup {
            self.attach_sockets(id, cgroup);
        }
    }

    /// Has the keeper put the programs on a cgroup.
    pub(super) fn attach_sockets(&self, id: &WorkloadId, cgroup: u64) {
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let (later, id) = (self.setup.later.clone(), id.clone());
        tokio::task::spawn_blocking(move || {
            let done = keeper.attach_sockets(cgroup).map_err(|error| error.to_string());
            drop(later.blocking_send(Later::Sockets(id, cgroup, done)));
        });
    }

    /// The programs are on a cgroup, or not.
    pub(super) fn sockets_attached(&mut self, id: &WorkloadId, cgroup: u64, done: Result<(), String>) {
        match done {
            Ok(()) => {
                tracing::debug!(workload = %id, cgroup, "socket programs attached");
                self.sockets.insert(cgroup);
                self.place_connects(id);
            }
            // Its connects are still judged where they are asked for.
            Err(reason) => {
                tracing::error!(workload = %id, cgroup, reason, "socket programs not attached: what comes in to it is not judged");
            }
        }
    }

    /// Whether the connections of a workload are told as flows of its sockets.
    pub(super) fn is_seen_at_sockets(&self, id: &WorkloadId) -> bool {
        let local = self.workloads.get(id);
        local.is_some_and(|local| self.sockets.contains(&local.workload.cgroup_id))
    }

    /// A network was looked up: with an address on an interface that is no veth, its containers are judged at their
    /// sockets too.
    pub(super) fn set_apart(&mut self, network: &WorkloadId, interfaces: &[Interface]) {
        let Some(veths) = apart(interfaces) else { return };
        if self.apart.insert(network.clone(), veths) == Some(veths) {
            return;
        }
        for id in self.workloads.members(network) {
            self.look_at_sockets(&id);
            self.place_connects(&id);
        }
    }
}

/// The own ends of the first two veths of a network that has an address on another kind of interface as well. What passes
/// a third veth is told at both its ends.
fn apart(interfaces: &[Interface]) -> Option<[u32; 2]> {
    let other = |one: &&Interface| !one.loopback && one.peer.is_none() && !one.addresses.is_empty();
    interfaces.iter().find(other)?;
    let mut veths = interfaces.iter().filter(|one| one.peer.is_some()).map(|one| one.ifindex);
    Some([veths.next().unwrap_or(0), veths.next().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(ifindex: u32, peer: Option<u32>, address: Option<&str>) -> Interface {
        Interface {
            name: format!("net{ifindex}"),
            ifindex,
            peer,
            kind: String::new(),
            mac: Vec::new(),
            up: true,
            loopback: false,
            addresses: address.map(|address| address.parse().unwrap()).into_iter().collect(),
            gateways: Vec::new(),
        }
    }

    #[test]
    fn a_network_is_apart_by_an_address_on_anything_but_a_veth() {
        let lo = Interface { loopback: true, ..interface(1, None, Some("127.0.0.1/8")) };
        let eth0 = interface(2, Some(40), Some("10.0.0.2/24"));
        assert_eq!(apart(&[lo.clone(), eth0.clone()]), None);
        assert_eq!(
            apart(&[lo.clone(), eth0.clone(), interface(3, None, None)]),
            None,
            "a tunnel without use"
        );
        let net1 = interface(3, None, Some("192.168.7.2/24"));
        assert_eq!(apart(&[lo.clone(), eth0, net1.clone()]), Some([2, 0]));
        assert_eq!(apart(&[lo, net1]), Some([0, 0]));
    }
}
