//! What a commit consists of, and the bounds it is held to.

use bytes::Bytes;

use crate::{LeaseId, Revision, StoreError};

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value in bytes (256 KiB).
pub const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Most compares and operations of one transaction, together.
pub const MAX_OPERATIONS: usize = 4096;
/// Most bytes of keys and values in one transaction (8 MiB).
pub const MAX_TRANSACTION_BYTES: usize = 8 * 1024 * 1024;

/// Changes that happen together, in one revision, if every compare holds.
///
/// ```
/// # use nv_store::{Transaction, Revision};
/// let rename = Transaction::new()
///     .expect_modified("group/old", Revision(7))
///     .expect_absent("group/new")
///     .delete("group/old")
///     .put("group/new", "{}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is done then.
    pub operations: Vec<Operation>,
}

/// A condition on one key, as it is before the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key has no value.
    Absent {
        /// The key.
        key: String,
    },
    /// The key has a value.
    Exists {
        /// The key.
        key: String,
    },
    /// The key has a value, last put in exactly this revision.
    Modified {
        /// The key.
        key: String,
        /// [`crate::Entry::modified`].
        revision: Revision,
    },
}

impl Compare {
    /// The key that is looked at.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Absent { key } | Self::Exists { key } | Self::Modified { key, .. } => key,
        }
    }
    /// Whether it holds for a key last put in `modified`, `None` for a key without value.
    #[must_use]
    pub fn holds(&self, modified: Option<Revision>) -> bool {
        match self {
            Self::Absent { .. } => modified.is_none(),
            Self::Exists { .. } => modified.is_some(),
            Self::Modified { revision, .. } => modified == Some(*revision),
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Gives a key a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// Deletes the key when this lease ends; `None` keeps it. A later put without lease detaches it.
        lease: Option<LeaseId>,
    },
    /// Takes a key's value away; nothing if it has none.
    Delete {
        /// The key.
        key: String,
    },
    /// Takes away the values of all keys that begin with `prefix`.
    DeletePrefix {
        /// The prefix; an empty one is every key.
        prefix: String,
    },
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done and durable, in this revision. A transaction that changes nothing (it only compares, or deletes what
    /// is not there) has the revision it was looked at.
    Committed(Revision),
    /// Nothing was done: the compare on this key does not hold.
    Conflict {
        /// Key of the first compare that does not hold.
        key: String,
    },
}

impl Outcome {
    /// The revision, if it was done.
    #[must_use]
    pub const fn committed(&self) -> Option<Revision> {
        match self {
            Self::Committed(revision) => Some(*revision),
            Self::Conflict { .. } => None,
        }
    }
}

impl Transaction {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Only if `key` has no value.
    #[must_use]
    pub fn expect_absent(mut self, key: impl Into<String>) -> Self {
        self.compares.push(Compare::Absent { key: key.into() });
        self
    }
    /// Only if `key` has a value.
    #[must_use]
    pub fn expect_exists(mut self, key: impl Into<String>) -> Self {
        self.compares.push(Compare::Exists { key: key.into() });
        self
    }
    /// Only if `key` was last put in `revision`.
    #[must_use]
    pub fn expect_modified(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.compares.push(Compare::Modified { key: key.into(), revision });
        self
    }
    /// Only if `compare` holds.
    #[must_use]
    pub fn expect_that(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }
    /// Gives `key` a value.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), lease: None });
        self
    }
    /// Gives `key` a value until `lease` ends.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }
    /// Takes the value of `key` away.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }
    /// Takes away the values of all keys that begin with `prefix`.
    #[must_use]
    pub fn delete_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.operations.push(Operation::DeletePrefix { prefix: prefix.into() });
        self
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compares: usize = self.compares.iter().map(|compare| compare.key().len()).sum();
        let operations: usize = self
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Put { key, value, .. } => key.len().saturating_add(value.len()),
                Operation::Delete { key } => key.len(),
                Operation::DeletePrefix { prefix } => prefix.len(),
            })
            .sum();
        compares.saturating_add(operations)
    }

    /// Checks every bound; each backend calls this before it does anything.
    ///
    /// # Errors
    /// [`StoreError::TooManyOperations`], [`StoreError::TransactionTooLarge`], [`StoreError::Key`],
    /// [`StoreError::ValueTooLarge`] or [`StoreError::Overlap`].
    pub fn validate(&self) -> Result<(), StoreError> {
        let count = self.compares.len().saturating_add(self.operations.len());
        if count > MAX_OPERATIONS {
            return Err(StoreError::TooManyOperations { count });
        }
        let bytes = self.bytes();
        for compare in &self.compares {
            validate_key(compare.key())?;
        }
        for operation in &self.operations {
            match operation {
                Operation::Put { key, value, .. } => {
                    validate_key(key)?;
                    if value.len() > MAX_VALUE_BYTES {
                        return Err(StoreError::ValueTooLarge { key: key.clone(), bytes: value.len() });
                    }
                }
                Operation::Delete { key } => validate_key(key)?,
                Operation::DeletePrefix { prefix } => validate_prefix(prefix)?,
            }
        }
        if bytes > MAX_TRANSACTION_BYTES {
            return Err(StoreError::TransactionTooLarge { bytes });
        }
        self.validate_order()
    }

    /// A put key may appear in no other operation, so that the order of operations never matters.
    fn validate_order(&self) -> Result<(), StoreError> {
        let mut puts: Vec<&str> = Vec::new();
        let mut deletes: Vec<&str> = Vec::new();
        let mut prefixes: Vec<&str> = Vec::new();
        for operation in &self.operations {
            match operation {
                Operation::Put { key, .. } => puts.push(key),
                Operation::Delete { key } => deletes.push(key),
                Operation::DeletePrefix { prefix } => prefixes.push(prefix),
            }
        }
        puts.sort_unstable();
        let twice = puts.windows(2).find_map(|pair| match pair {
            [first, second] if first == second => Some(*first),
            _ => None,
        });
        let deleted = deletes.iter().find(|key| puts.binary_search(key).is_ok()).copied();
        let under = prefixes.iter().find_map(|prefix| {
            let at = puts.partition_point(|key| key < prefix);
            puts.get(at).filter(|key| key.starts_with(prefix)).copied()
        });
        match twice.or(deleted).or(under) {
            Some(key) => Err(StoreError::Overlap { key: key.to_owned() }),
            None => Ok(()),
        }
    }
}

