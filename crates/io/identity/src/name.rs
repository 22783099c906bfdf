//! Names of users, roles and API keys.

use std::str::FromStr;

use nv_model::name;
use nv_model::name::NameError;
use serde::{Deserialize, Serialize};

name!(
    /// Name of a local user. No `:` (it parts a server from a user in full names) and no `/` (it parts paths).
    UserName, "user name", 128, |at, c| c.is_ascii_alphanumeric() || (at > 0 && "._@+-".contains(c)) || c == '_'
);
name!(
    /// Name of a role.
    RoleName, "role name", 64, |at, c| c.is_ascii_alphanumeric() || (at > 0 && "._-".contains(c))
);
name!(
    /// Name of an API key: the contract's `^[a-zA-Z0-9_-]+$`, at most 32.
    KeyName, "API key name", 32, |_, c| c.is_ascii_alphanumeric() || "_-".contains(c)
);

impl UserName {
    /// The first user, made by the bootstrap.
    #[must_use]
    pub fn admin() -> Self {
        Self("admin".into())
    }
}

/// A namespace that a role is given in: `^[a-z0-9]+[-a-z0-9*]*[*a-z0-9]$`, at most 128 bytes; `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainPattern(Box<str>);

impl DomainPattern {
    /// Longest accepted text, in bytes.
    pub const MAX_BYTES: usize = 128;
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether `domain` is meant. No recursion: the last `*` is all that is ever gone back to.
    #[must_use]
    pub fn matches(&self, domain: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), domain.as_bytes());
        let (mut p, mut t, mut star) = (0_usize, 0_usize, None::<(usize, usize)>);
        while let Some(byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p = p.saturating_add(1);
                }
                Some(wanted) if wanted == byte => {
                    p = p.saturating_add(1);
                    t = t.saturating_add(1);
                }
                _ => {
                    let Some((at, from)) = star else { return false };
                    t = from.saturating_add(1);
                    star = Some((at, t));
                    p = at.saturating_add(1);
                }
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

impl FromStr for DomainPattern {
    type Err = NameError;
    fn from_str(raw: &str) -> Result<Self, NameError> {
        let what = "namespace";
        if raw.is_empty() || raw.len() > Self::MAX_BYTES {
            return Err(NameError::Length { what, bytes: raw.len(), max: Self::MAX_BYTES });
        }
        let last = raw.len().saturating_sub(1);
        let accept = |at: usize, c: char| match c {
            'a'..='z' | '0'..='9' => true,
            '-' => at > 0 && at < last,
            '*' => at > 0,
            _ => false,
        };
        match raw.char_indices().find(|&(at, c)| !accept(at, c)) {
            Some((at, found)) => Err(NameError::Character { what, at, found }),
            None => Ok(Self(raw.into())),
        }
    }
}
impl TryFrom<String> for DomainPattern {
    type Error = NameError;
    fn try_from(raw: String) -> Result<Self, NameError> {
        raw.parse()
    }
}
impl From<DomainPattern> for String {
    fn from(pattern: DomainPattern) -> Self {
        pattern.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_could_be_read_as_a_path_or_a_full_name_is_refused() {
        for raw in ["", "a/b", "ldap1:joe", "a b", ".hidden", "jo\u{0}e", "-x"] {
            assert!(raw.parse::<UserName>().is_err(), "{raw:?}");
        }
        for raw in ["admin", "joe.doe@example.org", "_x", "9"] {
            assert!(raw.parse::<UserName>().is_ok(), "{raw:?}");
        }
        assert!("k".repeat(33).parse::<KeyName>().is_err());
    }

    #[test]
    fn a_namespace_pattern_matches_with_stars() {
        for (pattern, domain, want) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("shop*", "shop", true),
            ("shop*", "shop-eu", true),
            ("s*p", "shop", true),
            ("s*p", "shops", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(pattern.parse::<DomainPattern>().unwrap().matches(domain), want, "{pattern} {domain}");
        }
        for raw in ["", "*", "*a", "-a", "a-", "A", "a/b"] {
            assert!(raw.parse::<DomainPattern>().is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_matches_itself_alone(a in "[a-z0-9]{1,12}", b in "[a-z0-9]{1,12}") {
            let pattern: DomainPattern = a.parse().unwrap();
            prop_assert!(pattern.matches(&a));
            prop_assert_eq!(pattern.matches(&b), a == b);
        }
        #[test]
        fn a_star_stands_for_any_text(a in "[a-z]{1,6}", b in "[a-z]{0,6}", c in "[a-z]{1,6}") {
            let pattern: DomainPattern = format!("{a}*{c}").parse().unwrap();
            let domain = format!("{a}{b}{c}");
            prop_assert!(pattern.matches(&domain));
        }
    }
}
