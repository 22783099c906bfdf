//! Follows the state of the cluster and tells each node what changed for it.
//!
//! What happens all the time, a workload of a known service coming or going, touches the nodes that know the service
//! and nothing else. All other changes resolve the whole cluster again, but still send each node only what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use nv_model::name::{GroupName, NodeId, WorkloadId};
use nv_model::policy::{IdentityId, IdentityKind, NodePolicy, PolicyDelta, Revision};
use nv_model::workload::Workload;

use super::cluster::{Cluster, pod_groups};
use super::fixed::interface_nets;
use super::plan::{AddressChange, Plan, by_node, is_empty};
use crate::identity::Identities;
use crate::membership::Membership;
use crate::state::{State, is_live, pod_of};

/// The policy of every node, kept up to date. Feed it each state in turn.
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    held: State,
    membership: Membership,
    memberships: BTreeMap<WorkloadId, Arc<[GroupName]>>,
    cluster: Cluster,
    plans: BTreeMap<NodeId, Plan>,
}

/// Address by address: who had it before the first change, who has it now.
type Moves = BTreeMap<IpNet, (Option<IdentityId>, Option<IdentityId>)>;

impl Compiler {
    /// Takes in a state and returns what each node has to be told, for the nodes for which something changed. A
    /// delta's base is the revision that this compiler gave the node last; the first one of a node is a whole policy.
    pub fn update(
        &mut self,
        state: &State,
        identities: &mut Identities,
        revision: Revision,
    ) -> Vec<(NodeId, PolicyDelta)> {
        let touched = self.touched(state);
        let quiet = !self.plans.is_empty() && same_but_workloads(&self.held, state);
        if quiet && touched.is_empty() {
            return Vec::new();
        }
        if quiet {
            let mut moves = Moves::new();
            if let Some(dirty) = self.follow(state, identities, &touched, &mut moves) {
                self.keep(state, &touched);
                return self.tell(state, &moves, &dirty, revision);
            }
            self.undo(&moves);
        }
        self.rebuild(state, identities, &touched, revision)
    }

    /// The whole policy of a node, as of its last change.
    #[must_use]
    pub fn policy(&self, node: &NodeId) -> Option<NodePolicy> {
        self.plans.get(node).map(|plan| plan.assemble(&self.cluster))
    }

    /// The revision of a node's policy.
    #[must_use]
    pub fn revision(&self, node: &NodeId) -> Option<Revision> {
        self.plans.get(node).map(|plan| plan.policy.revision)
    }

