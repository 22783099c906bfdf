//! What a node is told: the policy of one node at one revision, and the difference between two of them.
//!
//! A node holds its policy on disk and enforces it without any controller. Identities make it small: workloads with
//! the same groups share one, so the coming and going of a pod is one address.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::application::ApplicationId;
use crate::mode::{Mode, Modes};
use crate::name::{GroupName, WorkloadId};
use crate::port::Ports;
use crate::profile::EffectiveProfile;
use crate::rule::RuleId;
use crate::rule_set::RuleSetBlob;
use crate::scan::BlobId;
use crate::sensor::{Sensor, SensorGroup, SensorId};
use crate::verdict::Action;

/// Number of a policy. A later policy has a higher one; 0 is "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A set of endpoints that no rule tells apart. Stable over revisions as long as its groups are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// An address that is not in the address table: outside of the cluster.
    pub const EXTERNAL: Self = Self(1);
    /// A managed host's own processes.
    pub const NODES: Self = Self(2);
    /// An address inside of the cluster's networks that no managed workload has.
    pub const UNMANAGED: Self = Self(3);
    /// A workload of this node that no policy knows yet: the mode of new services counts for it.
    pub const NEW: Self = Self(4);
    /// First id handed out to a set of groups.
    pub const FIRST: u32 = 16;
}

/// What an identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// Managed workloads.
    Workload,
    /// Managed hosts.
    Node,
    /// Outside of the cluster.
    External,
    /// Inside of the cluster, not managed.
    Unmanaged,
    /// Addresses that a user's address group names.
    Address,
}

/// An identity as a node needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What it stands for.
    pub kind: IdentityKind,
    /// The group whose mode counts: the learned one, `nodes`, `external`, or the address group.
    pub group: GroupName,
    /// Network mode; `None` where the mode of the other end alone counts.
    pub mode: Option<Mode>,
    /// Names that it stands for besides its addresses, as address criteria write them (`www.example.com`,
    /// `*.example.com`, `vh:shop.example`): which addresses they have is learned on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// A network rule whose groups are resolved to identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedRule {
    /// The rule.
    pub id: RuleId,
    /// Who opens the connection; sorted.
    pub from: Vec<IdentityId>,
    /// Who accepts it; sorted.
    pub to: Vec<IdentityId>,
    /// Destination ports.
    pub ports: Ports,
    /// Applications; empty for any.
    pub applications: Vec<ApplicationId>,
    /// What it says.
    pub action: Action,
    /// It was learned: between ends in Discover its matches go on to be learned.
    pub learned: bool,
}

/// A workload of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadPolicy {
    /// Its learned group, which is also the key of its profile in [`NodePolicy::profiles`].
    pub group: GroupName,
    /// Its identity on the network.
    pub identity: IdentityId,
    /// Cut off from the network.
    pub quarantined: bool,
}

/// The whole policy of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePolicy {
    /// Which one.
    pub revision: Revision,
    /// The node's workloads.
    pub workloads: BTreeMap<WorkloadId, WorkloadPolicy>,
    /// Process profiles by learned group, and that of `nodes`.
    pub profiles: BTreeMap<GroupName, EffectiveProfile>,
    /// Every identity that `workloads`, `addresses` or `rules` name.
    pub identities: BTreeMap<IdentityId, Identity>,
    /// Which addresses belong to which identity; the longest prefix counts.
    pub addresses: BTreeMap<IpNet, IdentityId>,
    /// Rules that concern this node, in the order of evaluation.
    pub rules: Vec<ResolvedRule>,
    /// Node-wide settings.
    pub settings: NodeSettings,
    /// Sensors that a group of `sensor_groups` uses.
    #[serde(default)]
    pub sensors: BTreeMap<SensorId, Sensor>,
    /// Groups with sensors that have a member here.
    #[serde(default)]
    pub sensor_groups: BTreeMap<GroupName, SensorGroup>,
    /// Rule sets that `sensors` name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rule_sets: BTreeMap<BlobId, RuleSetBlob>,
}

/// Settings that a node needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// Modes of a service that no policy knows yet.
    pub new_service: Modes,
    /// The stricter mode of two ends counts instead of the less strict one.
    pub strict_group_mode: bool,
    /// No network verdicts at all.
    pub network_policy_disabled: bool,
    /// Who stands behind a proxy is judged by `X-Forwarded-For`: so many proxies before a workload are trusted to have
    /// added who asked them. `None` when the header counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_hops: Option<u8>,
}

