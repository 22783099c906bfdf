//! What every match of a pattern has in it: a set of literals of which one at least must be in a value, whatever its
//! case. Rules whose literals a value does not have need not look at it.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Literals of one pattern.
const MAX_LITERALS: usize = 256;

/// Literals of one list of phrases.
const MAX_PHRASES: usize = 20_000;

/// Texts that a part of a pattern stands for, while they are all known.
const MAX_EXACT: usize = 64;

/// Bytes of a literal.
const MAX_BYTES: usize = 24;

/// Bytes of a class that are told apart.
const MAX_CLASS: usize = 16;

/// Lower-case literals, none of them empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literals(Vec<Vec<u8>>);

impl Literals {
    /// Literals as they are; none when one is empty or there are too many.
    pub(super) fn new(mut literals: Vec<Vec<u8>>) -> Option<Self> {
        literals.iter_mut().for_each(|literal| literal.make_ascii_lowercase());
        literals.sort_unstable();
        literals.dedup();
        let useful = !literals.is_empty() && literals.len() <= MAX_PHRASES;
        (useful && literals.iter().all(|literal| !literal.is_empty())).then_some(Self(literals))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// The literals of a pattern, where it has some that are rare enough to look for.
pub(super) fn required(hir: &Hir) -> Option<Literals> {
    let part = part(hir, 0);
    let set = better(part.exact, part.required)?;
    let shortest = set.iter().map(Vec::len).min()?;
    let rare = match shortest {
        0 => false,
        // Single marks are worth a look, single letters are everywhere.
        1 => {
            set.len() <= MAX_CLASS
                && set.iter().filter(|literal| literal.len() == 1).flatten().all(|byte| {
                    !byte.is_ascii_alphanumeric() && !matches!(byte, b' ' | b'/' | b'.' | b'-' | b'_' | b'=')
                })
        }
        _ => true,
    };
    rare.then(|| Literals::new(set)).flatten()
}

type Set = Vec<Vec<u8>>;

/// What is known of a part of a pattern.
struct Part {
    /// All texts that it stands for, where they are few.
    exact: Option<Set>,
    /// One of these is in each text that it stands for.
    required: Option<Set>,
}

/// Groups within groups that are looked into; the parser's own bound is lower.
const MAX_DEPTH: usize = 256;

fn part(hir: &Hir, depth: usize) -> Part {
    let nothing = Part { exact: None, required: None };
    if depth > MAX_DEPTH {
        return nothing;
    }
    let below = depth.saturating_add(1);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Part { exact: Some(vec![Vec::new()]), required: None },
        HirKind::Literal(literal) => {
            let text = literal.0.to_ascii_lowercase();
            if text.len() <= MAX_BYTES {
                Part { exact: Some(vec![text]), required: None }
            } else {
                Part { exact: None, required: Some(vec![text.get(..MAX_BYTES).unwrap_or_default().to_vec()]) }
            }
        }
        HirKind::Class(class) => Part { exact: class_bytes(class), required: None },
        HirKind::Capture(capture) => part(&capture.sub, below),
        HirKind::Repetition(repetition) => {
            let sub = part(&repetition.sub, below);
            match (repetition.min, repetition.max) {
                (0, Some(1)) => {
                    let exact = sub.exact.map(|mut set| {
                        set.push(Vec::new());
                        set
                    });
                    Part { exact, required: None }
                }
                (0, _) => nothing,
                (1, Some(1)) => sub,
                (min, max) => {
                    let mut run = vec![Vec::new()];
                    let mut whole = max == Some(min);
                    if let Some(set) = &sub.exact {
                        for _ in 0..min {
                            match product(&run, set) {
                                Some(longer) => run = longer,
                                None => {
                                    whole = false;
                                    break;
                                }
                            }
                        }
                    } else {
                        whole = false;
                    }
                    if whole {
                        Part { exact: Some(run), required: None }
                    } else {
                        Part { exact: None, required: better(Some(run), better(sub.exact, sub.required)) }
                    }
                }
            }
        }
        HirKind::Concat(parts) => concatenation(parts, below),
        HirKind::Alternation(parts) => alternation(parts, below),
    }
}

fn concatenation(parts: &[Hir], depth: usize) -> Part {
    let mut best: Option<Set> = None;
    let mut run: Set = vec![Vec::new()];
    let mut whole = true;
    for hir in parts {
        let next = part(hir, depth);
        if let Some(set) = &next.exact
            && let Some(longer) = product(&run, set)
        {
            run = longer;
            continue;
        }
        whole = false;
        best = better(best, Some(std::mem::replace(&mut run, vec![Vec::new()])));
        match next.exact {
            Some(set) => run = set,
            None => best = better(best, next.required),
        }
    }
    if whole {
        Part { exact: Some(run), required: None }
    } else {
        Part { exact: None, required: better(best, Some(run)) }
    }
}

fn alternation(parts: &[Hir], depth: usize) -> Part {
    let (mut exact, mut required) = (Some(Set::new()), Some(Set::new()));
    for hir in parts {
        let next = part(hir, depth);
        match (&mut exact, &next.exact) {
            (Some(all), Some(set)) if all.len().saturating_add(set.len()) <= MAX_EXACT => {
                all.extend(set.iter().cloned());
            }
            _ => exact = None,
        }
        match (&mut required, better(next.exact, next.required)) {
            (Some(all), Some(set)) if all.len().saturating_add(set.len()) <= MAX_LITERALS => all.extend(set),
            _ => required = None,
        }
        if exact.is_none() && required.is_none() {
            break;
        }
    }
    Part { exact, required }
}

/// The bytes of a small class, letters in lower case.
fn class_bytes(class: &Class) -> Option<Set> {
    let mut bytes = Vec::new();
    let mut take = |first: u8, last: u8| {
        for byte in first..=last {
            let byte = byte.to_ascii_lowercase();
            if !bytes.contains(&byte) {
                bytes.push(byte);
            }
        }
        bytes.len() <= MAX_CLASS
    };
    let small = match class {
        Class::Bytes(class) => class.iter().all(|range| take(range.start(), range.end())),
        Class::Unicode(class) => class.iter().all(|range| {
            let ends = u8::try_from(range.start()).ok().zip(u8::try_from(range.end()).ok());
            ends.is_some_and(|(first, last)| last.is_ascii() && take(first, last))
        }),
    };
    (small && !bytes.is_empty()).then(|| bytes.into_iter().map(|byte| vec![byte]).collect())
}

/// Each of `one` with each of `two` behind it, while they are few and short.
fn product(one: &Set, two: &Set) -> Option<Set> {
    if one.len().saturating_mul(two.len()) > MAX_EXACT {
        return None;
    }
    let mut all = Set::with_capacity(one.len().saturating_mul(two.len()));
    for head in one {
        for tail in two {
            if head.len().saturating_add(tail.len()) > MAX_BYTES {
                return None;
            }
            let joined = [head.as_slice(), tail].concat();
            if !all.contains(&joined) {
                all.push(joined);
            }
        }
    }
    Some(all)
}

/// The set that fewer values have: whose shortest is longer; of two such, the smaller.
fn better(one: Option<Set>, two: Option<Set>) -> Option<Set> {
    let worth = |set: &Set| {
        let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
        let many = usize::try_from(set.len().max(1).ilog2()).unwrap_or(0);
        // Nothing is found by an empty text.
        (shortest > 0).then(|| shortest.saturating_mul(8).saturating_sub(many.saturating_mul(2)))
    };
    let rate = |set: &Option<Set>| set.as_ref().and_then(worth);
    match (rate(&one), rate(&two)) {
        (Some(first), Some(second)) if second > first => two,
        (Some(_), _) => one,
        (None, Some(_)) => two,
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern;
    use super::*;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let hir = pattern::parse(pattern.as_bytes(), false).unwrap();
        required(&hir).map(|set| set.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    #[test]
    fn a_pattern_is_found_by_what_it_cannot_do_without() {
        for (pattern, want) in [
            ("(?i)union\\s+select", Some(vec!["select"])),
            ("foo|ba[rz]", Some(vec!["bar", "baz", "foo"])),
            ("(?:abc)+", Some(vec!["abc"])),
            ("x*abc?", Some(vec!["ab", "abc"])),
            ("[\\n\\r]", Some(vec!["\n", "\r"])),
            ("a|b", None),
            ("[a-z]+", None),
            ("(?:abc|d*)", None),
            ("^$", None),
            ("(a|b)(c|d)e", Some(vec!["ace", "ade", "bce", "bde"])),
        ] {
            let want = want.map(|set| set.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(of(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn every_text_that_a_pattern_is_found_in_has_one_of_its_literals() {
        for (pattern, texts) in [
            ("(?i)(?:sel)ect[^a-z]{2,5}(?:from|into)", &["SELECT  from", "x selECT..into"][..]),
            ("a{2}b|c[de]{2}f", &["xaab", "cdef", "ceef"]),
            ("(?:get|post)?\\.php[345]?$", &["get.php", "x.php5"]),
        ] {
            let regex = pattern::compile(pattern.as_bytes(), false).unwrap();
            let literals = of(pattern).unwrap();
            for text in texts {
                assert!(regex.is_match(text.as_bytes()), "{pattern} on {text}");
                let small = text.to_ascii_lowercase();
                assert!(
                    literals.iter().any(|literal| small.contains(literal)),
                    "{pattern}: {literals:?} in {text}"
                );
            }
        }
    }
}
