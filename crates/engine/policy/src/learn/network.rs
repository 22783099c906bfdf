//! Rules from connections.

use std::collections::BTreeMap;

use nv_model::application::ApplicationId;
use nv_model::conversation::EndpointId;
use nv_model::group::Origin;
use nv_model::name::{GroupName, WorkloadId};
use nv_model::port::{PortRange, Ports, Protocol};
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::time::Timestamp;
use nv_model::verdict::{Action, Verdict};
use nv_model::workload::Workload;
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::order;
use crate::state::{State, is_host, is_live, pod_of};

/// A learned rule with more ports than these becomes one for any port.
pub const MAX_PORTS: u32 = 20;

/// A connection between two known ends (see [`crate::directory::Directory`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Who opened it.
    pub client: EndpointId,
    /// Who accepted it.
    pub server: EndpointId,
    /// IP protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// The application, when it is known. Hand a link in once it is, or once it is clear that it will not be: a port
    /// that is learned first is taken back when the application shows.
    pub application: Option<ApplicationId>,
    /// What was decided: [`Verdict::Learn`] is learned; [`Verdict::Allow`] only turns a learned port into the
    /// application that it proved to be.
    pub verdict: Verdict,
}

/// What the connections add to the rules. Learned rules stand last, in the order of their ids.
#[must_use]
pub fn connections(state: &State, links: &[Link], now: Timestamp) -> Vec<Change> {
    let mut draft = Draft::new(state);
    for link in links {
        draft.add(state, link, now);
    }
    draft.finish(state, now)
}

type Key = (GroupName, GroupName, bool);

struct Draft {
    /// Learned rules by (from, to, for applications).
    rules: BTreeMap<Key, NetworkRule>,
    before: BTreeMap<RuleId, NetworkRule>,
    /// Next free id, found once.
    used: Vec<NetworkRule>,
}

impl Draft {
    fn new(state: &State) -> Self {
        let learned = || state.rules.iter().filter(|rule| rule.origin == Origin::Learned);
        Self {
            rules: learned()
                .map(|rule| {
                    let key = (rule.from.clone(), rule.to.clone(), !rule.applications.is_empty());
                    (key, rule.clone())
                })
                .collect(),
            before: learned().map(|rule| (rule.id, rule.clone())).collect(),
            used: learned().cloned().collect(),
        }
    }

    fn add(&mut self, state: &State, link: &Link, now: Timestamp) {
        let Some((from, to)) = learnable(state, link) else { return };
        let Some(application) = link.application.filter(|known| *known != ApplicationId::ANY) else {
            if link.verdict == Verdict::Learn {
                self.add_port(from, to, link, now);
            }
            return;
        };
        let ports = (from.clone(), to.clone(), false);
        let was_port = self.rules.get(&ports).is_some_and(|rule| {
            rule.action == Action::Allow && explicitly(&rule.ports, link.protocol, link.port)
        });
        if link.verdict != Verdict::Learn && !was_port {
            return;
        }
        if was_port && self.take_port(&ports, link) {
            self.rules.remove(&ports);
        }
        let key = (from, to, true);
        let fresh = !self.rules.contains_key(&key);
        let Some(rule) = self.rule(&key, now) else { return };
        if rule.disabled || rule.action == Action::Deny {
            return;
        }
        if !rule.applications.contains(&application) {
            rule.applications.push(application);
            rule.applications.sort_unstable();
            rule.modified = now;
        }
        allow_port(rule, fresh, link, now);
    }

    fn add_port(&mut self, from: GroupName, to: GroupName, link: &Link, now: Timestamp) {
        let key = (from, to, false);
        let fresh = !self.rules.contains_key(&key);
        let Some(rule) = self.rule(&key, now) else { return };
        if !rule.disabled && rule.action == Action::Allow {
            allow_port(rule, fresh, link, now);
        }
    }

