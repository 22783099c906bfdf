//! What was told of a runtime's containers, so that only changes are told.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::name::WorkloadId;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;

use crate::RuntimeEvent;

/// Most containers of one runtime; ten times of what a node is made for.
const WORKLOADS: usize = 10_000;
/// Exit code of a container that ended while nobody looked.
pub(crate) const UNKNOWN_EXIT: i32 = -1;

/// Pure: takes what was seen, gives what is to be told.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    known: BTreeMap<WorkloadId, Workload>,
    /// Containers that were not taken because there are too many.
    pub(crate) refused: u64,
}

impl Tracker {
    pub(crate) fn known(&self) -> &BTreeMap<WorkloadId, Workload> {
        &self.known
    }

    /// A container as it is now.
    pub(crate) fn seen(&mut self, mut workload: Workload, now: Timestamp, out: &mut Vec<RuntimeEvent>) {
        let Some(prior) = self.known.get_mut(&workload.id) else {
            if self.known.len() >= WORKLOADS {
                self.refused = self.refused.saturating_add(1);
                return;
            }
            self.known.insert(workload.id.clone(), workload.clone());
            out.push(RuntimeEvent::Workload(Box::new(workload)));
            return;
        };
        if prior.running && !workload.running {
            let at = if workload.finished == Timestamp::NEVER { now } else { workload.finished };
            out.push(RuntimeEvent::Stopped { id: workload.id.clone(), exit_code: workload.exit_code, at });
            stop(prior, workload.exit_code, at);
        }
        keep(prior, &mut workload);
        if *prior != workload {
            prior.clone_from(&workload);
            out.push(RuntimeEvent::Workload(Box::new(workload)));
        }
    }

    /// A container's first process ended. `pid` is 0 or that of the process: an old event of a container that runs
    /// again is ignored.
    pub(crate) fn exited(
        &mut self,
        id: &WorkloadId,
        pid: u32,
        exit_code: i32,
        at: Timestamp,
        out: &mut Vec<RuntimeEvent>,
    ) {
        let Some(prior) = self.known.get_mut(id) else { return };
        let is_it = pid == 0 || prior.pid == 0 || prior.pid == pid;
        if prior.running && is_it {
            stop(prior, exit_code, at);
            out.push(RuntimeEvent::Stopped { id: id.clone(), exit_code, at });
        }
    }

    /// A container is gone.
    pub(crate) fn removed(&mut self, id: &WorkloadId, now: Timestamp, out: &mut Vec<RuntimeEvent>) {
        let Some(prior) = self.known.remove(id) else { return };
        if prior.running {
            out.push(RuntimeEvent::Stopped { id: id.clone(), exit_code: UNKNOWN_EXIT, at: now });
        }
        out.push(RuntimeEvent::Removed { id: id.clone() });
    }

    /// All containers that there are.
    pub(crate) fn listed(&mut self, all: Vec<Workload>, now: Timestamp, out: &mut Vec<RuntimeEvent>) {
        let present: BTreeSet<WorkloadId> = all.iter().map(|workload| workload.id.clone()).collect();
        let gone: Vec<_> = self.known.keys().filter(|id| !present.contains(*id)).cloned().collect();
        for id in gone {
            self.removed(&id, now, out);
        }
        for workload in all {
            self.seen(workload, now, out);
        }
    }
}

fn stop(workload: &mut Workload, exit_code: i32, at: Timestamp) {
    workload.running = false;
    workload.pid = 0;
    workload.exit_code = exit_code;
    workload.finished = at;
}