/// Checks a key: 1 to [`MAX_KEY_BYTES`] bytes of UTF-8 without control characters.
///
/// # Errors
/// [`StoreError::Key`].
pub fn validate_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::Key { key: String::new(), what: "is empty" });
    }
    validate_prefix(key)
}

/// Checks a prefix: as a key, and it may be empty.
///
/// # Errors
/// [`StoreError::Key`].
pub fn validate_prefix(prefix: &str) -> Result<(), StoreError> {
    let what = if prefix.len() > MAX_KEY_BYTES {
        "is longer than 1024 bytes"
    } else if prefix.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(StoreError::Key { key: prefix.chars().take(64).collect(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_held_to_its_bounds_before_anything_is_done() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let large = vec![0_u8; MAX_VALUE_BYTES + 1];
        let many = (0..=MAX_OPERATIONS).fold(Transaction::new(), |all, i| all.delete(format!("k/{i}")));
        let heavy =
            (0..40).fold(Transaction::new(), |all, i| all.put(format!("k/{i}"), vec![0_u8; MAX_VALUE_BYTES]));
        for (transaction, want) in [
            (Transaction::new().put("", "v"), "is empty"),
            (Transaction::new().delete(long.as_str()), "longer than 1024 bytes"),
            (Transaction::new().expect_absent("a\nb"), "control character"),
            (Transaction::new().put("k", large), "has 262145 bytes"),
            (many, "4097 operations"),
            (heavy, "more than the 8388608 allowed"),
            (Transaction::new().put("k", "1").put("k", "2"), "more than once"),
            (Transaction::new().put("k", "1").delete("k"), "more than once"),
            (Transaction::new().put("k/a", "1").delete_prefix("k/"), "more than once"),
        ] {
            let error = transaction.validate().expect_err(want).to_string();
            assert!(error.contains(want), "{error:?} does not say {want:?}");
        }
        let good = Transaction::new().put("k", "1").put("k2", "").delete("j").delete("j").delete_prefix("k/");
        assert!(good.validate().is_ok());
    }
}
