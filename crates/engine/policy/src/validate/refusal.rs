//! Why something is not stored.

use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::rule::RuleId;

use super::{MAX_COMMENT_CHARS, MAX_PRIORITY};
use crate::address::AddressError;
use crate::criteria::CriteriaError;

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
