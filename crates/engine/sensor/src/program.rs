//! All patterns of one context, put together so that most bytes of a stream need not be looked at.

use std::collections::{BTreeMap, HashSet};

use memchr::memmem::Finder;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;

use crate::check::{Check, WINDOW};
use crate::class::Class;
use crate::compile::{
    Automaton, Compiled, Gate, How, MAX_ALWAYS_BYTES, MAX_LOOKBACK_BYTES, MAX_MATCH_BYTES, PatternError,
    automaton,
};
use crate::needles::{Needles, Openings};
use crate::span::Exits;
use crate::stream::begin;

/// Lengths from which on needles have a table of their own, where they are many: the longer, the fewer places are looked at.
const LONGER: [usize; 2] = [5, 7];

/// Bytes of the automaton for all numbers.
const MAX_RUNS_BYTES: usize = 4 << 20;

/// An automaton, run byte by byte.
pub(crate) type Dfa = dense::DFA<Vec<u32>>;

/// All patterns of one context.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) patterns: Vec<Local>,
    /// Needles of three bytes or more.
    pub(crate) tables: Vec<Table>,
    /// How needles of `tables` begin.
    pub(crate) openings: Openings,
    /// Needles of two bytes, none of them a letter or digit.
    pub(crate) pairs: Vec<(Finder<'static>, Vec<Use>)>,
    pub(crate) runs: Option<Runs>,
    /// Patterns that are one byte.
    pub(crate) bytes: Vec<(u16, OneOf)>,
    /// Automata that run on every byte, or from the beginning on until they are dead.
    pub(crate) always: Vec<Many>,
    /// Bytes of a stream that are kept from piece to piece.
    pub(crate) keep: usize,
}

/// A pattern, here.
#[derive(Debug)]
pub(crate) struct Local {
    /// Its number in the set.
    pub(crate) number: u16,
    pub(crate) automaton: Option<Automaton>,
    pub(crate) check: Option<Check>,
    /// Bytes behind a needle's end where a match with it may end, and one more.
    pub(crate) reach: u64,
    /// Of a pattern whose matches begin where the stream does: behind it no needle of one ends.
    pub(crate) beginning: Option<u64>,
}

/// A needle's pattern, and the bytes before the needle's end where a match may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) pattern: u16,
    pub(crate) back: u16,
}

/// Bytes one of which is looked for.
#[derive(Clone, Debug)]
pub(crate) enum OneOf {
    One(u8),
    Two([u8; 2]),
    Three([u8; 3]),
    More(Box<[bool; 256]>),
}

impl OneOf {
    fn new(bytes: &[bool; 256]) -> Self {
        let all: Vec<u8> = (0..=u8::MAX).zip(bytes).filter(|(_, has)| **has).map(|(byte, _)| byte).collect();
        match *all {
            [one] => Self::One(one),
            [one, two] => Self::Two([one, two]),
            [one, two, three] => Self::Three([one, two, three]),
            _ => Self::More(Box::new(*bytes)),
        }
    }

    /// Whether a text has one of them.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Self::One(one) => memchr::memchr(*one, text).is_some(),
            Self::Two([one, two]) => memchr::memchr2(*one, *two, text).is_some(),
            Self::Three([one, two, three]) => memchr::memchr3(*one, *two, *three, text).is_some(),
            Self::More(bytes) => {
                text.iter().any(|byte| bytes.get(usize::from(*byte)).copied().unwrap_or(false))
            }
        }
    }
}

/// One automaton of many patterns, by their order.
#[derive(Debug)]
pub(crate) struct Many {
    pub(crate) automaton: Dfa,
    /// It runs from the beginning of a stream on, until it is dead.
    pub(crate) anchored: bool,
    pub(crate) patterns: Vec<u16>,
    /// One of them has a check, so that it matters where it matches.
    pub(crate) checked: bool,
    /// Of each state in which a text may stay for long, what leads out of it.
    exits: Vec<Option<Exits>>,
}

impl Many {
    /// How many bytes at the beginning of a text leave the automaton in a state in which the byte before has left it.
    pub(crate) fn stays(&self, at: StateID, text: &[u8]) -> usize {
        let exits = self.exits.get(at.as_usize() >> self.automaton.stride2());
        exits.and_then(Option::as_ref).map_or(0, |exits| exits.stays(text))
    }

