//! Ranges of versions as advisories write them, to intervals.

use std::cmp::Ordering;

use super::{Scheme, compare};

/// How a range is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// npm: `^1.2 || >=2.0.0 <2.3`, `1.x`, `1.2 - 1.4`; a blank means and.
    Npm,
    /// PEP 440: `>=1.0,<2,!=1.5`, `==1.*`, `~=1.4.2`; a comma means and.
    Pep440,
    /// RubyGems: `~> 1.2.3`, `>= 1.0, < 2.0`.
    Gem,
    /// Composer: `^1.2|>=2,<2.3`, `1.*`.
    Composer,
    /// Maven and NuGet: `[1.0,2.0),(,0.5]`, a bare version means exactly that.
    Brackets,
}

/// One end of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The version as it is written.
    pub version: Box<str>,
    /// Whether the version itself is inside.
    pub inclusive: bool,
}

/// Versions between two ends; a missing end is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// The older end.
    pub lower: Option<Bound>,
    /// The newer end.
    pub upper: Option<Bound>,
}

/// Why text is no range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// A part that is neither an operator with a version nor a version.
    #[error("{part:?} in the range {range:?} is no condition on a version")]
    Condition {
        /// The part.
        part: String,
        /// The whole range.
        range: String,
    },
    /// More conditions than a range may have.
    #[error("the range has more than {max} conditions", max = MAX_CONDITIONS)]
    Conditions,
}

/// Most conditions in one range.
const MAX_CONDITIONS: usize = 1024;

impl Interval {
    /// Whether a version of the scheme is inside.
    pub fn contains(&self, scheme: Scheme, version: &[u8]) -> bool {
        let above = self.lower.as_ref().is_none_or(|lower| {
            match compare(scheme, version, lower.version.as_bytes()) {
                Ordering::Greater => true,
                Ordering::Equal => lower.inclusive,
                Ordering::Less => false,
            }
        });
        above
            && self.upper.as_ref().is_none_or(|upper| {
                match compare(scheme, version, upper.version.as_bytes()) {
                    Ordering::Less => true,
                    Ordering::Equal => upper.inclusive,
                    Ordering::Greater => false,
                }
            })
    }

    fn exactly(version: &str) -> Self {
        Self { lower: bound(version, true), upper: bound(version, true) }
    }

    fn from(version: &str, inclusive: bool) -> Self {
        Self { lower: bound(version, inclusive), upper: None }
    }

    fn to(version: &str, inclusive: bool) -> Self {
        Self { lower: None, upper: bound(version, inclusive) }
    }

    /// From a version, inclusive, to another, exclusive.
    fn between(from: &str, to: &str) -> Self {
        Self { lower: bound(from, true), upper: bound(to, false) }
    }

    /// What is in both; none where that is nothing.
    fn intersect(&self, other: &Self, scheme: Scheme) -> Option<Self> {
        let order = |a: &Bound, b: &Bound| compare(scheme, a.version.as_bytes(), b.version.as_bytes());
        let lower = stricter(&self.lower, &other.lower, |a, b| order(a, b));
        let upper = stricter(&self.upper, &other.upper, |a, b| order(b, a));
        if let (Some(lower), Some(upper)) = (&lower, &upper) {
            match order(lower, upper) {
                Ordering::Greater => return None,
                Ordering::Equal if !(lower.inclusive && upper.inclusive) => return None,
                _ => {}
            }
        }
        Some(Self { lower, upper })
    }
}

/// The stricter of two ends, where `order` says `Greater` if the first is.
fn stricter(
    a: &Option<Bound>,
    b: &Option<Bound>,
    order: impl Fn(&Bound, &Bound) -> Ordering,
) -> Option<Bound> {
    match (a, b) {
        (Some(a), Some(b)) => Some(match order(a, b) {
            Ordering::Greater => a.clone(),
            Ordering::Less => b.clone(),
            Ordering::Equal => Bound { version: a.version.clone(), inclusive: a.inclusive && b.inclusive },
        }),
        (a, b) => a.clone().or_else(|| b.clone()),
    }
}

fn bound(version: &str, inclusive: bool) -> Option<Bound> {
    Some(Bound { version: version.into(), inclusive })
}

/// Reads a range. An empty one, `*` and `x` hold every version.
///
/// # Errors
/// [`RangeError`] names the part that is no condition.
pub fn parse_range(syntax: Syntax, scheme: Scheme, range: &str) -> Result<Vec<Interval>, RangeError> {
    if syntax == Syntax::Brackets {
        return parse_brackets(range);
    }
    let mut found = Vec::new();
    for alternative in range.replace("||", "|").split('|') {
        let mut within = vec![Interval::default()];
        for part in conditions(syntax, alternative) {
            let intervals = condition(syntax, scheme, &part)
                .ok_or_else(|| RangeError::Condition { part: part.clone(), range: range.to_owned() })?;
            within = within
                .iter()
                .flat_map(|a| intervals.iter().filter_map(move |b| a.intersect(b, scheme)))
                .collect();
            if within.len() > MAX_CONDITIONS {
                return Err(RangeError::Conditions);
            }
        }
        found.append(&mut within);
        if found.len() > MAX_CONDITIONS {
            return Err(RangeError::Conditions);
        }
    }
    Ok(found)
}

