//! What inspectors judge by, out of the policy and of what runs here; they are told whenever that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nv_model::mode::Mode;
use nv_model::policy::{IdentityId, NodePolicy};
use nv_policy::layer7::Layer7;

use super::Agent;
use super::inspectors::{Inspection, Post};
use crate::identity::workloads::Workloads;
use crate::inspector::{Rules, Using, Watched};

/// What an inspector was told of rules, and what it said to it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The last that it was handed.
    rules: Arc<Rules>,
    /// It has not answered yet.
    waiting: bool,
    /// Sets that it refused.
    pub(super) refused: u64,
    /// The generation of the rules that it was handed last, and of those that it judges by.
    handed: u64,
    judging: u64,
}

impl Told {
    /// Another inspector begins with no rules.
    pub(super) fn forget(&mut self) {
        let none = Rules { revision: self.rules.revision, ..Rules::default() };
        (self.rules, self.waiting) = (Arc::new(none), false);
    }
    /// Whether it was handed these, under the present generation of the policy.
    fn has(&self, rules: &Rules, layer7: &Layer7, generation: u64) -> bool {
        (self.handed, self.rules.by_ends) == (generation, rules.by_ends)
            && *layer7 == self.rules.layer7
            && rules.has_sensors_of(&self.rules)
    }
    /// Which policy connections are judged by: with another one, those that were clean have to be looked at again.
    pub(super) fn judging(&self) -> u64 {
        self.judging
    }
    /// The inspector does not judge by the policy's rules yet, whose generation this is.
    pub(super) fn is_behind(&self, generation: u64) -> bool {
        self.waiting || self.handed != generation
    }
    /// What the inspector says to the rules that it was handed. False when it was handed none of that number.
    pub(super) fn answered(&mut self, revision: u64, refused: Option<&str>) -> bool {
        if !self.waiting || revision != self.rules.revision {
            return false;
        }
        self.waiting = false;
        match refused {
            None => {
                self.judging = self.handed;
                tracing::debug!(revision, "packets are inspected by these rules");
            }
            Some(reason) => {
                self.refused = self.refused.saturating_add(1);
                tracing::error!(revision, reason, "rules for inspection are refused, those before stay");
            }
        }
        true
    }
}

impl Inspection {
    /// Another policy holds.
    pub(super) fn changed(&mut self, before: &NodePolicy, next: &NodePolicy) {
        let same = before.rules == next.rules
            && before.settings == next.settings
            && before.identities == next.identities
            && before.sensors == next.sensors
            && before.sensor_groups == next.sensor_groups;
        self.generation = self.generation.saturating_add(u64::from(!same));
    }
}

impl Agent {
    /// Hands each inspector its rules when they have changed, and it has taken those before. All judge by the same.
    pub(super) fn tell_rules(&mut self) {
        if !self.inspection.posts().any(|post| !post.rules.waiting && post.running().is_some()) {
            return;
        }
        let mut rules = rules(&self.setup.held.policy, &self.workloads);
        let nothing = Layer7::default();
        rules.by_ends = self.by_queue();
        let asks = rules.by_ends || self.spoken.rules.asks();
        let layer7 = if asks { &self.spoken.rules } else { &nothing };
        let generation = self.inspection.generation;
        let is_due = |post: &Post| {
            let told = &post.rules;
            !told.waiting && post.running().is_some() && !told.has(&rules, layer7, generation)
        };
        let due: Vec<&mut Post> = self.inspection.posts().filter(|post| is_due(post)).collect();
        let Some(last) = due.iter().map(|post| post.rules.rules.revision).max() else { return };
        rules.layer7 = layer7.clone();
        rules.revision = last.saturating_add(1);
        let file = match rules.sealed() {
            Ok(file) => file,
            Err(error) => return tracing::error!(%error, "inspectors are not told their rules"),
        };
        let rules = Arc::new(rules);
        for post in due {
            let handed = post.running().map(|inspector| inspector.hand(rules.revision, &file));
            match handed {
                Some(Ok(())) => {
                    let told = &mut post.rules;
                    (told.rules, told.waiting, told.handed) = (Arc::clone(&rules), true, generation);
                }
                Some(Err(error)) => tracing::debug!(error, "an inspector is not told its rules yet"),
                None => {}
            }
        }
    }
}