    /// Looks for the exits of all states.
    fn find_exits(&mut self) {
        let automaton = &self.automaton;
        let anchored = if self.anchored { Anchored::Yes } else { Anchored::No };
        let start = begin(automaton, None, anchored);
        let (mut next, mut seen) = (vec![start], HashSet::from([start]));
        // Each turn takes a state that was not seen before.
        while let Some(at) = next.pop() {
            let index = at.as_usize() >> automaton.stride2();
            if self.exits.len() <= index {
                self.exits.resize(index.saturating_add(1), None);
            }
            if let Some(place) = self.exits.get_mut(index) {
                *place = Exits::new(|byte| automaton.next_state(at, byte) != at);
            }
            next.extend(
                (0..=u8::MAX).map(|byte| automaton.next_state(at, byte)).filter(|state| seen.insert(*state)),
            );
        }
    }
}

/// Patterns made of few bytes (digits and separators).
#[derive(Debug)]
pub(crate) struct Runs {
    /// The bytes, and how many the shortest match has, 64 at most.
    pub(crate) class: Class,
    pub(crate) many: Many,
}

impl Program {
    /// Puts patterns together, each with its number in the set; at most `most` automata run on every byte.
    ///
    /// # Errors
    /// The numbers of patterns that would make it too large, and why.
    pub(crate) fn new(compiled: &[(u16, &Compiled)], most: usize) -> Result<Self, Vec<(u16, PatternError)>> {
        let mut program = Self { keep: WINDOW.saturating_add(1), ..Self::default() };
        let mut needles: BTreeMap<&[u8], Vec<Use>> = BTreeMap::new();
        let (mut runs, mut always) = (Vec::<(u16, &Compiled, &[bool; 256], usize)>::new(), Vec::new());
        for (local, (number, one)) in (0_u16..).zip(compiled) {
            let longest = one.longest.unwrap_or(MAX_MATCH_BYTES).min(MAX_MATCH_BYTES);
            program.patterns.push(Local {
                number: *number,
                automaton: one.automaton.clone(),
                check: one.check,
                reach: (longest as u64).saturating_add(1),
                beginning: one.anchored.then_some(0),
            });
            match &one.gate {
                Gate::Needles(required) => {
                    let before = required.before.unwrap_or(MAX_LOOKBACK_BYTES).min(MAX_LOOKBACK_BYTES);
                    for needle in &required.needles {
                        let back = needle.len().saturating_add(before);
                        program.keep = program.keep.max(back.saturating_add(1));
                        let back = u16::try_from(back).unwrap_or(u16::MAX);
                        needles.entry(needle).or_default().push(Use { pattern: local, back });
                        if let Some(last) =
                            program.patterns.last_mut().and_then(|local| local.beginning.as_mut())
                        {
                            *last = (*last).max(u64::from(back));
                        }
                    }
                }
                Gate::Run(bytes, shortest) => runs.push((local, *one, &**bytes, *shortest)),
                Gate::Byte(_) | Gate::None => always.push((local, *one)),
            }
        }
        let (pairs, longer): (Vec<_>, Vec<_>) =
            needles.into_iter().partition(|(needle, _)| needle.len() == 2);
        program.pairs =
            pairs.into_iter().map(|(needle, uses)| (Finder::new(needle).into_owned(), uses)).collect();
        longer.iter().for_each(|(needle, _)| program.openings.add(needle));
        program.tables = tables(longer);
        let number = |local: &u16| compiled.get(usize::from(*local)).map_or(0, |(number, _)| *number);
        let refused = |local: &u16| (number(local), PatternError::Everywhere);
        let (mut all, mut refusals) = (groups(&always, How::Every), Vec::new());
        for many in all.drain(most.min(all.len())..) {
            refusals.extend(many.patterns.iter().map(refused));
        }
        program.add_always(&always, all, most);
        if let Err(locals) = program.add_runs(&runs) {
            refusals.extend(locals.iter().map(refused));
        }
        if refusals.is_empty() { Ok(program) } else { Err(refusals) }
    }