/// What turns one policy of a node into the next. Applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDelta {
    /// The revision that it is based on; [`Revision`] 0 means "from nothing", so this is a whole policy.
    pub base: Revision,
    /// The revision that it leads to.
    pub revision: Revision,
    /// Workloads that are new or changed.
    pub workloads: BTreeMap<WorkloadId, WorkloadPolicy>,
    /// Workloads that are gone.
    pub workloads_gone: Vec<WorkloadId>,
    /// Profiles that are new or changed.
    pub profiles: BTreeMap<GroupName, EffectiveProfile>,
    /// Profiles that are gone.
    pub profiles_gone: Vec<GroupName>,
    /// Identities that are new or changed.
    pub identities: BTreeMap<IdentityId, Identity>,
    /// Identities that are gone.
    pub identities_gone: Vec<IdentityId>,
    /// Addresses that are new or changed.
    pub addresses: BTreeMap<IpNet, IdentityId>,
    /// Addresses that are gone.
    pub addresses_gone: Vec<IpNet>,
    /// Rules that are new or changed.
    pub rules: Vec<ResolvedRule>,
    /// The order of all rules, when any came, went or moved.
    pub rule_order: Option<Vec<RuleId>>,
    /// Settings, when they changed.
    pub settings: Option<NodeSettings>,
    /// Sensors that are new or changed.
    pub sensors: BTreeMap<SensorId, Sensor>,
    /// Sensors that no group here uses any more.
    pub sensors_gone: Vec<SensorId>,
    /// Groups with sensors that are new or changed.
    pub sensor_groups: BTreeMap<GroupName, SensorGroup>,
    /// Groups that have no sensors, or no member here, any more.
    pub sensor_groups_gone: Vec<GroupName>,
    /// Rule sets that are new.
    pub rule_sets: BTreeMap<BlobId, RuleSetBlob>,
    /// Rule sets that no sensor here has any more.
    pub rule_sets_gone: Vec<BlobId>,
}

/// Why a delta cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeltaError {
    /// It is based on another revision; ask for the whole policy.
    #[error("delta is based on revision {base}, the node holds {held}", base = .base.0, held = .held.0)]
    Base {
        /// What the delta is based on.
        base: Revision,
        /// What the node holds.
        held: Revision,
    },
    /// The order names a rule that neither side has.
    #[error("rule order names unknown rule {id}", id = .id.0)]
    UnknownRule {
        /// The rule.
        id: RuleId,
    },
}

