//! Keys of the store that the controller reads and writes. Values are JSON of the type of `nv_model` named beside.

use nv_model::name::{EnforcerId, GroupName, NodeId, WorkloadId};
use nv_model::registry::RegistryConfig;
use nv_model::rule::RuleId;
use nv_model::scan::BlobId;
use nv_model::sensor::SensorId;
use nv_model::system::SystemConfig;
use nv_store::SecretFields;

/// `Group` by name.
pub(crate) const GROUP: &str = "group/";
/// `NetworkRule` by id.
pub(crate) const RULE: &str = "rule/";
/// List of all rule ids in order.
pub(crate) const ORDER: &str = "rules/order";
/// `ProcessProfile` by group.
pub(crate) const PROFILE: &str = "profile/";
/// `FileProfile` by group.
pub(crate) const FILES: &str = "file/";
/// `Sensor` by kind and name.
pub(crate) const SENSOR: &str = "sensor/";
/// `SensorProfile` by group.
pub(crate) const SENSOR_PROFILE: &str = "sensors-of/";
/// Bytes of a rule set by its digest and the number of the piece, from 0: not JSON.
pub(crate) const RULE_SET: &str = "rule-set/";
/// `SystemConfig`.
pub(crate) const CONFIG: &str = "system/config";
/// `Node` by id.
pub(crate) const NODE: &str = "node/";
/// `Enforcer` by id, as it last connected.
pub(crate) const ENFORCER: &str = "enforcer/";
/// `true` by workload that is cut off from the network.
pub(crate) const QUARANTINE: &str = "quarantine/";
/// `RegistryConfig` by name.
pub(crate) const REGISTRY: &str = "registry/";
/// `RootOfTrust` by name.
pub(crate) const ROOT_OF_TRUST: &str = "signature/";
/// What is secret in values of the store: sealed on its way to the disk.
pub const SECRETS: &[SecretFields] = &[
    SecretFields { prefix: REGISTRY, names: RegistryConfig::SECRETS },
    SecretFields { prefix: CONFIG, names: SystemConfig::SECRETS },
];
/// `TokenRecord` by hash.
pub(crate) const JOIN: &str = "join/";

pub(crate) fn group(name: &GroupName) -> String {
    format!("{GROUP}{name}")
}
pub(crate) fn rule(id: RuleId) -> String {
    format!("{RULE}{}", id.0)
}
pub(crate) fn profile(name: &GroupName) -> String {
    format!("{PROFILE}{name}")
}
pub(crate) fn files(name: &GroupName) -> String {
    format!("{FILES}{name}")
}
pub(crate) fn sensor(id: &SensorId) -> String {
    format!("{SENSOR}{id}")
}
pub(crate) fn sensor_profile(name: &GroupName) -> String {
    format!("{SENSOR_PROFILE}{name}")
}
pub(crate) fn rule_set(id: BlobId, piece: usize) -> String {
    format!("{RULE_SET}{id}/{piece}")
}
pub(crate) fn node(id: &NodeId) -> String {
    format!("{NODE}{id}")
}
pub(crate) fn enforcer(id: &EnforcerId) -> String {
    format!("{ENFORCER}{id}")
}
pub(crate) fn quarantine(id: &WorkloadId) -> String {
    format!("{QUARANTINE}{id}")
}
pub(crate) fn join(hash: &str) -> String {
    format!("{JOIN}{hash}")
}
