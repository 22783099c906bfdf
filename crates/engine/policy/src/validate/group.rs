//! Groups and their conditions.

use std::collections::BTreeMap;

use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::name::GroupName;
use nv_model::rule::RuleId;

use super::{MAX_CRITERIA, MAX_GROUPS, Refusal, comment, too_many, writable};
use crate::address::AddressValue;
use crate::criteria::{MAX_VALUE_BYTES, Selector};
use crate::state::State;

/// What a group of these conditions selects: addresses where the key is `address`, else containers.
#[must_use]
pub fn kind_of(criteria: &[Criterion]) -> GroupKind {
    if criteria.iter().any(|criterion| criterion.key == "address") {
        GroupKind::Address
    } else {
        GroupKind::Container
    }
}

/// Whether a new group may be stored.
///
/// # Errors
/// [`Refusal`].
pub fn create_group(state: &State, group: &Group) -> Result<(), Refusal> {
    let name = &group.name;
    if name.is_reserved() {
        return Err(Refusal::GroupReserved(name.clone()));
    }
    if ["nv.", "Host:", "Workload:"].iter().any(|prefix| name.as_str().starts_with(prefix)) {
        return Err(Refusal::GroupNameTaken(name.clone()));
    }
    if name.as_str().starts_with("fed.") != (group.origin == Origin::Federal) {
        return Err(Refusal::FederalName(name.clone()));
    }
    if state.groups.contains_key(name) {
        return Err(Refusal::GroupExists(name.clone()));
    }
    too_many("groups", state.groups.len().saturating_add(1), MAX_GROUPS)?;
    comment(&group.comment)?;
    criteria(name, &group.criteria)
}

/// Whether a stored group may be replaced by this one. A learned group keeps its conditions.
///
/// # Errors
/// [`Refusal`].
pub fn update_group(state: &State, group: &Group) -> Result<(), Refusal> {
    let name = &group.name;
    let held = state.groups.get(name).ok_or_else(|| Refusal::GroupUnknown(name.clone()))?;
    if name.is_reserved() {
        return Err(Refusal::GroupReserved(name.clone()));
    }
    writable(format!("group {name}"), held.origin, group.origin)?;
    comment(&group.comment)?;
    if held.origin == Origin::Learned {
        if group.criteria != held.criteria {
            return Err(Refusal::ReadOnly {
                what: format!("the criteria of learned group {name}"),
                origin: Origin::SystemDefined,
            });
        }
        return Ok(());
    }
    criteria(name, &group.criteria)
}

/// Whether a group may be deleted: nobody runs in it (for learned ones) and no rule of others names it.
///
/// # Errors
/// [`Refusal`].
pub fn delete_group(state: &State, name: &GroupName, by: Origin) -> Result<(), Refusal> {
    let held = state.groups.get(name).ok_or_else(|| Refusal::GroupUnknown(name.clone()))?;
    if name.is_reserved() {
        return Err(Refusal::GroupReserved(name.clone()));
    }
    writable(format!("group {name}"), held.origin, by)?;
    if name.is_learned() {
        let members = crate::membership::members(state, name).len();
        if members > 0 {
            return Err(Refusal::GroupHasMembers { name: name.clone(), members });
        }
    }
    // Learned rules go with the group; those that someone wrote are theirs to remove first.
    let rules: Vec<RuleId> = state
        .rules
        .iter()
        .filter(|rule| rule.origin != Origin::Learned && (rule.from == *name || rule.to == *name))
        .map(|rule| rule.id)
        .collect();
    if rules.is_empty() { Ok(()) } else { Err(Refusal::GroupInUse { name: name.clone(), rules }) }
}

/// Whether conditions can be used together.
///
/// # Errors
/// [`Refusal`].
pub fn criteria(name: &GroupName, criteria: &[Criterion]) -> Result<(), Refusal> {
    if criteria.is_empty() {
        return Err(Refusal::NoCriteria(name.clone()));
    }
    too_many("criteria", criteria.len(), MAX_CRITERIA)?;
    let mut seen: BTreeMap<(&str, CriterionOp, &str), ()> = BTreeMap::new();
    for criterion in criteria {
        one_criterion(criterion)?;
        if seen.insert((&criterion.key, criterion.op, &criterion.value), ()).is_some() {
            return Err(Refusal::Value { key: criterion.key.clone(), why: "is given twice" });
        }
    }
    let addresses = criteria.iter().filter(|criterion| criterion.key == "address").count();
    if addresses > 0 && addresses < criteria.len() {
        return Err(Refusal::AddressMixed);
    }
    Selector::new(criteria).map(drop).map_err(Refusal::Criteria)
}

fn one_criterion(criterion: &Criterion) -> Result<(), Refusal> {
    let Criterion { key, value, op } = criterion;
    let bad_key = |why| Err(Refusal::Key { key: key.chars().take(64).collect(), why });
    let bad_value = |why| Err(Refusal::Value { key: key.clone(), why });
    if key.is_empty() || key == "ns:" {
        return bad_key("it is empty");
    }
    if key.len() > 316 {
        return bad_key("it is longer than a label's name can be");
    }
    if key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad_key("it has white space or a control character");
    }
    if value.len() > MAX_VALUE_BYTES {
        return bad_value("is longer than 1024 bytes");
    }
    if value.chars().any(char::is_control) {
        return bad_value("has a control character");
    }
    if key == "address" {
        if *op != CriterionOp::Equal {
            return Err(Refusal::AddressMixed);
        }
        return value.parse::<AddressValue>().map(drop).map_err(Refusal::Address);
    }
    // A label may be there without a value; all else has one, unless it is asked to be none.
    let label = !matches!(key.as_str(), "image" | "node" | "container" | "service" | "domain" | "namespace");
    if value.is_empty() && !(label && matches!(op, CriterionOp::Equal | CriterionOp::NotEqual)) {
        return bad_value("is empty");
    }
    Ok(())
}
