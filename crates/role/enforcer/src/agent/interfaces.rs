//! Interfaces and ports of workloads, as their network namespaces show them.

use nv_model::name::WorkloadId;
use nv_model::observation::Observation;
use nv_model::workload::ListeningPort;

use super::{Agent, Later};
use crate::identity::workloads::is_link_local;

impl Agent {
    /// Has the keeper look up the interfaces of a workload that has a network of its own: entering a namespace takes a
    /// privilege that the agent has not.
    pub(super) fn look_for_interfaces(&self, id: &WorkloadId) {
        let Some(workload) = self.workloads.get(id).map(|local| &local.workload) else { return };
        // A pod without a process of its own can be looked into from when a member runs.
        let is_without = |pod: &&WorkloadId| self.workloads.get(pod).is_some_and(|pod| pod.workload.pid == 0);
        let id = workload.pod_sandbox.as_ref().filter(is_without).unwrap_or(id);
        let pid = self.workloads.network_process(id);
        if pid == 0 || (self.setup.kernel.is_none() && !self.by_queue()) {
            return;
        }
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let (later, id) = (self.setup.later.clone(), id.clone());
        tokio::task::spawn_blocking(move || match keeper.interfaces(pid) {
            Ok(interfaces) => drop(later.blocking_send(Later::Interfaces(id, interfaces))),
            Err(error) => {
                tracing::warn!(%error, workload = %id, pid, "the network of a workload cannot be looked up");
            }
        });
    }

    pub(super) fn interfaces(&mut self, id: &WorkloadId, interfaces: &[nv_capture::netns::Interface]) {
        let Some(local) = self.workloads.get_mut(id) else { return };
        let found = crate::node::addresses(interfaces);
        if !found.is_empty() && local.workload.interfaces != found {
            local.workload.interfaces = found;
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
            // The kernel must know its addresses before its first packet is judged.
            if let Err(error) = self.enforce() {
                tracing::error!(%error, workload = %id, "the addresses of a workload are not in the kernel");
            }
        }
        self.set_apart(id, interfaces);
        for peer in interfaces.iter().filter_map(|interface| interface.peer) {
            let Some(attached) = self.workloads.attach(id, peer) else { continue };
            let row = self.row_of_interface(id, attached);
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.set_endpoint(peer, row)
            {
                tracing::error!(%error, workload = %id, ifindex = peer, "an interface is without its identity");
            }
            self.attach(id, peer);
        }
        self.look_after_queues();
    }

    /// Looks up the host's own addresses: a bridge or a tunnel may have come since, and packets to it are the host's.
    pub(super) fn look_for_own_addresses(&mut self) {
        let found = match nv_capture::netns::host_interfaces() {
            Ok(interfaces) => crate::node::addresses(&interfaces),
            Err(error) => {
                tracing::warn!(%error, "the host's own addresses cannot be looked up");
                return;
            }
        };
        let found: Vec<_> = found.into_iter().filter(|one| !is_link_local(one.address.addr())).collect();
        if found == self.setup.node.interfaces {
            return;
        }
        self.setup.node.interfaces = found;
        if let Err(error) = self.enforce() {
            tracing::error!(%error, "the host's own addresses are not in the kernel");
        }
    }

    /// A pod's ports are those of all its containers: their sockets are in one namespace.
    pub(super) fn ports(&mut self, network: &WorkloadId, ports: &[ListeningPort]) {
        for id in self.workloads.members(network) {
            let Some(local) = self.workloads.get_mut(&id) else { continue };
            let ports = with_mapped(ports, &local.workload.ports);
            if local.provisional || local.workload.ports == ports {
                continue;
            }
            local.workload.ports = ports;
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
        }
    }

    /// Looks up who listens where, away from this task.
    pub(super) fn look_for_ports(&self) {
        let networks: Vec<(WorkloadId, u32)> = self
            .workloads
            .all()
            .map(|local| &local.workload)
            .filter(|workload| workload.running)
            .map(|workload| (workload.id.clone(), self.workloads.network_process(&workload.id)))
            .filter(|(_, pid)| *pid != 0)
            .collect();
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            for (id, pid) in networks {
                // A process that has just ended has no ports any more, which is no news.
                let Ok(found) = nv_capture::netns::listening(pid) else { continue };
                let mut ports: Vec<ListeningPort> = found
                    .iter()
                    .filter(|socket| !socket.address.is_loopback())
                    .map(|socket| ListeningPort {
                        protocol: socket.protocol,
                        port: socket.port,
                        host_ip: None,
                        host_port: 0,
                    })
                    .collect();
                ports.sort_unstable();
                ports.dedup();
                if later.blocking_send(Later::Ports(id, ports)).is_err() {
                    return;
                }
            }
        });
    }
}

/// Ports that something listens on, and those that the runtime maps to ports of the host: each mapped one as often as it
/// is mapped, whether something listens or not. Of `listening` the mappings, of `mapped` the others do not count.
pub(super) fn with_mapped(listening: &[ListeningPort], mapped: &[ListeningPort]) -> Vec<ListeningPort> {
    let is_mapped = |port: &&ListeningPort| port.host_port != 0;
    let mut ports: Vec<ListeningPort> = mapped.iter().filter(is_mapped).copied().collect();
    let is_among = |port: &ListeningPort| {
        mapped
            .iter()
            .filter(is_mapped)
            .any(|other| (other.protocol, other.port) == (port.protocol, port.port))
    };
    ports.extend(listening.iter().filter(|port| !is_mapped(port) && !is_among(port)));
    ports.sort_unstable();
    ports
}

#[cfg(test)]
mod tests {
    use nv_model::port::Protocol;

    use super::*;

    #[test]
    fn a_mapped_port_stays_mapped_whoever_looks_and_an_old_mapping_goes() {
        let port =
            |port, host_port| ListeningPort { protocol: Protocol::Tcp, port, host_ip: None, host_port };
        for (listening, mapped, want) in [
            (&[port(80, 0), port(22, 0)][..], &[port(80, 8080)][..], vec![port(22, 0), port(80, 8080)]),
            (&[], &[port(80, 8080), port(80, 8081)], vec![port(80, 8080), port(80, 8081)]),
            (&[port(80, 8080), port(22, 0)], &[port(81, 0)], vec![port(22, 0)]),
        ] {
            assert_eq!(with_mapped(listening, mapped), want, "{listening:?} {mapped:?}");
        }
    }
}
