//! What cannot be compiled, and why.

use std::fmt;

use crate::transform::UnknownTransform;

/// Why a whole rule set is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The files are larger than is taken.
    #[error("the files have {bytes} bytes, at most {most} are taken")]
    Size {
        /// What they have.
        bytes: usize,
        /// What is taken.
        most: usize,
    },
    /// There are more rules than are taken.
    #[error("there are more than {most} rules")]
    Rules {
        /// What is taken.
        most: usize,
    },
    /// The literals that rules are found by do not fit into one table.
    #[error("the table of literals cannot be built: {0}")]
    Literals(String),
}

/// A directive that was left out, and why; the rest of the rule set stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name of its file.
    pub file: String,
    /// Line where it begins, from 1.
    pub line: usize,
    /// Id of its rule, where it is one and has one.
    pub rule: Option<u32>,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(rule) = self.rule {
            write!(f, "rule {rule}: ")?;
        }
        self.reason.fmt(f)
    }
}

/// Why a directive is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such directive, or none that has a meaning here.
    #[error("directive {0} is not supported")]
    Directive(String),
    /// It has too few words.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A quote is not closed.
    #[error("a quote is not closed")]
    Quote,
    /// A value cannot be read.
    #[error("{what} {value:?} cannot be read")]
    Value {
        /// What it is a value of.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// No such variable.
    #[error("variable {0:?} is not supported")]
    Variable(String),
    /// No such operator.
    #[error("operator {0:?} is not supported")]
    Operator(String),
    /// No such action.
    #[error("action {0:?} is not supported")]
    Action(String),
    /// No such transformation.
    #[error("{0}")]
    Transform(String),
    /// A file that an operator names was not handed in.
    #[error("file {0:?} was not given")]
    File(String),
    /// A pattern cannot be matched in linear time, or not at all.
    #[error("pattern: {0}")]
    Pattern(String),
    /// Two rules have one id.
    #[error("another rule has the same id")]
    Twice,
    /// A rule without an id.
    #[error("the rule has no id")]
    NoId,
    /// The chain is longer than is taken, or not closed, or a link of it was refused.
    #[error("the chain is {0}")]
    Chain(&'static str),
    /// There are more of something than are taken.
    #[error("there are more than {most} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// What is taken.
        most: usize,
    },
}

impl From<UnknownTransform> for Reason {
    fn from(unknown: UnknownTransform) -> Self {
        Self::Transform(unknown.to_string())
    }
}
