//! From a node's policy to rows of the kernel's tables, and from the rows held to the rows wanted.
//!
//! What a lookup over the rows gives equals [`crate::decide`]: the tests of this module hold that for any policy.

mod condition;
mod network;
mod process;

use std::collections::BTreeMap;

pub use condition::{ConditionRow, MAX_LIST};
pub use network::{
    ModeRow, NEVER_BLOCK, NetworkSettings, NetworkTables, RuleKey, RuleRow, TooManyRows, network,
};
pub use process::{
    ExactKey, PatternKey, ProcessRow, ProcessTables, ProfileNumbers, ProfileRow, RuleRef, name_hash,
    processes,
};

/// Writes that turn one table into another. Puts come first: what stays reachable never misses a row meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDiff<K, V> {
    /// Rows that are new or changed.
    pub put: Vec<(K, V)>,
    /// Keys that are gone.
    pub delete: Vec<K>,
}

impl<K, V> TableDiff<K, V> {
    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }
}

/// What turns `held` into `wanted`.
#[must_use]
pub fn diff<K: Ord + Clone, V: PartialEq + Clone>(
    held: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> TableDiff<K, V> {
    TableDiff {
        put: wanted
            .iter()
            .filter(|(key, value)| held.get(key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        delete: held.keys().filter(|key| !wanted.contains_key(key)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_difference_leads_from_any_table_to_any_other(
            held: BTreeMap<u8, u8>, wanted: BTreeMap<u8, u8>,
        ) {
            let diff = diff(&held, &wanted);
            let mut table = held;
            table.extend(diff.put);
            for key in diff.delete {
                table.remove(&key);
            }
            prop_assert_eq!(table, wanted);
        }
    }
}
