//! From an expression to what is run: a deterministic automaton whose state is one number, and what must be met before it
//! need run at all. What cannot be run at the speed of traffic is refused, with the reason.

use std::sync::Arc;

use regex_automata::MatchKind;
use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use crate::check::Check;
use crate::literal::{self, Required};
use crate::sensor::{MAX_PATTERN_BYTES, Pattern};

/// Bytes of one expression's automaton.
const MAX_AUTOMATON_BYTES: usize = 768 * 1024;
/// Bytes of an automaton for several expressions of a context that must run on every byte.
pub(crate) const MAX_ALWAYS_BYTES: usize = 1 << 20;
/// Such automata of one context: each costs about a nanosecond a byte. Lines are short, bodies and streams are not.
pub(crate) const MAX_ALWAYS_OF_LINES: usize = 24;
/// Such automata of a context whose text has any length.
pub(crate) const MAX_ALWAYS_OF_BODIES: usize = 4;
/// Bytes of an expression's first form.
const MAX_NFA_BYTES: usize = 512 * 1024;
/// Longest match of an expression without a bound of its own, counted from its needle on.
pub(crate) const MAX_MATCH_BYTES: usize = 4096;
/// Bytes before its needle where a match may begin, where the expression sets no bound.
pub(crate) const MAX_LOOKBACK_BYTES: usize = 256;
/// Bytes of a run (a number with its separators) between two places that are looked at.
const MAX_STRIDE: usize = 64;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing to look for.
    #[error("the pattern is empty; write what to look for, or leave it out")]
    Empty,
    /// The contract's bound.
    #[error("the pattern has {bytes} bytes, {MAX_PATTERN_BYTES} at most; say it in two patterns")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// PCRE's `(?=`, `(?!`, `(?<=`, `(?<!`.
    #[error(
        "the pattern looks around (`(?=…)`, `(?!…)`, `(?<=…)`), which needs time without a bound; say what must not be there in a pattern of its own with `!regex`"
    )]
    LookAround,
    /// PCRE's `\1`.
    #[error(
        "the pattern refers back to a group (`\\1`), which needs time without a bound; write out what may stand there"
    )]
    BackReference,
    /// It is no expression.
    #[error("the pattern is no regular expression: {reason}")]
    Syntax {
        /// What is wrong, and where.
        reason: String,
    },
    /// It is found in every message.
    #[error("the pattern matches the empty text, so every message has it; ask for at least one byte")]
    MatchesNothing,
    /// Its automaton is too large.
    #[error("the pattern needs an automaton of more than {} KiB; bound its repetitions (`.{{0,400}}`) more tightly", MAX_AUTOMATON_BYTES / 1024)]
    TooLarge,
    /// It would have to run on every byte, as too many others do.
    #[error("the pattern has no fixed text of three bytes, so it must be run on every byte, and with the others that must it needs more than {MAX_ALWAYS_OF_BODIES} automata of {} MiB ({MAX_ALWAYS_OF_LINES} for URLs and headers, which are short); add text that is always there, or look in the URL or header", MAX_ALWAYS_BYTES >> 20)]
    Everywhere,
}

/// An automaton of one expression.
pub(crate) type Automaton = Arc<dense::DFA<Vec<u32>>>;

/// What must be met before an automaton runs.
#[derive(Clone, Debug)]
pub(crate) enum Gate {
    /// One of the needles.
    Needles(Required),
    /// A run of these bytes, at least so long: all of a match's bytes are such.
    Run(Box<[bool; 256]>, usize),
    /// One of these bytes, which is all of the match.
    Byte(Box<[bool; 256]>),
    /// Nothing: it runs on every byte.
    None,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) hir: Hir,
    pub(crate) gate: Gate,
    /// For a pattern with needles.
    pub(crate) automaton: Option<Automaton>,
    pub(crate) check: Option<Check>,
    /// Bytes that a match has at most, where that is known.
    pub(crate) longest: Option<usize>,
    /// A match begins where the text does.
    pub(crate) anchored: bool,
}