    /// Nodes that have a policy.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.plans.keys()
    }

    /// Workloads that are new, changed, gone, or went into quarantine or out of it, with the others of their pods.
    fn touched(&self, state: &State) -> BTreeSet<WorkloadId> {
        let (old, new) = (&self.held.workloads, &state.workloads);
        let mut ids: BTreeSet<&WorkloadId> = old.keys().filter(|id| !new.contains_key(*id)).collect();
        // Both maps are sorted, so one walk finds what differs.
        let mut before = old.iter().peekable();
        for (id, workload) in new {
            while before.next_if(|(other, _)| *other < id).is_some() {}
            let same = before
                .next_if(|(other, _)| *other == id)
                .is_some_and(|(_, held)| Arc::ptr_eq(held, workload) || held == workload);
            if !same {
                ids.insert(id);
            }
        }
        ids.extend(self.held.quarantined.symmetric_difference(&state.quarantined));
        if ids.is_empty() {
            return BTreeSet::new();
        }
        let pods: BTreeSet<&WorkloadId> = ids
            .iter()
            .flat_map(|id| [old.get(*id), new.get(*id)])
            .flatten()
            .map(|workload| pod_of(workload))
            .chain(ids.iter().copied())
            .collect();
        let others = old.values().chain(new.values()).filter(|workload| pods.contains(pod_of(workload)));
        ids.into_iter().chain(others.map(|workload| &workload.id)).cloned().collect()
    }

    /// Keeps what this state says, for the next comparison.
    fn keep(&mut self, state: &State, touched: &BTreeSet<WorkloadId>) {
        for id in touched {
            match state.workloads.get(id) {
                Some(workload) => drop(self.held.workloads.insert(id.clone(), Arc::clone(workload))),
                None => drop(self.held.workloads.remove(id)),
            }
        }
        self.held.quarantined.clone_from(&state.quarantined);
    }

    fn count_in(&mut self, state: &State, touched: &BTreeSet<WorkloadId>) {
        for id in touched {
            match state.workloads.get(id).filter(|workload| is_live(workload)) {
                Some(workload) => {
                    let groups = self.membership.groups_of(state, workload).into();
                    self.memberships.insert(id.clone(), groups);
                }
                None => drop(self.memberships.remove(id)),
            }
        }
    }

    /// Gives addresses back to whom the nodes know as their owners. The rest of a move that was broken off does not
    /// matter, as the cluster is rebuilt.
    fn undo(&mut self, moves: &Moves) {
        for (net, (old, new)) in moves {
            if let Some(id) = new {
                self.cluster.release(*net, *id);
            }
            if let Some(id) = old {
                self.cluster.claim(*net, *id);
            }
        }
    }

    /// Moves the touched workloads and returns the nodes they were or are on. `None` when more than addresses would
    /// change; the cluster is to be rebuilt then.
    fn follow(
        &mut self,
        state: &State,
        identities: &mut Identities,
        touched: &BTreeSet<WorkloadId>,
        moves: &mut Moves,
    ) -> Option<BTreeSet<NodeId>> {
        self.count_in(state, touched);
        let mut dirty: BTreeSet<NodeId> = BTreeSet::new();
        let mut populated: BTreeSet<IdentityId> = BTreeSet::new();
        for id in touched {
            let Some(old) = self.held.workloads.get(id).cloned().filter(|old| is_live(old)) else { continue };
            populated.insert(self.leave(&old, moves, &mut dirty)?);
        }
        // New ones come before old networks are missed, so that an exchange within a network is none.
        let live = || touched.iter().filter_map(|id| state.workloads.get(id)).filter(|new| is_live(new));
        let pods = pod_groups(&self.touched_memberships(touched), state);
        for new in live() {
            if !self.cluster.fixed.count_inner(interface_nets(new), true) {
                return None;
            }
        }
        for id in touched {
            let Some(old) = self.held.workloads.get(id).filter(|old| is_live(old)) else { continue };
            if !self.cluster.fixed.count_inner(interface_nets(old), false) {
                return None;
            }
        }
        for new in live() {
            self.enter(state, identities, &pods, new, moves, &mut dirty)?;
        }
        for id in populated {
            let info = self.cluster.identities.get(&id)?;
            let (all, ordinary) = self.cluster.population.get(&id).copied().unwrap_or_default();
            let workload = info.identity.kind == IdentityKind::Workload;
            if workload && (all == 0 || info.exempt != (ordinary == 0)) {
                return None;
            }
        }
        Some(dirty)
    }

    fn touched_memberships(&self, touched: &BTreeSet<WorkloadId>) -> BTreeMap<WorkloadId, Arc<[GroupName]>> {
        touched.iter().filter_map(|id| Some((id.clone(), Arc::clone(self.memberships.get(id)?)))).collect()
    }

    fn leave(
        &mut self,
        old: &Workload,
        moves: &mut Moves,
        dirty: &mut BTreeSet<NodeId>,
    ) -> Option<IdentityId> {
        let endpoint = self.cluster.unsettle(old)?;
        for net in &endpoint.addresses {
            // Someone else wants the address, or a network of the same extent would show again.
            let shared = self.cluster.claims.contains_key(net) || self.cluster.fixed.has(*net);
            let held = self.cluster.addresses.0.get(net) == Some(&endpoint.identity);
            if shared || !held || self.cluster.exposed.contains(&endpoint.identity) {
                return None;
            }
            self.cluster.release(*net, endpoint.identity);
            moves.entry(*net).or_insert((Some(endpoint.identity), None)).1 = None;
        }
        dirty.insert(endpoint.node);
        Some(endpoint.identity)
    }

    fn enter(
        &mut self,
        state: &State,
        identities: &mut Identities,
        pods: &BTreeMap<WorkloadId, BTreeSet<GroupName>>,
        new: &Workload,
        moves: &mut Moves,
        dirty: &mut BTreeSet<NodeId>,
    ) -> Option<()> {
        let known = self.cluster.identities.len();
        let endpoint = self.cluster.endpoint(state, identities, &self.memberships, pods, new);
        if self.cluster.identities.len() != known {
            return None;
        }
        let info = self.cluster.identities.get(&endpoint.identity)?;
        let core = new.role == nv_model::workload::PlatformRole::Core;
        if info.identity.kind == IdentityKind::Workload && info.exempt && !core {
            return None;
        }
        for net in &endpoint.addresses {
            let exposes = self.cluster.passes_for_external(*net, endpoint.identity);
            if self.cluster.addresses.0.contains_key(net) || exposes {
                return None;
            }
            self.cluster.claim(*net, endpoint.identity);
            moves.entry(*net).or_insert((None, None)).1 = Some(endpoint.identity);
        }
        dirty.insert(endpoint.node.clone());
        self.cluster.settle(new, endpoint);
        Some(())
    }

    /// Deltas after a move: nodes with a moved workload are planned anew, all others learn of addresses.
    fn tell(
        &mut self,
        state: &State,
        moves: &Moves,
        dirty: &BTreeSet<NodeId>,
        revision: Revision,
    ) -> Vec<(NodeId, PolicyDelta)> {
        let changes: Vec<AddressChange> = moves
            .iter()
            .filter(|(_, (old, new))| old != new)
            .map(|(net, (old, new))| AddressChange { net: *net, old: *old, new: *new })
            .collect();
        let mut deltas = Vec::new();
        let local = by_node(&self.cluster);
        for node in dirty {
            let here = local.get(node).map_or(&[][..], |ids| ids.as_slice());
            if here.is_empty() && !state.nodes.contains_key(node) {
                self.plans.remove(node);
                continue;
            }
            let next = Plan::build(state, &self.cluster, node, here);
            deltas.extend(
                replace(&mut self.plans, node, next, &self.cluster, &self.cluster, &changes, revision)
                    .map(|delta| (node.clone(), delta)),
            );
        }
        for (node, plan) in self.plans.iter_mut().filter(|(node, _)| !dirty.contains(*node)) {
            let concerns = |id: Option<IdentityId>| id.is_some_and(|id| plan.known.contains(&id));
            if !changes.iter().any(|change| concerns(change.old) || concerns(change.new)) {
                continue;
            }
            let mut delta = PolicyDelta { base: plan.policy.revision, revision, ..PolicyDelta::default() };
            for change in &changes {
                match change.new.filter(|id| plan.known.contains(id)) {
                    Some(id) => drop(delta.addresses.insert(change.net, id)),
                    None if concerns(change.old) => delta.addresses_gone.push(change.net),
                    None => {}
                }
            }
            plan.policy.revision = revision;
            deltas.push((node.clone(), delta));
        }
        deltas
    }

    fn rebuild(
        &mut self,
        state: &State,
        identities: &mut Identities,
        touched: &BTreeSet<WorkloadId>,
        revision: Revision,
    ) -> Vec<(NodeId, PolicyDelta)> {
        let selectors = |groups: &BTreeMap<GroupName, nv_model::group::Group>| {
            groups
                .values()
                .filter(|group| !group.name.is_learned())
                .map(|group| (group.name.clone(), group.kind, group.criteria.clone()))
                .collect::<Vec<_>>()
        };
        // Modes and comments of groups change often, and whom they select only rarely.
        if self.plans.is_empty()
            || self.held.namespaces != state.namespaces
            || selectors(&self.held.groups) != selectors(&state.groups)
        {
            self.membership = Membership::new(&state.groups);
            self.memberships = super::cluster::memberships(state, &self.membership);
        } else {
            self.count_in(state, touched);
        }
        let before = std::mem::take(&mut self.cluster);
        let cluster = Cluster::build(state, identities, &self.memberships);
        let nets: BTreeSet<&IpNet> = before.addresses.0.keys().chain(cluster.addresses.0.keys()).collect();
        let changes: Vec<AddressChange> = nets
            .into_iter()
            .map(|net| AddressChange {
                net: *net,
                old: before.addresses.0.get(net).copied(),
                new: cluster.addresses.0.get(net).copied(),
            })
            .filter(|change| change.old != change.new)
            .collect();
        let local = by_node(&cluster);
        let nodes: BTreeSet<&NodeId> = state.nodes.keys().chain(local.keys().copied()).collect();
        self.plans.retain(|node, _| nodes.contains(node));
        let mut deltas = Vec::new();
        for node in nodes {
            let here = local.get(node).map_or(&[][..], |ids| ids.as_slice());
            let next = Plan::build(state, &cluster, node, here);
            deltas.extend(
                replace(&mut self.plans, node, next, &before, &cluster, &changes, revision)
                    .map(|delta| (node.clone(), delta)),
            );
        }
        identities.forget_idle(&cluster.identities.keys().copied().collect());
        self.cluster = cluster;
        self.held.clone_from(state);
        deltas
    }
}

