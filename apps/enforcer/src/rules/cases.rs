//! Regression cases in the YAML of go-ftw, as far as they ask about rules.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

/// A file of cases.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CaseFile {
    /// The rule that they are about.
    #[serde(default)]
    pub(super) rule_id: u32,
    pub(super) tests: Vec<Case>,
}

/// One case: requests one after the other.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    #[serde(default)]
    pub(super) test_id: u32,
    #[serde(default)]
    pub(super) stages: Vec<Stage>,
}

/// A request, and what is asked of the rules.
#[derive(Debug, Deserialize)]
pub(super) struct Stage {
    #[serde(default)]
    pub(super) input: Input,
    #[serde(default)]
    pub(super) output: Output,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input {
    pub(super) dest_addr: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) method: Option<String>,
    pub(super) uri: Option<String>,
    #[serde(default = "Input::version")]
    pub(super) version: String,
    pub(super) headers: Fields,
    pub(super) data: Option<String>,
    /// A whole request in base64, instead of its parts.
    pub(super) encoded_request: Option<String>,
    pub(super) autocomplete_headers: Option<bool>,
}

impl Input {
    /// An empty version is one of its own: HTTP/0.9 has none.
    fn version() -> String {
        "HTTP/1.1".to_owned()
    }
}

/// Header fields in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("header fields")
            }
            fn visit_unit<E>(self) -> Result<Fields, E> {
                Ok(Fields::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    fields.push((name, value.unwrap_or_default()));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Output {
    pub(super) status: Option<u16>,
    pub(super) expect_error: Option<bool>,
    pub(super) response_contains: Option<String>,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Log {
    pub(super) expect_ids: Vec<u32>,
    pub(super) no_expect_ids: Vec<u32>,
    pub(super) match_regex: Option<String>,
    pub(super) no_match_regex: Option<String>,
}

impl Log {
    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.expect_ids.is_empty()
            && self.no_expect_ids.is_empty()
            && self.match_regex.is_none()
            && self.no_match_regex.is_none()
    }
}

/// Reads a file of cases; one of comments alone has none.
pub(super) fn read(text: &str) -> Result<CaseFile> {
    let says = |line: &str| !matches!(line.trim(), "" | "---") && !line.trim_start().starts_with('#');
    if !text.lines().any(says) {
        return Ok(CaseFile::default());
    }
    Ok(serde_saphyr::from_str(text)?)
}

/// What a reflecting server is asked to answer, in the body of a request to `/reflect`.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reflection {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    pub(super) encoded_body: String,
}

impl Default for Reflection {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: String::new(), encoded_body: String::new() }
    }
}
