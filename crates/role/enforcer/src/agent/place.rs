//! Where programs and packets belong: cgroups to profiles, interfaces to identities.

use nv_model::name::{GroupName, WorkloadId};
use nv_model::observation::Observation;
use nv_model::policy::IdentityId;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;
use nv_telemetry::chain;

use super::newcomers::is_engines;
use super::{Agent, Place};
use crate::identity::placer::is_known;
use crate::identity::workloads::Owner;
use crate::policy::kernel::{identity_of_new, new_services};

impl Agent {
    /// The profile number of a group; that of new services when the policy does not know it.
    pub(super) fn profile_number(&self, group: &GroupName) -> u32 {
        let numbers = &self.setup.held.numbers;
        numbers.get(group).or_else(|| numbers.get(&new_services())).unwrap_or(0)
    }

    /// Every cgroup of the host gets the host's profile; those of containers get theirs, as far as their bundles or an
    /// earlier run tell. The runtime tells the rest.
    pub(super) fn place_cgroups(&mut self) {
        let Some(root) = self.setup.cgroup_root.clone() else { return };
        if self.setup.kernel.is_none() && self.setup.seating.is_none() {
            return;
        }
        let held = self.setup.kernel.as_ref().and_then(|kernel| kernel.process.cgroups().ok());
        let held = held.unwrap_or_default();
        let profile = self.profile_number(&GroupName::nodes());
        let cgroups = match nv_probe::cgroup::walk(&root) {
            Ok(cgroups) => cgroups,
            Err(error) => {
                tracing::error!(%error, root = %root.display(), "the cgroups of this machine cannot be read");
                return;
            }
        };
        let mut containers: Vec<Workload> = Vec::new();
        for (id, folder) in cgroups {
            // Rows of an earlier run stay until the runtime has told: they are better than a guess.
            if held.get(&id).is_some_and(|row| row.container) {
                continue;
            }
            let path = format!("/{}", folder.strip_prefix(&root).unwrap_or(&folder).display());
            if let Some(found) = self.setup.identifiers.identify_now(&path) {
                // One below a container's is placed with it.
                if found.cgroup == path {
                    containers.push(Workload { cgroup_id: id, ..found });
                }
            } else if is_engines(&path) {
                self.place_parent(id);
            } else {
                self.place(id, profile, false);
            }
        }
        for found in containers {
            if is_known(&found) {
                self.workload(found, true);
            } else {
                self.place(found.cgroup_id, self.profile_number(&GroupName::unidentified()), true);
            }
        }
    }

    pub(super) fn place(&mut self, cgroup: u64, profile: u32, container: bool) {
        if let Some(seating) = &mut self.setup.seating {
            seating.place(cgroup, profile, container);
        }
        if let Some(kernel) = &self.setup.kernel
            && let Err(error) =
                kernel.process.set_cgroup(cgroup, nv_probe::tables::CgroupRow { profile, container })
        {
            tracing::error!(%error, cgroup, "a cgroup is without its profile");
        }
    }

    /// Tells the kernel what the first program of a container has told it where that ran under its eyes.
    fn tell_root(&self, workload: &Workload) {
        let Some(kernel) = self.setup.kernel.as_ref().filter(|_| workload.pid != 0) else { return };
        let told = match nv_probe::cgroup::root_device(workload.pid) {
            Ok(Some(device)) => {
                kernel.process.tell_root(workload.cgroup_id, device).map_err(|error| chain(&error))
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()), // It has ended.
        };
        if let Err(error) = told {
            tracing::debug!(error, workload = %workload.id, "a container's root file system is not known");
        }
    }

    /// Tells the kernel what has started a container from before the programs: the parent of its first process.
    fn tell_starter(&self, workload: &Workload) {
        let Some(kernel) = self.setup.kernel.as_ref().filter(|_| workload.pid != 0) else { return };
        let parent = crate::activity::processes::parent_of(workload.pid);
        // Process 1 adopts whoever has lost his parent, so it says nothing.
        let Some(parent) = parent.filter(|parent| *parent > 1) else { return };
        let told = match nv_probe::file::program_of(parent) {
            Ok(program) => {
                kernel.process.tell_starter(workload.cgroup_id, program).map_err(|error| chain(&error))
            }
            Err(error) => Err(error.to_string()), // It has ended.
        };
        if let Err(error) = told {
            tracing::debug!(error, workload = %workload.id, "what has started a container is not known");
        }
    }

    /// Where a workload belongs by the policy held.
    pub(super) fn place_of(&self, id: &WorkloadId) -> Place {
        let group = self.workloads.group(id).unwrap_or_else(new_services);
        let row = self.endpoint_row(id);
        Place {
            profile: self.profile_number(&group),
            known: self.setup.held.policy.profiles.contains_key(&group),
            identity: row.identity,
            quarantined: row.quarantined,
        }
    }

