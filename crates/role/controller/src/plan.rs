//! From what an operator asks for to the steps of a transaction.

use std::collections::BTreeSet;

use nv_model::file::{FilePattern, FileProfile, FileRule};
use nv_model::group::{Group, Origin};
use nv_model::name::GroupName;
use nv_model::profile::{ProcessProfile, ProcessRule};
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::time::Timestamp;
use nv_policy::change::Change as PolicyChange;
use nv_policy::learn;
use nv_policy::modes::{self, ModeChange};
use nv_policy::order::{self, Place};
use nv_policy::state::State;
use nv_policy::validate;

use crate::change::{Change, ChangeError, Edit};
use crate::import;
use crate::view::View;

type Steps = Result<Vec<Edit>, ChangeError>;

/// The steps for `change` on top of `view`, made at `now`.
pub(crate) fn plan(view: &View, change: &Change, now: Timestamp) -> Steps {
    let state = view.state.as_ref();
    let policy = match change {
        Change::CreateGroup(group) => create_group(state, group)?,
        Change::UpdateGroup(group) => update_group(state, group)?,
        Change::DeleteGroup(name) => delete_group(state, name)?,
        Change::SetModes { groups, network, profile, baseline, fault } => modes::set(
            state,
            groups,
            ModeChange { network: *network, profile: *profile, baseline: *baseline, fault: *fault },
        )?,
        Change::InsertRules { rules, place } => insert_rules(state, rules, *place, now)?,
        Change::UpdateRule(rule) => vec![update_rule(state, rule, now)?],
        Change::MoveRule { id, place } => vec![order_of(&order::move_rule(&state.rules, *id, *place)?)],
        Change::DeleteRules(ids) => delete_rules(state, ids)?,
        Change::ReplaceRules { rules, delete } => replace_rules(state, rules, delete, now)?,
        Change::UpdateProfile { group, set, delete, alert_disabled, hash_enabled } => {
            let mut profile = state.profiles.get(group).cloned().unwrap_or_else(|| empty_profile(group));
            delete_lines(&mut profile, delete)?;
            set_lines(&mut profile, set, now);
            profile.alert_disabled = alert_disabled.unwrap_or(profile.alert_disabled);
            profile.hash_enabled = hash_enabled.unwrap_or(profile.hash_enabled);
            validate::profile(state, &profile, Origin::UserCreated)?;
            vec![PolicyChange::PutProfile(Box::new(profile))]
        }
        Change::UpdateFiles { group, add, update, delete } => {
            let held = state.files.get(group).cloned();
            let mut files = held.unwrap_or_else(|| FileProfile { group: group.clone(), rules: Vec::new() });
            change_files(&mut files, add, update, delete, now)?;
            validate::files(state, &files, Origin::UserCreated)?;
            vec![PolicyChange::PutFiles(Box::new(files))]
        }
        Change::Import(given) => import::plan(state, given, now)?,
        Change::SetConfig(config) => {
            config.validate().map_err(ChangeError::invalid)?;
            return Ok(vec![Edit::Config(config.clone())]);
        }
        Change::Quarantine { workload, on } => {
            if !state.workloads.contains_key(workload) {
                return Err(ChangeError::NotFound { what: format!("workload {workload} does not exist") });
            }
            if state.quarantined.contains(workload) == *on {
                return Ok(Vec::new());
            }
            return Ok(vec![Edit::Quarantine(workload.clone(), *on)]);
        }
    };
    Ok(policy.into_iter().map(Edit::Policy).collect())
}

pub(crate) type Changes = Result<Vec<PolicyChange>, ChangeError>;

pub(crate) fn create_group(state: &State, group: &Group) -> Changes {
    validate::create_group(state, group)?;
    let group = Group { kind: validate::kind_of(&group.criteria), modes: None, ..group.clone() };
    Ok(vec![PolicyChange::PutGroup(Box::new(group))])
}

pub(crate) fn update_group(state: &State, group: &Group) -> Changes {
    let Some(held) = state.groups.get(&group.name) else {
        return Err(ChangeError::NotFound { what: format!("group {} does not exist", group.name) });
    };
    let group = Group {
        origin: held.origin,
        modes: held.modes,
        domain: held.domain.clone(),
        kind: if held.origin == Origin::Learned { held.kind } else { validate::kind_of(&group.criteria) },
        ..group.clone()
    };
    validate::update_group(state, &group)?;
    Ok(vec![PolicyChange::PutGroup(Box::new(group))])
}

