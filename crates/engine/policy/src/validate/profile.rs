//! Profiles of processes and of files.

use std::collections::BTreeMap;

use nv_model::file::{FileBehavior, FileProfile, FileRule};
use nv_model::group::{Group, GroupKind, Origin};
use nv_model::profile::{PathPattern, ProcessProfile, ProcessRule};
use nv_model::verdict::Action;

use super::{
    MAX_FILE_APPLICATIONS, MAX_FILE_RULES, MAX_PROCESS_NAME_BYTES, MAX_PROCESS_RULES, Refusal, too_many,
    writable,
};
use crate::lower::{MAX_LIST, PatternKey};
use crate::state::State;

/// Whether a line may stand in the profile of `group`.
///
/// # Errors
/// [`Refusal`].
pub fn process_rule(rule: &ProcessRule) -> Result<(), Refusal> {
    let refuse = |why| {
        Err(Refusal::Process {
            name: rule.name.chars().take(64).collect(),
            path: rule.path.to_string().chars().take(64).collect(),
            why,
        })
    };
    if rule.name.is_empty() {
        return refuse("the name is empty; give * for any");
    }
    if rule.name.len() > MAX_PROCESS_NAME_BYTES {
        return refuse("the name is longer than 255 bytes");
    }
    if rule.name.contains('/') || rule.name.chars().any(char::is_control) {
        return refuse("the name has a slash or a control character");
    }
    if rule.name != "*" && rule.name.contains('*') {
        return refuse("the name has a wildcard beside other characters; give * alone, and a path");
    }
    match &rule.conditions.parent {
        Some(PathPattern::Any) => return refuse("the parent is any program; leave it out instead"),
        Some(PathPattern::Exact(path) | PathPattern::Prefix(path)) if !path.starts_with('/') => {
            return refuse("the path of the parent is not absolute");
        }
        _ => {}
    }
    match &rule.path {
        PathPattern::Any if rule.name == "*" && rule.action == Action::Deny && rule.conditions.is_empty() => {
            refuse("this would deny every program")
        }
        PathPattern::Exact(path) | PathPattern::Prefix(path) if !path.starts_with('/') => {
            refuse("the path is not absolute")
        }
        PathPattern::Prefix(path) if path.len() > PatternKey::MAX_BYTES => {
            refuse("a path with a wildcard is at most 244 bytes long")
        }
        PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Any => Ok(()),
    }
}

/// Whether a profile may be stored by `by`: its group takes one, and every line can be used.
///
/// # Errors
/// [`Refusal`] for the first thing that is wrong.
pub fn profile(state: &State, profile: &ProcessProfile, by: Origin) -> Result<(), Refusal> {
    let name = &profile.group;
    let group = state.groups.get(name).ok_or_else(|| Refusal::GroupUnknown(name.clone()))?;
    if !matches!(group.kind, GroupKind::Container | GroupKind::Node) || name.as_str().starts_with("nv.ip.") {
        return Err(Refusal::NoProfile(name.clone()));
    }
    writable(format!("the profile of group {name}"), reserved_as_user(group), by)?;
    too_many("process rules", profile.rules.len(), MAX_PROCESS_RULES)?;
    profile.rules.iter().try_for_each(process_rule)?;
    conditional_lines(&profile.rules)
}

/// Of one program a node asks so many lines with conditions, and one that holds in every case: further ones would be held
/// without their conditions, or not at all ([`MAX_LIST`]).
fn conditional_lines(rules: &[ProcessRule]) -> Result<(), Refusal> {
    let mut about: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| !rule.conditions.is_empty()) {
        let name = if matches!(rule.path, PathPattern::Exact(_)) { "" } else { rule.name.as_str() };
        let lines = about.entry((name, rule.path.to_string())).or_default();
        *lines += 1;
        if *lines >= MAX_LIST {
            return Err(Refusal::Process {
                name: rule.name.chars().take(64).collect(),
                path: rule.path.to_string().chars().take(64).collect(),
                why: "it has more than 15 lines with conditions, of which a node asks no more",
            });
        }
    }
    Ok(())
}

/// Whether a file profile may be stored.
///
/// # Errors
/// [`Refusal`].
pub fn files(state: &State, profile: &FileProfile, by: Origin) -> Result<(), Refusal> {
    let name = &profile.group;
    let group = state.groups.get(name).ok_or_else(|| Refusal::GroupUnknown(name.clone()))?;
    if group.kind != GroupKind::Container || name.as_str().starts_with("nv.ip.") {
        return Err(Refusal::NoFiles(name.clone()));
    }
    writable(format!("the file profile of group {name}"), reserved_as_user(group), by)?;
    too_many("file rules", profile.rules.len(), MAX_FILE_RULES)?;
    let mut seen = std::collections::BTreeSet::new();
    for rule in &profile.rules {
        let wrong = |why| Err(Refusal::File { filter: rule.filter.to_string(), why });
        if !seen.insert(&rule.filter) {
            return wrong("is given twice");
        }
        if let Err(why) = file_rule(rule) {
            return wrong(why);
        }
    }
    Ok(())
}

fn file_rule(rule: &FileRule) -> Result<(), &'static str> {
    if rule.applications.len() > MAX_FILE_APPLICATIONS {
        return Err("has more than 128 applications");
    }
    if rule.behavior == FileBehavior::MonitorChange && !rule.applications.is_empty() {
        return Err("has applications, which only a rule with block_access takes");
    }
    for application in &rule.applications {
        let clean = application.starts_with('/')
            && application.len() <= PathPattern::MAX_BYTES
            && !application.chars().any(char::is_control)
            && !application.contains('*')
            && !application.split('/').any(|part| part == "..");
        if !clean {
            return Err("an application is the absolute path of an executable, without wildcards");
        }
    }
    Ok(())
}

/// Built-in groups cannot be edited, but their profiles can.
fn reserved_as_user(group: &Group) -> Origin {
    if group.origin == Origin::SystemDefined { Origin::UserCreated } else { group.origin }
}
