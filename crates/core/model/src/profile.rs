//! Process profiles: which programs a group may run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::file::FileRule;
use crate::group::Origin;
use crate::mode::{Baseline, Fault, Mode};
use crate::name::GroupName;
use crate::time::Timestamp;
use crate::verdict::Action;

/// Where a program may lie.
///
/// Written as an absolute path, as `*` or empty text for anywhere, or as a path with `*` at its end for everything
/// below a folder or with a prefix. A `*` elsewhere is refused, as it could not be decided in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PathPattern {
    /// Anywhere.
    Any,
    /// Just this file.
    Exact(String),
    /// Every path that begins with this text (without the `*`).
    Prefix(String),
}

/// Why a text is not a path pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPatternError {
    /// Too long for the kernel's table.
    #[error("path is {bytes} bytes long, at most {max} are accepted", max = PathPattern::MAX_BYTES)]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A wildcard that is not at the end.
    #[error("path has a wildcard at byte {at}; it is accepted only at the end")]
    Wildcard {
        /// Where.
        at: usize,
    },
    /// `..`, a NUL byte or a control character.
    #[error("path has {what}")]
    Unclean {
        /// What.
        what: &'static str,
    },
}

impl PathPattern {
    /// Longest path, in bytes: what the kernel's tables hold without the closing NUL.
    pub const MAX_BYTES: usize = 255;

    /// Whether `path`, absolute in the container, is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;
    fn from_str(raw: &str) -> Result<Self, PathPatternError> {
        if raw.len() > Self::MAX_BYTES {
            return Err(PathPatternError::Length { bytes: raw.len() });
        }
        if raw.chars().any(char::is_control) {
            return Err(PathPatternError::Unclean { what: "a control character" });
        }
        if raw.split('/').any(|part| part == "..") {
            return Err(PathPatternError::Unclean { what: "a '..' component" });
        }
        match raw.find('*') {
            _ if raw.is_empty() || raw == "*" || raw == "/*" => Ok(Self::Any),
            None => Ok(Self::Exact(raw.to_owned())),
            Some(at) if at + 1 == raw.len() => Ok(Self::Prefix(raw.trim_end_matches('*').to_owned())),
            Some(at) => Err(PathPatternError::Wildcard { at }),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PathPatternError;
    fn try_from(raw: String) -> Result<Self, PathPatternError> {
        raw.parse()
    }
}
impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

/// One line of a profile: a program by name, by path, or both. First match in the profile's order decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRule {
    /// Unique id, in incidents and in `/v1/process_rules/:uuid`.
    pub uuid: String,
    /// The program's name (last part of its path), `*` for any.
    pub name: String,
    /// Where it lies.
    pub path: PathPattern,
    /// What the rule says.
    pub action: Action,
    /// Who owns it.
    pub origin: Origin,
    /// The file may change (zero-drift only): without it the rule does not excuse a changed file.
    #[serde(default)]
    pub allow_update: bool,
    /// What else must be so for it to speak.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was last changed.
    #[serde(default)]
    pub modified: Timestamp,
}

impl ProcessRule {
    /// Whether the rule speaks of this program, as far as its conditions hold. `path` is absolute in the container.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        (self.name == "*" || self.name == name) && self.path.matches(path)
    }
}

/// The profile of a group as it is stored. Modes and baseline are the group's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessProfile {
    /// Whose it is.
    pub group: GroupName,
    /// Its lines, in order.
    #[serde(default)]
    pub rules: Vec<ProcessRule>,
    /// No incidents are logged.
    #[serde(default)]
    pub alert_disabled: bool,
    /// Hashes of executables are recorded.
    #[serde(default)]
    pub hash_enabled: bool,
}

/// What a node is told about the programs of a group: rules of every group the workload is in, user groups first,
/// then the learned one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveProfile {
    /// The learned group (or `nodes`) whose mode and baseline count.
    pub group: GroupName,
    /// Its profile mode.
    pub mode: Mode,
    /// Its baseline.
    pub baseline: Baseline,
    /// Rules in the order of their precedence, each with the group it comes from.
    pub rules: Vec<(GroupName, ProcessRule)>,
    /// File rules, those of users' groups first: the first that covers a path decides. The built-in watch list, which
    /// stands behind them, is not in it.
    #[serde(default)]
    pub files: Vec<(GroupName, FileRule)>,
    /// No incidents are logged.
    pub alert_disabled: bool,
    /// What holds where a verdict cannot be found in time.
    #[serde(default)]
    pub fault: Fault,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_accepted_only_at_the_end() {
        assert_eq!("/usr/bin/*".parse(), Ok(PathPattern::Prefix("/usr/bin/".into())));
        assert_eq!("*".parse(), Ok(PathPattern::Any));
        assert_eq!("".parse(), Ok(PathPattern::Any));
        assert_eq!("/bin/sh".parse(), Ok(PathPattern::Exact("/bin/sh".into())));
        assert_eq!("/a/*/b".parse::<PathPattern>(), Err(PathPatternError::Wildcard { at: 3 }));
        assert!("/a/../b".parse::<PathPattern>().is_err());
    }

    #[test]
    fn a_rule_matches_by_name_and_path() {
        let rule = |name: &str, path: &str| ProcessRule {
            uuid: "u".into(),
            name: name.into(),
            path: path.parse().unwrap(),
            action: Action::Allow,
            origin: Origin::Learned,
            allow_update: false,
            conditions: Conditions::default(),
            created: Timestamp::NEVER,
            modified: Timestamp::NEVER,
        };
        for (name, path, given, want) in [
            ("sh", "/bin/sh", "/bin/sh", true),
            ("sh", "/bin/sh", "/tmp/sh", false),
            ("sh", "*", "/tmp/sh", true),
            ("*", "/usr/bin/*", "/usr/bin/python3", true),
            ("*", "/usr/bin/*", "/bin/python3", false),
            ("python3", "/usr/bin/*", "/usr/bin/perl", false),
        ] {
            assert_eq!(rule(name, path).matches(given), want, "{name} {path} {given}");
        }
    }
}
