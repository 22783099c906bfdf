//! File rules: which files of a workload are watched, and which only named programs may open.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::group::Origin;
use crate::name::GroupName;
use crate::time::Timestamp;

/// Files by their path in the workload: absolute, with `*` for any text inside of one component.
///
/// `/etc/shadow` is one file, `/etc/*.conf` those in one folder, `/home/*/.ssh/*` those in many. A `/` at the end means
/// everything in the folder. Brackets, `.` and `..` components are refused, as the contract does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePattern(String);

/// Why a text is not a file pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilePatternError {
    /// Too long for the kernel's table.
    #[error("filter is {bytes} bytes long, at most {max} are accepted", max = FilePattern::MAX_BYTES)]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// It does not begin at the root.
    #[error("filter {0:?} does not begin with '/'")]
    Relative(String),
    /// The whole file system would be meant.
    #[error("filter {0:?} names no file or folder")]
    Everything(String),
    /// Something that a filter does not have.
    #[error("filter has {what}")]
    Unclean {
        /// What.
        what: &'static str,
    },
    /// More wildcards than are looked for.
    #[error("filter has more than {max} '*'", max = FilePattern::MAX_WILDCARDS)]
    Wildcards,
}

impl FilePattern {
    /// Longest filter, in bytes.
    pub const MAX_BYTES: usize = 243;
    /// Most `*` in one filter.
    pub const MAX_WILDCARDS: usize = 8;

    /// The filter's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names one path.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// What lies before the first wildcard.
    #[must_use]
    pub fn literal(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// The folder in which matching names lie, wildcards included; empty for the root.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether just this path is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let (mut wanted, mut given) = (self.0.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if component(wanted.as_bytes(), given.as_bytes()) => {}
                _ => return false,
            }
        }
    }

    /// Whether `path` is meant: itself, or with `recursive` as something below a folder that is meant.
    #[must_use]
    pub fn covers(&self, path: &str, recursive: bool) -> bool {
        if self.matches(path) {
            return true;
        }
        recursive
            && path
                .match_indices('/')
                .any(|(at, _)| at > 0 && path.get(..at).is_some_and(|above| self.matches(above)))
    }
}

/// Whether one component of a path matches one of a filter.
#[must_use]
pub fn matches_component(filter: &str, name: &str) -> bool {
    component(filter.as_bytes(), name.as_bytes())
}

/// Whether a component matches one with wildcards. Linear in the name for each wildcard: on a mismatch only the last
/// wildcard takes one byte more.
fn component(wanted: &[u8], given: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < given.len() {
        match wanted.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if given.get(from) == Some(byte) => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, from) = (star_at + 1, taken + 1);
            }
        }
    }
    wanted.iter().skip(at).all(|byte| *byte == b'*')
}

impl FromStr for FilePattern {
    type Err = FilePatternError;
    fn from_str(raw: &str) -> Result<Self, FilePatternError> {
        let unclean = |what| Err(FilePatternError::Unclean { what });
        if !raw.starts_with('/') {
            return Err(FilePatternError::Relative(raw.chars().take(64).collect()));
        }
        if raw.chars().any(char::is_control) {
            return unclean("a control character");
        }
        if raw.contains(['[', ']', '(', ')', '<', '>', '{', '}']) {
            return unclean("a bracket; only '*' is a wildcard");
        }
        let mut text = String::with_capacity(raw.len() + 1);
        for part in raw.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return unclean("a '.' or '..' component");
            }
            text.push('/');
            text.push_str(part);
        }
        if raw.ends_with('/') {
            text.push_str("/*");
        }
        if text.chars().all(|character| matches!(character, '/' | '*')) {
            return Err(FilePatternError::Everything(raw.chars().take(64).collect()));
        }
        if text.len() > Self::MAX_BYTES {
            return Err(FilePatternError::Length { bytes: text.len() });
        }
        if text.matches('*').count() > Self::MAX_WILDCARDS {
            return Err(FilePatternError::Wildcards);
        }
        Ok(Self(text))
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl TryFrom<String> for FilePattern {
    type Error = FilePatternError;
    fn try_from(raw: String) -> Result<Self, FilePatternError> {
        raw.parse()
    }
}
impl From<FilePattern> for String {
    fn from(pattern: FilePattern) -> Self {
        pattern.0
    }
}

/// What a rule does. The words are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileBehavior {
    /// Changes are reported, whoever makes them.
    MonitorChange,
    /// Only the rule's applications may open or change it.
    BlockAccess,
}

