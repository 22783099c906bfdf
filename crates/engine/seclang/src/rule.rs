//! A compiled rule.

use crate::action::{Disruptive, Effect, Severity};
use crate::operator::Operator;
use crate::template::Template;

/// A rule: all its links must match.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    pub(crate) phase: u8,
    pub(crate) links: Vec<Link>,
    pub(crate) disruptive: Disruptive,
    pub(crate) status: Option<u16>,
    pub(crate) msg: Template,
    pub(crate) logdata: Template,
    pub(crate) severity: Option<Severity>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) log: bool,
    /// Rules behind it that are passed over when it matches.
    pub(crate) skip: usize,
    /// Where its phase goes on when it matches.
    pub(crate) skip_to: Option<usize>,
}

/// One link of a rule.
#[derive(Debug)]
pub(crate) struct Link {
    /// What it looks at, by the place in the rule set's table; none always matches.
    pub(crate) look: Option<Look>,
    pub(crate) capture: bool,
    pub(crate) effects: Vec<Effect>,
}

/// What a link looks at.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) targets: u32,
    /// Whether rules change what it looks at.
    pub(crate) changes: bool,
    pub(crate) operator: Operator,
    /// Each way of transforming a value before the operator sees it, by the place in the rule set's table; several with
    /// `multiMatch`.
    pub(crate) chains: Vec<u32>,
    /// The operator's place among those whose literals are looked for.
    pub(crate) slot: Option<u32>,
}

/// A place in a phase.
#[derive(Debug)]
pub(crate) enum Step {
    /// A rule, by its place in the table.
    Rule(usize),
    /// A marker, by its name.
    Marker(Box<[u8]>),
}
