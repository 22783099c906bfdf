//! Secrets in text: rules as data, a keyword before each pattern, entropy after it.
//!
//! Pure. What was found is never given away whole: a [`Found`] has the beginning of it, and asterisks.
#![forbid(unsafe_code)]

mod entropy;
mod place;

pub use place::is_searched;

use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use serde::Deserialize;

/// The rules that are built in.
const BUILT_IN: &str = include_str!("rules.toml");
/// Most secrets that are told of one text.
const MAX_FOUND: usize = 100;
/// Characters of a secret that are shown.
const SHOWN: usize = 4;
/// Values that stand where a secret will be put.
const PLACEHOLDERS: [&str; 12] = [
    "example",
    "changeme",
    "change_me",
    "placeholder",
    "your",
    "xxxx",
    "****",
    "0000",
    "dummy",
    "redacted",
    "12345",
    "insert",
];

/// Why rules can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The list is damaged.
    #[error("the rules are no TOML of the expected shape")]
    Syntax(#[source] toml::de::Error),
    /// A pattern is none.
    #[error("the pattern of rule {rule} can not be used")]
    Pattern {
        /// Which rule.
        rule: String,
        /// Why.
        #[source]
        source: Box<regex_automata::meta::BuildError>,
    },
    /// The keywords can not be searched.
    #[error("the keywords can not be searched")]
    Keywords(#[source] aho_corasick::BuildError),
}

#[derive(Deserialize)]
struct List {
    rule: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    description: String,
    keywords: Vec<String>,
    pattern: String,
    #[serde(default)]
    entropy: f64,
}

struct Rule {
    id: String,
    description: String,
    pattern: String,
    /// Built when the first text has one of the keywords: most scans need few of them.
    built: OnceLock<Option<Regex>>,
    entropy: f64,
}

impl Rule {
    fn build(&self) -> Result<Regex, RulesError> {
        let syntax = regex_automata::util::syntax::Config::new().unicode(false).utf8(false);
        Regex::builder()
            .syntax(syntax)
            .build(&self.pattern)
            .map_err(|source| RulesError::Pattern { rule: self.id.clone(), source: Box::new(source) })
    }

    fn pattern(&self) -> Option<&Regex> {
        self.built.get_or_init(|| self.build().ok()).as_ref()
    }
}

/// SecretRules, ready to be tried.
pub struct SecretRules {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// The rule of each keyword.
    of_keyword: Vec<usize>,
}

/// One secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The rule's id.
    pub rule: &'a str,
    /// What kind of secret it is.
    pub description: &'a str,
    /// The line, from 1.
    pub line: usize,
    /// Where in the text.
    pub range: Range<usize>,
    /// The first characters, and asterisks.
    pub evidence: String,
}

impl SecretRules {
    /// The rules that are built in.
    ///
    /// # Errors
    /// Never: a test holds that they can be used.
    pub fn built_in() -> Result<Self, RulesError> {
        Self::read(BUILT_IN)
    }

    /// SecretRules of a list in TOML: `[[rule]]` with `id`, `description`, `keywords`, `pattern` and `entropy`.
    ///
    /// # Errors
    /// [`RulesError`] when the list is damaged or a pattern can not be used.
    pub fn parse(list: &str) -> Result<Self, RulesError> {
        let rules = Self::read(list)?;
        rules.rules.iter().try_for_each(|rule| rule.build().map(|_pattern| ()))?;
        Ok(rules)
    }

    fn read(list: &str) -> Result<Self, RulesError> {
        let list: List = toml::from_str(list).map_err(RulesError::Syntax)?;
        let (mut rules, mut keywords, mut of_keyword) = (Vec::new(), Vec::new(), Vec::new());
        for row in list.rule {
            for keyword in row.keywords {
                of_keyword.push(rules.len());
                keywords.push(keyword);
            }
            rules.push(Rule {
                id: row.id,
                description: row.description,
                pattern: row.pattern,
                built: OnceLock::new(),
                entropy: row.entropy,
            });
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&keywords)
            .map_err(RulesError::Keywords)?;
        Ok(Self { rules, keywords, of_keyword })
    }

    /// The secrets in a text, in the order of their places; what several rules find at one place is told by the first.
    pub fn find<'a>(&'a self, text: &[u8]) -> Vec<Found<'a>> {
        let mut wanted = vec![false; self.rules.len()];
        for keyword in self.keywords.find_overlapping_iter(text) {
            let rule = self.of_keyword.get(keyword.pattern().as_usize());
            if let Some(slot) = rule.and_then(|rule| wanted.get_mut(*rule)) {
                *slot = true;
            }
        }
        let mut found: Vec<Found<'a>> = Vec::new();
        for (rule, _) in self.rules.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            let Some(pattern) = rule.pattern() else { continue };
            let mut captures = pattern.create_captures();
            let mut at = 0;
            while found.len() < MAX_FOUND && at <= text.len() {
                pattern.search_captures(&regex_automata::Input::new(text).range(at..), &mut captures);
                let Some(whole) = captures.get_match() else { break };
                at = whole.end().max(at + 1);
                let range = secret_of(&captures).unwrap_or(whole.range());
                let taken =
                    |other: &Found<'_>| other.range.start < range.end && range.start < other.range.end;
                let secret = text.get(range.clone()).unwrap_or_default();
                if is_secret(secret, rule.entropy) && !found.iter().any(taken) {
                    found.push(tell(rule, text, range));
                }
            }
        }
        found.sort_by_key(|found| found.range.start);
        found
    }
}

