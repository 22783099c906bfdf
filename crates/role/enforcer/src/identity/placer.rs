//! New containers: put under their profile before they run anything of their own.
//!
//! A cgroup is made some milliseconds before the first program runs in it, and by then the runtime has written the
//! container's bundle. A thread that does nothing else reads the bundle and writes the row, so that no flood of other
//! records and no busy agent comes between; the agent hears of it afterwards. Until then the cgroup has its parent's
//! row, given in the kernel: a pod's profile for a container of a known pod, the one of unidentified containers else.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nv_capture::{Place, Places};
use nv_model::mode::{Fault, Mode};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::policy::{NodePolicy, WorkloadPolicy};
use nv_model::workload::Workload;
use nv_policy::lower::ProfileNumbers;
use nv_probe::Event;
use nv_probe::tables::{CgroupRow, Tables};
use nv_runtime::Identifiers;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::policy::kernel::{identity_of_new, new_services};

/// Most news that wait for the agent; what is beyond is dropped, and the runtime's own word stands for it.
const MAX_WAITING: usize = 8_192;

/// What happened to a cgroup.
#[derive(Debug)]
pub(crate) enum CgroupNews {
    /// It was made, and holds a container or lies in one.
    Made {
        id: u64,
        parent: u64,
        path: String,
        /// The container, when its bundle told.
        found: Option<Box<Workload>>,
        /// The bundle does not tell the service, but a runtime has told of the container, or is asked: then the same
        /// news comes again.
        asked: bool,
    },
    /// It was removed.
    Gone { id: u64 },
}

/// What the agent knows of profiles, identities and of containers that are created and do not run yet.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    numbers: RwLock<ProfileNumbers>,
    workloads: RwLock<BTreeMap<WorkloadId, WorkloadPolicy>>,
    /// As many as there are workloads on the node.
    services: RwLock<HashMap<WorkloadId, GroupName>>,
    faults: RwLock<Faults>,
}

/// Which containers are better not started where they cannot be placed.
#[derive(Debug, Default)]
struct Faults {
    groups: BTreeMap<GroupName, bool>,
    /// Those of a service that no policy knows.
    new_services: bool,
    /// Those of which nobody knows the service.
    unidentified: bool,
}

impl Faults {
    fn of(policy: &NodePolicy) -> Self {
        let stops = |fault, mode| fault == Fault::Closed && mode == Mode::Protect;
        let groups = policy.profiles.iter();
        let new = policy.settings.new_service;
        Self {
            groups: groups
                .map(|(group, profile)| (group.clone(), stops(profile.fault, profile.mode)))
                .collect(),
            new_services: stops(new.fault, new.profile),
            unidentified: new.fault == Fault::Closed,
        }
    }
}

impl Placement {
    /// The agent holds another policy now, and other numbers for its profiles.
    pub(crate) fn set(&self, numbers: &ProfileNumbers, policy: &NodePolicy) {
        self.numbers.write().unwrap_or_else(PoisonError::into_inner).clone_from(numbers);
        self.workloads.write().unwrap_or_else(PoisonError::into_inner).clone_from(&policy.workloads);
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Faults::of(policy);
    }
    /// Whether a container of this group, or of an unknown one, is not to start where it cannot be placed: its `fail_mode`
    /// is `closed`, and it is in Protect or nobody knows what it is. Without any policy nothing is.
    fn fails_closed(&self, group: Option<&GroupName>) -> bool {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        let of = |group| faults.groups.get(group).copied().unwrap_or(faults.new_services);
        group.map_or(faults.unidentified, of)
    }
    /// A runtime has told of a container, or that it is gone (`None`).
    pub(crate) fn service(&self, id: &WorkloadId, group: Option<GroupName>) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        match group {
            Some(group) => drop(services.insert(id.clone(), group)),
            None => drop(services.remove(id)),
        }
    }
    fn service_of(&self, id: &WorkloadId) -> Option<GroupName> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
    /// The number of a group, or of new services; `None` before there is any policy.
    fn number(&self, group: &GroupName) -> Option<u32> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        numbers.get(group).or_else(|| numbers.get(&new_services()))
    }
    /// What a new workload is on the network before its interface is attached.
    fn place(&self, group: &GroupName, workload: &Workload) -> Place {
        let workloads = self.workloads.read().unwrap_or_else(PoisonError::into_inner);
        let network = workload.pod_sandbox.as_ref().unwrap_or(&workload.id);
        let known = workloads.get(&workload.id).or_else(|| workloads.get(network));
        let identity = known.map_or_else(|| identity_of_new(&workloads, group), |known| known.identity);
        let place = Place::new(identity.0, known.is_some_and(|known| known.quarantined), false);
        if workload.host_network { place.on_host_network() } else { place }
    }
}

