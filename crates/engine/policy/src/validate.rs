//! What operators may store. Every refusal says what is wrong in a sentence that can be shown to them.

use std::collections::BTreeMap;

use nv_model::file::{FileBehavior, FileProfile, FileRule};
use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::name::GroupName;
use nv_model::profile::{PathPattern, ProcessProfile, ProcessRule};
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::verdict::Action;

use crate::address::{AddressError, AddressValue};
use crate::criteria::{CriteriaError, MAX_VALUE_BYTES, Selector};
use crate::lower::{MAX_LIST, PatternKey};
use crate::state::State;

/// Longest comment, in characters.
pub const MAX_COMMENT_CHARS: usize = 256;
/// Most conditions of a group.
pub const MAX_CRITERIA: usize = 128;
/// Most user-made groups.
pub const MAX_GROUPS: usize = 10_000;
/// Most lines of a process profile.
pub const MAX_PROCESS_RULES: usize = 4096;
/// Most lines of a file profile.
pub const MAX_FILE_RULES: usize = 512;
/// Most applications of one file rule.
pub const MAX_FILE_APPLICATIONS: usize = 128;
/// Longest name of a program, in bytes.
pub const MAX_PROCESS_NAME_BYTES: usize = 255;
/// Highest priority of a custom resource's rule.
pub const MAX_PRIORITY: u32 = 100;

/// What kind of refusal it is; HTTP has a status for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What is named does not exist.
    NotFound,
    /// It exists already.
    Duplicate,
    /// It is owned by something else.
    ReadOnly,
    /// Something depends on it.
    InUse,
    /// The content is wrong.
    Invalid,
}

