//! Zero-trust modes: how strictly a group is held to its rules.

use serde::{Deserialize, Serialize};

/// Discover learns, Monitor reports, Protect blocks.
///
/// The order is the strictness: `Discover < Monitor < Protect`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Mode {
    /// What is seen is learned as allowed.
    #[default]
    Discover,
    /// What is not allowed is reported.
    Monitor,
    /// What is not allowed is stopped and reported.
    Protect,
}

impl Mode {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "Discover",
            Self::Monitor => "Monitor",
            Self::Protect => "Protect",
        }
    }
    /// Parses the contract's word, exactly as it is written.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "Discover" => Some(Self::Discover),
            "Monitor" => Some(Self::Monitor),
            "Protect" => Some(Self::Protect),
            _ => None,
        }
    }
    /// The mode that holds between two ends of a connection: the less strict one, or with `strict` (the system's
    /// `strict_group_mode`) the stricter one.
    #[must_use]
    pub fn between(self, other: Self, strict: bool) -> Self {
        if strict { self.max(other) } else { self.min(other) }
    }
}

/// What a process profile measures against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The profile's list alone.
    #[default]
    Basic,
    /// Executables of the image are allowed, what was added or changed since is not; the list holds exceptions.
    ZeroDrift,
}

impl Baseline {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::ZeroDrift => "zero-drift",
        }
    }
    /// Parses the contract's words, old ones included: `default` and `shield` mean zero-drift.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw.to_ascii_lowercase().as_str() {
            "basic" => Some(Self::Basic),
            "zero-drift" | "default" | "shield" => Some(Self::ZeroDrift),
            _ => None,
        }
    }
}

/// What holds for a group where its verdict cannot be found in time: no memory to judge with, an answer that is late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// What cannot be judged passes, and is counted.
    #[default]
    Open,
    /// In Protect, what cannot be judged is stopped, and is counted.
    Closed,
}

impl Fault {
    /// The word of `fail_mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
    /// Parses the words of `fail_mode`.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "open" => Some(Self::Open),
            "closed" => Some(Self::Closed),
            _ => None,
        }
    }
}

/// Both modes and the baseline of a group that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// For network rules (`policy_mode`).
    pub network: Mode,
    /// For processes and files (`profile_mode`).
    pub profile: Mode,
    /// For processes (`baseline_profile`).
    pub baseline: Baseline,
    /// Where a verdict cannot be found in time (`fail_mode`).
    #[serde(default)]
    pub fault: Fault,
}
