//! ModSecurity's rule language (SecLang): rules are compiled once, and HTTP transactions judged by them phase by phase.
//!
//! Files come in as bytes and a [`RuleSet`] comes out, with what was [`Refused`] and why. A [`Transaction`] is fed the
//! parts of a request and its response as they come, and gives its [`Match`]es and the [`Decision`]. Everything is
//! bounded: sizes, lists, depth, and by [`Settings::steps`] the work for one transaction. Patterns take time linear in
//! the value.
//!
//! Values are transformed once for all rules that ask for the same, and one pass over the result tells which rules can
//! match at all (a pattern's literals); the others are not run.

mod action;
mod body;
mod compile;
mod control;
mod error;
mod evaluate;
mod finder;
mod operator;
mod rule;
mod ruleset;
mod settings;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod transaction;
mod transform;
mod variable;
mod views;
mod words;

pub use action::Severity;
pub use control::Engine;
pub use error::{CompileError, Reason, Refused};
pub use operator::OPERATORS;
pub use operator::pattern::Pattern;
pub use ruleset::{File, RuleSet};
pub use settings::Settings;
pub use transaction::{Action, Anomaly, Decision, Match, Peers, Transaction};
pub use transform::Transform;
pub use variable::VARIABLES;
