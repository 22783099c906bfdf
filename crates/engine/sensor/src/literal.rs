//! What every match of an expression must contain, so that bytes without it need not be looked at.
//!
//! Letters count in either case: a needle may be found where the expression has none, never the other way round.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// Longest needle, in bytes; of longer ones the beginning is looked for.
pub(crate) const MAX_NEEDLE_BYTES: usize = 16;
/// Needles of one expression.
const MAX_NEEDLES: usize = 48;
/// Expressions within one another that are looked into.
const MAX_DEPTH: usize = 24;
/// Bytes before a needle, above which another needle is better.
const FAR: usize = 128;

/// Needles of which each match has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Required {
    /// In lower case, each of two bytes or more.
    pub(crate) needles: Vec<Vec<u8>>,
    /// Bytes of a match before its needle, at most; `None` where there may be any number.
    pub(crate) before: Option<usize>,
}

/// The rarest needles of an expression; `None` where a match needs none, or only such as are everywhere.
pub(crate) fn required(hir: &Hir) -> Option<Required> {
    look_into(hir, 0).filter(|found| found.score() >= 5)
}

impl Required {
    /// How seldom the needles are met: by the commonest of them, by their number and by how far they lie behind.
    fn score(&self) -> usize {
        let rarest = self.needles.iter().map(|needle| worth(needle)).min().unwrap_or(0);
        let far = match self.before {
            Some(before) if before <= FAR => 0,
            _ => 5,
        };
        rarest.saturating_sub(far).saturating_sub(self.needles.len() / 16)
    }
}

fn worth(needle: &[u8]) -> usize {
    let sum: usize = needle
        .iter()
        .take(10)
        .map(|byte| match byte {
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'h' | b'l' | b'd' | b' ' | b'0'
            | b'1' => 2,
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b',' | b'-' | b'/' | b'"' | b'=' => 3,
            _ => 4,
        })
        .sum();
    // Two letters are in every text.
    if needle.len() < 3 && needle.iter().any(u8::is_ascii_alphanumeric) { 0 } else { sum }
}

/// The byte, in lower case, that an expression of one byte stands for.
fn folded(hir: &Hir) -> Option<u8> {
    match hir.kind() {
        HirKind::Literal(literal) => match *literal.0 {
            [byte] => Some(byte.to_ascii_lowercase()),
            _ => None,
        },
        HirKind::Class(class) => {
            let bytes = match class {
                Class::Bytes(bytes) => bytes.clone(),
                Class::Unicode(unicode) => unicode.to_byte_class()?,
            };
            let mut all = bytes
                .ranges()
                .iter()
                .flat_map(|range| range.start()..=range.end())
                .map(|b| b.to_ascii_lowercase());
            let first = all.next()?;
            all.all(|byte| byte == first).then_some(first)
        }
        _ => None,
    }
}

/// The bytes, in lower case, that an expression always is.
fn run_of(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(literal.0.to_ascii_lowercase()),
        HirKind::Class(_) => folded(hir).map(|byte| vec![byte]),
        HirKind::Repetition(Repetition { min, max: Some(max), sub, .. }) if min == max && *min <= 8 => {
            run_of(sub).map(|run| run.repeat(usize::try_from(*min).unwrap_or(0)))
        }
        HirKind::Capture(capture) => run_of(&capture.sub),
        HirKind::Concat(parts) => {
            parts.iter().map(run_of).collect::<Option<Vec<_>>>().map(|runs| runs.concat())
        }
        HirKind::Look(_) | HirKind::Empty => Some(Vec::new()),
        HirKind::Repetition(_) | HirKind::Alternation(_) => None,
    }
}

fn plus(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    Some(a?.saturating_add(b?))
}

fn look_into(hir: &Hir, depth: usize) -> Option<Required> {
    if depth > MAX_DEPTH {
        return None;
    }
    let depth = depth.saturating_add(1);
    match hir.kind() {
        HirKind::Literal(_) | HirKind::Class(_) => single(run_of(hir)?, Some(0)),
        HirKind::Capture(capture) => look_into(&capture.sub, depth),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            if let Some(run) = run_of(hir) {
                return single(run, Some(0));
            }
            // The first of the repetitions has it.
            look_into(&repetition.sub, depth)
        }
        HirKind::Alternation(parts) => {
            let mut all = Required { needles: Vec::new(), before: Some(0) };
            for part in parts {
                let found = look_into(part, depth)?;
                all.needles.extend(found.needles);
                all.before = all.before.zip(found.before).map(|(a, b)| a.max(b));
                if all.needles.len() > MAX_NEEDLES {
                    return None;
                }
            }
            all.needles.sort();
            all.needles.dedup();
            Some(all)
        }
        HirKind::Concat(parts) => concat(parts, depth),
        HirKind::Empty | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

fn single(mut run: Vec<u8>, before: Option<usize>) -> Option<Required> {
    run.truncate(MAX_NEEDLE_BYTES);
    (run.len() >= 2).then(|| Required { needles: vec![run], before })
}

fn concat(parts: &[Hir], depth: usize) -> Option<Required> {
    let mut best: Option<Required> = None;
    let mut offer = |found: Option<Required>| {
        if let Some(found) = found
            && best.as_ref().is_none_or(|best| found.score() > best.score())
        {
            best = Some(found);
        }
    };
    let (mut run, mut run_before, mut before) = (Vec::new(), Some(0), Some(0));
    for part in parts {
        if let Some(more) = run_of(part) {
            if run.is_empty() {
                run_before = before;
            }
            run.extend_from_slice(&more);
        } else {
            offer(single(std::mem::take(&mut run), run_before));
            offer(
                look_into(part, depth).map(|found| Required { before: plus(before, found.before), ..found }),
            );
        }
        before = plus(before, part.properties().maximum_len());
    }
    offer(single(run, run_before));
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::parse;

    #[test]
    fn every_match_of_an_expression_has_one_of_its_needles() {
        for (pattern, needles, before) in [
            ("confidential", Some(&["confidential"][..]), Some(0)),
            ("(?i)Confidential", Some(&["confidential"]), Some(0)),
            (r"\w{1,8}@evil\.example", Some(&["@evil.example"]), Some(8)),
            (r"\w+@evil\.example", Some(&["@evil.example"]), None),
            ("(?:select|union)x", Some(&["select", "union"]), Some(0)),
            ("(?i)union.{1,20}select", Some(&["select"]), Some(25)),
            ("[0-9]{16}", None, None),
            ("(?:foo)?", None, None),
            ("(?:foo|.)bar", Some(&["bar"]), Some(3)),
            (r"\$\{", Some(&["${"]), Some(0)),
            ("of", None, None),
        ] {
            let found = required(&parse(pattern).unwrap());
            let want = needles.map(|needles| Required {
                needles: needles.iter().map(|needle| needle.as_bytes().to_vec()).collect(),
                before,
            });
            assert_eq!(found, want, "{pattern}");
        }
    }
}
