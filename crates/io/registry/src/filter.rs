//! Which images of a registry are meant: `repository:tag` with `*` for any characters (the contract's filters).

use std::fmt;
use std::str::FromStr;

/// Longest filter, in bytes.
const MAX_FILTER: usize = 512;

/// Repositories and tags that a registry is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    repository: String,
    tag: String,
}

/// Why a text is no [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no filter: REPOSITORY or REPOSITORY:TAG of 1 to {MAX_FILTER} bytes is expected, with * for any characters"
)]
pub struct FilterError {
    text: String,
}

impl FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let error = || FilterError { text: text.chars().take(100).collect() };
        let trimmed = text.trim().trim_start_matches('/');
        if trimmed.is_empty() || trimmed.len() > MAX_FILTER {
            return Err(error());
        }
        let (repository, tag) = trimmed.rsplit_once(':').unwrap_or((trimmed, "*"));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*/".contains(c);
        let good = !repository.is_empty()
            && !tag.is_empty()
            && repository.chars().all(allowed)
            && tag.chars().all(|c| allowed(c) && c != '/');
        if good { Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() }) } else { Err(error()) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tag == "*" {
            f.write_str(&self.repository)
        } else {
            write!(f, "{}:{}", self.repository, self.tag)
        }
    }
}

impl Filter {
    /// The repository, when the filter names one alone: it needs no list.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        (!self.repository.contains('*')).then_some(&self.repository)
    }

    /// The tag, when the filter names one alone.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        (!self.tag.contains('*')).then_some(&self.tag)
    }

    /// The first part of the repository, when it is named: an organisation, a project.
    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.repository.split_once('/').map(|(first, _)| first).filter(|first| !first.contains('*'))
    }

    /// Whether a repository is meant.
    #[must_use]
    pub fn takes_repository(&self, repository: &str) -> bool {
        fits(self.repository.as_bytes(), repository.as_bytes())
    }

    /// Whether a tag of a repository that is meant is meant.
    #[must_use]
    pub fn takes_tag(&self, tag: &str) -> bool {
        fits(self.tag.as_bytes(), tag.as_bytes())
    }
}

/// Whether a text is as a pattern says. Linear in the pattern for each byte: it goes back to the last `*` alone.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at) {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(wanted) if wanted == byte => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                of = back + 1;
                at = taken + 1;
            }
        }
    }
    pattern.get(of..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Whether a tag is one that clients keep beside an image: signatures, attestations, bills of materials, referrers.
#[must_use]
pub fn is_beside(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else { return false };
    let (digits, end) = rest.split_at_checked(64).unwrap_or((rest, "-"));
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && matches!(end, "" | ".sig" | ".att" | ".sbom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_its_stars_leave_open() {
        for (filter, repository, tag, want) in [
            ("*", "shop/web", "1", true),
            ("shop/*", "shop/web", "1", true),
            ("shop/*", "shopping/web", "1", false),
            ("shop/web", "shop/web", "1", true),
            ("shop/web", "shop/web2", "1", false),
            ("shop/web:1*", "shop/web", "1.2", true),
            ("shop/web:1*", "shop/web", "2.1", false),
            ("*/web:*-rc*", "a/b/web", "1-rc2", true),
            ("shop/w*b:latest", "shop/weeb", "latest", true),
            ("/shop/web", "shop/web", "1", true),
        ] {
            let parsed: Filter = filter.parse().unwrap();
            let takes = parsed.takes_repository(repository) && parsed.takes_tag(tag);
            assert_eq!(takes, want, "{filter} {repository}:{tag}");
        }
        for bad in ["", " ", ":", "a:", ":b", "a b", "a:b/c", "a?", &"a".repeat(513)] {
            assert!(bad.parse::<Filter>().is_err(), "{bad:?}");
        }
        let one: Filter = "shop/web:1".parse().unwrap();
        assert_eq!(
            (one.repository(), one.tag(), one.organisation()),
            (Some("shop/web"), Some("1"), Some("shop"))
        );
        let all: Filter = "*".parse().unwrap();
        assert_eq!((all.repository(), all.tag(), all.organisation()), (None, None, None));
    }

    #[test]
    fn what_lies_beside_an_image_is_told_by_its_tag() {
        let digits = "0a".repeat(32);
        for end in ["", ".sig", ".att", ".sbom"] {
            assert!(is_beside(&format!("sha256-{digits}{end}")), "{end}");
        }
        for other in ["latest", "sha256-1", &format!("sha256-{digits}.2"), &format!("v-sha256-{digits}")] {
            assert!(!is_beside(other), "{other}");
        }
    }
}