/// Why something is not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such group.
    #[error("group {0} does not exist")]
    GroupUnknown(GroupName),
    /// There is one of this name.
    #[error("group {0} exists already")]
    GroupExists(GroupName),
    /// Reserved groups are built in.
    #[error("group {0} is reserved and cannot be changed")]
    GroupReserved(GroupName),
    /// Names of this form are made by learning or stand for hosts and addresses.
    #[error("group name {0} begins with nv., Host: or Workload:, which cannot be created")]
    GroupNameTaken(GroupName),
    /// `fed.` and the owner do not agree.
    #[error("group {0}: names of federal groups, and only these, begin with fed.")]
    FederalName(GroupName),
    /// Owned by a custom resource or the federation.
    #[error("{what} belongs to {owner} and can be changed only there", owner = owner(*.origin))]
    ReadOnly {
        /// What.
        what: String,
        /// Who owns it.
        origin: Origin,
    },
    /// Learned groups go when nobody is in them.
    #[error("group {name} has {members} running workloads and cannot be deleted")]
    GroupHasMembers {
        /// The group.
        name: GroupName,
        /// How many.
        members: usize,
    },
    /// Rules name it.
    #[error("group {name} is used by network rules {list}", list = ids(.rules))]
    GroupInUse {
        /// The group.
        name: GroupName,
        /// The rules.
        rules: Vec<RuleId>,
    },
    /// A group of users needs conditions.
    #[error("group {0} has no criteria")]
    NoCriteria(GroupName),
    /// Too many of something.
    #[error("{count} {what}, at most {max} are accepted")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many are accepted.
        max: usize,
    },
    /// A comment is too long.
    #[error("comment is {chars} characters long, at most {MAX_COMMENT_CHARS} are accepted")]
    Comment {
        /// How long it is.
        chars: usize,
    },
    /// A condition's key cannot be used.
    #[error("criterion key {key:?} is not accepted: {why}")]
    Key {
        /// The key.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// A condition's value cannot be used.
    #[error("criterion {key}: value {why}")]
    Value {
        /// The key.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// The condition `address` stands alone and knows only `=`.
    #[error("criterion address takes only the operator = and cannot be combined with other keys")]
    AddressMixed,
    /// An address cannot be read.
    #[error("{0}")]
    Address(AddressError),
    /// An expression cannot be used.
    #[error("{0}")]
    Criteria(CriteriaError),
    /// No such rule.
    #[error("network rule {} does not exist", .0.0)]
    RuleUnknown(RuleId),
    /// An id outside of the range of its owner, or a reserved one.
    #[error("rule id {number} is not one for {owner} rules", number = .id.0, owner = .origin.as_str())]
    RuleId {
        /// The id.
        id: RuleId,
        /// Who would own it.
        origin: Origin,
    },
    /// A group of a rule cannot be used.
    #[error("rule {number}: group {group} {why}", number = .id.0)]
    RuleGroup {
        /// The rule.
        id: RuleId,
        /// The group.
        group: GroupName,
        /// Why not.
        why: &'static str,
    },
    /// A priority beyond the scale.
    #[error("priority {0} is above {MAX_PRIORITY}")]
    Priority(u32),
    /// No such line in the profile.
    #[error("process rule for name {name:?} and path {path:?} does not exist")]
    ProcessUnknown {
        /// Name.
        name: String,
        /// Path.
        path: String,
    },
    /// A line of a profile cannot be used.
    #[error("process rule for name {name:?} and path {path:?}: {why}")]
    Process {
        /// Name.
        name: String,
        /// Path.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// This group has no process profile.
    #[error("group {0} has no process profile")]
    NoProfile(GroupName),
    /// This group has no file profile.
    #[error("group {0} has no file profile: file rules are for groups of containers")]
    NoFiles(GroupName),
    /// A file rule is wrong.
    #[error("file rule {filter}: {why}")]
    File {
        /// Its filter.
        filter: String,
        /// What is wrong.
        why: &'static str,
    },
}

fn owner(origin: Origin) -> &'static str {
    match origin {
        Origin::Ground => "a custom resource",
        Origin::Federal => "the federation",
        Origin::SystemDefined => "the system",
        Origin::Learned | Origin::UserCreated => "someone else",
    }
}

fn ids(rules: &[RuleId]) -> String {
    let shown: Vec<String> = rules.iter().take(10).map(|id| id.0.to_string()).collect();
    let more = if rules.len() > shown.len() { " and others" } else { "" };
    shown.join(", ") + more
}

impl Refusal {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::GroupUnknown(_) | Self::RuleUnknown(_) | Self::ProcessUnknown { .. } => {
                RefusalKind::NotFound
            }
            Self::GroupExists(_) => RefusalKind::Duplicate,
            Self::GroupReserved(_) | Self::ReadOnly { .. } => RefusalKind::ReadOnly,
            Self::GroupHasMembers { .. } | Self::GroupInUse { .. } => RefusalKind::InUse,
            Self::GroupNameTaken(_)
            | Self::FederalName(_)
            | Self::NoCriteria(_)
            | Self::TooMany { .. }
            | Self::Comment { .. }
            | Self::Key { .. }
            | Self::Value { .. }
            | Self::AddressMixed
            | Self::Address(_)
            | Self::Criteria(_)
            | Self::RuleId { .. }
            | Self::RuleGroup { .. }
            | Self::Priority(_)
            | Self::Process { .. }
            | Self::NoProfile(_)
            | Self::NoFiles(_)
            | Self::File { .. } => RefusalKind::Invalid,
        }
    }
}

fn comment(text: &str) -> Result<(), Refusal> {
    let chars = text.chars().count();
    if chars > MAX_COMMENT_CHARS { Err(Refusal::Comment { chars }) } else { Ok(()) }
}

fn too_many(what: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max { Err(Refusal::TooMany { what, count, max }) } else { Ok(()) }
}

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

/// What a custom resource or the federation owns is changed by it alone.
fn writable(what: String, held: Origin, by: Origin) -> Result<(), Refusal> {
    match held {
        Origin::Ground | Origin::Federal if held != by => Err(Refusal::ReadOnly { what, origin: held }),
        Origin::SystemDefined => Err(Refusal::ReadOnly { what, origin: held }),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests;
