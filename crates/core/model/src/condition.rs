//! Conditions of a process rule: with which arguments, out of which program, as which user.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::profile::PathPattern;

/// What else must be so for a process rule to speak of a program. A rule without any speaks whenever name and path do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conditions {
    /// The arguments, without the name that the program was called by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<ArgumentPattern>,
    /// The executable that runs it: what the process was before, which after a fork is what its parent is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<PathPattern>,
    /// The real user id of the process, in the host's numbering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl Conditions {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arguments.is_none() && self.parent.is_none() && self.uid.is_none()
    }
}

/// A pattern on the arguments of a program, all of them in a row with a space between.
///
/// Written with `*` at its ends: `-m http.server` is all there is, `-m *` how it begins, `*--help` how it ends, and
/// `*/etc/shadow*` is anywhere. A space at the end of what is anywhere is the border of an argument: `* -e *` is an
/// argument `-e`. A `*` elsewhere is refused, as it could not be decided in bounded time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArgumentPattern {
    /// The whole list.
    Exact(String),
    /// The list begins with this text (without the `*`).
    Prefix(String),
    /// The list ends with it.
    Suffix(String),
    /// It is in the list.
    Contains(String),
}

/// Why a text is not a pattern on arguments.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentPatternError {
    /// Too short or too long for the kernel's table.
    #[error("the pattern on arguments has {bytes} bytes beside its wildcards, 1 to {max} are accepted", max = ArgumentPattern::MAX_BYTES)]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A wildcard in the middle.
    #[error("the pattern on arguments has a wildcard at byte {at}; it is accepted only at the ends")]
    Wildcard {
        /// Where.
        at: usize,
    },
    /// A control character or nothing but spaces.
    #[error("the pattern on arguments has {what}")]
    Unclean {
        /// What.
        what: &'static str,
    },
}

impl ArgumentPattern {
    /// Longest text, in bytes: the kernel matches 64 at once, two of which are borders.
    pub const MAX_BYTES: usize = 62;
    /// As much of the arguments as the kernel looks at, in bytes. Whether longer ones contain or end with a text is known
    /// only where it is in this head.
    pub const HEAD_BYTES: usize = 4096;

    /// The text without wildcards.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) | Self::Contains(text) => text,
        }
    }

    /// Whether these arguments, each preceded and followed by a space (` -m http.server `), are meant.
    #[must_use]
    pub fn matches(&self, arguments: &str) -> bool {
        let begins =
            |rest: &str, text: &str| rest.strip_prefix(' ').is_some_and(|rest| rest.starts_with(text));
        match self {
            Self::Exact(text) => {
                arguments.strip_prefix(' ').and_then(|rest| rest.strip_suffix(' ')) == Some(text)
            }
            Self::Prefix(text) => begins(arguments, text),
            Self::Suffix(text) => {
                arguments.strip_suffix(' ').is_some_and(|rest| rest.ends_with(text.as_str()))
            }
            Self::Contains(text) => arguments.contains(text.as_str()),
        }
    }
}

impl FromStr for ArgumentPattern {
    type Err = ArgumentPatternError;
    fn from_str(raw: &str) -> Result<Self, ArgumentPatternError> {
        let (open, rest) = raw.strip_prefix('*').map_or((false, raw), |rest| (true, rest));
        let (text, more) = rest.strip_suffix('*').map_or((rest, false), |text| (text, true));
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(ArgumentPatternError::Length { bytes: text.len() });
        }
        if let Some(at) = text.find('*') {
            return Err(ArgumentPatternError::Wildcard { at: at.saturating_add(usize::from(open)) });
        }
        if text.chars().any(char::is_control) {
            return Err(ArgumentPatternError::Unclean { what: "a control character" });
        }
        if text.chars().all(|character| character == ' ') {
            return Err(ArgumentPatternError::Unclean { what: "nothing but spaces" });
        }
        let text = text.to_owned();
        Ok(match (open, more) {
            (false, false) => Self::Exact(text),
            (false, true) => Self::Prefix(text),
            (true, false) => Self::Suffix(text),
            (true, true) => Self::Contains(text),
        })
    }
}

impl fmt::Display for ArgumentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Contains(text) => write!(f, "*{text}*"),
        }
    }
}

impl TryFrom<String> for ArgumentPattern {
    type Error = ArgumentPatternError;
    fn try_from(raw: String) -> Result<Self, ArgumentPatternError> {
        raw.parse()
    }
}
impl From<ArgumentPattern> for String {
    fn from(pattern: ArgumentPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_anchored_where_it_has_no_wildcard() {
        for (pattern, arguments, want) in [
            ("-m http.server", " -m http.server ", true),
            ("-m http.server", " -m http.server 80 ", false),
            ("-m *", " -m http.server ", true),
            ("-m*", " -module ", true),
            ("-m *", " -x -m http.server ", false),
            ("*--help", " a --help ", true),
            ("*--help", " --help a ", false),
            ("*shadow*", " -r /etc/shadow- ", true),
            ("* -e *", " -e /bin/sh ", true),
            ("* -e *", " /bin/sh -e ", true),
            ("* -e *", " --execute-e x ", false),
            ("x", " ", false),
            ("*x*", "", false),
        ] {
            assert_eq!(
                pattern.parse::<ArgumentPattern>().unwrap().matches(arguments),
                want,
                "{pattern} {arguments}"
            );
        }
    }

    #[test]
    fn what_cannot_be_decided_in_the_kernel_is_refused() {
        use ArgumentPatternError::{Length, Unclean, Wildcard};
        let refusal = |raw: &str| raw.parse::<ArgumentPattern>().unwrap_err();
        assert_eq!(refusal(""), Length { bytes: 0 });
        assert_eq!(refusal("**"), Length { bytes: 0 });
        assert_eq!(refusal(&"x".repeat(63)), Length { bytes: 63 });
        assert_eq!(refusal("*a*b"), Wildcard { at: 2 });
        assert_eq!(refusal("a\nb"), Unclean { what: "a control character" });
        assert_eq!(refusal("* *"), Unclean { what: "nothing but spaces" });
        for raw in ["a", "a*", "*a", "*a*"] {
            assert_eq!(raw.parse::<ArgumentPattern>().unwrap().to_string(), raw);
        }
    }
}