    /// Takes a port out of a rule; whether none is left.
    fn take_port(&mut self, key: &Key, link: &Link) -> bool {
        let Some(rule) = self.rules.get_mut(key) else { return false };
        let Ports::List(list) = &rule.ports else { return false };
        let rest: Vec<PortRange> = list
            .iter()
            .flat_map(|range| {
                if !range.contains(link.protocol, link.port) {
                    return [Some(*range), None];
                }
                let below = link.port.checked_sub(1).filter(|high| *high >= range.low);
                let above = link.port.checked_add(1).filter(|low| *low <= range.high);
                [below.map(|high| PortRange { high, ..*range }), above.map(|low| PortRange { low, ..*range })]
            })
            .flatten()
            .collect();
        if rest.is_empty() {
            return true;
        }
        rule.ports = Ports::from_ranges(rest);
        false
    }

    /// The rule of a key; a new one, still without ports and applications, where there is none. `None` when all ids
    /// are taken.
    fn rule(&mut self, key: &Key, now: Timestamp) -> Option<&mut NetworkRule> {
        if !self.rules.contains_key(key) {
            let id = order::next_id(&self.used, Origin::Learned).ok()?;
            let rule = NetworkRule {
                id,
                comment: String::new(),
                from: key.0.clone(),
                to: key.1.clone(),
                ports: Ports::Any,
                applications: Vec::new(),
                action: Action::Allow,
                origin: Origin::Learned,
                disabled: false,
                priority: 0,
                created: now,
                modified: now,
            };
            self.used.push(rule.clone());
            self.rules.insert(key.clone(), rule);
        }
        self.rules.get_mut(key)
    }

    fn finish(self, state: &State, now: Timestamp) -> Vec<Change> {
        let mut kept: BTreeMap<RuleId, NetworkRule> =
            self.rules.into_values().map(|rule| (rule.id, rule)).collect();
        let mut changes: Vec<Change> = self
            .before
            .keys()
            .filter(|id| !kept.contains_key(id) && is_ours(&self.before, **id))
            .map(|id| Change::DeleteRule(*id))
            .collect();
        let mut new = Vec::new();
        kept.retain(|id, rule| self.before.get(id) != Some(rule));
        for (id, mut rule) in kept {
            rule.modified = now;
            if !self.before.contains_key(&id) {
                new.push(id);
            }
            changes.push(Change::PutRule(Box::new(rule)));
        }
        if !new.is_empty() {
            let gone: Vec<RuleId> = changes
                .iter()
                .filter_map(|change| if let Change::DeleteRule(id) = change { Some(*id) } else { None })
                .collect();
            let held = state.rules.iter().map(|rule| rule.id).filter(|id| !gone.contains(id));
            changes.push(Change::OrderRules(held.chain(new).collect()));
        }
        changes
    }
}

/// Two learned rules of one key (a user edited one into it) share a place in the draft; the one that lost it was not
/// taken apart by learning.
fn is_ours(before: &BTreeMap<RuleId, NetworkRule>, id: RuleId) -> bool {
    let Some(rule) = before.get(&id) else { return false };
    let like = |other: &&NetworkRule| {
        other.from == rule.from
            && other.to == rule.to
            && other.applications.is_empty() == rule.applications.is_empty()
    };
    before.values().filter(like).count() == 1
}

/// Adds the port of a link to a rule, which has none yet when it is fresh. A rule for applications has ports too: until a
/// connection has shown its application it is let through, and any port would be open to everything for so long.
fn allow_port(rule: &mut NetworkRule, fresh: bool, link: &Link, now: Timestamp) {
    let range = match link.protocol {
        Protocol::Tcp | Protocol::Udp => PortRange::single(link.protocol, link.port),
        other => PortRange::all(other),
    };
    let ports = match &rule.ports {
        _ if fresh => Ports::from_ranges(vec![range]),
        Ports::Any => return,
        Ports::List(list) if list.iter().any(|held| covers(held, &range)) => return,
        Ports::List(list) => Ports::from_ranges(list.iter().copied().chain([range]).collect()),
    };
    rule.ports = if count(&ports) > MAX_PORTS { Ports::Any } else { ports };
    rule.modified = now;
}

