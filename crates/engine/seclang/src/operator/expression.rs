//! A pattern that is looked for. Its automaton is made state by state as values ask for it, and forgotten together with
//! those of all other patterns when they are more than a bound: most rules never see a value that they must look at.

use std::sync::{Arc, Mutex, MutexGuard};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::backtrack::BoundedBacktracker;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::{Anchored, Input, MatchKind, Span};
use regex_syntax::hir::Hir;

use super::{Found, MAX_GROUPS, pattern};

/// Bytes of the compiled form of a pattern.
const MAX_COMPILED: usize = 16 << 20;
/// Bytes of one automaton's states; beyond, it begins anew.
const MAX_STATES: usize = 1 << 20;
/// Bytes of what is made of the patterns of a rule set while values are looked at.
const MAX_MADE: usize = 24 << 20;
/// Bytes of a prefilter.
const MAX_PREFILTER: usize = 16 << 10;

/// What was made of patterns so far, of all of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Made(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    of: Vec<Option<Box<Automata>>>,
    bytes: usize,
}

/// What was made of one pattern.
#[derive(Debug)]
struct Automata {
    forward: Cache,
    /// From the end of a match to its beginning; made when a beginning is asked for.
    backward: Option<(DFA, Cache)>,
    /// Their bytes when they were last looked at.
    bytes: usize,
}

impl Automata {
    fn size(&self) -> usize {
        let backward = self.backward.as_ref();
        let backward = backward.map_or(0, |(automaton, cache)| {
            automaton.get_nfa().memory_usage().saturating_add(cache.memory_usage())
        });
        self.forward.memory_usage().saturating_add(backward)
    }
}

impl Table {
    fn forget(&mut self) {
        self.of.iter_mut().for_each(|one| *one = None);
        self.bytes = 0;
    }
}

impl Made {
    /// What a panic leaves may be half of something: it is made anew.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut table = poisoned.into_inner();
            table.forget();
            self.0.clear_poison();
            table
        })
    }

    /// A place for one pattern.
    fn place(&self) -> usize {
        let mut table = self.table();
        table.of.push(None);
        table.of.len().saturating_sub(1)
    }
}

/// A pattern, ready to be looked for.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    forward: DFA,
    /// As it was written, for its way back.
    text: Box<[u8]>,
    any_case: bool,
    made: Arc<Made>,
    place: usize,
}

impl Expression {
    /// Compiles a pattern that [`pattern::parse`] has read from `text`, with its groups or without.
    ///
    /// # Errors
    /// When it is too large.
    pub(crate) fn new(
        (text, any_case): (&[u8], bool),
        hir: &Hir,
        groups: bool,
        made: &Arc<Made>,
    ) -> Result<Self, String> {
        let which = if groups { WhichCaptures::All } else { WhichCaptures::Implicit };
        let nfa = compile(hir, which, false)?;
        let prefilter = Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, hir);
        let prefilter = prefilter.filter(|one| one.is_fast() && one.memory_usage() <= MAX_PREFILTER);
        let forward = automaton(nfa, MatchKind::LeftmostFirst, prefilter)?;
        let (text, made, place) = (text.into(), Arc::clone(made), made.place());
        Ok(Self { forward, text, any_case, made, place })
    }

    /// Whether it is found in a value.
    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.with(|automata| self.end(automata, value, true)).is_some()
    }

    /// Bytes of its compiled form.
    pub(crate) fn memory(&self) -> usize {
        self.forward
            .get_nfa()
            .memory_usage()
            .saturating_add(self.forward.memory_usage())
            .saturating_add(self.text.len())
    }

    /// What its first match in a value is, and what its groups are.
    pub(crate) fn groups(&self, value: &[u8]) -> Option<Found> {
        let span = self.with(|automata| {
            let end = self.end(automata, value, false)?;
            let start = self.start(automata, value, end)?;
            Some(Span { start, end })
        })?;
        let text =
            |span: Option<Span>| span.and_then(|span| value.get(span.range())).unwrap_or_default().to_vec();
        let nfa = self.forward.get_nfa();
        let count = nfa.group_info().group_len(regex_automata::PatternID::ZERO).min(MAX_GROUPS);
        if count <= 1 {
            return Some(vec![text(Some(span))]);
        }
        let input = Input::new(value).span(span).anchored(Anchored::Yes);
        let mut slots = vec![None; count.saturating_mul(2)];
        // What has few states or is short is looked at state by state, else all states at once.
        let short = BoundedBacktracker::new_from_nfa(nfa.clone()).ok().and_then(|backtracker| {
            backtracker.try_search_slots(&mut backtracker.create_cache(), &input, &mut slots).ok()
        });
        if short.is_none() {
            let all = PikeVM::new_from_nfa(nfa.clone()).ok()?;
            all.search_slots(&mut all.create_cache(), &input, &mut slots);
        }
        let (pairs, _) = slots.as_chunks::<2>();
        let span_of = |[start, end]: &[Option<regex_automata::util::primitives::NonMaxUsize>; 2]| {
            start.zip(*end).map(|(start, end)| Span { start: start.get(), end: end.get() })
        };
        Some(pairs.iter().map(|pair| text(span_of(pair))).collect())
    }

    /// Looks with what was made; the others of the set wait meanwhile, as an inspector has one thread.
    fn with<T>(&self, look: impl FnOnce(&mut Automata) -> Option<T>) -> Option<T> {
        let mut table = self.made.table();
        let Table { of, bytes } = &mut *table;
        let fresh = || Box::new(Automata { forward: self.forward.create_cache(), backward: None, bytes: 0 });
        let automata = of.get_mut(self.place)?.get_or_insert_with(fresh);
        let found = look(automata);
        let size = automata.size();
        *bytes = bytes.saturating_sub(automata.bytes).saturating_add(size);
        automata.bytes = size;
        if *bytes > MAX_MADE {
            table.forget();
        }
        found
    }

    /// Where its first match ends; with `any`, where it is clear that there is one.
    fn end(&self, automata: &mut Automata, value: &[u8], any: bool) -> Option<usize> {
        let input = Input::new(value).earliest(any);
        match self.forward.try_search_fwd(&mut automata.forward, &input) {
            Ok(end) => end.map(|end| end.offset()),
            // An automaton that gives up at a byte or for want of room is none of ours; but then the slow way is there.
            Err(_) => self.slow(&input).map(|span| span.end),
        }
    }

    /// Where the first match begins that ends at `end`.
    fn start(&self, automata: &mut Automata, value: &[u8], end: usize) -> Option<usize> {
        if automata.backward.is_none() {
            automata.backward = self.backward();
        }
        let input = Input::new(value).range(..end).anchored(Anchored::Yes);
        let found =
            automata.backward.as_mut().map(|(automaton, cache)| automaton.try_search_rev(cache, &input));
        match found {
            Some(Ok(start)) => start.map(|start| start.offset()),
            Some(Err(_)) | None => self.slow(&Input::new(value)).map(|span| span.start),
        }
    }

    /// The automaton from ends to beginnings.
    fn backward(&self) -> Option<(DFA, Cache)> {
        let hir = pattern::parse(&self.text, self.any_case).ok()?;
        let nfa = compile(&hir, WhichCaptures::None, true).ok()?;
        let automaton = automaton(nfa, MatchKind::All, None).ok()?;
        let cache = automaton.create_cache();
        Some((automaton, cache))
    }

    fn slow(&self, input: &Input<'_>) -> Option<Span> {
        let all = PikeVM::new_from_nfa(self.forward.get_nfa().clone()).ok()?;
        let mut slots = [None; 2];
        all.search_slots(&mut all.create_cache(), input, &mut slots)?;
        let [start, end] = slots;
        start.zip(end).map(|(start, end)| Span { start: start.get(), end: end.get() })
    }
}

