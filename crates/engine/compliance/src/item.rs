//! What an item of a benchmark is, and what was found.

/// How an item came out. The words are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Kept to.
    Pass,
    /// Not kept to.
    Warn,
}

impl Level {
    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
        }
    }
}

/// An item of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number (`I.4.1`).
    pub number: &'static str,
    /// What it is about, the contract's `category`.
    pub category: &'static str,
    /// What is looked at, the contract's `type`.
    pub kind: &'static str,
    /// `Level 1` or `Level 2`.
    pub profile: &'static str,
    /// Whether it counts for the benchmark's score.
    pub scored: bool,
    /// Whether it is judged without a person.
    pub automated: bool,
    /// What it asks for.
    pub description: &'static str,
    /// What to do.
    pub remediation: &'static str,
}

/// An item and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The item.
    pub item: &'static Item,
    /// How it came out.
    pub level: Level,
    /// What was found against it, at most the first hundred.
    pub evidence: Vec<String>,
}