/// Reads an expression over bytes.
pub(crate) fn parse(value: &str) -> Result<Hir, PatternError> {
    let config = syntax::Config::new().unicode(false).utf8(false).nest_limit(48);
    syntax::parse_with(value, &config).map_err(|error| {
        use regex_syntax::ast::ErrorKind;
        match &error {
            regex_syntax::Error::Parse(parse) => match parse.kind() {
                ErrorKind::UnsupportedLookAround => PatternError::LookAround,
                ErrorKind::UnsupportedBackreference => PatternError::BackReference,
                kind => {
                    PatternError::Syntax { reason: format!("{kind} at byte {}", parse.span().start.offset) }
                }
            },
            other => {
                let text = other.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                PatternError::Syntax { reason: reason.to_owned() }
            }
        }
    })
}

/// Compiles a pattern.
///
/// # Errors
/// When it is refused.
pub(crate) fn compile(pattern: &Pattern) -> Result<Compiled, PatternError> {
    if pattern.value.is_empty() {
        return Err(PatternError::Empty);
    }
    if pattern.value.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong { bytes: pattern.value.len() });
    }
    let hir = parse(&pattern.value)?;
    // A check looks at the whole of a match.
    let hir = if pattern.check.is_some() { hir } else { trim(hir) };
    let properties = hir.properties();
    if properties.minimum_len() == Some(0) {
        return Err(PatternError::MatchesNothing);
    }
    let longest = properties.maximum_len();
    let anchored = properties.look_set_prefix().contains(Look::Start);
    let byte = byte(&hir).filter(|_| pattern.check.is_none());
    let gate = match (literal::required(&hir), byte, run(&hir)) {
        (Some(required), ..) => Gate::Needles(required),
        (None, Some(bytes), _) => Gate::Byte(bytes),
        (None, None, Some((bytes, shortest))) => Gate::Run(bytes, shortest),
        (None, None, None) => Gate::None,
    };
    let automaton = match gate {
        Gate::Needles(_) => {
            let how = if anchored { How::Beginning } else { How::Needles };
            Some(Arc::new(automaton(&[&hir], MAX_AUTOMATON_BYTES, how).ok_or(PatternError::TooLarge)?))
        }
        Gate::Run(..) | Gate::None => {
            // Alone it must be small enough, too.
            automaton(&[&hir], MAX_AUTOMATON_BYTES, How::Every).ok_or(PatternError::TooLarge)?;
            None
        }
        Gate::Byte(_) => None,
    };
    Ok(Compiled { hir, gate, automaton, check: pattern.check, longest, anchored })
}

/// How an automaton is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// From places on where needles were found: it tells when no match has begun.
    Needles,
    /// On every byte.
    Every,
    /// From the beginning of a text on, until nothing can match any more.
    Beginning,
}

/// One automaton for expressions, that tells all that match; `None` where it would be larger than `limit` bytes.
pub(crate) fn automaton(expressions: &[&Hir], limit: usize, how: How) -> Option<dense::DFA<Vec<u32>>> {
    let start = if how == How::Beginning { StartKind::Anchored } else { StartKind::Unanchored };
    let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_NFA_BYTES.max(limit)));
    let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(expressions).ok()?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(start)
        .specialize_start_states(how == How::Needles)
        .accelerate(false)
        .dfa_size_limit(Some(limit))
        .determinize_size_limit(Some(limit.saturating_mul(4)));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

/// Leaves out what may be left out at both ends: whether there is a match at all stays the same.
fn trim(hir: Hir) -> Hir {
    let HirKind::Concat(parts) = hir.kind() else {
        return match hir.kind() {
            HirKind::Capture(capture) => trim((*capture.sub).clone()),
            HirKind::Repetition(_) => least(&hir),
            _ => hir,
        };
    };
    let mut parts: Vec<Hir> = parts.clone();
    let optional = |part: &Hir| {
        part.properties().minimum_len() == Some(0) && matches!(part.kind(), HirKind::Repetition(_))
    };
    while parts.last().is_some_and(optional) {
        parts.pop();
    }
    let lead = parts.iter().take_while(|part| optional(part)).count();
    parts.drain(..lead);
    if let Some(first) = parts.first_mut() {
        *first = least(first);
    }
    if let Some(last) = parts.last_mut() {
        *last = least(last);
    }
    Hir::concat(parts)
}

