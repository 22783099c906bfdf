//! New containers: put under their profile before they run anything of their own.
//!
//! A cgroup is made some milliseconds before the first program runs in it, and by then the runtime has written the
//! container's bundle. A thread that does nothing else reads the bundle and writes the row, so that no flood of other
//! records and no busy agent comes between; the agent hears of it afterwards. Until then the cgroup has its parent's
//! row, given in the kernel: a pod's profile for a container of a known pod, the one of unidentified containers else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nv_model::name::GroupName;
use nv_model::workload::Workload;
use nv_policy::lower::ProfileNumbers;
use nv_probe::Event;
use nv_probe::tables::{CgroupRow, Tables};
use nv_runtime::Identifier;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::kernel::new_services;

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
        /// Which of the runtimes knows it.
        runtime: usize,
    },
    /// It was removed.
    Gone { id: u64 },
}

/// The numbers of profiles, as the agent has them now.
#[derive(Debug, Default)]
pub(crate) struct Placement(RwLock<ProfileNumbers>);

impl Placement {
    /// The agent has other numbers now.
    pub(crate) fn set(&self, numbers: &ProfileNumbers) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clone_from(numbers);
    }
    /// The number of a group, or of new services; `None` before there is any policy.
    fn number(&self, group: &GroupName) -> Option<u32> {
        let numbers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        numbers.get(group).or_else(|| numbers.get(&new_services()))
    }
}

/// Reads news of cgroups and puts containers in their places.
pub(crate) struct Placer {
    pub(crate) tables: Tables,
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) cgroup_root: Option<PathBuf>,
    pub(crate) agent: mpsc::Sender<CgroupNews>,
    pub(crate) alive: Arc<AtomicBool>,
}

impl Placer {
    /// Works until the agent is gone. On a thread of its own.
    pub(crate) fn run(self, mut events: nv_probe::Events) {
        let mut waiting: Vec<CgroupNews> = Vec::new();
        loop {
            match events.poll(Duration::from_millis(100)) {
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
                let found = self
                    .identifiers
                    .iter()
                    .enumerate()
                    .find_map(|(at, identifier)| Some((at, identifier.identify_now(&path)?)));
                let (runtime, found) = found.map_or((0, None), |(at, found)| (at, Some(found)));
                if let Some(found) = &found {
                    self.place(found, id, parent, &path);
                }
                Some(CgroupNews::Made { id, parent, path, found: found.map(Box::new), runtime })
            }
            Event::CgroupGone { id, .. } => Some(CgroupNews::Gone { id }),
            Event::Exec(_) | Event::File(_) | Event::Fork { .. } | Event::Exit { .. } => None,
        }
    }

    /// Writes the rows of a container's own cgroup and of its pod's. One below a container's has inherited already.
    fn place(&self, found: &Workload, id: u64, parent: u64, path: &str) {
        if found.cgroup != path || !is_known(found) {
            return;
        }
        // The record may be of an earlier run, and its number of no cgroup any more.
        let here = self.cgroup_root.as_ref().map(|root| root.join(path.trim_start_matches('/')));
        if here.and_then(|here| nv_probe::cgroup::id(&here).ok()) != Some(id) {
            return;
        }
        let Some(profile) = self.placement.number(&found.learned_group()) else { return };
        let in_pod = found.is_sandbox || found.pod_sandbox.is_some();
        for cgroup in [Some(id), in_pod.then_some(parent)].into_iter().flatten() {
            if let Err(error) = self.tables.set_cgroup(cgroup, CgroupRow { profile, container: true }) {
                tracing::error!(%error, cgroup, workload = %found.id, "a new container is without its profile");
            }
        }
    }
}

/// Whether the bundle tells which service it is: a container outside of pods is known by its image, which only the
/// runtime tells.
pub(crate) fn is_known(found: &Workload) -> bool {
    !found.pod_name.is_empty() || !found.image.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_no_policy_knows_has_the_number_of_new_services() {
        let placement = Placement::default();
        let web: GroupName = "nv.web.shop".parse().unwrap();
        assert_eq!(placement.number(&web), None);
        let mut numbers = ProfileNumbers::default();
        let new = numbers.number(&new_services());
        placement.set(&numbers);
        assert_eq!(placement.number(&web), Some(new));
        let own = numbers.number(&web);
        placement.set(&numbers);
        assert_eq!(placement.number(&web), Some(own));
    }
}
