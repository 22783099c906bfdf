//! Where bytes are cut changes nothing, and what is found is what a search of the whole would find.

use std::sync::{Arc, LazyLock};

use nv_dpi::content::{Body, BodyKind, Part};
use proptest::collection::vec;
use proptest::prelude::*;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::{body, compile, pattern, sensor, told};
use crate::sensor::Context;
use crate::set::SensorSet;

/// Patterns of every sort: with needles long and short, of few bytes, without anything fixed.
const PATTERNS: &[&str] = &[
    "abcde",
    "(?i)AbC",
    "a.{0,6}bca",
    r"\bcab\b",
    "(?:aab|bbc)d",
    "[0-9]{6,9}",
    r"\b[0-9]{3}-[0-9]{2}-[0-9]{2}\b",
    "[^ab]{3}d[^cd]",
    r"<\?",
    "(?m)^abc$",
    "abc$",
    "^cab",
    "^[ab]*cad",
    "^[ab]{2}[b-d]{2}",
    "^[b-d0-9 ]{3,}$",
    "9",
    "[0-9<]",
    r"[<?\-\n]",
];

/// A rule a pattern.
static SET: LazyLock<Arc<SensorSet>> = LazyLock::new(|| {
    let rules: Vec<_> = PATTERNS.iter().map(|value| (*value, [pattern(Context::Packet, value)])).collect();
    let rules: Vec<_> = rules.iter().map(|(name, patterns)| (*name, patterns.as_slice())).collect();
    compile(&[sensor(&rules)])
});
static EXPRESSIONS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let config = syntax::Config::new().unicode(false).utf8(false);
    PATTERNS.iter().map(|value| Regex::builder().syntax(config).build(value).unwrap()).collect()
});
/// The patterns that a search of a whole text finds, sorted.
fn searched(text: &str) -> Vec<String> {
    let found = |expression: &Regex| expression.is_match(text.as_bytes());
    let all = PATTERNS.iter().zip(EXPRESSIONS.iter()).filter(|(_, expression)| found(expression));
    let mut all: Vec<String> = all.map(|(value, _)| (*value).to_owned()).collect();
    all.sort();
    all
}

static DECODED: LazyLock<Arc<SensorSet>> = LazyLock::new(|| {
    compile(&[sensor(&[
        ("plain", &[pattern(Context::Body, "abc|&b|4;J")]),
        ("decoded", &[pattern(Context::Body, r"\{jn|abca|[^\x20-\x7e]{4}")]),
    ])])
});

proptest! {
    #[test]
    fn what_is_found_is_what_a_search_of_the_whole_finds_wherever_it_is_cut(
        text in "[abcd0-9<?\\-\n ]{0,120}|[abc]{0,60}|[0-9 \\-]{0,80}",
        cuts in vec(1_usize..12, 1..20),
    ) {
        let want = searched(&text);
        for cuts in [&cuts[..], &[1], &[usize::MAX]] {
            prop_assert_eq!(&told(&SET, &[Part::Packet(text.as_bytes())], cuts), &want, "{:?}", cuts);
            prop_assert_eq!(&told(&SET, &[body(text.as_bytes())], cuts), &want, "{:?}", cuts);
        }
    }

    #[test]
    fn a_text_that_stays_in_one_state_for_long_is_searched_as_any_other(
        text in "(a{0,50}[cd0-9<]{0,4}c{0,50}){1,3}|[cd]{3}[xy]{0,70}d[ab]?",
        cuts in vec(1_usize..60, 1..10),
    ) {
        let want = searched(&text);
        for cuts in [&cuts[..], &[1], &[usize::MAX]] {
            prop_assert_eq!(&told(&SET, &[Part::Packet(text.as_bytes())], cuts), &want, "{:?}", cuts);
        }
        prop_assert_eq!(&told(&SET, &[Part::Datagram(text.as_bytes())], &[]), &want);
    }

    #[test]
    fn any_body_gives_an_answer_that_does_not_depend_on_its_cuts(
        text in vec(prop::sample::select(b"abc%26&#x4;JHtqbmRp+/= \r\n1".to_vec()), 0..200),
        form in any::<bool>(),
        cuts in vec(1_usize..30, 1..10),
    ) {
        let kind = if form { BodyKind::Form } else { BodyKind::Text };
        let part = Part::Body(Body { coding: None, kind }, &text);
        let whole = told(&DECODED, &[part], &[usize::MAX]);
        for cuts in [&cuts[..], &[1]] {
            prop_assert_eq!(&told(&DECODED, &[part], cuts), &whole, "{:?}", cuts);
        }
    }
}

#[test]
fn a_match_is_found_at_every_offset_of_a_cut() {
    let set = compile(&[sensor(&[(
        "rule",
        &[pattern(Context::Body, r"(?i)top[ -]secret: [a-z]{4,20}\.(?:doc|pdf)")],
    )])]);
    let text = [vec![b'x'; 300], b"Top-Secret: something.pdf".to_vec(), vec![b'y'; 300]].concat();
    for cut in 1..text.len() {
        assert_eq!(told(&set, &[body(&text)], &[cut, usize::MAX]), ["rule"], "{cut}");
    }
}
