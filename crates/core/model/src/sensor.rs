//! DLP and WAF sensors: what is looked for in messages, and which groups look for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::group::Origin;
use crate::name::{GroupName, NameError, SensorName};
use crate::policy::IdentityId;
use crate::scan::BlobId;
use crate::verdict::Action;

/// First id of DLP rules that a user makes.
pub const DLP_RULE_BASE: u32 = 20_000;
/// First id of predefined DLP rules.
pub const PREDEFINED_RULE_BASE: u32 = 30_000;
/// First id of WAF rules.
pub const WAF_RULE_BASE: u32 = 40_000;
/// First id behind those of WAF rules.
pub const WAF_RULE_END: u32 = 50_000;

/// What a sensor is for. Names of the two kinds are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SensorKind {
    /// Data that must not leave.
    Dlp,
    /// Attacks on what a message is sent to.
    Waf,
}

impl SensorKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dlp, Self::Waf];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dlp => "dlp",
            Self::Waf => "waf",
        }
    }
    /// Parses the contract's word.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == raw)
    }
    /// The ids of rules that users make: the first one, and the first behind them.
    #[must_use]
    pub const fn rule_ids(self) -> (u32, u32) {
        match self {
            Self::Dlp => (DLP_RULE_BASE, PREDEFINED_RULE_BASE),
            Self::Waf => (WAF_RULE_BASE, WAF_RULE_END),
        }
    }
    /// What a threat's name begins with (`DLP.sensor.creditcard.rule.visa`).
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Dlp => "DLP.",
            Self::Waf => "WAF.",
        }
    }
}

/// A sensor by kind and name, since the two kinds name theirs independently; as text `dlp/sensor.creditcard`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SensorId {
    /// Kind.
    pub kind: SensorKind,
    /// Name.
    pub name: SensorName,
}

/// Why a text is no [`SensorId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SensorIdError {
    /// It does not begin with a kind.
    #[error("sensor {0:?} begins with neither dlp/ nor waf/")]
    Kind(String),
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl fmt::Display for SensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for SensorId {
    type Err = SensorIdError;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let (kind, name) = raw
            .split_once('/')
            .and_then(|(kind, name)| Some((SensorKind::parse(kind)?, name)))
            .ok_or_else(|| SensorIdError::Kind(raw.to_owned()))?;
        Ok(Self { kind, name: name.parse()? })
    }
}

impl TryFrom<String> for SensorId {
    type Error = SensorIdError;
    fn try_from(raw: String) -> Result<Self, Self::Error> {
        raw.parse()
    }
}

impl From<SensorId> for String {
    fn from(id: SensorId) -> Self {
        id.to_string()
    }
}

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatternContext {
    /// The request line.
    Url,
    /// The header lines.
    Header,
    /// The body.
    #[default]
    Body,
    /// Everything, and the bytes of protocols without messages.
    Packet,
}

impl PatternContext {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Url, Self::Header, Self::Body, Self::Packet];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Header => "header",
            Self::Body => "body",
            Self::Packet => "packet",
        }
    }
    /// Parses the contract's word; empty text is the default.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.is_empty() {
            return Some(Self::default());
        }
        Self::ALL.into_iter().find(|context| context.as_str() == raw)
    }
}

/// A regular expression that a message must have, or must not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SensorPattern {
    /// The expression, over bytes.
    pub value: String,
    /// The message must not have it.
    #[serde(default)]
    pub absent: bool,
    /// Where.
    #[serde(default)]
    pub context: PatternContext,
}

/// A rule: a message matches it that has all its patterns, and none of those it must not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SensorRule {
    /// Its name within the sensor.
    pub name: SensorName,
    /// Its number, by which it is logged.
    pub id: u32,
    /// Its patterns.
    pub patterns: Vec<SensorPattern>,
}

/// A rule set that a sensor has beside its own rules: in ModSecurity's language, as one blob ([`crate::rule_set`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleSetUse {
    /// Its files, by the digest of the blob that they are in.
    pub blob: BlobId,
    /// Rules that were taken when it was handed in; a chain is one.
    pub rules: u32,
    /// Rules and directives that were left out then.
    pub refused: u32,
}

