//! What one node needs of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use nv_model::mode::Mode;
use nv_model::name::{GroupName, NodeId, WorkloadId};
use nv_model::policy::{IdentityId, IdentityKind, NodePolicy, PolicyDelta, ResolvedRule, WorkloadPolicy};
use nv_model::profile::EffectiveProfile;
use nv_model::sensor::{RuleSetUse, Sensor, SensorGroup, SensorId, SensorKind};

use super::cluster::Cluster;
use crate::profile;
use crate::state::State;

/// A node's policy without its identities and addresses, which follow from what it knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) policy: NodePolicy,
    pub(crate) known: BTreeSet<IdentityId>,
}

/// Endpoints by node.
pub(crate) fn by_node(cluster: &Cluster) -> BTreeMap<&NodeId, Vec<&WorkloadId>> {
    let mut nodes: BTreeMap<&NodeId, Vec<&WorkloadId>> = BTreeMap::new();
    for (id, endpoint) in &cluster.endpoints {
        nodes.entry(&endpoint.node).or_default().push(id);
    }
    nodes
}

/// An address that came, went, or changed hands.
pub(crate) struct AddressChange {
    pub(crate) net: IpNet,
    pub(crate) old: Option<IdentityId>,
    pub(crate) new: Option<IdentityId>,
}

impl Plan {
    pub(crate) fn build(state: &State, cluster: &Cluster, node: &NodeId, local: &[&WorkloadId]) -> Self {
        let workloads = local
            .iter()
            .filter_map(|id| {
                let endpoint = cluster.endpoints.get(*id)?;
                let policy = WorkloadPolicy {
                    group: endpoint.home.clone(),
                    identity: endpoint.identity,
                    quarantined: endpoint.quarantined,
                };
                Some(((*id).clone(), policy))
            })
            .collect();
        let mut plan = Self {
            policy: NodePolicy {
                profiles: profiles(state, cluster, local),
                workloads,
                settings: state.settings,
                ..NodePolicy::default()
            },
            ..Self::default()
        };
        plan.network(cluster, node);
        plan.sensors(state, cluster);
        plan
    }

    /// Groups with sensors that have a member here, their sensors, and who else is a member.
    fn sensors(&mut self, state: &State, cluster: &Cluster) {
        let mine: BTreeSet<IdentityId> =
            self.policy.workloads.values().map(|workload| workload.identity).collect();
        for (name, profile) in &state.sensor_profiles {
            let mut settings = Vec::new();
            for kind in SensorKind::ALL {
                let using = profile.of(kind);
                for setting in using.sensors.iter().filter(|_| using.enabled) {
                    let id = SensorId { kind, name: setting.name.clone() };
                    settings.extend(state.sensor(&id).map(|sensor| (id, setting.action, sensor)));
                }
            }
            let members: Vec<IdentityId> = cluster
                .identities
                .iter()
                .filter(|(_, info)| info.identity.kind == IdentityKind::Workload)
                .filter(|(_, info)| info.identity.group == *name || info.groups.contains(name))
                .map(|(id, _)| *id)
                .collect();
            if settings.is_empty() || !members.iter().any(|id| mine.contains(id)) {
                continue;
            }
            self.known.extend(&members);
            let used = settings.iter().map(|(id, action, _)| (id.clone(), *action)).collect();
            self.policy.sensor_groups.insert(name.clone(), SensorGroup { settings: used, members });
            let used = settings.iter().filter_map(|(_, _, sensor)| sensor.rule_set.as_ref());
            let blobs = used.filter_map(|used| state.rule_sets.get(&used.blob));
            self.policy.rule_sets.extend(blobs.map(|blob| (blob.id(), blob.clone())));
            self.policy.sensors.extend(settings.into_iter().map(|(id, _, sensor)| (id, plain(sensor))));
        }
    }

    /// Rules with a local end, the identities that they and the modes make necessary.
    fn network(&mut self, cluster: &Cluster, node: &NodeId) {
        let mut mine: BTreeSet<IdentityId> =
            self.policy.workloads.values().map(|workload| workload.identity).collect();
        mine.insert(cluster.node_identities.get(node).copied().unwrap_or(IdentityId::NODES));
        let positions: BTreeSet<usize> =
            mine.iter().filter_map(|id| cluster.rules_by_identity.get(id)).flatten().copied().collect();
        let concerning: Vec<_> = positions.iter().filter_map(|at| cluster.rules.get(*at)).collect();

        let mut known = mine.clone();
        known.extend([IdentityId::EXTERNAL, IdentityId::NODES, IdentityId::UNMANAGED]);
        known.extend(&cluster.exposed);
        let mut rules: Vec<(bool, ResolvedRule)> = Vec::with_capacity(concerning.len());
        for held in concerning {
            let rule = trimmed(&held.rule, &mine);
            if !held.boundary {
                known.extend(rule.from.iter().chain(&rule.to));
            }
            rules.push((held.boundary, rule));
        }
        known.extend(necessary(cluster, self.policy.settings.strict_group_mode, &mine));
        for (boundary, mut rule) in rules {
            if boundary {
                rule.from.retain(|id| known.contains(id));
                rule.to.retain(|id| known.contains(id));
            }
            if !rule.from.is_empty() && !rule.to.is_empty() {
                self.policy.rules.push(rule);
            }
        }
        self.known = known;
    }

