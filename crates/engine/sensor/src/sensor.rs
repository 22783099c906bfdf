//! What a sensor is, in the contract's words: rules of patterns, and what becomes of a message that has them.

use crate::check::Check;

/// Longest name of a sensor or rule, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Patterns of one rule.
pub const MAX_PATTERNS: usize = 16;
/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 512;
/// Bytes of all patterns of a rule.
pub const MAX_RULE_BYTES: usize = 1024;

/// What a sensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Data that must not leave.
    Dlp,
    /// Attacks on what a message is sent to.
    Waf,
}

impl Kind {
    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dlp => "dlp",
            Self::Waf => "waf",
        }
    }
}

/// What becomes of a message that a rule matches, by the group's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It is told and goes on.
    #[default]
    Allow,
    /// It is told, and in Protect it ends there.
    Deny,
}

impl Action {
    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Context {
    /// The request line, as sent and decoded.
    Url,
    /// The header lines, as sent and decoded.
    Header,
    /// The body, decompressed and decoded.
    #[default]
    Body,
    /// Everything: each of the three of a message of HTTP, and the bytes of any other stream or datagram in clear.
    Packet,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Url, Self::Header, Self::Body, Self::Packet];

    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Header => "header",
            Self::Body => "body",
            Self::Packet => "packet",
        }
    }
    /// The context of a name; the contract's default is [`Context::Body`].
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|context| context.name() == name)
    }
}

/// A regular expression that a message must have, or must not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The expression, over bytes: classes and `\w` are those of ASCII.
    pub value: String,
    /// The message must not have it (`!regex`).
    pub absent: bool,
    /// Where.
    pub context: Context,
    /// What a match must also be, where an expression cannot say it. Only predefined sensors have it.
    pub check: Option<Check>,
}

/// A rule: a message matches it that has all its patterns, and none of those it must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Number: DLP from 20000, predefined ones from 30000, WAF from 40000.
    pub id: u32,
    /// Patterns, 1 to [`MAX_PATTERNS`].
    pub patterns: Vec<Pattern>,
}

/// A named set of rules, with what the group does where one matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// What becomes of a message.
    pub action: Action,
    /// Rules.
    pub rules: Vec<Rule>,
}
