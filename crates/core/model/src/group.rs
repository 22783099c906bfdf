//! Groups: selectors over workloads, and what a group is told to be.

use serde::{Deserialize, Serialize};

use crate::mode::Modes;
use crate::name::{Domain, GroupName};

/// Who owns an object. The words are the contract's `cfg_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made by learning.
    Learned,
    /// Made through REST or the console.
    UserCreated,
    /// Owned by a custom resource; read-only in REST.
    Ground,
    /// Owned by the federation's primary; read-only on members.
    Federal,
    /// Built in.
    SystemDefined,
}

impl Origin {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::UserCreated => "user_created",
            Self::Ground => "ground",
            Self::Federal => "federal",
            Self::SystemDefined => "system_defined",
        }
    }
    /// Parses the contract's word.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "learned" => Some(Self::Learned),
            "user_created" => Some(Self::UserCreated),
            "ground" => Some(Self::Ground),
            "federal" => Some(Self::Federal),
            "system_defined" => Some(Self::SystemDefined),
            _ => None,
        }
    }
}

/// What a group selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Containers.
    Container,
    /// IP addresses, ranges and host names.
    Address,
    /// A service's own address.
    IpService,
    /// Everything outside of the cluster.
    External,
    /// Hosts.
    Node,
}

impl GroupKind {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Address => "address",
            Self::IpService => "ip_service",
            Self::External => "external",
            Self::Node => "node",
        }
    }
}

/// How a criterion compares. `=` and `!=` take `*` and `?` as wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CriterionOp {
    /// Equal, with wildcards.
    #[serde(rename = "=")]
    Equal,
    /// Not equal, with wildcards.
    #[serde(rename = "!=")]
    NotEqual,
    /// Has the value somewhere in it.
    #[serde(rename = "contains")]
    Contains,
    /// Begins with the value.
    #[serde(rename = "prefix")]
    Prefix,
    /// Matches the regular expression somewhere.
    #[serde(rename = "regex")]
    Regex,
    /// Matches the regular expression nowhere.
    #[serde(rename = "!regex")]
    NotRegex,
}

impl CriterionOp {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Contains => "contains",
            Self::Prefix => "prefix",
            Self::Regex => "regex",
            Self::NotRegex => "!regex",
        }
    }
    /// Parses the contract's words, and the console's signs `@`, `^` and `~` for contains, prefix and regex.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "=" => Some(Self::Equal),
            "!=" => Some(Self::NotEqual),
            "contains" | "@" => Some(Self::Contains),
            "prefix" | "^" => Some(Self::Prefix),
            "regex" | "~" => Some(Self::Regex),
            "!regex" | "!~" => Some(Self::NotRegex),
            _ => None,
        }
    }
    /// `!=` and `!regex`: criteria of one key are OR-ed, unless all of them are negative, then they are AND-ed.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        matches!(self, Self::NotEqual | Self::NotRegex)
    }
}

/// One condition of a group: `key op value`. Keys are `image`, `node`, `container`, `service`, `address`,
/// `domain` (or `namespace`), any other text for a label, and `ns:<label>` for a namespace's label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Criterion {
    /// What is looked at.
    pub key: String,
    /// The value it is compared with.
    pub value: String,
    /// How.
    pub op: CriterionOp,
}

/// A group as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// A note of at most 256 characters.
    #[serde(default)]
    pub comment: String,
    /// Who owns it.
    pub origin: Origin,
    /// What it selects.
    pub kind: GroupKind,
    /// The namespace of a learned group.
    #[serde(default)]
    pub domain: Option<Domain>,
    /// Its conditions; a learned group has `service` and `domain`.
    #[serde(default)]
    pub criteria: Vec<Criterion>,
    /// Modes, for learned groups and `nodes`.
    #[serde(default)]
    pub modes: Option<Modes>,
    /// Left out of the risk score.
    #[serde(default)]
    pub not_scored: bool,
    /// Whether the three thresholds below raise events.
    #[serde(default)]
    pub monitor_metric: bool,
    /// Most sessions at one time; 0 for no limit.
    #[serde(default)]
    pub session_limit: u32,
    /// Most new sessions a second; 0 for no limit.
    #[serde(default)]
    pub session_rate_limit: u32,
    /// Most megabits a second; 0 for no limit.
    #[serde(default)]
    pub bandwidth_limit_mbps: u32,
}