/// The rules of a policy for what runs here.
fn rules(policy: &NodePolicy, workloads: &Workloads) -> Rules {
    let mut groups_of: BTreeMap<IdentityId, Vec<u16>> = BTreeMap::new();
    let mut groups = Vec::new();
    for (number, (group, using)) in (0_u16..).zip(&policy.sensor_groups) {
        groups.push(Using { group: group.clone(), settings: using.settings.clone() });
        for member in &using.members {
            groups_of.entry(*member).or_default().push(number);
        }
    }
    if groups_of.is_empty() {
        return Rules::default();
    }
    let mut watched = BTreeMap::new();
    for (id, address) in workloads.addresses() {
        let Some(placed) = policy.workloads.get(id) else { continue };
        let Some(groups) = groups_of.get(&placed.identity) else { continue };
        let mode = policy.identities.get(&placed.identity).and_then(|identity| identity.mode);
        watched.insert(
            address,
            Watched {
                address,
                group: placed.group.clone(),
                mode: mode.unwrap_or(Mode::Discover),
                groups: groups.clone(),
            },
        );
    }
    let elsewhere = policy.addresses.iter().filter(|(net, _)| net.prefix_len() == net.max_prefix_len());
    let members: BTreeSet<(IpAddr, Vec<u16>)> = elsewhere
        .filter(|(net, _)| !watched.contains_key(&net.addr()))
        .filter_map(|(net, identity)| Some((net.addr(), groups_of.get(identity)?.clone())))
        .collect();
    Rules {
        revision: 0,
        sensors: policy.sensors.values().cloned().collect(),
        rule_sets: policy.rule_sets.values().cloned().collect(),
        groups,
        workloads: watched.into_values().collect(),
        members: members.into_iter().collect(),
        layer7: Layer7::default(),
        by_ends: false,
    }
}

#[cfg(test)]
mod tests {
    use nv_model::policy::{Identity, IdentityKind, WorkloadPolicy};
    use nv_model::sensor::SensorGroup;
    use nv_model::verdict::Action;

    use super::*;
    use crate::testing::workload_at;

    #[test]
    fn rules_name_the_addresses_here_with_their_mode_and_those_elsewhere_of_the_same_groups() {
        let (web, db) = (IdentityId(16), IdentityId(17));
        let here = workload_at("10.0.0.1");
        let placed = WorkloadPolicy { group: "nv.web".parse().unwrap(), identity: web, quarantined: false };
        let mut policy = NodePolicy {
            workloads: [(here.id.clone(), placed)].into(),
            identities: [(
                web,
                Identity {
                    kind: IdentityKind::Workload,
                    group: "nv.web".parse().unwrap(),
                    mode: Some(Mode::Protect),
                    names: vec![],
                },
            )]
            .into(),
            addresses: [
                ("10.0.0.1/32", web),
                ("10.0.0.2/32", web),
                ("10.0.0.3/32", db),
                ("10.1.0.0/16", web),
            ]
            .into_iter()
            .map(|(net, id)| (net.parse().unwrap(), id))
            .collect(),
            ..NodePolicy::default()
        };
        let mut workloads = Workloads::default();
        workloads.put(here, false);
        assert_eq!(rules(&policy, &workloads), Rules::default(), "nobody uses a sensor");
        let settings = vec![("dlp/sensor.ssn".parse().unwrap(), Action::Deny)];
        policy.sensor_groups.insert(
            "nv.web".parse().unwrap(),
            SensorGroup { settings: settings.clone(), members: vec![web] },
        );
        let rules = rules(&policy, &workloads);
        assert_eq!(rules.groups, [Using { group: "nv.web".parse().unwrap(), settings }]);
        let [watched] = rules.workloads.as_slice() else { panic!("{rules:?}") };
        assert_eq!((watched.address, watched.mode), ("10.0.0.1".parse().unwrap(), Mode::Protect));
        assert_eq!(rules.members, [("10.0.0.2".parse().unwrap(), vec![0])]);
    }

    #[test]
    fn an_answer_to_rules_that_were_not_handed_over_is_strange() {
        let mut told = Told::default();
        assert!(!told.answered(1, None));
        (told.rules, told.waiting) = (Arc::new(Rules { revision: 3, ..Rules::default() }), true);
        assert!(!told.answered(2, None) && told.answered(3, Some("too large")) && told.refused == 1);
        assert!(!told.answered(3, None), "answered already");
    }
}
