//! How an enforcer itself fares: what it had to leave out, and what it uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an enforcer did not tell, by what it was about: records that the kernel, a rate limit, a full queue or load
/// shedding dropped. Totals since the enforcer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Drops {
    /// Programs that were run or stopped.
    pub exec: u64,
    /// Processes that were made or ended; without them a parent's name may be missing.
    pub lifecycle: u64,
    /// Files.
    pub file: u64,
    /// Connections.
    pub connection: u64,
    /// Suspicious behaviour.
    pub behaviour: u64,
    /// Reports of use.
    pub usage: u64,
}

impl Drops {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.exec, self.lifecycle, self.file, self.connection, self.behaviour, self.usage]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            exec: self.exec.saturating_add(other.exec),
            lifecycle: self.lifecycle.saturating_add(other.lifecycle),
            file: self.file.saturating_add(other.file),
            connection: self.connection.saturating_add(other.connection),
            behaviour: self.behaviour.saturating_add(other.behaviour),
            usage: self.usage.saturating_add(other.usage),
        }
    }
}

/// What an enforcer leaves out to stay within its budget, the least worth first. Verdicts are the kernel's and stay;
/// what was against the rules is told at every level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Shedding {
    /// Nothing.
    #[default]
    Nothing,
    /// What was allowed and is known already.
    Activity,
    /// Reports of use as well.
    Usage,
    /// What would be learned as well.
    Learning,
}

impl Shedding {
    /// Every level, the mildest first; its place is its number between enforcer and controller.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Activity, Self::Usage, Self::Learning];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Activity => "activity",
            Self::Usage => "usage",
            Self::Learning => "learning",
        }
    }
}

/// What an enforcer tells of itself with every sign of life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Records that the kernel could not place in a ring.
    pub kernel_dropped: u64,
    /// Observations that found the queue to the controller full.
    pub queue_dropped: u64,
    /// Observations that wait for the controller.
    pub queued: u64,
    /// What was not told, by what it was about.
    pub drops: Drops,
    /// What is left out now.
    pub shedding: Shedding,
    /// CPU time that agent and keeper use, as a share of one CPU.
    pub cpu: f64,
    /// Resident memory of agent and keeper, in bytes. In the all-in-one this is the whole process.
    pub memory: u64,
    /// The memory that it should stay within, in bytes.
    pub memory_budget: u64,
    /// The log filter that it was started with.
    pub log_level: String,
    /// What the kernel's programs count, by name.
    pub counters: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_summed_by_what_they_are_about() {
        let one = Drops { exec: 1, usage: 2, ..Drops::default() };
        let other = Drops { exec: u64::MAX, file: 3, ..Drops::default() };
        let both = one.plus(&other);
        assert_eq!((both.exec, both.file, both.usage), (u64::MAX, 3, 2));
        assert_eq!((one.total(), both.total()), (3, u64::MAX));
    }

    #[test]
    fn the_mildest_level_comes_first() {
        assert!(Shedding::ALL.is_sorted());
    }
}
