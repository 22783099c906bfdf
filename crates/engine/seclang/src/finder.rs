//! One pass over a value tells which rules need to look at it.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;

use crate::error::CompileError;
use crate::operator::literals::Literals;
use crate::transform::Transform;

/// Transformations one after the other, and the literals of all rules that look at their result.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) transforms: Vec<Transform>,
    finder: Option<Finder>,
    slots: usize,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// The slots of each literal.
    slots: Vec<Vec<u32>>,
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

impl Chain {
    /// Slots of the rules whose literals `value` has.
    pub(crate) fn find(&self, value: &[u8]) -> Slots {
        let Some(finder) = &self.finder else { return Slots::default() };
        let mut found = Slots::with(self.slots);
        for hit in finder.automaton.find_overlapping_iter(value) {
            for slot in finder.slots.get(hit.pattern().as_usize()).into_iter().flatten() {
                found.put(*slot);
            }
        }
        found
    }
}

/// Collects the literals of a chain while rules are compiled.
#[derive(Debug, Default)]
pub(crate) struct ChainBuilder {
    transforms: Vec<Transform>,
    literals: HashMap<Vec<u8>, Vec<u32>, foldhash::fast::RandomState>,
    slots: u32,
}

/// States that one automaton may be a full table for; a larger one is packed.
const MAX_TABLE: usize = 20_000;

impl ChainBuilder {
    pub(crate) fn new(transforms: Vec<Transform>) -> Self {
        Self { transforms, ..Self::default() }
    }

    /// Gives an operator its slot.
    pub(crate) fn add(&mut self, literals: &Literals) -> u32 {
        let slot = self.slots;
        self.slots = self.slots.saturating_add(1);
        for literal in literals.iter() {
            self.literals.entry(literal.to_vec()).or_default().push(slot);
        }
        slot
    }

    pub(crate) fn build(self) -> Result<Chain, CompileError> {
        let slots = usize::try_from(self.slots).unwrap_or(0);
        let (literals, owners): (Vec<_>, Vec<_>) = self.literals.into_iter().unzip();
        let bytes: usize = literals.iter().map(Vec::len).sum();
        let kind = if bytes > MAX_TABLE { AhoCorasickKind::ContiguousNFA } else { AhoCorasickKind::DFA };
        let finder = if literals.is_empty() {
            None
        } else {
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .kind(Some(kind))
                .build(&literals)
                .map_err(|error| CompileError::Literals(error.to_string()))?;
            Some(Finder { automaton, slots: owners })
        };
        Ok(Chain { transforms: self.transforms, finder, slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Operator;

    #[test]
    fn a_value_names_the_rules_that_may_find_something_in_it() {
        let mut chain = ChainBuilder::new(Vec::new());
        let slots: Vec<u32> = ["@rx foo|bar", "@rx bars?", "@pm baz"]
            .iter()
            .map(|text| {
                let operator = Operator::compile(text.as_bytes(), false, &|_| None).unwrap();
                chain.add(&operator.literals.unwrap())
            })
            .collect();
        let chain = chain.build().unwrap();
        let of = |value: &[u8]| slots.iter().map(|slot| chain.find(value).has(*slot)).collect::<Vec<_>>();
        assert_eq!(of(b"a BAR"), [true, true, false]);
        assert_eq!(of(b"foo baz"), [true, false, true]);
        assert_eq!(of(b"none"), [false, false, false]);
    }
}
