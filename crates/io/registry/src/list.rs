//! Lists that come in pages (distribution specification 1.1, "Listing tags"; Docker's `_catalog`).

use std::collections::HashSet;

use reqwest::Url;
use reqwest::header::LINK;
use serde::Deserialize;

use crate::error::RegistryError;
use crate::name::Repository;
use crate::request::{Ask, Registry, header, pull};

/// Largest page.
const MAX_PAGE: u64 = 4 * 1024 * 1024;
/// Names a page, as we ask; some registries give fewer.
const PAGE: u32 = 1_000;
/// Most pages of one list: a registry that has more names does not end.
const MAX_PAGES: usize = 10_000;
/// The right to list repositories.
const CATALOG: &str = "registry:catalog:*";

/// The pages of a list, each asked for when it is wanted.
pub struct Pages<'a> {
    registry: &'a Registry,
    next: Option<Ask>,
    what: String,
    /// Addresses of pages so far: a list that comes back to one of them does not end.
    seen: HashSet<Url>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "nullable")]
    repositories: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    tags: Vec<String>,
}

/// A list without entries is `null` with some registries.
fn nullable<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(from).map(Option::unwrap_or_default)
}

impl<'a> Pages<'a> {
    pub(crate) fn repositories(registry: &'a Registry) -> Result<Self, RegistryError> {
        let what = "the list of repositories".to_owned();
        Self::new(registry, &format!("v2/_catalog?n={PAGE}"), CATALOG.to_owned(), what)
    }

    pub(crate) fn tags(registry: &'a Registry, repository: &Repository) -> Result<Self, RegistryError> {
        let what = format!("the tags of {repository}");
        Self::new(registry, &format!("v2/{repository}/tags/list?n={PAGE}"), pull(repository), what)
    }

    fn new(registry: &'a Registry, path: &str, scope: String, what: String) -> Result<Self, RegistryError> {
        let next = Some(registry.ask(path, "application/json", scope, what.clone())?);
        Ok(Self { registry, next, what, seen: HashSet::new() })
    }

    /// Names as the registry writes them, or `None` after the last page.
    ///
    /// # Errors
    /// [`RegistryError`]; there is no further page after one.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, RegistryError> {
        let Some(ask) = self.next.take() else { return Ok(None) };
        let answer = self.registry.get(&ask).await?;
        let malformed = |reason: String| RegistryError::Malformed {
            host: self.registry.host().to_owned(),
            what: "a list",
            reason: format!("{}: {reason}", self.what),
        };
        self.seen.insert(ask.url.clone());
        let next = match header(answer.headers(), LINK.as_str()).and_then(next_page) {
            Some(link) => {
                let url = self
                    .registry
                    .own(link)
                    .ok_or_else(|| malformed("its next page is not one of this registry".to_owned()))?;
                if self.seen.contains(&url) || self.seen.len() >= MAX_PAGES {
                    return Err(malformed(format!("it does not end (after {} pages)", self.seen.len())));
                }
                Some(Ask { url, ..ask })
            }
            None => None,
        };
        let body = self.registry.read(answer, MAX_PAGE, &self.what).await?;
        let page: Page = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
        self.next = next;
        Ok(Some(if page.repositories.is_empty() { page.tags } else { page.repositories }))
    }
}

/// The address in a `Link` header with `rel="next"` (RFC 8288).
fn next_page(header: &str) -> Option<&str> {
    let (address, rest) = header.trim_start().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        parameter.trim().split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        })
    };
    rest.split([';', ',']).any(is_next).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn the_next_page_is_what_the_link_says() {
        assert_eq!(next_page(r#"</v2/_catalog?last=b&n=2>; rel="next""#), Some("/v2/_catalog?last=b&n=2"));
        assert_eq!(next_page("<x>;REL=next"), Some("x"));
        for none in ["", "x; rel=next", "<x>", r#"<x>; rel="prev""#, "<x"] {
            assert_eq!(next_page(none), None, "{none}");
        }
    }
}
