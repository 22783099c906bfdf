//! Conditions of a group, compiled once and matched often.

use std::collections::BTreeMap;

use nv_model::group::{Criterion, CriterionOp};
use nv_model::workload::Workload;
use regex_automata::meta::{BuildError, Regex};

/// Longest value of a condition, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;
/// Most memory that one compiled expression may take, in bytes: bounds both the building and the matching.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// Why a condition cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CriteriaError {
    /// Not a regular expression, or one that would take too much memory.
    #[error("criterion {key}: {value:?} is no regular expression that can be used")]
    Regex {
        /// Key of the condition.
        key: String,
        /// The expression.
        value: String,
        /// What is wrong with it.
        #[source]
        source: Box<BuildError>,
    },
}

#[derive(Clone, Debug)]
enum Subject {
    Image,
    Node,
    Container,
    Service,
    Domain,
    Label(String),
    NamespaceLabel(String),
}

#[derive(Clone, Debug)]
enum Pattern {
    Literal(String),
    Wildcard(Vec<char>),
    Contains(String),
    Prefix(String),
    Regex(Box<Regex>),
}

#[derive(Clone, Debug)]
struct Test {
    pattern: Pattern,
    negative: bool,
}

#[derive(Clone, Debug)]
struct KeyTests {
    subject: Subject,
    tests: Vec<Test>,
    /// All tests are negative, so all of them must hold.
    all: bool,
}

/// Conditions of a group over workloads. Conditions of one key are OR-ed, unless all of them are negative, then they
/// are AND-ed; keys are AND-ed. Without any condition nothing is selected.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    keys: Vec<KeyTests>,
}

impl Selector {
    /// Compiles the conditions; those of key `address` select no workload and are left out.
    ///
    /// # Errors
    /// [`CriteriaError`] for the first expression that cannot be used.
    pub fn new(criteria: &[Criterion]) -> Result<Self, CriteriaError> {
        let mut keys: BTreeMap<&str, Vec<&Criterion>> = BTreeMap::new();
        for criterion in criteria.iter().filter(|criterion| criterion.key != "address") {
            let key = if criterion.key == "namespace" { "domain" } else { criterion.key.as_str() };
            keys.entry(key).or_default().push(criterion);
        }
        let mut compiled = Vec::with_capacity(keys.len());
        for (key, criteria) in keys {
            let tests =
                criteria.iter().map(|criterion| Test::new(criterion)).collect::<Result<Vec<_>, _>>()?;
            let all = tests.iter().all(|test| test.negative);
            compiled.push(KeyTests { subject: Subject::new(key), tests, all });
        }
        Ok(Self { keys: compiled })
    }

    /// Whether the workload is selected. `namespace` holds the labels of its namespace.
    #[must_use]
    pub fn matches(&self, workload: &Workload, namespace: Option<&BTreeMap<String, String>>) -> bool {
        !self.keys.is_empty()
            && self.keys.iter().all(|key| {
                let values = key.subject.values(workload, namespace);
                let mut tests = key.tests.iter().map(|test| test.holds(&values));
                if key.all { tests.all(|held| held) } else { tests.any(|held| held) }
            })
    }
}

impl Subject {
    fn new(key: &str) -> Self {
        match key {
            "image" => Self::Image,
            "node" => Self::Node,
            "container" => Self::Container,
            "service" => Self::Service,
            "domain" => Self::Domain,
            label => match label.strip_prefix("ns:") {
                Some(label) => Self::NamespaceLabel(label.to_owned()),
                None => Self::Label(label.to_owned()),
            },
        }
    }

    /// What is compared; more than one value where a thing has two names, none where it has no such label.
    fn values<'a>(
        &self,
        workload: &'a Workload,
        namespace: Option<&'a BTreeMap<String, String>>,
    ) -> [Option<&'a str>; 2] {
        let second = |name: &'a str| (!name.is_empty()).then_some(name);
        match self {
            Self::Image => [Some(&workload.image), None],
            Self::Node => [Some(workload.node.as_str()), second(&workload.host_name)],
            Self::Container => [Some(&workload.name), second(&workload.pod_name)],
            Self::Service => [Some(workload.service.as_str()), None],
            Self::Domain => [Some(workload.domain.as_ref().map_or("", |domain| domain.as_str())), None],
            Self::Label(key) => [workload.labels.get(key).map(String::as_str), None],
            Self::NamespaceLabel(key) => {
                [namespace.and_then(|labels| labels.get(key)).map(String::as_str), None]
            }
        }
    }
}