/// A repetition as often as it must be.
fn least(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { max: Some(repetition.min), ..repetition.clone() })
        }
        _ => hir.clone(),
    }
}

/// The bytes of which one alone is a match, of an expression that asks for nothing else.
fn byte(hir: &Hir) -> Option<Box<[bool; 256]>> {
    let mut bytes = Box::new([false; 256]);
    let alone = match hir.kind() {
        HirKind::Capture(capture) => return byte(&capture.sub),
        HirKind::Literal(literal) => literal.0.len() == 1,
        HirKind::Class(Class::Bytes(_)) => true,
        _ => false,
    };
    (alone && gather(hir, &mut bytes, 0)).then_some(bytes)
}

/// The bytes that matches are made of, where these are few, and how many a match has at least.
fn run(hir: &Hir) -> Option<(Box<[bool; 256]>, usize)> {
    let mut bytes = Box::new([false; 256]);
    if !gather(hir, &mut bytes, 0) || bytes.iter().filter(|has| **has).count() > 24 {
        return None;
    }
    let shortest = hir.properties().minimum_len()?.min(MAX_STRIDE);
    (shortest >= 6).then_some((bytes, shortest))
}

fn gather(hir: &Hir, bytes: &mut [bool; 256], depth: usize) -> bool {
    let mut add = |byte: u8| {
        if let Some(place) = bytes.get_mut(usize::from(byte)) {
            *place = true;
        }
    };
    if depth > 24 {
        return false;
    }
    let depth = depth.saturating_add(1);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            literal.0.iter().for_each(|byte| add(*byte));
            true
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().flat_map(|range| range.start()..=range.end()).for_each(add);
            true
        }
        HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Repetition(repetition) => gather(&repetition.sub, bytes, depth),
        HirKind::Capture(capture) => gather(&capture.sub, bytes, depth),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().all(|part| gather(part, bytes, depth))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::Context;

    fn pattern(value: &str) -> Pattern {
        Pattern { value: value.to_owned(), absent: false, context: Context::Body, check: None }
    }

    #[test]
    fn what_costs_too_much_is_refused_with_the_reason() {
        for (value, want) in [
            ("", "is empty"),
            ("(?=a)b", "looks around"),
            ("(?<!a)b", "looks around"),
            (r"(a)\1", "refers back"),
            ("a(b", "unclosed group at byte 1"),
            (".*", "empty text"),
            ("x*", "empty text"),
            ("(?s)secret.{300}[a-f]{40}.{300}key", "automaton of more than"),
        ] {
            let error = compile(&pattern(value)).unwrap_err().to_string();
            assert!(error.contains(want), "{value}: {error}");
        }
        assert!(compile(&pattern(&"a".repeat(513))).unwrap_err().to_string().contains("513 bytes"));
    }

    #[test]
    fn what_may_be_left_out_at_the_ends_is_left_out() {
        for (value, want) in
            [(".*secret.*", "secret"), (r"\w+@x\.org\s*", r"\w@x\.org"), ("(?s).*key[0-9]+", "key[0-9]")]
        {
            assert_eq!(trim(parse(value).unwrap()), parse(want).unwrap(), "{value}");
        }
    }

    #[test]
    fn numbers_are_found_by_their_runs() {
        let compiled = compile(&pattern(r"\b4[0-9]{3}(?:[ -]?[0-9]{4}){3}\b")).unwrap();
        assert!(
            matches!(compiled.gate, Gate::Run(bytes, 16) if bytes.iter().filter(|has| **has).count() == 12)
        );
    }
}