/// Every version that is in none of the intervals.
pub fn complement(scheme: Scheme, intervals: &[Interval]) -> Vec<Interval> {
    let turned = |bound: &Bound| Some(Bound { version: bound.version.clone(), inclusive: !bound.inclusive });
    let mut rest = vec![Interval::default()];
    for interval in intervals {
        let below = interval.lower.as_ref().map(|lower| Interval { lower: None, upper: turned(lower) });
        let above = interval.upper.as_ref().map(|upper| Interval { lower: turned(upper), upper: None });
        rest = rest
            .iter()
            .flat_map(|part| {
                [&below, &above].into_iter().flatten().filter_map(|side| part.intersect(side, scheme))
            })
            .collect();
    }
    rest
}

/// Every version that is in one of `from` and in none of `minus`; at most as many intervals as a range may have
/// conditions.
pub fn subtract(scheme: Scheme, from: &[Interval], minus: &[Interval]) -> Vec<Interval> {
    let rest = complement(scheme, minus);
    let pairs = from.iter().flat_map(|part| rest.iter().filter_map(|other| part.intersect(other, scheme)));
    pairs.take(MAX_CONDITIONS).collect()
}

/// The conditions of one alternative, each an operator and its version without blanks between.
fn conditions(syntax: Syntax, alternative: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut hyphen = false;
    let splits_at_blank = matches!(syntax, Syntax::Npm | Syntax::Composer);
    let pieces: Vec<&str> = if splits_at_blank {
        alternative.split([',', ' ', '\t', '\n']).collect()
    } else {
        alternative.split(',').collect()
    };
    for piece in pieces.into_iter().map(str::trim).filter(|piece| !piece.is_empty()) {
        let operator_alone = |text: &str| !text.is_empty() && text.chars().all(|c| "<>=!~^".contains(c));
        if splits_at_blank && piece == "-" {
            hyphen = true;
            continue;
        }
        match found.last_mut() {
            Some(last) if std::mem::take(&mut hyphen) => {
                last.push_str(" - ");
                last.push_str(piece);
            }
            Some(last) if operator_alone(last) => last.push_str(piece),
            _ => found.push(piece.to_owned()),
        }
    }
    found
}

fn condition(syntax: Syntax, scheme: Scheme, part: &str) -> Option<Vec<Interval>> {
    if let Some((from, to)) = part.split_once(" - ") {
        let lower = Interval::from(&complete(from), true);
        let upper = match next_after_wildcard(to, partial_numbers(to)) {
            Some(next) if syntax == Syntax::Npm && numbers(to).len() < 3 => Interval::to(&next, false),
            _ => Interval::to(to, true),
        };
        return Some(vec![lower.intersect(&upper, scheme)?]);
    }
    let split = part.find(|c: char| !"<>=!~^".contains(c)).unwrap_or(part.len());
    let (operator, version) = part.split_at_checked(split)?;
    let version = version.trim();
    let is_version = version.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*');
    if !is_version {
        return None;
    }
    let wildcard = matches!(version, "*" | "x" | "X")
        || version.ends_with(".*")
        || version.ends_with(".x")
        || version.ends_with(".X");
    if wildcard {
        let kept = partial_numbers(version);
        let from = prefix(version, kept);
        let Some(next) = next_after_wildcard(version, kept) else { return Some(vec![Interval::default()]) };
        return Some(match operator {
            "" | "=" | "==" | "^" | "~" | "~>" => {
                vec![Interval::between(&lowest(syntax, &from), &lowest(syntax, &next))]
            }
            "!=" => vec![
                Interval::to(&lowest(syntax, &from), false),
                Interval::from(&lowest(syntax, &next), true),
            ],
            ">=" => vec![Interval::from(&from, true)],
            ">" => vec![Interval::from(&next, true)],
            "<" => vec![Interval::to(&from, false)],
            "<=" => vec![Interval::to(&next, false)],
            _ => return None,
        });
    }
    Some(match operator {
        "" if syntax == Syntax::Npm && numbers(version).len() < 3 => {
            let next = next_after_wildcard(version, numbers(version).len())?;
            vec![Interval::between(&complete(version), &next)]
        }
        "" | "=" | "==" | "===" => vec![Interval::exactly(version)],
        "!=" => vec![Interval::to(version, false), Interval::from(version, false)],
        "<" => vec![Interval::to(version, false)],
        "<=" => vec![Interval::to(version, true)],
        ">" => vec![Interval::from(version, false)],
        ">=" => vec![Interval::from(version, true)],
        "^" => vec![Interval::between(version, &caret_end(version)?)],
        "~" | "~>" | "~=" => vec![Interval::between(version, &lowest(syntax, &tilde_end(syntax, version)?))],
        _ => return None,
    })
}

