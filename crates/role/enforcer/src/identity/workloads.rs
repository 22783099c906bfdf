//! The workloads of this node and how the kernel's numbers lead to them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use nv_model::name::{GroupName, WorkloadId};
use nv_model::workload::Workload;

/// Most workloads of a node.
const MAX_WORKLOADS: usize = 8192;

/// Who a cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A container, or a cgroup below one.
    Workload(WorkloadId),
    /// Processes of the host.
    Host,
}

/// An attached network interface, or the sockets of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// Interface number of the veth's host end, or the sockets' row of `endpoints`.
    pub(crate) ifindex: u32,
    /// The cgroup of the sockets; `None` for an interface.
    pub(crate) cgroup: Option<u64>,
    /// Number by which records name the workload.
    pub(crate) endpoint: u32,
}

/// A workload and what is set up for it.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) workload: Workload,
    pub(crate) attached: Vec<Attached>,
    /// Known from the bundle alone; the runtime has not told yet.
    pub(crate) provisional: bool,
    /// The controllers were told of it all the same, as somebody accuses it.
    pub(crate) introduced: bool,
}

impl Local {
    /// Whether the controllers have heard of it.
    pub(crate) fn is_told(&self) -> bool {
        self.introduced || !self.provisional
    }
}

/// Everything that runs here.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    locals: BTreeMap<WorkloadId, Local>,
    cgroups: HashMap<u64, WorkloadId>,
    endpoints: HashMap<u32, WorkloadId>,
    next_endpoint: u32,
    overflow: u64,
}

impl Workloads {
    /// Takes in a workload, or what is new about one. What was set up for it stays.
    pub(crate) fn put(&mut self, workload: Workload, provisional: bool) {
        if self.locals.len() >= MAX_WORKLOADS && !self.locals.contains_key(&workload.id) {
            self.overflow += 1;
            return;
        }
        let id = workload.id.clone();
        if workload.cgroup_id != 0 {
            self.cgroups.insert(workload.cgroup_id, id.clone());
        }
        match self.locals.get_mut(&id) {
            Some(local) => {
                let secured = local.workload.secured;
                local.workload = workload;
                if local.workload.secured.nanos() == 0 {
                    local.workload.secured = secured;
                }
                local.provisional &= provisional;
            }
            None => {
                self.locals
                    .insert(id, Local { workload, attached: Vec::new(), provisional, introduced: false });
            }
        }
    }

    /// Forgets a workload and gives what was known of it.
    pub(crate) fn remove(&mut self, id: &WorkloadId) -> Option<Local> {
        self.cgroups.retain(|_, owner| owner != id);
        self.endpoints.retain(|_, owner| owner != id);
        self.locals.remove(id)
    }

    /// A cgroup below `parent` was made: it belongs to whom its parent belongs.
    pub(crate) fn cgroup_made(&mut self, cgroup: u64, parent: u64) {
        if let Some(owner) = self.cgroups.get(&parent).cloned() {
            self.cgroups.insert(cgroup, owner);
        }
    }

    /// A cgroup is gone.
    pub(crate) fn cgroup_gone(&mut self, cgroup: u64) {
        self.cgroups.remove(&cgroup);
    }

    /// Who a cgroup belongs to; what is in no container belongs to the host.
    pub(crate) fn owner(&self, cgroup: u64) -> Owner {
        self.cgroups.get(&cgroup).map_or(Owner::Host, |id| Owner::Workload(id.clone()))
    }

    /// The workload with this id.
    pub(crate) fn get(&self, id: &WorkloadId) -> Option<&Local> {
        self.locals.get(id)
    }
    /// The workload with this id.
    pub(crate) fn get_mut(&mut self, id: &WorkloadId) -> Option<&mut Local> {
        self.locals.get_mut(id)
    }
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Local> {
        self.locals.values()
    }

    /// Those that share a network: the one that holds it, and the containers of its pod.
    pub(crate) fn members(&self, network: &WorkloadId) -> Vec<WorkloadId> {
        let own =
            |workload: &Workload| workload.id == *network || workload.pod_sandbox.as_ref() == Some(network);
        self.all()
            .map(|local| &local.workload)
            .filter(|workload| own(workload))
            .map(|workload| workload.id.clone())
            .collect()
    }

    /// The workload whose packets carry this endpoint number.
    pub(crate) fn endpoint(&self, number: u32) -> Option<&WorkloadId> {
        self.endpoints.get(&number)
    }

    /// A number for a newly attached interface of `id`; the same one for the same interface.
    pub(crate) fn attach(&mut self, id: &WorkloadId, ifindex: u32) -> Option<Attached> {
        self.attach_as(id, ifindex, None)
    }

    /// A number for the sockets of the cgroup of `id`, when they have none yet.
    pub(crate) fn attach_sockets(&mut self, id: &WorkloadId) -> Option<Attached> {
        let local = self.locals.get(id)?;
        let cgroup = local.workload.cgroup_id;
        if cgroup == 0 || local.attached.iter().any(|attached| attached.cgroup == Some(cgroup)) {
            return None;
        }
        self.attach_as(id, nv_capture::sockets_endpoint(cgroup), Some(cgroup))
    }

