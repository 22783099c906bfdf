//! The whole cluster, resolved: endpoints to identities, groups to sets of identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use nv_model::group::Origin;
use nv_model::mode::Mode;
use nv_model::name::{Domain, GroupName, NodeId, WorkloadId};
use nv_model::policy::{Identity, IdentityId, IdentityKind, ResolvedRule};
use nv_model::port::Ports;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::verdict::Action;
use nv_model::workload::{PlatformRole, Workload};

use super::fixed::Fixed;
use super::nets::NetMap;
use crate::address::{host_net, is_routable};
use crate::identity::{Identities, IdentityKey};
use crate::membership::Membership;
use crate::order;
use crate::state::{State, home_group, is_host, is_live, pod_of};

/// Rules of namespace boundaries have ids from here: behind every range of stored rules.
pub const BOUNDARY_RULE_BASE: u32 = RuleId::END;

/// Whether a rule id stands for a namespace's boundary.
#[must_use]
pub const fn is_boundary(id: RuleId) -> bool {
    id.0 > BOUNDARY_RULE_BASE
}

/// A workload as the network and its profile see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) node: NodeId,
    pub(crate) home: GroupName,
    pub(crate) groups: Arc<[GroupName]>,
    pub(crate) identity: IdentityId,
    /// Addresses that are this endpoint's own; a pod's are its sandbox's.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) quarantined: bool,
}

/// An identity and what rules need to know of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IdentityInfo {
    pub(crate) identity: Identity,
    pub(crate) groups: Vec<GroupName>,
    pub(crate) domain: Option<Domain>,
    /// Part of the platform: namespace boundaries do not hold for it.
    pub(crate) exempt: bool,
}

/// A network rule and, for a namespace's boundary, whose.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterRule {
    pub(crate) rule: ResolvedRule,
    pub(crate) boundary: bool,
}

/// What does not change when a workload of known identity comes or goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) endpoints: BTreeMap<WorkloadId, Endpoint>,
    pub(crate) identities: BTreeMap<IdentityId, IdentityInfo>,
    pub(crate) node_identities: BTreeMap<NodeId, IdentityId>,
    pub(crate) addresses: NetMap<IdentityId>,
    pub(crate) by_identity: BTreeMap<IdentityId, BTreeSet<IpNet>>,
    /// Identities whose addresses would pass for external where they are not known: every node gets them.
    pub(crate) exposed: BTreeSet<IdentityId>,
    pub(crate) rules: Vec<ClusterRule>,
    /// Positions in `rules` by the identities they name.
    pub(crate) rules_by_identity: BTreeMap<IdentityId, BTreeSet<usize>>,
    pub(crate) bounded: BTreeSet<Domain>,
    pub(crate) fixed: Fixed,
    /// How many endpoints say that an address is theirs.
    pub(crate) claims: BTreeMap<IpNet, usize>,
    /// How many endpoints an identity has, and how many of these are not part of the platform.
    pub(crate) population: BTreeMap<IdentityId, (usize, usize)>,
}

