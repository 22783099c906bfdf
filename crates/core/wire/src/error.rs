//! Why a message is refused.

use std::fmt;

/// A message of the other side that breaks the contract. The link is to be closed; sending it again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {path}: {problem}")]
pub struct WireError {
    /// Where in the message, for instance `workloads[3].interfaces[0].address`.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The field has to be there.
    #[error("is missing")]
    Missing,
    /// Too many bytes, or entries of a list.
    #[error("has {found}, at most {max} are accepted")]
    TooLong {
        /// How many there are.
        found: usize,
        /// How many are accepted.
        max: usize,
    },
    /// The value is not one of its type.
    #[error("{0}")]
    Value(String),
    /// A number outside of its range.
    #[error("{found} is out of range")]
    Range {
        /// The number.
        found: i64,
    },
}

impl WireError {
    pub(crate) fn missing(path: &str) -> Self {
        Self { path: path.to_owned(), problem: Problem::Missing }
    }
    pub(crate) fn value(path: &str, why: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: Problem::Value(why.to_string()) }
    }
    pub(crate) fn range(path: &str, found: impl Into<i64>) -> Self {
        Self { path: path.to_owned(), problem: Problem::Range { found: found.into() } }
    }
    /// The same, one level further out.
    pub(crate) fn under(mut self, parent: impl fmt::Display) -> Self {
        self.path = format!("{parent}.{}", self.path);
        self
    }
}
