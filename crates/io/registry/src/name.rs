//! Names of the distribution specification, valid once they are parsed.

use std::fmt;
use std::str::FromStr;

/// Longest name of a repository that registries accept.
const MAX_REPOSITORY: usize = 255;
/// Longest tag (distribution specification 1.1, "Pulling manifests").
const MAX_TAG: usize = 128;

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct NameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

impl NameError {
    fn new(text: &str, what: &'static str, rule: &'static str) -> Self {
        Self { text: text.chars().take(MAX_REPOSITORY).collect(), what, rule }
    }
}

/// A repository, such as `library/nginx`: at most 255 of `[a-z0-9._/-]`, each part beginning and ending in a letter or
/// digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// As it is written in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Repository {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let part = |part: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            ends(part.chars().next())
                && ends(part.chars().next_back())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
                && !part.contains("..")
        };
        if text.len() <= MAX_REPOSITORY && text.split('/').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            let rule = "at most 255 of a-z 0-9 . _ - in parts between slashes, each with a letter or digit at both ends";
            Err(NameError::new(text, "name of a repository", rule))
        }
    }
}

/// `sha256:` or `sha512:` and the hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_sha512(&self) -> bool {
        self.0.starts_with("sha512:")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = |digits: &str, length: usize| {
            digits.len() == length && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.split_once(':') {
            Some(("sha256", digits)) if hex(digits, 64) => Ok(Self(text.to_owned())),
            Some(("sha512", digits)) if hex(digits, 128) => Ok(Self(text.to_owned())),
            _ => Err(NameError::new(text, "digest", "sha256: and 64 hexadecimal digits, or sha512: and 128")),
        }
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A name that may be moved: 1 to 128 of `[A-Za-z0-9._-]`, no `.` or `-` at the beginning.
    Tag(String),
    /// This very manifest.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            return text.parse().map(Self::Digest);
        }
        let begins = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = text.len() <= MAX_TAG
            && text.chars().next().is_some_and(begins)
            && text.chars().all(|c| begins(c) || ".-".contains(c));
        if good {
            Ok(Self::Tag(text.to_owned()))
        } else {
            Err(NameError::new(text, "tag", "1 to 128 of A-Z a-z 0-9 . _ -, no . or - at the beginning"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_in_a_path_are_none() {
        for good in ["nginx", "library/nginx", "a/b-c/d__e/f.g"] {
            assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
        }
        for bad in ["", "/", "a//b", "../v2", "a/../b", "A", "a?b", "a%2fb", "-a", "a-", &"a".repeat(256)] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        for good in ["latest", "_1", "1.2-rc.3"] {
            assert_eq!(good.parse::<Reference>().unwrap(), Reference::Tag(good.to_owned()));
        }
        for bad in ["", ".", "-a", "a/b", "a b", "sha256:12", &"t".repeat(129)] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(digest.parse::<Reference>().unwrap(), Reference::Digest(digest.parse().unwrap()));
    }
}