    /// The whole policy.
    pub(crate) fn assemble(&self, cluster: &Cluster) -> NodePolicy {
        NodePolicy {
            identities: self
                .known
                .iter()
                .filter_map(|id| Some((*id, cluster.identities.get(id)?.identity.clone())))
                .collect(),
            addresses: self.known.iter().flat_map(|id| cluster.nets_of(*id)).collect(),
            ..self.policy.clone()
        }
    }

    /// What turns this plan into `next`; `changes` are all addresses that differ between the two clusters.
    pub(crate) fn delta_to(
        &self,
        before: &Cluster,
        next: &Self,
        after: &Cluster,
        changes: &[AddressChange],
    ) -> PolicyDelta {
        let mut delta = self.policy.delta_to(&next.policy);
        let of = |cluster: &Cluster, id: IdentityId| cluster.identities.get(&id).map(|i| i.identity.clone());
        for id in &next.known {
            let (old, new) = (of(before, *id).filter(|_| self.known.contains(id)), of(after, *id));
            if let Some(new) = new.filter(|new| Some(new) != old.as_ref()) {
                delta.identities.insert(*id, new);
            }
        }
        delta.identities_gone = self.known.difference(&next.known).copied().collect();
        for id in next.known.difference(&self.known) {
            delta.addresses.extend(after.nets_of(*id));
        }
        let mut gone: BTreeSet<IpNet> = delta
            .identities_gone
            .iter()
            .flat_map(|id| before.nets_of(*id))
            .map(|(net, _)| net)
            .filter(|net| !after.addresses.0.get(net).is_some_and(|id| next.known.contains(id)))
            .collect();
        for change in changes {
            let had = change.old.is_some_and(|id| self.known.contains(&id));
            match change.new.filter(|id| next.known.contains(id)) {
                Some(id) => drop(delta.addresses.insert(change.net, id)),
                None if had => drop(gone.insert(change.net)),
                None => {}
            }
        }
        delta.addresses_gone = gone.into_iter().collect();
        delta
    }
}

/// A node has no use for the note, nor for what was counted when a rule set was handed in, and need not hear of others.
fn plain(sensor: Sensor) -> Sensor {
    let rule_set = sensor.rule_set.map(|used| RuleSetUse { rules: 0, refused: 0, ..used });
    Sensor { comment: String::new(), rule_set, ..sensor }
}

/// Whether a delta says nothing but a new number.
pub(crate) fn is_empty(delta: &PolicyDelta) -> bool {
    let numbers = PolicyDelta { base: delta.base, revision: delta.revision, ..PolicyDelta::default() };
    *delta == numbers
}

/// Where one end of a rule has no local identity, the other end is cut down to the local ones.
fn trimmed(rule: &ResolvedRule, mine: &BTreeSet<IdentityId>) -> ResolvedRule {
    let is_mine = |id: &&IdentityId| mine.contains(*id);
    let (from, to) = (rule.from.iter().any(|id| is_mine(&id)), rule.to.iter().any(|id| is_mine(&id)));
    let mut rule = rule.clone();
    match (from, to) {
        (true, false) => rule.from.retain(|id| is_mine(&id)),
        (false, true) => rule.to.retain(|id| is_mine(&id)),
        (true, true) | (false, false) => {}
    }
    rule
}

/// Identities without a rule that still change verdicts: hosts; ends whose mode would count between them and a local
/// end; and for bounded namespaces their own members and the platform.
fn necessary<'a>(
    cluster: &'a Cluster,
    strict: bool,
    mine: &BTreeSet<IdentityId>,
) -> impl Iterator<Item = IdentityId> + 'a {
    let local = || mine.iter().filter_map(|id| cluster.identities.get(id));
    let modes: BTreeSet<Mode> = local().filter_map(|info| info.identity.mode).collect();
    let (least, most) = (modes.first().copied(), modes.last().copied());
    let bounded: BTreeSet<_> =
        local().filter_map(|info| info.domain.as_ref()).filter(|d| cluster.bounded.contains(*d)).collect();
    cluster.identities.iter().filter_map(move |(id, info)| {
        let counts = match (info.identity.mode, least, most) {
            (Some(mode), Some(least), Some(most)) => {
                if strict {
                    mode > least
                } else {
                    mode < most
                }
            }
            _ => false,
        };
        let within = !bounded.is_empty()
            && (info.exempt || info.domain.as_ref().is_some_and(|domain| bounded.contains(domain)));
        (counts || within || info.identity.kind == IdentityKind::Node).then_some(*id)
    })
}

fn profiles(
    state: &State,
    cluster: &Cluster,
    local: &[&WorkloadId],
) -> BTreeMap<GroupName, EffectiveProfile> {
    let mut members: BTreeMap<GroupName, Vec<&[GroupName]>> = BTreeMap::from([(GroupName::nodes(), vec![])]);
    for endpoint in local.iter().filter_map(|id| cluster.endpoints.get(*id)) {
        members.entry(endpoint.home.clone()).or_default().push(&endpoint.groups);
    }
    let nodes = [GroupName::nodes()];
    members
        .into_iter()
        .map(|(home, mut groups)| {
            if groups.is_empty() {
                groups.push(&nodes);
            }
            let profile = profile::effective(state, &home, &groups);
            (home, profile)
        })
        .collect()
}