/// A named set of rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sensor {
    /// Name.
    pub name: SensorName,
    /// What it is for.
    pub kind: SensorKind,
    /// A note.
    #[serde(default)]
    pub comment: String,
    /// Who owns it.
    pub origin: Origin,
    /// It comes with the product: every node has its rules, by its name. Nobody changes it.
    #[serde(default)]
    pub predefined: bool,
    /// Its rules.
    #[serde(default)]
    pub rules: Vec<SensorRule>,
    /// A rule set in ModSecurity's language; of WAF sensors alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<RuleSetUse>,
}

impl Sensor {
    /// What it is known by.
    #[must_use]
    pub fn id(&self) -> SensorId {
        SensorId { kind: self.kind, name: self.name.clone() }
    }
}

/// Sensors that come with the product, with what they look for.
pub const PREDEFINED: [(SensorKind, &str, &str); 4] = [
    (SensorKind::Dlp, "sensor.creditcard", "Numbers of payment cards"),
    (SensorKind::Dlp, "sensor.ssn", "Social security numbers of the United States"),
    (SensorKind::Waf, "sensor.log4shell", "Lookups of JNDI in what is logged (CVE-2021-44228)"),
    (SensorKind::Waf, "sensor.spring4shell", "Class loaders reached by a parameter's name (CVE-2022-22965)"),
];

/// One that comes with the product. Its rules are not in it: they are where they are matched.
#[must_use]
pub fn predefined(id: &SensorId) -> Option<Sensor> {
    let is = |(kind, name, _): &&(SensorKind, &str, &str)| *kind == id.kind && *name == id.name.as_str();
    let (kind, _, comment) = PREDEFINED.iter().find(is)?;
    Some(Sensor {
        name: id.name.clone(),
        kind: *kind,
        comment: (*comment).to_owned(),
        origin: Origin::SystemDefined,
        predefined: true,
        rules: Vec::new(),
        rule_set: None,
    })
}

/// A sensor that a group uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SensorSetting {
    /// Which one. It need not exist (any more).
    pub name: SensorName,
    /// What becomes of a message that one of its rules matches: [`Action::Deny`] ends it in Protect.
    pub action: Action,
}

/// The sensors of one kind that a group uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorUse {
    /// They are looked at.
    pub enabled: bool,
    /// Which ones, each once.
    #[serde(default)]
    pub sensors: Vec<SensorSetting>,
}

/// What a group looks for in its members' messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorProfile {
    /// Whose it is.
    pub group: GroupName,
    /// Data that must not leave the group.
    #[serde(default)]
    pub dlp: SensorUse,
    /// Attacks on its members.
    #[serde(default)]
    pub waf: SensorUse,
}

impl SensorProfile {
    /// One that looks for nothing. Switched on: naming a sensor is enough.
    #[must_use]
    pub fn new(group: GroupName) -> Self {
        let on = SensorUse { enabled: true, sensors: Vec::new() };
        Self { group, dlp: on.clone(), waf: on }
    }
    /// The sensors of a kind.
    #[must_use]
    pub fn of(&self, kind: SensorKind) -> &SensorUse {
        match kind {
            SensorKind::Dlp => &self.dlp,
            SensorKind::Waf => &self.waf,
        }
    }
    /// The sensors of a kind, to be changed.
    pub fn of_mut(&mut self, kind: SensorKind) -> &mut SensorUse {
        match kind {
            SensorKind::Dlp => &mut self.dlp,
            SensorKind::Waf => &mut self.waf,
        }
    }
}

/// A group with sensors, as a node with members of it needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorGroup {
    /// The sensors that are looked at, and what becomes of a message.
    pub settings: Vec<(SensorId, Action)>,
    /// Whose endpoints are members: data that stays among them does not leave the group. Sorted.
    pub members: Vec<IdentityId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_contract_are_read_back_and_the_body_is_the_default() {
        for kind in SensorKind::ALL {
            assert_eq!(SensorKind::parse(kind.as_str()), Some(kind));
        }
        for context in PatternContext::ALL {
            assert_eq!(PatternContext::parse(context.as_str()), Some(context));
        }
        assert_eq!(PatternContext::parse(""), Some(PatternContext::Body));
        assert_eq!((PatternContext::parse("footer"), SensorKind::parse("ids")), (None, None));
        for text in ["dlp/sensor.creditcard", "waf/a:b"] {
            assert_eq!(text.parse::<SensorId>().unwrap().to_string(), text);
        }
        assert!("ids/x".parse::<SensorId>().is_err() && "dlp/a b".parse::<SensorId>().is_err());
    }
}