impl NodePolicy {
    /// What leads from `self` to `next`. `PolicyDelta::base` is `self.revision`.
    #[must_use]
    pub fn delta_to(&self, next: &Self) -> PolicyDelta {
        fn changed<K: Ord + Clone, V: PartialEq + Clone>(
            old: &BTreeMap<K, V>,
            new: &BTreeMap<K, V>,
        ) -> BTreeMap<K, V> {
            new.iter()
                .filter(|(key, value)| old.get(key) != Some(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
        fn gone<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
            old.keys().filter(|key| !new.contains_key(key)).cloned().collect()
        }
        let old_rules: BTreeMap<RuleId, &ResolvedRule> =
            self.rules.iter().map(|rule| (rule.id, rule)).collect();
        let order = |rules: &[ResolvedRule]| rules.iter().map(|rule| rule.id).collect::<Vec<_>>();
        let (old_order, new_order) = (order(&self.rules), order(&next.rules));
        PolicyDelta {
            base: self.revision,
            revision: next.revision,
            workloads: changed(&self.workloads, &next.workloads),
            workloads_gone: gone(&self.workloads, &next.workloads),
            profiles: changed(&self.profiles, &next.profiles),
            profiles_gone: gone(&self.profiles, &next.profiles),
            identities: changed(&self.identities, &next.identities),
            identities_gone: gone(&self.identities, &next.identities),
            addresses: changed(&self.addresses, &next.addresses),
            addresses_gone: gone(&self.addresses, &next.addresses),
            rules: next.rules.iter().filter(|rule| old_rules.get(&rule.id) != Some(rule)).cloned().collect(),
            rule_order: (old_order != new_order).then_some(new_order),
            settings: (self.settings != next.settings).then_some(next.settings),
            sensors: changed(&self.sensors, &next.sensors),
            sensors_gone: gone(&self.sensors, &next.sensors),
            sensor_groups: changed(&self.sensor_groups, &next.sensor_groups),
            sensor_groups_gone: gone(&self.sensor_groups, &next.sensor_groups),
            rule_sets: changed(&self.rule_sets, &next.rule_sets),
            rule_sets_gone: gone(&self.rule_sets, &next.rule_sets),
        }
    }

    /// Hash of what the policy says, without its revision: 64 hex digits of SHA-256 over its JSON form, whose maps are
    /// sorted. Two controllers, or a controller and a node, hold the same policy if and only if their digests agree.
    #[must_use]
    pub fn digest(&self) -> String {
        struct Hasher(sha2::Sha256);
        impl std::io::Write for Hasher {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                sha2::Digest::update(&mut self.0, bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        // A rule set is told by its digest as well as by its bytes.
        let sensors = (&self.sensors, &self.sensor_groups, self.rule_sets.keys().collect::<Vec<_>>());
        let content = (
            &self.workloads,
            &self.profiles,
            &self.identities,
            &self.addresses,
            &self.rules,
            &self.settings,
            sensors,
        );
        let mut hasher = Hasher(sha2::Digest::new());
        // Every key is a text or a number, so that this cannot fail; an empty digest equals no other.
        if serde_json::to_writer(&mut hasher, &content).is_err() {
            return String::new();
        }
        let digest = sha2::Digest::finalize(hasher.0);
        let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
        nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
    }

    /// The policy that `delta` leads to; `self` is left as it is.
    ///
    /// # Errors
    /// [`DeltaError`]; nothing was applied then.
    pub fn apply(&self, delta: &PolicyDelta) -> Result<Self, DeltaError> {
        let mut next = if delta.base == Revision(0) { Self::default() } else { self.clone() };
        if delta.base != next.revision {
            return Err(DeltaError::Base { base: delta.base, held: self.revision });
        }
        next.revision = delta.revision;
        next.workloads.extend(delta.workloads.clone());
        next.workloads.retain(|id, _| !delta.workloads_gone.contains(id));
        next.profiles.extend(delta.profiles.clone());
        next.profiles.retain(|group, _| !delta.profiles_gone.contains(group));
        next.identities.extend(delta.identities.clone());
        next.identities.retain(|id, _| !delta.identities_gone.contains(id));
        next.addresses.extend(delta.addresses.clone());
        next.addresses.retain(|net, _| !delta.addresses_gone.contains(net));
        next.sensors.extend(delta.sensors.clone());
        next.sensors.retain(|id, _| !delta.sensors_gone.contains(id));
        next.sensor_groups.extend(delta.sensor_groups.clone());
        next.sensor_groups.retain(|group, _| !delta.sensor_groups_gone.contains(group));
        next.rule_sets.extend(delta.rule_sets.clone());
        next.rule_sets.retain(|id, _| !delta.rule_sets_gone.contains(id));
        let mut rules: BTreeMap<RuleId, ResolvedRule> =
            next.rules.drain(..).map(|rule| (rule.id, rule)).collect();
        let held: Vec<RuleId> = if delta.base == Revision(0) {
            Vec::new()
        } else {
            self.rules.iter().map(|rule| rule.id).collect()
        };
        rules.extend(delta.rules.iter().map(|rule| (rule.id, rule.clone())));
        for id in delta.rule_order.as_ref().unwrap_or(&held) {
            next.rules.push(rules.remove(id).ok_or(DeltaError::UnknownRule { id: *id })?);
        }
        if let Some(settings) = delta.settings {
            next.settings = settings;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(id: u32, port: u16) -> ResolvedRule {
        ResolvedRule {
            id: RuleId(id),
            from: vec![IdentityId(16)],
            to: vec![IdentityId(17)],
            ports: format!("tcp/{port}").parse().unwrap(),
            applications: vec![],
            action: Action::Allow,
            learned: true,
        }
    }

    prop_compose! {
        fn policy(revision: u64)(rules in proptest::sample::subsequence((1_u32..8).collect::<Vec<_>>(), 0..7).prop_shuffle(),
                  port in 1_u16..4, addresses in proptest::collection::btree_map(0_u8..6, 16_u32..19, 0..5)) -> NodePolicy {
            NodePolicy {
                revision: Revision(revision),
                rules: rules.into_iter().map(|id| rule(id, port)).collect(),
                addresses: addresses.into_iter().map(|(last, id)| (format!("10.0.0.{last}/32").parse().unwrap(), IdentityId(id))).collect(),
                ..NodePolicy::default()
            }
        }
    }

    proptest! {
        #[test]
        fn a_delta_leads_from_any_policy_to_any_other(old in policy(4), new in policy(5)) {
            prop_assert_eq!(old.apply(&old.delta_to(&new)).unwrap(), new.clone());
            let whole = NodePolicy::default().delta_to(&new);
            prop_assert_eq!(old.apply(&whole).unwrap(), new);
        }
    }

    #[test]
    fn a_digest_tells_what_is_said_and_not_which_revision_says_it() {
        let policy = NodePolicy { revision: Revision(3), rules: vec![rule(1, 80)], ..NodePolicy::default() };
        let later = NodePolicy { revision: Revision(9), ..policy.clone() };
        let other = NodePolicy { rules: vec![rule(1, 81)], ..policy.clone() };
        assert_eq!(policy.digest(), later.digest());
        assert_ne!(policy.digest(), other.digest());
        assert_eq!(policy.digest().len(), 64);
    }

    #[test]
    fn a_delta_for_another_base_is_refused() {
        let held = NodePolicy { revision: Revision(3), ..NodePolicy::default() };
        let delta = PolicyDelta { base: Revision(2), revision: Revision(4), ..PolicyDelta::default() };
        assert_eq!(held.apply(&delta), Err(DeltaError::Base { base: Revision(2), held: Revision(3) }));
    }
}
