//! One pass over a value tells which rules need to look at it.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;

use crate::error::CompileError;
use crate::operator::literals::Literals;
use crate::variable::{Scalar, Source, Targets};

/// Values that are looked through for the same literals: a page has other words than a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    Request,
    Response,
}

impl Realm {
    /// Where values of a source belong.
    pub(crate) fn of(source: Source) -> Self {
        match source {
            Source::One(Scalar::ResponseBody) => Self::Response,
            Source::One(_) | Source::Values(_) | Source::Names(_) => Self::Request,
        }
    }
}

/// The literals of all rules.
#[derive(Debug, Default)]
pub(crate) struct Finders {
    request: Option<Finder>,
    response: Option<Finder>,
}

impl Finders {
    /// Slots of the rules whose literals `value` has.
    pub(crate) fn find(&self, realm: Realm, value: &[u8]) -> Slots {
        let finder = match realm {
            Realm::Request => &self.request,
            Realm::Response => &self.response,
        };
        finder.as_ref().map(|finder| finder.find(value)).unwrap_or_default()
    }
}

impl Finders {
    /// Bytes of their automata.
    pub(crate) fn memory(&self) -> usize {
        let both = [&self.request, &self.response].into_iter().flatten();
        both.map(|finder| finder.automaton.memory_usage()).fold(0, usize::saturating_add)
    }
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// The slots of each literal.
    owners: Vec<Vec<u32>>,
    /// How many slots there are.
    slots: usize,
}

/// Which slots have a literal in a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    fn with(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn put(&mut self, slot: u32) {
        let (word, bit) = place(slot);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    pub(crate) fn has(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds what another has.
    pub(crate) fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

fn place(slot: u32) -> (usize, u64) {
    (usize::try_from(slot / 64).unwrap_or(usize::MAX), 1_u64 << (slot % 64))
}

impl Finder {
    fn find(&self, value: &[u8]) -> Slots {
        let mut found = Slots::with(self.slots);
        for hit in self.automaton.find_overlapping_iter(value) {
            for slot in self.owners.get(hit.pattern().as_usize()).into_iter().flatten() {
                found.put(*slot);
            }
        }
        found
    }
}

/// Collects the literals of one realm while rules are compiled.
#[derive(Debug, Default)]
struct FinderBuilder {
    literals: HashMap<Vec<u8>, Vec<u32>, foldhash::fast::RandomState>,
    slots: u32,
}

/// Bytes of literals that one automaton may be a full table for; of more it is packed.
const MAX_TABLE: usize = 100_000;

impl FinderBuilder {
    fn add(&mut self, literals: &Literals) -> u32 {
        let slot = self.slots;
        self.slots = self.slots.saturating_add(1);
        for literal in literals.iter() {
            let slots = self.literals.entry(rarest(literal).to_vec()).or_default();
            // Several literals of one operator may have the same piece.
            if slots.last() != Some(&slot) {
                slots.push(slot);
            }
        }
        slot
    }

    fn build(self) -> Result<Option<Finder>, CompileError> {
        if self.literals.is_empty() {
            return Ok(None);
        }
        let (literals, owners): (Vec<_>, Vec<_>) = self.literals.into_iter().unzip();
        let bytes: usize = literals.iter().map(Vec::len).sum();
        let kind = if bytes > MAX_TABLE { AhoCorasickKind::ContiguousNFA } else { AhoCorasickKind::DFA };
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(&literals)
            .map_err(|error| CompileError::Literals(error.to_string()))?;
        Ok(Some(Finder { automaton, owners, slots: usize::try_from(self.slots).unwrap_or(0) }))
    }
}

/// Bytes of a literal that are looked for: with more, the table is larger and little less is found.
const MAX_PIECE: usize = 8;

/// The part of a literal that is met least in text, roughly.
fn rarest(literal: &[u8]) -> &[u8] {
    let worth = |piece: &&[u8]| -> usize {
        let seldom = |byte: &u8| match byte {
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'h' | b'l' | b'd' | b' ' => 2,
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'/' => 3,
            _ => 4,
        };
        piece.iter().map(seldom).sum()
    };
    literal.windows(MAX_PIECE).max_by_key(worth).unwrap_or(literal)
}

/// Collects the literals of all rules.
#[derive(Debug, Default)]
pub(crate) struct FindersBuilder {
    request: FinderBuilder,
    response: FinderBuilder,
}

impl FindersBuilder {
    /// Gives an operator its slot among those that look at `targets`; none when they are of both realms.
    pub(crate) fn add(&mut self, targets: &Targets, literals: &Literals) -> Option<u32> {
        let mut realms =
            targets.look.iter().flat_map(|target| target.sources).map(|source| Realm::of(*source));
        let first = realms.next()?;
        if realms.any(|realm| realm != first) {
            return None;
        }
        let builder = match first {
            Realm::Request => &mut self.request,
            Realm::Response => &mut self.response,
        };
        Some(builder.add(literals))
    }

    pub(crate) fn build(self) -> Result<Finders, CompileError> {
        Ok(Finders { request: self.request.build()?, response: self.response.build()? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::operator::Operator;

    #[test]
    fn a_value_names_the_rules_that_may_find_something_in_it() {
        let mut builder = FindersBuilder::default();
        let targets = Targets::parse(b"ARGS").unwrap();
        let slots: Vec<u32> = ["@rx foo|bar", "@rx bars?", "@pm baz"]
            .iter()
            .map(|text| {
                let operator = Operator::compile(text.as_bytes(), false, &Arc::default(), &|_| None).unwrap();
                builder.add(&targets, &operator.literals.unwrap()).unwrap()
            })
            .collect();
        let finders = builder.build().unwrap();
        let of = |value: &[u8]| {
            let found = finders.find(Realm::Request, value);
            slots.iter().map(|slot| found.has(*slot)).collect::<Vec<_>>()
        };
        assert_eq!(of(b"a BAR"), [true, true, false]);
        assert_eq!(of(b"foo baz"), [true, false, true]);
        assert_eq!(of(b"none"), [false, false, false]);
        assert_eq!(finders.find(Realm::Response, b"foo"), Slots::default());
    }

    #[test]
    fn the_rarest_part_of_a_long_literal_is_looked_for() {
        for (literal, want) in
            [("short", "short"), ("the end of <?php echo", "<?php ec"), ("aaaaaaaaaaaaaaaa", "aaaaaaaa")]
        {
            assert_eq!(rarest(literal.as_bytes()), want.as_bytes(), "{literal}");
        }
    }
}