/// The numbers that a version begins with.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.trim_start_matches(['v', 'V']);
    let end = release.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(release.len());
    release.get(..end).unwrap_or_default().split('.').map_while(|piece| piece.parse().ok()).collect()
}

/// How many numbers stand before a wildcard.
fn partial_numbers(version: &str) -> usize {
    version.split('.').take_while(|piece| piece.parse::<u64>().is_ok()).count()
}

fn prefix(version: &str, kept: usize) -> String {
    version.split('.').take(kept).collect::<Vec<_>>().join(".")
}

/// The first version after all that begin with the first `kept` numbers; none where nothing is kept.
fn next_after_wildcard(version: &str, kept: usize) -> Option<String> {
    let mut numbers = numbers(version);
    numbers.truncate(kept);
    let last = numbers.last_mut()?;
    *last = last.checked_add(1)?;
    Some(joined(&numbers))
}

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

fn complete(version: &str) -> String {
    let mut numbers = numbers(version);
    if numbers.len() >= 3 || version.contains(['-', '+']) {
        return version.to_owned();
    }
    numbers.resize(3, 0);
    joined(&numbers)
}

/// PEP 440's `==1.*` holds also development releases of 1.
fn lowest(syntax: Syntax, version: &str) -> String {
    if syntax == Syntax::Pep440 { format!("{version}.dev0") } else { version.to_owned() }
}

/// `^` keeps the first number that is not 0.
fn caret_end(version: &str) -> Option<String> {
    let mut numbers = numbers(version);
    let at = numbers.iter().position(|n| *n != 0).unwrap_or(numbers.len().checked_sub(1)?);
    numbers.truncate(at + 1);
    let last = numbers.last_mut()?;
    *last = last.checked_add(1)?;
    numbers.resize(numbers.len().max(3), 0);
    Some(joined(&numbers))
}

/// `~` keeps all numbers but the last, in npm the first two.
fn tilde_end(syntax: Syntax, version: &str) -> Option<String> {
    let mut numbers = numbers(version);
    let kept = match syntax {
        Syntax::Npm => numbers.len().min(2),
        _ => numbers.len().saturating_sub(1).max(1),
    };
    numbers.truncate(kept);
    let last = numbers.last_mut()?;
    *last = last.checked_add(1)?;
    Some(joined(&numbers))
}

fn parse_brackets(range: &str) -> Result<Vec<Interval>, RangeError> {
    let mut found = Vec::new();
    let mut rest = range.trim();
    while !rest.is_empty() {
        let wrong = || RangeError::Condition { part: rest.to_owned(), range: range.to_owned() };
        if found.len() >= MAX_CONDITIONS {
            return Err(RangeError::Conditions);
        }
        let (interval, after) = if rest.starts_with(['[', '(']) {
            let end = rest.find([']', ')']).ok_or_else(wrong)?;
            let (inside, after) =
                (rest.get(1..end).ok_or_else(wrong)?, rest.get(end + 1..).unwrap_or_default());
            let upper_inclusive = rest.get(end..end + 1) == Some("]");
            let interval = match inside.split_once(',') {
                Some((from, to)) => {
                    let end =
                        |text: &str, inclusive| if text.is_empty() { None } else { bound(text, inclusive) };
                    Interval {
                        lower: end(from.trim(), rest.starts_with('[')),
                        upper: end(to.trim(), upper_inclusive),
                    }
                }
                None if inside.trim().is_empty() => return Err(wrong()),
                None => Interval::exactly(inside.trim()),
            };
            (interval, after)
        } else {
            let end = rest.find([',', '|']).unwrap_or(rest.len());
            let (version, after) = rest.split_at_checked(end).ok_or_else(wrong)?;
            (plain(version.trim()).ok_or_else(wrong)?, after)
        };
        found.push(interval);
        rest = after.trim_start_matches([',', '|', ' ']);
    }
    Ok(found)
}