/// Reads news of cgroups and puts containers in their places.
pub(crate) struct Placer {
    /// `None` where no BPF table holds what is placed; the agent places it then.
    pub(crate) tables: Option<Arc<Tables>>,
    /// As `tables`.
    pub(crate) places: Option<Arc<Places>>,
    /// Where questions to a runtime wait for their answers.
    pub(crate) tasks: tokio::runtime::Handle,
    pub(crate) identifiers: Identifiers,
    pub(crate) placement: Arc<Placement>,
    pub(crate) cgroup_root: Option<PathBuf>,
    pub(crate) agent: mpsc::Sender<CgroupNews>,
    pub(crate) alive: Arc<AtomicBool>,
}

impl Placer {
    /// Works until the agent is gone. On a thread of its own; `news` waits for that long at most.
    pub(crate) fn run(self, mut news: impl FnMut(Duration) -> std::io::Result<Vec<Event>>) {
        let mut waiting: Vec<CgroupNews> = Vec::new();
        loop {
            match news(Duration::from_millis(100)) {
                Ok(batch) => waiting.extend(batch.into_iter().filter_map(|event| self.take(event))),
                Err(error) => {
                    tracing::error!(%error, "new cgroups cannot be heard of any more");
                    return;
                }
            }
            if waiting.len() > MAX_WAITING {
                tracing::warn!(
                    dropped = waiting.len() - MAX_WAITING,
                    "news of cgroups that the agent does not take"
                );
                waiting.truncate(MAX_WAITING);
            }
            let mut left = Vec::new();
            for news in std::mem::take(&mut waiting) {
                match self.agent.try_send(news) {
                    Ok(()) => {}
                    Err(TrySendError::Full(news)) => left.push(news),
                    Err(TrySendError::Closed(_)) => return,
                }
            }
            waiting = left;
            if !self.alive.load(Ordering::Relaxed) || (waiting.is_empty() && self.agent.is_closed()) {
                return;
            }
        }
    }

    fn take(&self, event: Event) -> Option<CgroupNews> {
        match event {
            Event::CgroupMade { id, parent, path, .. } => {
                let Some(found) = self.identifiers.identify_now(&path) else {
                    return Some(CgroupNews::Made { id, parent, path, found: None, asked: false });
                };
                if found.cgroup != path {
                    // One below a container's has inherited already.
                    return Some(CgroupNews::Made {
                        id,
                        parent,
                        path,
                        found: Some(Box::new(found)),
                        asked: false,
                    });
                }
                let known = is_known(&found).then(|| found.learned_group());
                // Runtimes tell of a container when it is created, which is well before its cgroup is made.
                let group = known.clone().or_else(|| self.placement.service_of(&found.id));
                match &group {
                    // What could not be written was told.
                    Some(group) => drop(self.rows().place(group, &found, id, parent, &path)),
                    None => self.ask(id, parent, &path),
                }
                let asked = known.is_none();
                Some(CgroupNews::Made { id, parent, path, found: Some(Box::new(found)), asked })
            }
            Event::CgroupGone { id, .. } => {
                if let Some(Err(error)) = self.places.as_ref().map(|places| places.remove(id)) {
                    tracing::warn!(%error, cgroup = id, "the row of a cgroup that is gone stays");
                }
                Some(CgroupNews::Gone { id })
            }
            Event::Exec(_) | Event::File(_) | Event::Deed(_) | Event::Fork { .. } | Event::Exit { .. } => {
                None
            }
        }
    }

    /// Asks the runtime which container it is, away from this thread, and places it at once when that is known.
    fn ask(&self, id: u64, parent: u64, path: &str) {
        let (rows, agent, path) = (self.rows(), self.agent.clone(), path.to_owned());
        let identifiers = self.identifiers.clone();
        self.tasks.spawn(async move {
            let Some(found) = identifiers.identify(&path).await else { return };
            if is_known(&found) {
                rows.place(&found.learned_group(), &found, id, parent, &path);
            }
            let news = CgroupNews::Made { id, parent, path, found: Some(Box::new(found)), asked: false };
            // The agent is gone only at the end.
            drop(agent.send(news).await);
        });
    }

    pub(crate) fn rows(&self) -> Rows {
        Rows {
            tables: self.tables.clone(),
            places: self.places.clone(),
            placement: Arc::clone(&self.placement),
            cgroup_root: self.cgroup_root.clone(),
        }
    }
}

/// Writes rows of new containers.
#[derive(Clone)]
pub(crate) struct Rows {
    tables: Option<Arc<Tables>>,
    places: Option<Arc<Places>>,
    placement: Arc<Placement>,
    cgroup_root: Option<PathBuf>,
}