/// Carries over what the newer view cannot know any more, or knows less exactly.
fn keep(prior: &Workload, newer: &mut Workload) {
    if prior.started != Timestamp::NEVER && (!newer.running || prior.pid == newer.pid) {
        // Worked out from the time since boot, which shifts when the clock is set.
        newer.started = prior.started;
    }
    if !newer.running {
        // Runtimes forget the process, its namespaces and its addresses when it ends.
        if newer.pid == 0 {
            newer.cgroup.clone_from(&prior.cgroup);
            newer.cgroup_id = prior.cgroup_id;
            newer.network_namespace = prior.network_namespace;
            newer.host_network = prior.host_network;
            newer.interfaces.clone_from(&prior.interfaces);
        }
        if prior.finished != Timestamp::NEVER && !prior.running {
            newer.finished = prior.finished;
            newer.exit_code = prior.exit_code;
        }
    }
    if newer.image_id.is_empty() && newer.image == prior.image {
        newer.image_id.clone_from(&prior.image_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(100);

    fn workload(id: &str, pid: u32) -> Workload {
        let json = format!(r#"{{"id":"{id}","name":"{id}","node":"n","service":"s"}}"#);
        let mut workload: Workload = serde_json::from_str(&json).unwrap();
        workload.pid = pid;
        workload.running = pid != 0;
        workload
    }

    fn told(act: impl FnOnce(&mut Vec<RuntimeEvent>)) -> Vec<String> {
        let mut out = Vec::new();
        act(&mut out);
        let short = |event: RuntimeEvent| match event {
            RuntimeEvent::Workload(workload) => format!("{} pid {}", workload.id, workload.pid),
            RuntimeEvent::Stopped { id, exit_code, at } => {
                format!("{id} stopped {exit_code} at {}", at.seconds())
            }
            RuntimeEvent::Removed { id } => format!("{id} removed"),
            other => format!("{other:?}"),
        };
        out.into_iter().map(short).collect()
    }

    #[test]
    fn only_changes_are_told_again() {
        let mut tracker = Tracker::default();
        assert_eq!(told(|out| tracker.seen(workload("a", 7), NOW, out)), ["a pid 7"]);
        assert_eq!(told(|out| tracker.seen(workload("a", 7), NOW, out)), [""; 0]);
        assert_eq!(
            told(|out| tracker.listed(vec![workload("a", 7), workload("b", 8)], NOW, out)),
            ["b pid 8"]
        );
    }

    #[test]
    fn an_exit_is_told_once_however_it_is_found() {
        let id: WorkloadId = "a".parse().unwrap();
        let mut tracker = Tracker::default();
        told(|out| tracker.seen(workload("a", 7), NOW, out));
        let other = Timestamp::from_seconds(50);
        assert_eq!(told(|out| tracker.exited(&id, 6, 1, other, out)), [""; 0], "of an earlier process");
        assert_eq!(told(|out| tracker.exited(&id, 7, 3, other, out)), ["a stopped 3 at 50"]);
        assert_eq!(told(|out| tracker.exited(&id, 7, 3, other, out)), [""; 0]);
        assert_eq!(told(|out| tracker.listed(vec![workload("a", 0)], NOW, out)), [""; 0]);
        assert_eq!(told(|out| tracker.removed(&id, NOW, out)), ["a removed"]);
        assert_eq!(told(|out| tracker.removed(&id, NOW, out)), [""; 0]);
    }

    #[test]
    fn what_ended_while_nobody_looked_is_found_by_the_list() {
        let mut tracker = Tracker::default();
        told(|out| tracker.listed(vec![workload("a", 7), workload("b", 8)], NOW, out));
        let mut ended = workload("b", 0);
        ended.exit_code = 9;
        ended.finished = Timestamp::from_seconds(60);
        assert_eq!(
            told(|out| tracker.listed(vec![ended], NOW, out)),
            ["a stopped -1 at 100", "a removed", "b stopped 9 at 60"]
        );
    }

    #[test]
    fn a_container_that_ended_keeps_its_addresses_and_its_start() {
        let mut tracker = Tracker::default();
        let mut running = workload("a", 7);
        running.cgroup_id = 5;
        running.started = NOW;
        told(|out| tracker.seen(running, NOW, out));
        told(|out| tracker.seen(workload("a", 0), NOW, out));
        let known = tracker.known().values().next().unwrap();
        assert_eq!((known.cgroup_id, known.started, known.running, known.pid), (5, NOW, false, 0));
    }

    #[test]
    fn too_many_containers_are_counted_and_not_kept() {
        let mut tracker = Tracker::default();
        for number in 0..WORKLOADS + 3 {
            tracker.seen(workload(&format!("c{number}"), 1), NOW, &mut Vec::new());
        }
        assert_eq!((tracker.known().len(), tracker.refused), (WORKLOADS, 3));
    }

    proptest! {
        /// Whatever is seen, the told events add up to what is there.
        #[test]
        fn replaying_what_was_told_gives_what_is_known(lists in proptest::collection::vec(
            proptest::collection::btree_map("[a-d]", 0..3_u32, 0..4), 0..6
        )) {
            let mut tracker = Tracker::default();
            let mut replayed: BTreeMap<WorkloadId, bool> = BTreeMap::new();
            for list in lists {
                let mut out = Vec::new();
                tracker.listed(list.iter().map(|(id, pid)| workload(id, *pid)).collect(), NOW, &mut out);
                for event in out {
                    match event {
                        RuntimeEvent::Workload(workload) => { replayed.insert(workload.id.clone(), workload.running); }
                        RuntimeEvent::Stopped { id, .. } => prop_assert_eq!(replayed.insert(id, false), Some(true)),
                        RuntimeEvent::Removed { id } => prop_assert_eq!(replayed.remove(&id), Some(false)),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                let want: BTreeMap<_, _> = list.iter().map(|(id, pid)| (id.parse().unwrap(), *pid != 0)).collect();
                prop_assert_eq!(&replayed, &want);
            }
        }
    }
}