/// The first group that took part.
fn secret_of(captures: &Captures) -> Option<Range<usize>> {
    (1..captures.group_len()).find_map(|group| captures.get_group(group)).map(|span| span.range())
}

fn is_secret(secret: &[u8], least: f64) -> bool {
    let lower = secret.to_ascii_lowercase();
    let has = |word: &str| lower.windows(word.len()).any(|window| window == word.as_bytes());
    entropy::bits(secret) >= least && (least == 0.0 || !PLACEHOLDERS.iter().any(|word| has(word)))
}

fn tell<'a>(rule: &'a Rule, text: &[u8], range: Range<usize>) -> Found<'a> {
    let before = text.get(..range.start).unwrap_or_default();
    let secret = text.get(range.clone()).unwrap_or_default();
    Found {
        rule: &rule.id,
        description: &rule.description,
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        evidence: mask(secret),
        range,
    }
}

/// The first characters of a secret, and asterisks: `AKIA…` as `AKIA****`. Heads of keys are no secret and are shown.
fn mask(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret);
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with("-----BEGIN ") || line.starts_with("PuTTY-User-Key-File") {
        return line.chars().take(80).collect();
    }
    let shown: String = line.chars().take(SHOWN).collect();
    format!("{shown}****")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(String, usize, String)> {
        let rules = SecretRules::built_in().unwrap();
        let told = rules.find(text.as_bytes()).into_iter();
        told.map(|found| (found.rule.to_owned(), found.line, found.evidence)).collect()
    }

    #[test]
    fn secrets_are_told_by_their_kind_and_line_and_never_whole() {
        // Put together here, so that no scanner of this repository takes them for real.
        let github = format!("ghp_{}", "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5");
        let aws = format!("AKIA{}", "Q3EGRS7TLMN2VWXY");
        let key = format!("-----BEGIN RSA PRIVATE {}-----\n{}\n", "KEY", "MIIEpAIBAAKCAQEA".repeat(5));
        let text = format!("a = 1\ntoken: {github}\n\nid = \"{aws}\"\n{key}");
        assert_eq!(
            found(&text),
            [
                ("github-token".to_owned(), 2, "ghp_****".to_owned()),
                ("aws-access-key".to_owned(), 4, "AKIA****".to_owned()),
                ("private-key".to_owned(), 5, format!("-----BEGIN RSA PRIVATE {}-----", "KEY")),
            ]
        );
        for (text, rule) in [
            ("postgres://app:h7Gk2pQz9w@db:5432/x", "url-password"),
            ("DB_PASSWORD=h7Gk2pQz9wLm", "environment-secret"),
            ("  \"client_secret\": \"aZ4kP9wQ2mX7vB5nT8\",", "assigned-secret"),
            ("machine x login y password h7Gk2pQz9w", "netrc-password"),
        ] {
            let rules: Vec<String> = found(text).into_iter().map(|(rule, ..)| rule).collect();
            assert_eq!(rules, [rule], "{text}");
        }
    }

    #[test]
    fn placeholders_and_ordinary_text_are_no_secrets() {
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "password = \"changeme-please\"",
            "API_KEY=${API_KEY}",
            "postgres://user:password1@${HOST}",
            "token = \"aaaaaaaaaaaaaaaa\"",
            "-----BEGIN PRIVATE KEY----- is how they begin",
            "the secret: \"of good text is that it reads on\"",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn every_rule_has_keywords_and_an_id_of_its_own() {
        let list: List = toml::from_str(BUILT_IN).unwrap();
        let mut ids: Vec<&str> = list.rule.iter().map(|rule| rule.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        SecretRules::parse(BUILT_IN).unwrap();
        assert_eq!(ids.len(), list.rule.len());
        for rule in &list.rule {
            let lower = |keyword: &String| !keyword.is_empty() && *keyword == keyword.to_lowercase();
            assert!(!rule.keywords.is_empty() && rule.keywords.iter().all(lower), "{}", rule.id);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_searched(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            static RULES: std::sync::OnceLock<SecretRules> = std::sync::OnceLock::new();
            let rules = RULES.get_or_init(|| SecretRules::built_in().unwrap());
            for found in rules.find(&bytes) {
                prop_assert!(found.range.end <= bytes.len());
            }
        }
    }
}
