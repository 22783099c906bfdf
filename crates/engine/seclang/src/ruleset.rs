//! A compiled rule set.

use crate::compile;
use crate::error::{CompileError, Refused};
use crate::finder::Finders;
use crate::rule::{Rule, Step};
use crate::settings::Settings;
use crate::transform::Transform;
use crate::variable::Targets;

/// A file as the caller read it. Names that end in `.conf` or `.conf.example` hold rules, others what operators name
/// (`@pmFromFile`).
#[derive(Clone, Copy, Debug)]
pub struct File<'f> {
    /// Its name, with or without a path; rules name files by the last part.
    pub name: &'f str,
    /// Its content.
    pub text: &'f [u8],
}

impl File<'_> {
    pub(crate) fn is_rules(&self) -> bool {
        self.name.ends_with(".conf") || self.name.ends_with(".conf.example")
    }

    pub(crate) fn last_part(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }
}

/// Rules, ready to run: immutable, shared by all transactions.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) phases: [Vec<Step>; 5],
    /// Transformations one after the other.
    pub(crate) chains: Vec<Vec<Transform>>,
    pub(crate) finders: Finders,
    pub(crate) targets: Vec<Targets>,
    pub(crate) settings: Settings,
}

impl RuleSet {
    /// Compiles files in their order. What cannot be had is left out and told, the rest stands: a rule with all of its
    /// chain, or a single directive.
    ///
    /// # Errors
    /// When the files are larger, or have more rules, than is taken.
    pub fn compile(files: &[File<'_>], settings: Settings) -> Result<(Self, Vec<Refused>), CompileError> {
        compile::compile(files, settings)
    }

    /// Rules that it has; a chain is one.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Ids of its rules in their order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.rules.iter().map(|rule| rule.id)
    }

    /// What it says about the engine.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Bytes of what its rules are compiled to, by what it is: patterns, lists of phrases, and the literals of both. What is
    /// made of patterns while values are looked at is bounded apart.
    pub fn memory(&self) -> [(&'static str, usize); 3] {
        let looks = self.rules.iter().flat_map(|rule| &rule.links).filter_map(|link| link.look.as_ref());
        let (patterns, phrases) = looks.fold((0_usize, 0_usize), |(patterns, phrases), look| {
            let (more, other) = look.operator.memory();
            (patterns.saturating_add(more), phrases.saturating_add(other))
        });
        [("patterns", patterns), ("phrases", phrases), ("literals", self.finders.memory())]
    }

    /// How many rules' operators look at a value only when it has one of their literals, and how many there are.
    pub fn prefiltered(&self) -> (usize, usize) {
        let looks = self.rules.iter().flat_map(|rule| &rule.links).filter_map(|link| link.look.as_ref());
        looks.fold((0, 0), |(with, all), look| {
            let more = usize::from(look.slot.is_some());
            (with.saturating_add(more), all.saturating_add(1))
        })
    }
}