fn covers(held: &PortRange, range: &PortRange) -> bool {
    held.protocol == range.protocol && held.low <= range.low && range.high <= held.high
}

fn explicitly(ports: &Ports, protocol: Protocol, port: u16) -> bool {
    matches!(ports, Ports::List(list) if list.iter().any(|range| range.contains(protocol, port)))
}

/// Ports of the list; all ports of ICMP and other protocols count as one.
fn count(ports: &Ports) -> u32 {
    match ports {
        Ports::Any => 0,
        Ports::List(list) => list
            .iter()
            .map(|range| match range.protocol {
                Protocol::Tcp | Protocol::Udp => u32::from(range.high) - u32::from(range.low) + 1,
                Protocol::Icmp | Protocol::Other => 1,
            })
            .sum(),
    }
}

/// The groups between which the link is learned, if it is.
fn learnable(state: &State, link: &Link) -> Option<(GroupName, GroupName)> {
    if !matches!(link.verdict, Verdict::Learn | Verdict::Allow) || link.protocol == Protocol::Icmp {
        return None;
    }
    let ends = [&link.client, &link.server];
    if !ends.iter().any(|end| matches!(end, EndpointId::Workload(_))) {
        return None;
    }
    if link.protocol == Protocol::Udp && !listens(state, &link.server, link.port) {
        return None;
    }
    Some((group_of(state, &link.client)?, group_of(state, &link.server)?))
}

fn live<'a>(state: &'a State, id: &WorkloadId) -> Option<&'a Workload> {
    let workload = state.workloads.get(id).filter(|workload| is_live(workload))?;
    state.workloads.get(pod_of(workload)).filter(|pod| is_live(pod)).or(Some(workload)).map(AsRef::as_ref)
}

/// The group that stands for an end in learned rules. `None`: a workload that is gone or quarantined.
fn group_of(state: &State, end: &EndpointId) -> Option<GroupName> {
    match end {
        EndpointId::Workload(id) => {
            let pod = live(state, id)?;
            let cut = state.quarantined.contains(id) || state.quarantined.contains(&pod.id);
            (!cut).then(|| crate::state::home_group(pod))
        }
        EndpointId::Host(_) => Some(GroupName::nodes()),
        EndpointId::UnmanagedWorkload(ip) => format!("Workload:{ip}").parse().ok(),
        EndpointId::UnmanagedHost(ip) => format!("Host:{ip}").parse().ok(),
        EndpointId::IpService(group) => Some(group.clone()),
        // Groups that users made of addresses do not show up in learned rules.
        EndpointId::Address(_) | EndpointId::External => Some(GroupName::external()),
    }
}

/// With UDP the ends may be taken for one another, so a managed server has to listen on the port.
fn listens(state: &State, server: &EndpointId, port: u16) -> bool {
    let opens = |workload: &Workload| {
        workload.ports.iter().any(|held| held.protocol == Protocol::Udp && held.port == port)
    };
    match server {
        EndpointId::Workload(id) => {
            let Some(pod) = live(state, id) else { return false };
            state
                .workloads
                .values()
                .filter(|workload| workload.id == *id || *pod_of(workload) == pod.id)
                .any(|workload| opens(workload))
        }
        EndpointId::Host(node) => state
            .workloads
            .values()
            .find(|workload| is_host(workload) && workload.node == *node)
            .is_none_or(|host| opens(host)),
        EndpointId::UnmanagedWorkload(_)
        | EndpointId::UnmanagedHost(_)
        | EndpointId::Address(_)
        | EndpointId::IpService(_)
        | EndpointId::External => true,
    }
}

#[cfg(test)]
mod tests;