fn compile(hir: &Hir, which: WhichCaptures, reverse: bool) -> Result<NFA, String> {
    let config = thompson::Config::new()
        .utf8(false)
        .reverse(reverse)
        .which_captures(which)
        .nfa_size_limit(Some(MAX_COMPILED));
    thompson::Compiler::new().configure(config).build_from_hir(hir).map_err(|error| error.to_string())
}

fn automaton(nfa: NFA, kind: MatchKind, prefilter: Option<Prefilter>) -> Result<DFA, String> {
    let config = DFA::config()
        .match_kind(kind)
        .specialize_start_states(prefilter.is_some())
        .prefilter(prefilter)
        .cache_capacity(MAX_STATES)
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::meta::{Config, Regex};

    use super::*;

    fn expression(text: &str, made: &Arc<Made>) -> Expression {
        let hir = pattern::parse(text.as_bytes(), false).unwrap();
        Expression::new((text.as_bytes(), false), &hir, true, made).unwrap()
    }

    proptest! {
        #[test]
        fn matches_and_groups_are_those_of_another_engine(
            value in "[abx(=1 ]{0,40}|(ab){0,20}=|[a-c]{0,3}(select|SELECT) ?[a-c(]{0,200}",
        ) {
            let made = Arc::default();
            for text in [
                "(a)(x)?(b)", "a*b*", "^a(b+)", "(ab)+=$", "(?i)(select|union)[^a-z]*(\\()?", "\\b(a|ab)(c|bcd)?\\b", "x|",
                "(?i)sel(e)ct.*c", "(a*)*1", "[ab]{2,5}?(=)", "\\xff", "abab",
            ] {
                let hir = pattern::parse(text.as_bytes(), false).unwrap();
                let other = Regex::builder().configure(Config::new().utf8_empty(false)).build_from_hir(&hir).unwrap();
                let ours = expression(text, &made);
                let mut captures = other.create_captures();
                other.captures(value.as_bytes(), &mut captures);
                let span = |span: Option<Span>| span.map_or(&b""[..], |span| &value.as_bytes()[span.range()]).to_vec();
                let want = captures.is_match().then(|| captures.iter().map(span).collect::<Vec<_>>());
                // Twice: with nothing made before, and with all of it.
                for _ in 0..2 {
                    prop_assert_eq!(ours.groups(value.as_bytes()), want.clone(), "{}", text);
                    prop_assert_eq!(ours.is_match(value.as_bytes()), want.is_some(), "{}", text);
                }
            }
        }
    }

    #[test]
    fn what_is_made_of_patterns_stays_within_its_bound_and_they_find_the_same() {
        let made: Arc<Made> = Arc::default();
        // Bytes without an order (a linear congruential generator), so that nearly each makes a state of its own.
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let value: Vec<u8> = std::iter::successors(Some(1_u32), next)
            .map(|state| if state >> 31 == 1 { b'a' } else { b'b' })
            .take(8_000)
            .collect();
        let mut fell = false;
        for at in 40..72 {
            let before = made.table().bytes;
            let found = expression(&format!("a[ab]{{{at}}}c"), &made).is_match(&value);
            assert!(!found);
            let after = made.table().bytes;
            assert!(after <= MAX_MADE, "{after}");
            fell |= after < before;
        }
        assert!(fell, "the bound was never met");
    }
}
