//! Changes to policy, as data.

use std::collections::BTreeMap;

use nv_model::file::FileProfile;
use nv_model::group::Group;
use nv_model::name::GroupName;
use nv_model::profile::ProcessProfile;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::{Sensor, SensorId, SensorProfile};
use serde::{Deserialize, Serialize};

use crate::state::State;

/// One change. A list of them is applied in order, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A group is new or replaced.
    PutGroup(Box<Group>),
    /// A group and its profiles are gone.
    DeleteGroup(GroupName),
    /// A rule is new or replaced. A new one comes last until an order says otherwise.
    PutRule(Box<NetworkRule>),
    /// A rule is gone.
    DeleteRule(RuleId),
    /// The list of all rules, in order. Rules that it leaves out keep their order behind the others.
    OrderRules(Vec<RuleId>),
    /// A profile is new or replaced.
    PutProfile(Box<ProcessProfile>),
    /// A profile is gone.
    DeleteProfile(GroupName),
    /// A file profile is new or replaced.
    PutFiles(Box<FileProfile>),
    /// A sensor is new or replaced.
    PutSensor(Box<Sensor>),
    /// A sensor is gone.
    DeleteSensor(SensorId),
    /// The sensors of a group are others.
    PutSensors(Box<SensorProfile>),
    /// A rule set was handed in.
    PutRuleSet(RuleSetBlob),
    /// No sensor has a rule set any more.
    DeleteRuleSet(BlobId),
}

impl State {
    /// Applies one change. Total: what names an unknown thing changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutGroup(group) => {
                self.groups.insert(group.name.clone(), (**group).clone());
            }
            Change::DeleteGroup(name) => {
                self.groups.remove(name);
                self.profiles.remove(name);
                self.files.remove(name);
                self.sensor_profiles.remove(name);
            }
            Change::PutRule(rule) => match self.rules.iter_mut().find(|held| held.id == rule.id) {
                Some(held) => *held = (**rule).clone(),
                None => self.rules.push((**rule).clone()),
            },
            Change::DeleteRule(id) => self.rules.retain(|rule| rule.id != *id),
            Change::OrderRules(ids) => {
                let place: BTreeMap<RuleId, usize> =
                    ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
                self.rules.sort_by_key(|rule| place.get(&rule.id).copied().unwrap_or(usize::MAX));
            }
            Change::PutProfile(profile) => {
                self.profiles.insert(profile.group.clone(), (**profile).clone());
            }
            Change::DeleteProfile(name) => {
                self.profiles.remove(name);
            }
            Change::PutFiles(profile) => {
                self.files.insert(profile.group.clone(), (**profile).clone());
            }
            Change::PutSensor(sensor) => {
                self.sensors.insert(sensor.id(), (**sensor).clone());
            }
            Change::DeleteSensor(id) => {
                self.sensors.remove(id);
            }
            Change::PutSensors(profile) => {
                self.sensor_profiles.insert(profile.group.clone(), (**profile).clone());
            }
            Change::PutRuleSet(blob) => {
                self.rule_sets.insert(blob.id(), blob.clone());
            }
            Change::DeleteRuleSet(id) => {
                self.rule_sets.remove(id);
            }
        }
    }

    /// Applies a list of changes in order.
    pub fn apply_all<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            self.apply(change);
        }
    }
}