    /// Puts a workload's profile on its cgroup and, for a pod, on the pod's, so that what comes later inherits it.
    pub(super) fn place_workload(&mut self, id: &WorkloadId) {
        let Some(local) = self.workloads.get(id) else { return };
        let workload = &local.workload;
        let place = self.place_of(id);
        let (profile, known) = (place.profile, place.known);
        let in_pod = workload.is_in_pod();
        let cgroup = workload.cgroup_id;
        let pod = in_pod.then(|| self.parent_cgroup(&workload.cgroup)).flatten();
        let path = workload.cgroup.clone();
        if cgroup != 0 {
            let workload = workload.clone();
            self.place(cgroup, profile, true);
            self.tell_root(&workload);
            self.tell_starter(&workload);
            self.seat_root(&workload);
            for below in self.cgroups_below(&path) {
                self.place(below, profile, true);
            }
        }
        if let Some(pod) = pod {
            self.place(pod, profile, true);
            self.parents.remove(&pod);
        }
        self.place_parents(if pod.is_some() {
            path.rsplit_once('/').map_or("", |(pod, _)| pod)
        } else {
            &path
        });
        self.place_connects(id);
        self.look_at_sockets(id);
        let attached = self.workloads.get(id).map(|local| local.attached.clone()).unwrap_or_default();
        for one in attached {
            let row = self.row_of_interface(id, one);
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.set_endpoint(one.ifindex, row)
            {
                tracing::error!(%error, workload = %id, ifindex = one.ifindex, "an interface is without its identity");
            }
        }
        self.placed.insert(id.clone(), place);
        if known
            && let Some(local) = self.workloads.get_mut(id)
            && local.workload.secured == Timestamp::NEVER
            && !local.provisional
        {
            local.workload.secured = self.setup.clock.now();
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
        }
    }

    /// What connects of a workload are judged by: its interface, once one is attached, else its cgroup.
    pub(super) fn place_connects(&self, id: &WorkloadId) {
        let (Some(local), Some(kernel)) = (self.workloads.get(id), &self.setup.kernel) else { return };
        let cgroup = local.workload.cgroup_id;
        // A row for a cgroup that is gone would stay.
        if cgroup == 0 || self.workloads.owner(cgroup) == Owner::Host {
            return;
        }
        let network = self.workloads.network_of(id);
        let row = self.endpoint_row(network.as_ref().unwrap_or(id));
        let own = self.endpoint_row(id);
        let at_interface = network.as_ref().is_some_and(|network| self.guarded.contains(network));
        let mut place =
            nv_capture::Place::new(row.identity, row.quarantined | own.quarantined != 0, at_interface);
        if local.workload.host_network {
            place = place.on_host_network();
        }
        if self.sockets.contains(&cgroup) {
            let veths = network.and_then(|network| self.apart.get(&network)).copied().unwrap_or_default();
            place = place.at_sockets(nv_capture::sockets_endpoint(cgroup), veths);
        }
        if let Err(error) = kernel.places.set(cgroup, place) {
            tracing::error!(%error, workload = %id, cgroup, "connects of a workload are not judged");
        }
    }

    /// Packets of a network are judged at an interface from now on.
    pub(super) fn guard(&mut self, network: &WorkloadId) {
        if !self.guarded.insert(network.clone()) {
            return;
        }
        for id in self.workloads.members(network) {
            self.place_connects(&id);
        }
    }

    /// A policy came: workloads whose profile or identity changed with it are placed again.
    pub(super) fn place_workloads(&mut self) {
        let ids: Vec<WorkloadId> = self.workloads.all().map(|local| local.workload.id.clone()).collect();
        for id in ids {
            if self.placed.get(&id) != Some(&self.place_of(&id)) {
                self.place_workload(&id);
            }
        }
        if let Some(root) = self.setup.cgroup_root.clone()
            && let Ok(id) = nv_probe::cgroup::id(&root)
        {
            self.place(id, self.profile_number(&GroupName::nodes()), false);
        }
    }

    pub(super) fn parent_cgroup(&self, cgroup: &str) -> Option<u64> {
        let root = self.setup.cgroup_root.as_ref()?;
        let (parent, _) = cgroup.rsplit_once('/')?;
        if parent.is_empty() {
            return None;
        }
        nv_probe::cgroup::id(&root.join(parent.trim_start_matches('/'))).ok()
    }

    pub(super) fn cgroups_below(&self, cgroup: &str) -> Vec<u64> {
        let Some(root) = &self.setup.cgroup_root else { return Vec::new() };
        if cgroup.trim_matches('/').is_empty() {
            return Vec::new();
        }
        let found = nv_probe::cgroup::walk(&root.join(cgroup.trim_start_matches('/'))).unwrap_or_default();
        found.into_iter().skip(1).map(|(id, _)| id).collect()
    }

    pub(super) fn endpoint_row(&self, id: &WorkloadId) -> nv_capture::Endpoint {
        let held = &self.setup.held.policy;
        let policy = held.workloads.get(id);
        let identity = match (policy, self.workloads.get(id)) {
            (Some(workload), _) => workload.identity,
            (None, Some(local)) => {
                let workload = &local.workload;
                identity_of_new(&held.workloads, &workload.learned_group())
            }
            (None, None) => IdentityId::NEW,
        };
        nv_capture::Endpoint {
            identity: identity.0,
            quarantined: u32::from(policy.is_some_and(|workload| workload.quarantined)),
            ..nv_capture::Endpoint::default()
        }
    }
}