impl Test {
    fn new(criterion: &Criterion) -> Result<Self, CriteriaError> {
        let value = &criterion.value;
        let pattern = match criterion.op {
            CriterionOp::Equal | CriterionOp::NotEqual if value.contains(['*', '?']) => {
                Pattern::Wildcard(value.chars().collect())
            }
            CriterionOp::Equal | CriterionOp::NotEqual => Pattern::Literal(value.clone()),
            CriterionOp::Contains => Pattern::Contains(value.clone()),
            CriterionOp::Prefix => Pattern::Prefix(value.clone()),
            CriterionOp::Regex | CriterionOp::NotRegex => {
                Pattern::Regex(Box::new(regex(value).map_err(|source| CriteriaError::Regex {
                    key: criterion.key.clone(),
                    value: value.chars().take(64).collect(),
                    source,
                })?))
            }
        };
        Ok(Self { pattern, negative: criterion.op.is_negative() })
    }

    /// A positive test holds if any value fits, a negative one if none does; so a missing label is "not equal".
    fn holds(&self, values: &[Option<&str>]) -> bool {
        values.iter().flatten().any(|value| self.pattern.fits(value)) != self.negative
    }
}

impl Pattern {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == value,
            Self::Wildcard(pattern) => wildcard(pattern, value),
            Self::Contains(part) => value.contains(part.as_str()),
            Self::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

fn regex(pattern: &str) -> Result<Regex, Box<BuildError>> {
    Regex::builder()
        .configure(
            Regex::config()
                .nfa_size_limit(Some(MAX_REGEX_BYTES))
                .onepass_size_limit(Some(MAX_REGEX_BYTES))
                .hybrid_cache_capacity(MAX_REGEX_BYTES),
        )
        .build(pattern)
        .map_err(Box::new)
}

/// `*` stands for any text, `?` for one character. Time is at most the product of both lengths.
fn wildcard(pattern: &[char], value: &str) -> bool {
    let value: Vec<char> = value.chars().collect();
    let (mut at, mut seen) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    while let Some(given) = value.get(seen) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == given => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    seen = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::workload;
    use proptest::prelude::*;

    fn criterion(key: &str, op: &str, value: &str) -> Criterion {
        Criterion { key: key.into(), value: value.into(), op: CriterionOp::parse(op).unwrap() }
    }

    #[test]
    fn every_key_and_operator_selects_what_it_says() {
        let mut web = workload("w1", "n1", "web", "shop");
        web.image = "docker.io/library/nginx:1.27".into();
        web.host_name = "node-a".into();
        web.pod_name = "web-7d9f".into();
        web.labels.insert("tier".into(), "front".into());
        let labels = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
        for (criteria, want) in [
            (vec![("image", "=", "*nginx*")], true),
            (vec![("image", "=", "nginx")], false),
            (vec![("image", "contains", "nginx")], true),
            (vec![("image", "prefix", "docker.io/")], true),
            (vec![("image", "regex", "nginx:1\\.\\d+$")], true),
            (vec![("image", "!regex", "^quay")], true),
            (vec![("image", "!=", "*nginx*")], false),
            (vec![("node", "=", "node-?")], true),
            (vec![("node", "=", "n1")], true),
            (vec![("container", "prefix", "web-")], true),
            (vec![("service", "=", "web")], true),
            (vec![("domain", "=", "shop")], true),
            (vec![("namespace", "=", "sh*")], true),
            (vec![("tier", "=", "front")], true),
            (vec![("tier", "=", "back")], false),
            (vec![("absent", "=", "*")], false),
            (vec![("absent", "!=", "x")], true),
            (vec![("ns:team", "=", "blue")], true),
            (vec![("ns:team", "!=", "blue")], false),
            // One key: OR as soon as one is positive.
            (vec![("service", "=", "db"), ("service", "=", "web")], true),
            (vec![("service", "=", "db"), ("service", "!=", "cache")], true),
            // One key, all negative: AND.
            (vec![("service", "!=", "db"), ("service", "!=", "web")], false),
            (vec![("service", "!=", "db"), ("service", "!=", "cache")], true),
            // Keys: AND; domain and namespace are one key.
            (vec![("service", "=", "web"), ("domain", "=", "other")], false),
            (vec![("namespace", "=", "shop"), ("domain", "=", "other")], true),
            (vec![], false),
        ] {
            let list: Vec<Criterion> =
                criteria.iter().map(|(key, op, value)| criterion(key, op, value)).collect();
            assert_eq!(Selector::new(&list).unwrap().matches(&web, Some(&labels)), want, "{criteria:?}");
        }
    }

    #[test]
    fn an_expression_that_takes_too_much_memory_is_refused() {
        for value in ["(", "\\w{1000}{1000}"] {
            let error = Selector::new(&[criterion("image", "regex", value)]).unwrap_err();
            assert!(error.to_string().contains("image"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_wildcard_matches_like_its_regular_expression(pattern in "[ab*?]{0,8}", value in "[abc]{0,8}") {
            let mut expression = String::from("^");
            for c in pattern.chars() {
                match c { '*' => expression.push_str(".*"), '?' => expression.push('.'), c => expression.push(c) }
            }
            expression.push('$');
            let chars: Vec<char> = pattern.chars().collect();
            prop_assert_eq!(wildcard(&chars, &value), regex(&expression).unwrap().is_match(&value));
        }
    }
}