    fn attach_as(&mut self, id: &WorkloadId, ifindex: u32, cgroup: Option<u64>) -> Option<Attached> {
        let local = self.locals.get_mut(id)?;
        if let Some(attached) = local.attached.iter().find(|attached| attached.ifindex == ifindex) {
            return Some(*attached);
        }
        self.next_endpoint = self.next_endpoint.wrapping_add(1).max(1);
        let attached = Attached { ifindex, cgroup, endpoint: self.next_endpoint };
        local.attached.push(attached);
        self.endpoints.insert(attached.endpoint, id.clone());
        Some(attached)
    }

    /// A process in a workload's own network, 0 when there is none: its first one, or of a pod without a process of its own
    /// (as CRI-O makes them) a member's.
    pub(crate) fn network_process(&self, id: &WorkloadId) -> u32 {
        let own = self.locals.get(id).filter(|local| owns_network(&local.workload));
        let Some(own) = own.map(|local| &local.workload) else { return 0 };
        if own.pid != 0 || !own.is_sandbox {
            return own.pid;
        }
        let members = self.locals.values().map(|local| &local.workload);
        members
            .filter(|member| {
                member.running && !member.host_network && member.pod_sandbox.as_ref() == Some(id)
            })
            .map(|member| member.pid)
            .find(|pid| *pid != 0)
            .unwrap_or(0)
    }

    /// Addresses of workloads that have a network of their own.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&WorkloadId, IpAddr)> {
        self.locals.values().filter(|local| owns_network(&local.workload)).flat_map(|local| {
            local
                .workload
                .interfaces
                .iter()
                .map(|interface| interface.address.addr())
                .filter(|address| !address.is_loopback() && !is_link_local(*address))
                .map(|address| (&local.workload.id, address))
        })
    }

    /// The workload with this address.
    pub(crate) fn by_address(&self, address: IpAddr) -> Option<&WorkloadId> {
        self.addresses().find(|(_, held)| *held == address).map(|(id, _)| id)
    }

    /// The workload whose network `id` uses: its pod's sandbox or itself; `None` for the host's.
    pub(crate) fn network_of(&self, id: &WorkloadId) -> Option<WorkloadId> {
        let workload = &self.locals.get(id)?.workload;
        if workload.host_network {
            return None;
        }
        Some(workload.pod_sandbox.clone().unwrap_or_else(|| id.clone()))
    }

    /// Whose network a connection of `id` leaves from: its pod's, or on the host's network its own sockets'.
    pub(crate) fn sender(&self, id: &WorkloadId) -> WorkloadId {
        self.network_of(id).unwrap_or_else(|| id.clone())
    }

    /// The learned group of a workload.
    pub(crate) fn group(&self, id: &WorkloadId) -> Option<GroupName> {
        self.locals.get(id).map(|local| local.workload.learned_group())
    }
}

/// Whether the workload's network is its own: pods' members use their sandbox's.
pub(crate) fn owns_network(workload: &Workload) -> bool {
    !workload.host_network && workload.pod_sandbox.is_none()
}

/// Whether an address is of one link alone.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(id: &str, cgroup_id: u64, address: &str) -> Workload {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": id, "node": "n", "service": "s", "cgroup_id": cgroup_id,
            "interfaces": [{"interface": "eth0", "address": address}],
        }))
        .unwrap()
    }

    #[test]
    fn a_cgroup_below_a_container_belongs_to_it() {
        let mut workloads = Workloads::default();
        workloads.put(workload("a", 10, "10.0.0.1/24"), false);
        workloads.cgroup_made(11, 10);
        workloads.cgroup_made(21, 20);
        assert_eq!(workloads.owner(11), Owner::Workload("a".parse().unwrap()));
        assert_eq!(workloads.owner(21), Owner::Host);
        workloads.remove(&"a".parse().unwrap());
        assert_eq!(workloads.owner(11), Owner::Host);
    }

    #[test]
    fn a_pod_without_a_process_is_looked_into_through_a_member() {
        let mut workloads = Workloads::default();
        let pod: WorkloadId = "p".parse().unwrap();
        workloads
            .put(Workload { is_sandbox: true, running: true, ..workload("p", 10, "10.0.0.1/24") }, false);
        assert_eq!(workloads.network_process(&pod), 0);
        let member = Workload {
            pod_sandbox: Some(pod.clone()),
            running: true,
            pid: 7,
            ..workload("m", 11, "10.0.0.1/24")
        };
        workloads.put(member, false);
        assert_eq!(workloads.network_process(&pod), 7);
        assert_eq!(workloads.network_process(&"m".parse().unwrap()), 0, "it is the pod's network");
    }

    #[test]
    fn an_interface_keeps_its_number_and_an_address_leads_back() {
        let mut workloads = Workloads::default();
        let id = "a".parse().unwrap();
        workloads.put(workload("a", 10, "10.0.0.1/24"), false);
        let first = workloads.attach(&id, 7).unwrap();
        workloads.put(workload("a", 10, "10.0.0.1/24"), false);
        assert_eq!(workloads.attach(&id, 7), Some(first));
        assert_eq!(workloads.endpoint(first.endpoint), Some(&id));
        assert_eq!(workloads.by_address("10.0.0.1".parse().unwrap()), Some(&id));
        assert_eq!(workloads.by_address("10.0.0.2".parse().unwrap()), None);
    }
}
