//! Network rules between groups.

use serde::{Deserialize, Serialize};

use crate::application::ApplicationId;
use crate::group::Origin;
use crate::name::GroupName;
use crate::port::Ports;
use crate::time::Timestamp;
use crate::verdict::Action;

/// Id of a network rule. A base is reserved: the first id handed out is base + 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No rule: what the mode says when nothing matches.
    pub const DEFAULT: Self = Self(0);
    /// Learned rules are 10001 to 99999.
    pub const LEARNED_BASE: u32 = 10_000;
    /// Federal rules are 100001 to 109999.
    pub const FEDERAL_BASE: u32 = 100_000;
    /// Rules of custom resources are 110001 to 119999.
    pub const GROUND_BASE: u32 = 110_000;
    /// First id behind the last range.
    pub const END: u32 = 120_000;

    /// Who owns a rule of this id; `None` outside of every range and for a reserved base.
    #[must_use]
    pub const fn origin(self) -> Option<Origin> {
        match self.0 {
            1..=9_999 => Some(Origin::UserCreated),
            10_001..=99_999 => Some(Origin::Learned),
            100_001..=109_999 => Some(Origin::Federal),
            110_001..=119_999 => Some(Origin::Ground),
            _ => None,
        }
    }
    /// The ids that may be handed out to rules of `origin`, both ends included.
    #[must_use]
    pub const fn range(origin: Origin) -> (u32, u32) {
        match origin {
            Origin::Learned => (10_001, 99_999),
            Origin::Federal => (100_001, 109_999),
            Origin::Ground => (110_001, 119_999),
            Origin::UserCreated | Origin::SystemDefined => (1, 9_999),
        }
    }
}

/// A network rule as it is stored. Where it stands is a list of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRule {
    /// Its id; the range says who owns it.
    pub id: RuleId,
    /// A note of at most 256 characters.
    #[serde(default)]
    pub comment: String,
    /// The side that opens the connection.
    pub from: GroupName,
    /// The side that accepts it.
    pub to: GroupName,
    /// Destination ports.
    #[serde(default)]
    pub ports: Ports,
    /// Applications; empty for any.
    #[serde(default)]
    pub applications: Vec<ApplicationId>,
    /// What it says.
    pub action: Action,
    /// Who owns it.
    pub origin: Origin,
    /// Not evaluated.
    #[serde(default)]
    pub disabled: bool,
    /// Order among rules of custom resources, 0 to 100, higher first.
    #[serde(default)]
    pub priority: u32,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was last changed.
    #[serde(default)]
    pub modified: Timestamp,
}
