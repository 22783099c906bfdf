//! Which workload is in which group.

use std::collections::BTreeMap;

use nv_model::group::{Group, GroupKind};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::workload::Workload;

use crate::criteria::Selector;
use crate::state::{State, home_group, is_host, is_live};

/// The conditions of all groups, compiled once.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    selectors: Vec<(GroupName, Selector)>,
    containers: Vec<GroupName>,
    nodes: Vec<GroupName>,
}

/// Names of a reserved group that exist: itself always, its federal twin when it is stored.
fn twins(groups: &BTreeMap<GroupName, Group>, name: GroupName) -> Vec<GroupName> {
    let mut names = vec![name];
    if let Some(fed) = format!("fed.{}", names.first().map_or("", GroupName::as_str))
        .parse()
        .ok()
        .filter(|fed: &GroupName| groups.contains_key(fed))
    {
        names.push(fed);
    }
    names
}

impl Membership {
    /// Compiles the groups. One whose conditions cannot be compiled selects nothing; validation keeps such out.
    #[must_use]
    pub fn new(groups: &BTreeMap<GroupName, Group>) -> Self {
        let selectors = groups
            .values()
            .filter(|group| group.kind == GroupKind::Container)
            .filter(|group| !group.name.is_reserved() && !group.name.is_learned())
            .filter_map(|group| Some((group.name.clone(), Selector::new(&group.criteria).ok()?)))
            .collect();
        Self {
            selectors,
            containers: twins(groups, GroupName::containers()),
            nodes: twins(groups, GroupName::nodes()),
        }
    }

    /// Every group of the workload, sorted: the learned one, the reserved ones and those whose conditions it meets.
    #[must_use]
    pub fn groups_of(&self, state: &State, workload: &Workload) -> Vec<GroupName> {
        if is_host(workload) {
            return self.nodes.clone();
        }
        let labels = workload.domain.as_ref().and_then(|domain| state.namespaces.get(domain));
        let mut groups: Vec<GroupName> = self
            .selectors
            .iter()
            .filter(|(_, selector)| selector.matches(workload, labels))
            .map(|(name, _)| name.clone())
            .collect();
        groups.extend(self.containers.iter().cloned());
        groups.push(workload.learned_group());
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// Every group of a workload, sorted; empty when it is not known. For many workloads build one [`Membership`].
#[must_use]
pub fn groups_of(state: &State, id: &WorkloadId) -> Vec<GroupName> {
    state
        .workloads
        .get(id)
        .map(|workload| Membership::new(&state.groups).groups_of(state, workload))
        .unwrap_or_default()
}

/// The live workloads of a group, sorted. Groups of addresses and `external` have none.
#[must_use]
pub fn members(state: &State, name: &GroupName) -> Vec<WorkloadId> {
    let live = state.workloads.values().filter(|workload| is_live(workload));
    if name.is_learned() {
        return live
            .filter(|workload| home_group(workload) == *name)
            .map(|workload| workload.id.clone())
            .collect();
    }
    let Some(group) = state.groups.get(name) else { return Vec::new() };
    let plain = name.as_str().strip_prefix("fed.").unwrap_or(name.as_str());
    match (group.kind, plain) {
        (GroupKind::Node, _) => live.filter(|workload| is_host(workload)).map(|w| w.id.clone()).collect(),
        (GroupKind::Container, "containers") => {
            live.filter(|workload| !is_host(workload)).map(|w| w.id.clone()).collect()
        }
        (GroupKind::Container, _) => {
            let Ok(selector) = Selector::new(&group.criteria) else { return Vec::new() };
            live.filter(|workload| !is_host(workload))
                .filter(|workload| {
                    let labels = workload.domain.as_ref().and_then(|domain| state.namespaces.get(domain));
                    selector.matches(workload, labels)
                })
                .map(|workload| workload.id.clone())
                .collect()
        }
        (GroupKind::Address | GroupKind::IpService | GroupKind::External, _) => Vec::new(),
    }
}

/// Members of every stored group in one pass over the workloads.
#[must_use]
pub fn all_members(state: &State) -> BTreeMap<GroupName, Vec<WorkloadId>> {
    let membership = Membership::new(&state.groups);
    let mut members: BTreeMap<GroupName, Vec<WorkloadId>> =
        state.groups.keys().map(|name| (name.clone(), Vec::new())).collect();
    for workload in state.workloads.values().filter(|workload| is_live(workload)) {
        for group in membership.groups_of(state, workload) {
            members.entry(group).or_default().push(workload.id.clone());
        }
    }
    members
}

/// Learned groups without a live workload, sorted: what aging may remove.
#[must_use]
pub fn unused(state: &State) -> Vec<GroupName> {
    let used: std::collections::BTreeSet<GroupName> =
        state.workloads.values().filter(|workload| is_live(workload)).map(|w| home_group(w)).collect();
    state.groups.keys().filter(|name| name.is_learned() && !used.contains(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, name, state, workload};
    use std::sync::Arc;

    #[test]
    fn a_workload_is_in_its_learned_group_containers_and_every_group_it_meets() {
        let mut state = state(&[workload("w1", "n1", "web", "shop"), workload("w2", "n1", "db", "shop")]);
        state.groups.insert(name("front"), group("front", &[("service", "=", "web")]));
        assert_eq!(
            groups_of(&state, &"w1".parse().unwrap()),
            [name("containers"), name("front"), name("nv.web.shop")]
        );
        assert_eq!(members(&state, &name("front")), ["w1".parse().unwrap()]);
        assert_eq!(members(&state, &name("containers")).len(), 2);
        assert_eq!(members(&state, &name("nv.db.shop")), ["w2".parse().unwrap()]);
        assert!(members(&state, &name("external")).is_empty());
        for (group, list) in all_members(&state) {
            assert_eq!(members(&state, &group), list, "{group}");
        }
    }

    #[test]
    fn a_workload_that_has_ended_is_in_no_group_and_leaves_its_group_unused() {
        let mut state = state(&[workload("w1", "n1", "web", "shop")]);
        assert!(unused(&state).is_empty());
        let mut ended = workload("w1", "n1", "web", "shop");
        ended.running = false;
        ended.finished = nv_model::time::Timestamp::from_seconds(9);
        state.workloads.insert(ended.id.clone(), Arc::new(ended));
        assert!(members(&state, &name("nv.web.shop")).is_empty());
        assert_eq!(unused(&state), [name("nv.web.shop")]);
    }

    #[test]
    fn the_processes_of_a_node_are_in_nodes_and_nowhere_else() {
        let state = state(&[workload("host:n1", "n1", "host", "shop")]);
        assert_eq!(groups_of(&state, &"host:n1".parse().unwrap()), [name("nodes")]);
        assert!(members(&state, &name("containers")).is_empty());
    }
}