/// Deletes a group with the learned rules that name it.
pub(crate) fn delete_group(state: &State, name: &GroupName) -> Changes {
    validate::delete_group(state, name, Origin::UserCreated)?;
    Ok(learn::forget(state, name))
}

pub(crate) fn order_of(rules: &[NetworkRule]) -> PolicyChange {
    PolicyChange::OrderRules(rules.iter().map(|rule| rule.id).collect())
}

/// Gives a new rule its id and times.
pub(crate) fn number(
    taken: &mut Vec<NetworkRule>,
    rule: &NetworkRule,
    now: Timestamp,
) -> Result<NetworkRule, ChangeError> {
    let mut rule = rule.clone();
    if rule.id == RuleId::DEFAULT {
        rule.id = order::next_id(taken, rule.origin)?;
    }
    (rule.created, rule.modified) = (now, now);
    taken.push(rule.clone());
    Ok(rule)
}

fn insert_rules(state: &State, rules: &[NetworkRule], place: Place, now: Timestamp) -> Changes {
    let mut taken = state.rules.clone();
    let new = rules.iter().map(|rule| number(&mut taken, rule, now)).collect::<Result<Vec<_>, _>>()?;
    for rule in &new {
        validate::rule(state, rule, Origin::UserCreated)?;
    }
    let order = order::insert(&state.rules, new.clone(), place)?;
    let mut changes: Vec<PolicyChange> =
        new.into_iter().map(|rule| PolicyChange::PutRule(Box::new(rule))).collect();
    changes.push(order_of(&order));
    Ok(changes)
}

fn update_rule(state: &State, rule: &NetworkRule, now: Timestamp) -> Result<PolicyChange, ChangeError> {
    let Some(held) = state.rule(rule.id) else {
        return Err(ChangeError::NotFound { what: format!("network rule {} does not exist", rule.id.0) });
    };
    let rule = NetworkRule { origin: held.origin, created: held.created, modified: now, ..rule.clone() };
    validate::rule(state, &rule, Origin::UserCreated)
        .map_err(|refusal| read_only(refusal.into(), rule.id))?;
    Ok(PolicyChange::PutRule(Box::new(rule)))
}

/// Names the rule in a refusal to write to it.
fn read_only(error: ChangeError, id: RuleId) -> ChangeError {
    match error {
        ChangeError::ReadOnly { what, .. } => ChangeError::ReadOnly { what, rules: vec![id.0] },
        other => other,
    }
}

fn delete_rules(state: &State, ids: &[RuleId]) -> Changes {
    let mut refused = Vec::new();
    for id in ids {
        match validate::delete_rule(state, *id, Origin::UserCreated).map_err(ChangeError::from) {
            Ok(()) => {}
            Err(ChangeError::ReadOnly { .. }) => refused.push(id.0),
            Err(error) => return Err(error),
        }
    }
    if !refused.is_empty() {
        let what = "rules of custom resources and of the federation cannot be deleted here".to_owned();
        return Err(ChangeError::ReadOnly { what, rules: refused });
    }
    let unique: BTreeSet<RuleId> = ids.iter().copied().collect();
    Ok(unique.into_iter().map(PolicyChange::DeleteRule).collect())
}

fn same_content(a: &NetworkRule, b: &NetworkRule) -> bool {
    NetworkRule { created: a.created, modified: a.modified, origin: a.origin, ..b.clone() } == *a
}