fn own_addresses(workload: &Workload) -> Vec<IpNet> {
    if workload.host_network || is_host(workload) {
        return Vec::new();
    }
    let mut nets: Vec<IpNet> = workload
        .interfaces
        .iter()
        .map(|interface| interface.address.addr())
        .filter(|ip| is_routable(*ip))
        .map(host_net)
        .collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

fn with_fed(name: &str) -> Vec<GroupName> {
    [name.to_owned(), format!("fed.{name}")].iter().filter_map(|name| name.parse().ok()).collect()
}

/// Groups of every pod: the union of its sandbox's and its members'.
pub(crate) fn pod_groups(
    memberships: &BTreeMap<WorkloadId, Arc<[GroupName]>>,
    state: &State,
) -> BTreeMap<WorkloadId, BTreeSet<GroupName>> {
    let mut pods: BTreeMap<WorkloadId, BTreeSet<GroupName>> = BTreeMap::new();
    for (id, groups) in memberships {
        let Some(workload) = state.workloads.get(id) else { continue };
        pods.entry(pod_of(workload).clone()).or_default().extend(groups.iter().cloned());
    }
    pods
}

impl Cluster {
    /// Resolves everything. `memberships` holds the groups of every live workload.
    pub(crate) fn build(
        state: &State,
        identities: &mut Identities,
        memberships: &BTreeMap<WorkloadId, Arc<[GroupName]>>,
    ) -> Self {
        let mut cluster = Self {
            fixed: Fixed::of(state),
            bounded: state.namespaces.keys().filter(|domain| state.is_bounded(domain)).cloned().collect(),
            ..Self::default()
        };
        cluster.presets(state);
        cluster.prefixes(identities);
        cluster.names(state, identities);
        cluster.nodes(state, identities);
        let pods = pod_groups(memberships, state);
        // Later started ones win an address that two workloads claim: the earlier one is on its way out.
        let mut order: Vec<&Arc<Workload>> =
            memberships.keys().filter_map(|id| state.workloads.get(id)).collect();
        order.sort_by_key(|workload| (workload.started, &workload.id));
        for workload in order {
            let endpoint = cluster.endpoint(state, identities, memberships, &pods, workload);
            for net in &endpoint.addresses {
                cluster.claim(*net, endpoint.identity);
            }
            cluster.settle(workload, endpoint);
        }
        cluster.expose();
        cluster.exempt();
        cluster.resolve(state);
        cluster
    }

    fn presets(&mut self, state: &State) {
        let nodes_mode = state.modes_of(&GroupName::nodes()).map(|modes| modes.network);
        for (id, kind, group, groups, mode) in [
            (IdentityId::EXTERNAL, IdentityKind::External, GroupName::external(), with_fed("external"), None),
            (IdentityId::NODES, IdentityKind::Node, GroupName::nodes(), with_fed("nodes"), nodes_mode),
            (IdentityId::UNMANAGED, IdentityKind::Unmanaged, GroupName::external(), Vec::new(), None),
        ] {
            self.identities.insert(
                id,
                IdentityInfo {
                    identity: Identity { kind, group, mode, names: Vec::new() },
                    groups,
                    domain: None,
                    exempt: kind == IdentityKind::Node,
                },
            );
        }
    }

    fn nodes(&mut self, state: &State, identities: &mut Identities) {
        for node in state.nodes.values() {
            let nets: Vec<IpNet> = node
                .interfaces
                .iter()
                .map(|interface| interface.address.addr())
                .filter(|ip| is_routable(*ip))
                .map(host_net)
                .collect();
            let mut extra: BTreeSet<GroupName> =
                nets.iter().flat_map(|net| self.fixed.groups_at(*net)).cloned().collect();
            extra.extend(self.fixed.node_groups.get(&node.id).into_iter().flatten().cloned());
            let id = if extra.is_empty() {
                IdentityId::NODES
            } else {
                extra.extend(with_fed("nodes"));
                let mode = state.modes_of(&GroupName::nodes()).map(|modes| modes.network);
                self.number(identities, IdentityKind::Node, GroupName::nodes(), None, extra, mode)
            };
            for net in nets {
                self.claim(net, id);
            }
            self.node_identities.insert(node.id.clone(), id);
        }
    }

    /// The endpoint of a workload; makes its identity known.
    pub(crate) fn endpoint(
        &mut self,
        state: &State,
        identities: &mut Identities,
        memberships: &BTreeMap<WorkloadId, Arc<[GroupName]>>,
        pods: &BTreeMap<WorkloadId, BTreeSet<GroupName>>,
        workload: &Workload,
    ) -> Endpoint {
        let pod_id = pod_of(workload);
        let pod = state.workloads.get(pod_id).map_or(workload, |pod| pod.as_ref());
        let addresses = own_addresses(workload);
        // On the host's network its addresses are the host's, by which others know it; where it runs it is itself.
        let identity = if is_host(pod) {
            self.node_identities.get(&workload.node).copied().unwrap_or(IdentityId::NODES)
        } else {
            let mut groups: BTreeSet<GroupName> = pods.get(pod_id).cloned().unwrap_or_default();
            // The addresses are usually the sandbox's; where a runtime reports them for members, they count too.
            let nets = own_addresses(pod);
            groups.extend(nets.iter().chain(&addresses).flat_map(|net| self.fixed.groups_at(*net)).cloned());
            let home = home_group(pod);
            let mode = state.modes_of(&home).map(|modes| modes.network);
            self.number(identities, IdentityKind::Workload, home, pod.domain.clone(), groups, mode)
        };
        Endpoint {
            node: workload.node.clone(),
            home: home_group(workload),
            groups: memberships.get(&workload.id).cloned().unwrap_or_else(|| Arc::from([])),
            identity,
            addresses,
            quarantined: is_cut_off(state, pod_id),
        }
    }

    fn number(
        &mut self,
        identities: &mut Identities,
        kind: IdentityKind,
        group: GroupName,
        domain: Option<Domain>,
        groups: BTreeSet<GroupName>,
        mode: Option<Mode>,
    ) -> IdentityId {
        let key = IdentityKey { kind, group, domain, groups: groups.into_iter().collect() };
        let id = identities.number(&key);
        self.identities.entry(id).or_insert_with(|| IdentityInfo {
            identity: Identity { kind, group: key.group, mode, names: Vec::new() },
            groups: key.groups,
            domain: key.domain,
            exempt: kind == IdentityKind::Node,
        });
        id
    }

    /// Gives an address to an identity and takes it from whoever had it: hosts take it from prefixes, workloads from
    /// both.
    pub(crate) fn claim(&mut self, net: IpNet, id: IdentityId) {
        if let Some(old) = self.addresses.0.insert(net, id)
            && let Some(held) = self.by_identity.get_mut(&old)
        {
            held.remove(&net);
        }
        self.by_identity.entry(id).or_default().insert(net);
    }

    /// Finds the identities that every node has to know, from the widest network to the single address.
    fn expose(&mut self) {
        let mut order: Vec<(u8, IpNet, IdentityId)> =
            self.addresses.0.iter().map(|(net, id)| (net.prefix_len(), *net, *id)).collect();
        order.sort_unstable();
        for (_, net, id) in order {
            if !self.exposed.contains(&id) && self.passes_for_external(net, id) {
                self.exposed.insert(id);
            }
        }
    }

    fn is_outside(&self, id: IdentityId) -> bool {
        self.identities.get(&id).is_some_and(|info| info.groups.iter().any(|g| *g == GroupName::external()))
    }

    /// Whether an address would be taken for an external one by a node that does not know its identity.
    pub(crate) fn passes_for_external(&self, net: IpNet, id: IdentityId) -> bool {
        if id == IdentityId::UNMANAGED || self.is_outside(id) {
            return false;
        }
        // The next wider network that every node knows says what the address would be taken for.
        let fallback = self.addresses.covering(net).map(|(at, around)| (at, *around)).find(|(at, around)| {
            *at != net
                && (*around == IdentityId::UNMANAGED
                    || self.exposed.contains(around)
                    || self.is_outside(*around))
        });
        fallback.is_none_or(|(_, around)| self.is_outside(around))
    }

    fn prefixes(&mut self, identities: &mut Identities) {
        let nets: BTreeSet<IpNet> =
            self.fixed.groups.0.keys().chain(self.fixed.internal.0.keys()).copied().collect();
        for net in nets {
            let named: BTreeSet<GroupName> = self.fixed.groups_at(net).cloned().collect();
            let external = self.fixed.is_external(net);
            let id = match named.first().cloned() {
                None => IdentityId::UNMANAGED,
                Some(first) => {
                    let pseudo = named.iter().all(|name| name.as_str().starts_with("Workload:"));
                    let kind = if pseudo { IdentityKind::Unmanaged } else { IdentityKind::Address };
                    let mut groups = named;
                    if external {
                        groups.extend(with_fed("external"));
                    }
                    self.number(identities, kind, first, None, groups, None)
                }
            };
            self.claim(net, id);
        }
    }

    /// Groups by names of hosts: each is an identity without addresses, which a node gives to those that it learns.
    fn names(&mut self, state: &State, identities: &mut Identities) {
        for group in state.groups.values() {
            let names = crate::names::of_group(group);
            if !names.is_empty() {
                let groups = BTreeSet::from([group.name.clone()]);
                let kind = IdentityKind::Address;
                let id = self.number(identities, kind, group.name.clone(), None, groups, None);
                if let Some(info) = self.identities.get_mut(&id) {
                    info.identity.names = names;
                }
            }
        }
    }

    /// A service whose workloads are all part of the platform is not held by boundaries.
    fn exempt(&mut self) {
        for (id, info) in &mut self.identities {
            info.exempt = match info.identity.kind {
                IdentityKind::Node => true,
                IdentityKind::Workload => self.population.get(id).is_none_or(|(_, ordinary)| *ordinary == 0),
                IdentityKind::External | IdentityKind::Unmanaged | IdentityKind::Address => false,
            };
        }
    }

    /// Writes an endpoint down, except for its addresses.
    pub(crate) fn settle(&mut self, workload: &Workload, endpoint: Endpoint) {
        for net in &endpoint.addresses {
            *self.claims.entry(*net).or_default() += 1;
        }
        let (all, ordinary) = self.population.entry(endpoint.identity).or_default();
        *all += 1;
        *ordinary += usize::from(workload.role != PlatformRole::Core);
        self.endpoints.insert(workload.id.clone(), endpoint);
    }

    /// Strikes an endpoint out, except for its addresses.
    pub(crate) fn unsettle(&mut self, workload: &Workload) -> Option<Endpoint> {
        let endpoint = self.endpoints.remove(&workload.id)?;
        for net in &endpoint.addresses {
            if let Some(claims) = self.claims.get_mut(net) {
                *claims = claims.saturating_sub(1);
                if *claims == 0 {
                    self.claims.remove(net);
                }
            }
        }
        if let Some((all, ordinary)) = self.population.get_mut(&endpoint.identity) {
            *all = all.saturating_sub(1);
            *ordinary = ordinary.saturating_sub(usize::from(workload.role != PlatformRole::Core));
        }
        Some(endpoint)
    }

    /// Takes an address from an identity.
    pub(crate) fn release(&mut self, net: IpNet, id: IdentityId) {
        if self.addresses.0.get(&net) == Some(&id) {
            self.addresses.0.remove(&net);
        }
        if let Some(held) = self.by_identity.get_mut(&id) {
            held.remove(&net);
        }
    }

    /// The addresses of an identity.
    pub(crate) fn nets_of(&self, id: IdentityId) -> impl Iterator<Item = (IpNet, IdentityId)> + '_ {
        self.by_identity.get(&id).into_iter().flatten().map(move |net| (*net, id))
    }

    /// Whether traffic between the two crosses the boundary of either's namespace.
    pub(crate) fn crosses(&self, a: IdentityId, b: IdentityId) -> bool {
        let (Some(a), Some(b)) = (self.identities.get(&a), self.identities.get(&b)) else { return false };
        let bounded = |info: &IdentityInfo| info.domain.as_ref().is_some_and(|d| self.bounded.contains(d));
        !a.exempt && !b.exempt && a.domain != b.domain && (bounded(a) || bounded(b))
    }

    fn resolve(&mut self, state: &State) {
        let mut of_group: BTreeMap<&GroupName, Vec<IdentityId>> = BTreeMap::new();
        for (id, info) in &self.identities {
            for group in &info.groups {
                of_group.entry(group).or_default().push(*id);
            }
        }
        let mut rules: Vec<ClusterRule> = Vec::with_capacity(state.rules.len());
        let mut settled = false;
        for rule in order::evaluation(&state.rules) {
            let (Some(from), Some(to)) = (of_group.get(&rule.from), of_group.get(&rule.to)) else { continue };
            // Behind "containers to containers, anything" no rule between containers is ever asked.
            if settled && from.iter().chain(to).all(|id| self.is_workload(*id)) {
                continue;
            }
            settled |= is_blanket(rule);
            if rule.origin == Origin::Learned && self.bounded_away(from, to) {
                continue;
            }
            rules.push(ClusterRule {
                rule: ResolvedRule {
                    id: rule.id,
                    from: from.clone(),
                    to: to.clone(),
                    ports: rule.ports.clone(),
                    applications: rule.applications.clone(),
                    action: rule.action,
                    learned: rule.origin == Origin::Learned,
                },
                boundary: false,
            });
        }
        rules.extend(self.boundaries());
        let mut by_identity: BTreeMap<IdentityId, BTreeSet<usize>> = BTreeMap::new();
        for (at, rule) in rules.iter().enumerate() {
            for id in rule.rule.from.iter().chain(&rule.rule.to) {
                by_identity.entry(*id).or_default().insert(at);
            }
        }
        self.rules = rules;
        self.rules_by_identity = by_identity;
    }

    fn is_workload(&self, id: IdentityId) -> bool {
        self.identities.get(&id).is_some_and(|info| info.identity.kind == IdentityKind::Workload)
    }

    /// What was learned does not excuse the crossing of a boundary; only rules that someone wrote do.
    fn bounded_away(&self, from: &[IdentityId], to: &[IdentityId]) -> bool {
        !self.bounded.is_empty() && from.iter().any(|a| to.iter().any(|b| self.crosses(*a, *b)))
    }

    /// Denials around every bounded namespace, behind all written rules.
    fn boundaries(&self) -> Vec<ClusterRule> {
        let mut rules = Vec::new();
        for (at, domain) in self.bounded.iter().enumerate() {
            let inside: Vec<IdentityId> = self
                .identities
                .iter()
                .filter(|(_, info)| info.domain.as_ref() == Some(domain) && !info.exempt)
                .map(|(id, _)| *id)
                .collect();
            let outside: Vec<IdentityId> = self
                .identities
                .iter()
                .filter(|(_, info)| info.domain.as_ref() != Some(domain) && !info.exempt)
                .map(|(id, _)| *id)
                .collect();
            let base = u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(2);
            for (side, from, to) in [(1, &inside, &outside), (2, &outside, &inside)] {
                if from.is_empty() || to.is_empty() {
                    continue;
                }
                rules.push(ClusterRule {
                    rule: ResolvedRule {
                        id: RuleId(BOUNDARY_RULE_BASE.saturating_add(base).saturating_add(side)),
                        from: from.clone(),
                        to: to.clone(),
                        ports: Ports::Any,
                        applications: Vec::new(),
                        action: Action::Deny,
                        learned: false,
                    },
                    boundary: true,
                });
            }
        }
        rules
    }
}

fn is_blanket(rule: &NetworkRule) -> bool {
    let containers = |name: &GroupName| matches!(name.as_str(), "containers" | "fed.containers");
    containers(&rule.from) && containers(&rule.to) && rule.ports == Ports::Any && rule.applications.is_empty()
}

/// Groups of every live workload.
pub(crate) fn memberships(state: &State, membership: &Membership) -> BTreeMap<WorkloadId, Arc<[GroupName]>> {
    state
        .workloads
        .values()
        .filter(|workload| is_live(workload))
        .map(|workload| (workload.id.clone(), membership.groups_of(state, workload).into()))
        .collect()
}

/// Whether a pod is in quarantine: it, or any of its containers, as they all have one network.
fn is_cut_off(state: &State, pod: &WorkloadId) -> bool {
    let of_pod =
        |id: &WorkloadId| id == pod || state.workloads.get(id).is_some_and(|held| pod_of(held) == pod);
    state.quarantined.iter().any(of_pod)
}