/// Puts a plan in place of the one before; what that means for the node, if anything.
fn replace(
    plans: &mut BTreeMap<NodeId, Plan>,
    node: &NodeId,
    mut next: Plan,
    before: &Cluster,
    after: &Cluster,
    changes: &[AddressChange],
    revision: Revision,
) -> Option<PolicyDelta> {
    next.policy.revision = revision;
    let delta = match plans.get(node) {
        Some(held) => held.delta_to(before, &next, after, changes),
        None => NodePolicy::default().delta_to(&next.assemble(after)),
    };
    let new = !plans.contains_key(node);
    if !new && is_empty(&delta) {
        return None;
    }
    plans.insert(node.clone(), next);
    Some(delta)
}

fn same_but_workloads(held: &State, state: &State) -> bool {
    // Named one by one, so that a new field does not compile before someone thought of it here.
    let State {
        groups,
        rules,
        profiles,
        files,
        sensors,
        sensor_profiles,
        rule_sets,
        workloads: _,
        nodes,
        namespaces,
        settings,
        network_mode,
        quarantined: _,
        internal_subnets,
    } = state;
    held.settings == *settings
        && held.network_mode == *network_mode
        && held.internal_subnets == *internal_subnets
        && held.namespaces == *namespaces
        && held.nodes == *nodes
        && held.groups == *groups
        && held.rules == *rules
        && held.profiles == *profiles
        && held.files == *files
        && held.sensors == *sensors
        && held.sensor_profiles == *sensor_profiles
        && held.rule_sets == *rule_sets
}
