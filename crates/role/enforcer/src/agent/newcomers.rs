//! New cgroups, and the places where containers are made.

use std::path::Path;

use nv_model::name::GroupName;
use nv_model::workload::Workload;

use super::Agent;
use crate::identity::placer::CgroupNews;
use crate::policy::kernel::new_services;

/// Top cgroups in which container engines make theirs, and nothing else runs.
const ENGINES: [&str; 3] = ["kubepods", "kubepods.slice", "docker"];
/// Top cgroups that hold the host's own services also where containers are among them.
const HOSTS: [&str; 4] = ["system.slice", "user.slice", "init.scope", "machine.slice"];
/// Most places that are remembered.
const MAX_PARENTS: usize = 4096;

impl Agent {
    /// A cgroup was made or removed. If it is a container's, it is in its place already.
    pub(crate) fn cgroup(&mut self, news: CgroupNews) {
        self.take_cgroup(news);
        self.tell_early();
    }

    fn take_cgroup(&mut self, news: CgroupNews) {
        let (id, parent, path, found, asked) = match news {
            CgroupNews::Made { id, parent, path, found, asked } => (id, parent, path, found, asked),
            CgroupNews::Gone { id } => {
                self.parents.remove(&id);
                if let Some(seating) = &mut self.setup.seating {
                    seating.gone(id);
                }
                return self.leaving.cgroup(id, self.setup.clock.monotonic());
            }
        };
        self.workloads.cgroup_made(id, parent);
        let Some(found) = found else {
            // What is made in it inherits, and may have its own row by now.
            if is_engines(&path) && path.matches('/').count() == 1 {
                self.place_parent(id);
            } else if let Some(seating) = &mut self.setup.seating {
                seating.inherit(id, parent);
            }
            return;
        };
        if found.cgroup != path {
            return; // Below a container: it has inherited.
        }
        // The runtime may have told of it when it was created, before it had a cgroup.
        if let Some(local) = self.workloads.get(&found.id)
            && (asked || !local.provisional)
        {
            let (told, provisional) = (local.workload.clone(), local.provisional);
            return self.workload(Workload { cgroup: path, cgroup_id: id, ..told }, provisional);
        }
        if asked {
            return; // The same news comes again with the runtime's answer.
        }
        self.workload(Workload { cgroup_id: id, ..*found }, true);
    }

    /// Whether a profile is no service's: that of new services, or of containers that are not identified.
    pub(super) fn is_nobodys(&self, profile: u32) -> bool {
        let numbers = &self.setup.held.numbers;
        [new_services(), GroupName::unidentified()].iter().any(|group| numbers.get(group) == Some(profile))
    }

    /// The cgroups above a container's, as far as containers alone are made there: what is made in them next is a
    /// container too, and no program of the host.
    pub(super) fn place_parents(&mut self, cgroup: &str) {
        let Some(root) = self.setup.cgroup_root.clone() else { return };
        let mut above = Path::new(cgroup.trim_start_matches('/'));
        let top = above.components().next().map(|top| top.as_os_str().to_owned());
        if top.is_none_or(|top| HOSTS.iter().any(|host| top == *host)) {
            return;
        }
        while let Some(parent) = above.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            above = parent;
            let folder = root.join(parent);
            let Ok(id) = nv_probe::cgroup::id(&folder) else { continue };
            let is_containers =
                matches!(self.workloads.owner(id), crate::identity::workloads::Owner::Workload(_));
            if is_containers || self.parents.contains(&id) {
                continue;
            }
            if crate::node::read_small(folder.join("cgroup.procs")).is_empty() {
                self.place_parent(id);
            }
        }
    }

    /// What is made in this cgroup is a container that is not identified, until it is.
    pub(super) fn place_parent(&mut self, id: u64) {
        if self.parents.len() < MAX_PARENTS {
            self.parents.insert(id);
        }
        self.place(id, self.profile_number(&GroupName::unidentified()), true);
    }
}

/// Whether a path is a container engine's own top cgroup, or lies in it.
pub(super) fn is_engines(path: &str) -> bool {
    let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    ENGINES.contains(&top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_known_by_the_top_of_the_path() {
        for (path, want) in [
            ("/kubepods", true),
            ("/kubepods/burstable/pod1", true),
            ("/kubepods.slice/kubepods-burstable.slice", true),
            ("/docker/0123", true),
            ("/system.slice/docker.service", false),
            ("/user.slice/kubepods", false),
            ("/", false),
        ] {
            assert_eq!(is_engines(path), want, "{path}");
        }
    }
}