    /// Adds patterns that must be looked for at every byte: each apart by what it takes, or `all` of them together where that
    /// makes more than `most` automata.
    /// A pattern of one byte needs no automaton, and one that begins where the stream does is over after a few bytes of most
    /// streams, unless it runs together with others.
    fn add_always(&mut self, always: &[(u16, &Compiled)], all: Vec<Many>, most: usize) {
        let taken = |local: &u16| all.iter().any(|many| many.patterns.contains(local));
        let (mut beginning, mut every, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (local, one) in always.iter().filter(|(local, _)| taken(local)) {
            match &one.gate {
                Gate::Byte(one_of) => bytes.push((*local, OneOf::new(one_of))),
                _ if one.anchored => beginning.push((*local, *one)),
                _ => every.push((*local, *one)),
            }
        }
        let mut apart = groups(&beginning, How::Beginning);
        apart.extend(groups(&every, How::Every));
        if apart.len() <= most {
            (self.always, self.bytes) = (apart, bytes);
        } else {
            self.always = all;
        }
    }

    /// Adds patterns made of few bytes; all of them come back where they do not fit into one automaton.
    fn add_runs(&mut self, runs: &[(u16, &Compiled, &[bool; 256], usize)]) -> Result<(), Vec<u16>> {
        let Some(shortest) = runs.iter().map(|(.., shortest)| *shortest).min() else { return Ok(()) };
        let mut bytes = Box::new([false; 256]);
        for (.., some, _) in runs {
            for (place, has) in bytes.iter_mut().zip(some.iter()) {
                *place |= *has;
            }
        }
        let all: Vec<(u16, &Compiled)> = runs.iter().map(|(local, one, ..)| (*local, *one)).collect();
        self.keep = self.keep.max(shortest.saturating_add(1));
        let Some(many) = many(&all, MAX_RUNS_BYTES, How::Every) else {
            return Err(all.iter().map(|(local, _)| *local).collect());
        };
        self.runs = Some(Runs { class: Class::new(bytes, shortest), many });
        Ok(())
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

/// Needles that are looked for in one pass, each with its uses.
type Table = (Needles, Vec<Vec<Use>>);

/// As few tables as it takes: one for all needles where they are few, else one for the short and one or several for others.
fn tables(needles: Vec<(&[u8], Vec<Use>)>) -> Vec<Table> {
    let split = |needles: Vec<(&[u8], Vec<Use>)>| -> (Vec<Vec<u8>>, Vec<Vec<Use>>) {
        needles.into_iter().map(|(needle, uses)| (needle.to_vec(), uses)).unzip()
    };
    let mut tables = Vec::new();
    let mut rest = needles;
    for length in LONGER.into_iter().rev() {
        if Needles::few(&rest.iter().map(|(needle, _)| needle.to_vec()).collect::<Vec<_>>()).is_some() {
            break;
        }
        let (long, short): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(needle, _)| needle.len() >= length);
        let (needles, uses) = split(long);
        tables.extend(Needles::many(&needles).map(|table| (table, uses)));
        rest = short;
    }
    let (needles, uses) = split(rest);
    tables.extend(Needles::few(&needles).or_else(|| Needles::many(&needles)).map(|table| (table, uses)));
    tables
}

/// One automaton for patterns; `None` where it would be larger than `limit` bytes.
fn many(all: &[(u16, &Compiled)], limit: usize, how: How) -> Option<Many> {
    let expressions: Vec<_> = all.iter().map(|(_, one)| &one.hir).collect();
    let automaton = automaton(&expressions, limit, how)?;
    let checked = all.iter().any(|(_, one)| one.check.is_some());
    let patterns = all.iter().map(|(local, _)| *local).collect();
    Some(Many { automaton, anchored: how == How::Beginning, patterns, checked, exits: Vec::new() })
}

/// Patterns that run on every byte, in as many automata as it takes.
fn groups(all: &[(u16, &Compiled)], how: How) -> Vec<Many> {
    if all.is_empty() {
        return Vec::new();
    }
    // One alone always fits: a larger one is refused before.
    if let Some(mut many) = many(all, MAX_ALWAYS_BYTES, how) {
        many.find_exits();
        return vec![many];
    }
    let (first, second) = all.split_at(all.len() / 2);
    let mut groups = if all.len() > 1 { groups(first, how) } else { Vec::new() };
    groups.extend(self::groups(second, how));
    groups
}
