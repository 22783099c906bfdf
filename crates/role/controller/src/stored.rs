//! What the store says, decoded: kept up to date by its watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nv_model::file::FileProfile;
use nv_model::group::Group;
use nv_model::name::{EnforcerId, GroupName, NodeId, WorkloadId};
use nv_model::node::{Enforcer, Node};
use nv_model::profile::ProcessProfile;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::{Sensor, SensorId, SensorProfile};
use nv_model::system::SystemConfig;
use nv_policy::order;
use nv_policy::state::State;
use nv_store::{Change, Entry, Listing, Revision};
use serde::de::DeserializeOwned;

use crate::keys;

/// Everything of the store that the controller knows.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The last commit that is in here.
    pub(crate) revision: Revision,
    /// When each key was last put: what a transaction compares with.
    pub(crate) modified: Arc<BTreeMap<String, Revision>>,
    pub(crate) config: Arc<SystemConfig>,
    pub(crate) enforcers: BTreeMap<EnforcerId, Enforcer>,
    groups: BTreeMap<GroupName, Group>,
    profiles: BTreeMap<GroupName, ProcessProfile>,
    files: BTreeMap<GroupName, FileProfile>,
    sensors: BTreeMap<SensorId, Sensor>,
    sensor_profiles: BTreeMap<GroupName, SensorProfile>,
    /// Pieces of rule sets, until all are there.
    rule_set_pieces: BTreeMap<BlobId, BTreeMap<usize, Vec<u8>>>,
    rule_sets: BTreeMap<BlobId, RuleSetBlob>,
    rules: BTreeMap<RuleId, NetworkRule>,
    order: Vec<RuleId>,
    nodes: BTreeMap<NodeId, Node>,
    quarantined: BTreeSet<WorkloadId>,
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    match serde_json::from_slice(&entry.value) {
        Ok(value) => Some(value),
        Err(error) => {
            // It stays in the store for whoever can read it; here it counts as not there.
            tracing::error!(key = entry.key, %error, "a stored value cannot be read");
            None
        }
    }
}

/// Puts or removes one entry of a map by the name in its key.
fn put<K: Ord + std::str::FromStr, V: DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    name: &str,
    entry: Option<&Entry>,
) {
    let Ok(key) = name.parse() else { return };
    match entry.and_then(read) {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Stored {
    /// From a listing of everything.
    pub(crate) fn from_listing(listing: &Listing) -> Self {
        let mut stored = Self::default();
        for entry in &listing.entries {
            stored.set(&entry.key, Some(entry));
        }
        stored.revision = listing.revision;
        stored
    }

    /// Takes a commit in.
    pub(crate) fn commit(&mut self, revision: Revision, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(entry) => self.set(&entry.key, Some(entry)),
                Change::Delete { key } => self.set(key, None),
            }
        }
        self.revision = revision;
    }

    fn set(&mut self, key: &str, entry: Option<&Entry>) {
        let known = if let Some(name) = key.strip_prefix(keys::GROUP) {
            put(&mut self.groups, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::PROFILE) {
            put(&mut self.profiles, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::FILES) {
            put(&mut self.files, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::SENSOR) {
            put(&mut self.sensors, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::SENSOR_PROFILE) {
            put(&mut self.sensor_profiles, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::RULE_SET) {
            self.rule_set_piece(name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::RULE) {
            if let Ok(id) = name.parse().map(RuleId) {
                match entry.and_then(read) {
                    Some(rule) => drop(self.rules.insert(id, rule)),
                    None => drop(self.rules.remove(&id)),
                }
            }
            true
        } else if key == keys::ORDER {
            self.order = entry.and_then(read).unwrap_or_default();
            true
        } else if key == keys::CONFIG {
            self.config = Arc::new(entry.and_then(read).unwrap_or_default());
            true
        } else if let Some(name) = key.strip_prefix(keys::NODE) {
            put(&mut self.nodes, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::ENFORCER) {
            put(&mut self.enforcers, name, entry);
            true
        } else if let Some(name) = key.strip_prefix(keys::QUARANTINE) {
            if let Ok(id) = name.parse::<WorkloadId>() {
                match entry {
                    Some(_) => drop(self.quarantined.insert(id)),
                    None => drop(self.quarantined.remove(&id)),
                }
            }
            true
        } else {
            false
        };
        if !known {
            return;
        }
        let modified = Arc::make_mut(&mut self.modified);
        match entry {
            Some(entry) => drop(modified.insert(key.to_owned(), entry.modified)),
            None => drop(modified.remove(key)),
        }
    }

    /// A piece of a rule set came or went; the set is there while its pieces are what its digest says.
    fn rule_set_piece(&mut self, name: &str, entry: Option<&Entry>) {
        let Some((id, number)) =
            name.split_once('/').and_then(|(id, number)| Some((id.parse().ok()?, number.parse().ok()?)))
        else {
            return;
        };
        let pieces = self.rule_set_pieces.entry(id).or_default();
        match entry {
            Some(entry) => drop(pieces.insert(number, entry.value.to_vec())),
            None => drop(pieces.remove(&number)),
        }
        let whole: Vec<u8> = pieces.values().flatten().copied().collect();
        if pieces.is_empty() {
            self.rule_set_pieces.remove(&id);
        }
        match RuleSetBlob::new(whole).ok().filter(|blob| blob.id() == id) {
            Some(blob) => {
                drop(self.rule_sets.insert(id, blob));
            }
            None => drop(self.rule_sets.remove(&id)),
        }
    }

    /// Brings `state` up to what the store says; what runs (workloads) is not the store's.
    pub(crate) fn write_to(&self, state: &mut State) {
        state.groups.clone_from(&self.groups);
        state.profiles.clone_from(&self.profiles);
        state.files.clone_from(&self.files);
        state.sensors.clone_from(&self.sensors);
        state.sensor_profiles.clone_from(&self.sensor_profiles);
        state.rule_sets.clone_from(&self.rule_sets);
        state.nodes.clone_from(&self.nodes);
        state.quarantined.clone_from(&self.quarantined);
        let mut rest = self.rules.clone();
        state.rules = self.order.iter().filter_map(|id| rest.remove(id)).collect();
        state.rules.extend(rest.into_values());
        order::normalise(&mut state.rules);
        state.settings = self.config.node_settings();
        state.network_mode = self.config.net_service_status.then_some(self.config.net_service_policy_mode);
        state.internal_subnets =
            self.config.configured_internal_subnets.iter().filter_map(|net| net.parse().ok()).collect();
    }
}