impl Rows {
    /// Whether a container of this group, or of an unknown one, is better not started than started without its place.
    pub(crate) fn fails_closed(&self, group: Option<&GroupName>) -> bool {
        self.placement.fails_closed(group)
    }

    /// Those of a container whose cgroup is known by its path alone. False when it is not under a profile then.
    pub(crate) fn place_by_path(&self, group: &GroupName, found: &Workload) -> bool {
        let Some(root) = &self.cgroup_root else { return false };
        let own = root.join(found.cgroup.trim_start_matches('/'));
        let parent = own.parent().and_then(|parent| nv_probe::cgroup::id(parent).ok());
        match (nv_probe::cgroup::id(&own), parent) {
            (Ok(id), Some(parent)) => self.place(group, found, id, parent, &found.cgroup),
            _ => false,
        }
    }

    /// Those of a container's own cgroup and of its pod's. False when it is not under a profile then.
    fn place(&self, group: &GroupName, found: &Workload, id: u64, parent: u64, path: &str) -> bool {
        // The record may be of an earlier run, and its number of no cgroup any more.
        let here = self.cgroup_root.as_ref().map(|root| root.join(path.trim_start_matches('/')));
        if here.and_then(|here| nv_probe::cgroup::id(&here).ok()) != Some(id) {
            return false;
        }
        // A pod's own cgroup has no row here: its containers differ in what the agent knows of them.
        let (Some(tables), Some(places)) = (&self.tables, &self.places) else { return false };
        if let Err(error) = places.set(id, self.placement.place(group, found)) {
            tracing::error!(%error, cgroup = id, workload = %found.id, "a new container's connects are not judged");
        }
        let Some(profile) = self.placement.number(group) else { return false };
        let in_pod = found.is_in_pod();
        let mut placed = true;
        for cgroup in [Some(id), in_pod.then_some(parent)].into_iter().flatten() {
            if let Err(error) = tables.set_cgroup(cgroup, CgroupRow { profile, container: true }) {
                tracing::error!(%error, cgroup, workload = %found.id, "a new container is without its profile");
                placed = false;
            }
        }
        placed
    }
}

/// Whether the bundle tells which service it is: a container outside of pods is known by its image, which only the
/// runtime tells.
pub(crate) fn is_known(found: &Workload) -> bool {
    !found.pod_name.is_empty() || !found.image.is_empty()
}

#[cfg(test)]
mod tests {
    use nv_model::mode::Baseline;
    use nv_model::profile::EffectiveProfile;

    use super::*;

    #[test]
    fn a_group_that_no_policy_knows_has_the_number_of_new_services() {
        let placement = Placement::default();
        let web: GroupName = "nv.web.shop".parse().unwrap();
        assert_eq!(placement.number(&web), None);
        let mut numbers = ProfileNumbers::default();
        let new = numbers.number(&new_services());
        placement.set(&numbers, &NodePolicy::default());
        assert_eq!(placement.number(&web), Some(new));
        let own = numbers.number(&web);
        placement.set(&numbers, &NodePolicy::default());
        assert_eq!(placement.number(&web), Some(own));
    }

    #[test]
    fn only_what_fails_closed_does_not_start_without_its_place() {
        let placement = Placement::default();
        assert!(!placement.fails_closed(None), "without a policy");
        let group = |name: &str| -> GroupName { name.parse().unwrap() };
        let mut policy = NodePolicy::default();
        for (name, mode, fault) in [
            ("nv.a.shop", Mode::Protect, Fault::Closed),
            ("nv.b.shop", Mode::Protect, Fault::Open),
            ("nv.c.shop", Mode::Monitor, Fault::Closed),
        ] {
            let profile = EffectiveProfile {
                group: group(name),
                mode,
                baseline: Baseline::Basic,
                rules: Vec::new(),
                files: Vec::new(),
                alert_disabled: false,
                fault,
            };
            policy.profiles.insert(group(name), profile);
        }
        placement.set(&ProfileNumbers::default(), &policy);
        for (name, want) in
            [("nv.a.shop", true), ("nv.b.shop", false), ("nv.c.shop", false), ("nv.new.shop", false)]
        {
            assert_eq!(placement.fails_closed(Some(&group(name))), want, "{name}");
        }
        assert!(!placement.fails_closed(None));
        policy.settings.new_service.fault = Fault::Closed;
        placement.set(&ProfileNumbers::default(), &policy);
        assert!(placement.fails_closed(None), "nobody knows what it is");
        assert!(!placement.fails_closed(Some(&group("nv.new.shop"))), "Discover");
        policy.settings.new_service.profile = Mode::Protect;
        placement.set(&ProfileNumbers::default(), &policy);
        assert!(placement.fails_closed(Some(&group("nv.new.shop"))));
    }
}