fn replace_rules(state: &State, rules: &[NetworkRule], delete: &[RuleId], now: Timestamp) -> Changes {
    let ours = |rule: &NetworkRule| matches!(rule.origin, Origin::UserCreated | Origin::Learned);
    let listed: BTreeSet<RuleId> =
        rules.iter().map(|rule| rule.id).filter(|id| *id != RuleId::DEFAULT).collect();
    let mut changes = Vec::new();
    for held in state.rules.iter().filter(|rule| ours(rule) && !listed.contains(&rule.id)) {
        if held.origin == Origin::UserCreated || delete.contains(&held.id) {
            changes.push(PolicyChange::DeleteRule(held.id));
        }
    }
    let mut taken = state.rules.clone();
    let mut order: Vec<RuleId> = state.rules.iter().filter(|rule| !ours(rule)).map(|rule| rule.id).collect();
    for rule in rules {
        match state.rule(rule.id) {
            Some(held) => {
                order.push(held.id);
                if !same_content(held, rule) {
                    changes.push(update_rule(state, rule, now)?);
                }
            }
            None => {
                let rule = number(&mut taken, rule, now)?;
                validate::rule(state, &rule, Origin::UserCreated)?;
                order.push(rule.id);
                changes.push(PolicyChange::PutRule(Box::new(rule)));
            }
        }
    }
    changes.push(PolicyChange::OrderRules(order));
    Ok(changes)
}

pub(crate) fn empty_profile(group: &GroupName) -> ProcessProfile {
    ProcessProfile { group: group.clone(), rules: Vec::new(), alert_disabled: false, hash_enabled: false }
}

fn same_program(a: &ProcessRule, b: &ProcessRule) -> bool {
    a.name == b.name && a.path == b.path
}

pub(crate) fn same_line(a: &ProcessRule, b: &ProcessRule) -> bool {
    same_program(a, b) && a.conditions == b.conditions
}

/// Deletes lines; one given without conditions takes all lines of its name and path.
fn delete_lines(profile: &mut ProcessProfile, delete: &[ProcessRule]) -> Result<(), ChangeError> {
    for line in delete {
        let before = profile.rules.len();
        let meant = |held: &ProcessRule| {
            same_program(held, line) && (line.conditions.is_empty() || held.conditions == line.conditions)
        };
        profile.rules.retain(|held| !meant(held));
        if profile.rules.len() == before {
            let (name, path) = (line.name.clone(), line.path.to_string());
            return Err(validate::Refusal::ProcessUnknown { name, path }.into());
        }
    }
    Ok(())
}

/// Sets lines; one that is new gets an id. What a user sets is the user's, also where learning had made it.
fn set_lines(profile: &mut ProcessProfile, set: &[ProcessRule], now: Timestamp) {
    for line in set {
        match profile.rules.iter_mut().find(|held| same_line(held, line)) {
            Some(held) if held.action == line.action && held.allow_update == line.allow_update => {}
            Some(held) => {
                (held.action, held.allow_update) = (line.action, line.allow_update);
                (held.origin, held.modified) = (line.origin, now);
            }
            None => {
                let uuid =
                    if line.uuid.is_empty() { uuid::Uuid::new_v4().to_string() } else { line.uuid.clone() };
                profile.rules.push(ProcessRule { uuid, created: now, modified: now, ..line.clone() });
            }
        }
    }
}

/// Lines that go first, so that a filter can be given anew in the same request.
fn change_files(
    files: &mut FileProfile,
    add: &[FileRule],
    update: &[FileRule],
    delete: &[FilePattern],
    now: Timestamp,
) -> Result<(), ChangeError> {
    let unknown = |filter: &FilePattern| ChangeError::NotFound {
        what: format!("the file profile of group {} has no filter {filter}", files.group),
    };
    if let Some(filter) = delete.iter().find(|gone| !files.rules.iter().any(|rule| rule.filter == **gone)) {
        return Err(unknown(filter));
    }
    if let Some(line) = update.iter().find(|line| !files.rules.iter().any(|rule| rule.filter == line.filter))
    {
        return Err(unknown(&line.filter));
    }
    files.rules.retain(|rule| !delete.contains(&rule.filter));
    for line in update {
        for held in files.rules.iter_mut().filter(|held| held.filter == line.filter) {
            *held = FileRule { created: held.created, modified: now, ..line.clone() };
        }
    }
    for line in add {
        if files.rules.iter().any(|rule| rule.filter == line.filter) {
            return Err(ChangeError::Duplicate {
                what: format!("the file profile of group {} has filter {} already", files.group, line.filter),
            });
        }
        files.rules.push(FileRule { created: now, modified: now, ..line.clone() });
    }
    Ok(())
}