/// A condition without brackets among some that have them.
fn plain(part: &str) -> Option<Interval> {
    condition(Syntax::Gem, Scheme::Maven, part)?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_holds_the_versions_that_its_ecosystem_says() {
        for (syntax, scheme, range, inside, outside) in [
            (
                Syntax::Npm,
                Scheme::Semver,
                "<1.2.3 || >=2.0.0 <2.1.0",
                &["1.2.2", "2.0.9"][..],
                &["1.2.3", "2.1.0"][..],
            ),
            (Syntax::Npm, Scheme::Semver, "^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
            (Syntax::Npm, Scheme::Semver, "^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0"]),
            (Syntax::Npm, Scheme::Semver, "~1.2.3", &["1.2.9"], &["1.3.0"]),
            (Syntax::Npm, Scheme::Semver, "1.x || 3.1.*", &["1.0.0", "3.1.7"], &["2.0.0", "3.2.0"]),
            (Syntax::Npm, Scheme::Semver, "1.2.3 - 2.3", &["1.2.3", "2.3.9"], &["2.4.0", "1.2.2"]),
            (Syntax::Npm, Scheme::Semver, ">= 1.0.0 < 1.4", &["1.3.9"], &["1.4.0"]),
            (Syntax::Npm, Scheme::Semver, "*", &["0.0.1", "9.9.9"], &[]),
            (Syntax::Pep440, Scheme::Pep440, ">=1.0,<2,!=1.5", &["1.0", "1.6"], &["1.5", "2"]),
            (Syntax::Pep440, Scheme::Pep440, "==1.*", &["1.0.dev1", "1.99"], &["2.0", "2.0.dev0"]),
            (Syntax::Pep440, Scheme::Pep440, "~=1.4.2", &["1.4.2", "1.4.9"], &["1.5", "1.4.1"]),
            (Syntax::Gem, Scheme::Gem, "~> 1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
            (Syntax::Gem, Scheme::Gem, ">= 1.0, < 2.0", &["1.5"], &["2.0", "0.9"]),
            (Syntax::Composer, Scheme::Composer, ">=1,<1.2.3|>=2,<2.1", &["1.2.2", "2.0"], &["1.2.3", "2.1"]),
            (Syntax::Composer, Scheme::Composer, "~1.2", &["1.9"], &["2.0"]),
            (Syntax::Brackets, Scheme::Maven, "[1.0,2.0),(,0.5]", &["1.0", "0.5", "0.1"], &["2.0", "0.6"]),
            (Syntax::Brackets, Scheme::Maven, "[1.5]", &["1.5"], &["1.6"]),
            (Syntax::Brackets, Scheme::Nuget, "(1.0,)", &["1.1"], &["1.0"]),
        ] {
            let intervals = parse_range(syntax, scheme, range).unwrap();
            let holds = |version: &&str| intervals.iter().any(|i| i.contains(scheme, version.as_bytes()));
            for version in inside {
                assert!(holds(version), "{version} is in {range} {intervals:?}");
            }
            for version in outside {
                assert!(!holds(version), "{version} is not in {range} {intervals:?}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_an_error_that_names_the_part() {
        for (syntax, range) in [
            (Syntax::Npm, ">=1.0 <"),
            (Syntax::Gem, "?? 1"),
            (Syntax::Brackets, "[1.0"),
            (Syntax::Pep440, "<=>1"),
        ] {
            assert!(parse_range(syntax, Scheme::Semver, range).is_err(), "{range}");
        }
    }

    #[test]
    fn what_is_not_patched_is_affected() {
        let safe: Vec<Interval> = ["~> 2.1.2", ">= 2.2.1", ">= 1.10.5, < 2.0.0"]
            .iter()
            .flat_map(|range| parse_range(Syntax::Gem, Scheme::Gem, range).unwrap())
            .collect();
        let affected = complement(Scheme::Gem, &safe);
        for (version, want) in [
            ("1.10.4", true),
            ("1.10.5", false),
            ("2.0.0", true),
            ("2.1.1", true),
            ("2.1.2", false),
            ("2.2.0", true),
            ("3", false),
        ] {
            let found = affected.iter().any(|interval| interval.contains(Scheme::Gem, version.as_bytes()));
            assert_eq!(found, want, "{version} {affected:?}");
        }
        assert_eq!(complement(Scheme::Gem, &[]), [Interval::default()]);
        let range = |text| parse_range(Syntax::Npm, Scheme::Semver, text).unwrap();
        let left = subtract(Scheme::Semver, &range("14.x || 16.x"), &range("^14.20.1 || ^16.17.1"));
        for (version, want) in [("13.0.0", false), ("14.20.0", true), ("14.20.1", false), ("16.17.0", true)] {
            let found = left.iter().any(|interval| interval.contains(Scheme::Semver, version.as_bytes()));
            assert_eq!(found, want, "{version} {left:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_an_error(text in "[0-9<>=!~^*x.,|()\\[\\] -]{0,40}") {
            for syntax in [Syntax::Npm, Syntax::Pep440, Syntax::Gem, Syntax::Composer, Syntax::Brackets] {
                let _either = parse_range(syntax, Scheme::Semver, &text);
            }
        }
    }
}
