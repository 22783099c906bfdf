//! Containers that come, change and go, as nodes tell of them.

use std::sync::Arc;

use nv_model::conversation::EndpointId;
use nv_model::name::{NodeId, WorkloadId};
use nv_model::record::Level;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;
use nv_policy::state::{is_host, is_live};
use tokio::time::Instant;

use super::Hub;
use crate::records::{Category, common, event};

/// Removed workloads that are remembered, so that records and conversations can still name them.
const MAX_REMOVED: usize = 2048;

impl Hub {
    pub(super) fn workload_seen(&mut self, node: &NodeId, workload: Arc<Workload>, now: Timestamp) {
        let old = self.state.workloads.get(&workload.id).cloned();
        let mut workload = workload;
        if let Some(old) = &old
            && workload.secured == Timestamp::NEVER
            && old.secured != Timestamp::NEVER
            && workload.running
        {
            Arc::make_mut(&mut workload).secured = old.secured;
        }
        if old.as_ref() == Some(&workload) {
            return;
        }
        let was = |test: fn(&Workload) -> bool| old.as_ref().is_some_and(|old| test(old));
        let mut happened: Vec<(&str, &str, Timestamp)> = Vec::new();
        if workload.running && !was(|old| old.running) {
            happened.push(("Container.Start", "started", workload.started));
        }
        if workload.secured != Timestamp::NEVER && !was(|old| old.secured != Timestamp::NEVER) {
            happened.push(("Container.Secured", "is protected", workload.secured));
        }
        if !workload.running && was(|old| old.running) {
            happened.push(("Container.Stop", "stopped", workload.finished));
        }
        if is_live(&workload)
            && !is_host(&workload)
            && !self.state.groups.contains_key(&workload.learned_group())
        {
            self.learner.groups_wanted(Instant::now());
        }
        self.state.workloads.insert(workload.id.clone(), Arc::clone(&workload));
        self.workloads_changed();
        for (name, what, at) in happened {
            self.container_event(node, &workload, name, what, if at == Timestamp::NEVER { now } else { at });
        }
    }

    pub(super) fn workload_gone(&mut self, node: &NodeId, id: &WorkloadId, at: Timestamp) {
        let Some(old) = self.state.workloads.remove(id) else { return };
        if old.running {
            self.container_event(node, &old, "Container.Stop", "stopped", at);
        }
        self.container_event(node, &old, "Container.Remove", "was removed", at);
        Arc::make_mut(&mut self.usage).remove(id);
        let removed = Arc::make_mut(&mut self.removed);
        if removed.insert(id.clone(), old).is_none() {
            self.removed_order.push_back(id.clone());
        }
        while self.removed_order.len() > MAX_REMOVED {
            if let Some(oldest) = self.removed_order.pop_front() {
                removed.remove(&oldest);
                self.parts.graph.write().remove_endpoint(&EndpointId::Workload(oldest));
            }
        }
        self.workloads_changed();
    }

    /// Sandboxes are part of their pods and hosts are no containers: neither is told.
    fn container_event(&mut self, node: &NodeId, workload: &Workload, name: &str, what: &str, at: Timestamp) {
        if self.replaying || workload.is_sandbox || is_host(workload) {
            return;
        }
        let scene = self.scene();
        let begin = common(scene, Some(node), name, Level::Info, at);
        let message = format!("Container {} {what}", workload.display_name());
        self.records.push(event(scene, Category::Workload, begin, Some(workload), message));
    }

    /// Says which workloads went into quarantine or came out of it; the leader alone does, so that it is said once.
    pub(super) fn quarantine_changed(&mut self, changed: Vec<WorkloadId>) {
        if self.parts.lead.borrow().is_none() {
            return;
        }
        for id in changed {
            let Some(workload) = self.state.workloads.get(&id).cloned() else { continue };
            let (name, what) = if self.state.quarantined.contains(&id) {
                ("Container.Quarantined", "is quarantined")
            } else {
                ("Container.Unquarantined", "is not quarantined any more")
            };
            let node = workload.node.clone();
            self.container_event(&node, &workload, name, what, self.parts.clock.now());
        }
    }
}
