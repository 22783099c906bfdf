//! Network rules.

use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::rule::{NetworkRule, RuleId};

use super::{MAX_PRIORITY, Refusal, comment, too_many, writable};
use crate::state::State;

/// Whether a network rule may be stored; `by` is who stores it. The id must be given already.
///
/// # Errors
/// [`Refusal`].
pub fn rule(state: &State, rule: &NetworkRule, by: Origin) -> Result<(), Refusal> {
    if rule.id.origin() != Some(rule.origin) {
        return Err(Refusal::RuleId { id: rule.id, origin: rule.origin });
    }
    writable(format!("network rule {}", rule.id.0), rule.origin, by)?;
    if let Some(held) = state.rule(rule.id) {
        writable(format!("network rule {}", rule.id.0), held.origin, by)?;
    }
    comment(&rule.comment)?;
    if rule.priority > MAX_PRIORITY {
        return Err(Refusal::Priority(rule.priority));
    }
    too_many("applications", rule.applications.len(), 64)?;
    for group in [&rule.from, &rule.to] {
        rule_group(state, rule, group)?;
    }
    Ok(())
}

/// Whether a network rule may be deleted.
///
/// # Errors
/// [`Refusal`].
pub fn delete_rule(state: &State, id: RuleId, by: Origin) -> Result<(), Refusal> {
    let held = state.rule(id).ok_or(Refusal::RuleUnknown(id))?;
    writable(format!("network rule {}", id.0), held.origin, by)
}

fn rule_group(state: &State, rule: &NetworkRule, group: &GroupName) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::RuleGroup { id: rule.id, group: group.clone(), why });
    let raw = group.as_str();
    let pseudo = raw.starts_with("Host:") || raw.starts_with("Workload:");
    if !pseudo && !group.is_reserved() && !state.groups.contains_key(group) {
        return refuse("does not exist");
    }
    let federal = raw.starts_with("fed.");
    match rule.origin {
        Origin::Federal if !federal && *group != GroupName::external() => {
            refuse("is not federal, as the groups of a federal rule are")
        }
        Origin::UserCreated | Origin::Learned | Origin::Ground if federal => {
            refuse("is federal and only federal rules name it")
        }
        _ => Ok(()),
    }
}