impl FileBehavior {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MonitorChange => "monitor_change",
            Self::BlockAccess => "block_access",
        }
    }
    /// Parses the contract's word.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::MonitorChange, Self::BlockAccess].into_iter().find(|behavior| behavior.as_str() == raw)
    }
}

/// One line of a group's file profile. Its filter is its name: a profile has each filter once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRule {
    /// Which files.
    pub filter: FilePattern,
    /// Everything below a matching folder too.
    pub recursive: bool,
    /// What happens to them.
    pub behavior: FileBehavior,
    /// Programs that may, by absolute path in the workload; for [`FileBehavior::BlockAccess`].
    #[serde(default)]
    pub applications: Vec<String>,
    /// Who owns it.
    pub origin: Origin,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was last changed.
    #[serde(default)]
    pub modified: Timestamp,
}

/// The file profile of a group as it is stored. The built-in watch list is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProfile {
    /// Whose it is.
    pub group: GroupName,
    /// Its lines, in order.
    #[serde(default)]
    pub rules: Vec<FileRule>,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// Opened to read.
    Open,
    /// Opened to write, or written.
    Modify,
    /// Made under this name, moved here from elsewhere included.
    Create,
    /// Deleted.
    Delete,
    /// Moved away from this name.
    Rename,
    /// Got another name.
    Link,
    /// Cut to a length.
    Truncate,
    /// Mode, owner or another attribute.
    Attribute,
    /// Something was mounted over it, or over a folder above.
    MountOver,
}

impl FileOperation {
    /// All of them, in the order of their numbers on the wire, which begin at 1.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Modify,
        Self::Create,
        Self::Delete,
        Self::Rename,
        Self::Link,
        Self::Truncate,
        Self::Attribute,
        Self::MountOver,
    ];

    /// Whether the file, or what its name means, is another afterwards.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Open)
    }
    /// The operation in a sentence: "the file was …".
    #[must_use]
    pub const fn participle(self) -> &'static str {
        match self {
            Self::Open => "opened",
            Self::Modify => "modified",
            Self::Create => "created",
            Self::Delete => "deleted",
            Self::Rename => "renamed",
            Self::Link => "linked",
            Self::Truncate => "truncated",
            Self::Attribute => "given other attributes",
            Self::MountOver => "mounted over",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(raw: &str) -> FilePattern {
        raw.parse().unwrap()
    }

    #[test]
    fn a_wildcard_stands_for_text_inside_of_one_component() {
        for (filter, recursive, path, want) in [
            ("/etc/shadow", false, "/etc/shadow", true),
            ("/etc/shadow", false, "/etc/shadow-", false),
            ("/etc", true, "/etc/ssl/private/key", true),
            ("/etc", false, "/etc/passwd", false),
            ("/etc/", false, "/etc/passwd", true),
            ("/etc/*.conf", false, "/etc/ld.so.conf", true),
            ("/etc/*.conf", false, "/etc/sub/x.conf", false),
            ("/home/*/.ssh/*", false, "/home/ann/.ssh/id_rsa", true),
            ("/home/*/.ssh/*", false, "/home/ann/.ssh", false),
            ("/home/*/.ssh/*", false, "/home/ann/x/.ssh/id_rsa", false),
            ("/usr/bin/*", true, "/usr/bin/core/ls", true),
            ("/lib/ld-linux*", false, "/lib/ld-linux-x86-64.so.2", true),
            ("/a/*b*c", false, "/a/xbxbxc", true),
            ("/a/*b*c", false, "/a/xbxb", false),
        ] {
            assert_eq!(pattern(filter).covers(path, recursive), want, "{filter} {recursive} {path}");
        }
    }

    #[test]
    fn a_filter_that_could_mean_something_else_is_refused() {
        for raw in [
            "etc/passwd",
            "/etc/../shadow",
            "/etc/./x",
            "/etc/[a-z]",
            "/",
            "/*",
            "",
            "/a\n",
            "/*a*b*c*d*e*f*g*h*i",
        ] {
            assert!(raw.parse::<FilePattern>().is_err(), "{raw:?}");
        }
        assert_eq!(pattern("//etc///hosts").as_str(), "/etc/hosts");
        assert_eq!(pattern("/var/log/").as_str(), "/var/log/*");
        assert_eq!((pattern("/var/log/*").folder(), pattern("/var/*/x").literal()), ("/var/log", "/var/"));
    }
}
