//! Secrets that are known by their own form, wherever they stand.

use super::HIDDEN;

/// How well-known tokens begin, and how many characters follow at least.
const TOKENS: [(&str, usize); 32] = [
    ("ghp_", 9),
    ("gho_", 9),
    ("ghs_", 9),
    ("ghu_", 9),
    ("ghr_", 9),
    ("github_pat_", 9),
    ("glpat-", 9),
    ("glptt-", 9),
    ("xoxb-", 9),
    ("xoxp-", 9),
    ("xoxa-", 9),
    ("xapp-", 9),
    ("sk_live_", 9),
    ("rk_live_", 9),
    ("sk-", 20),
    ("AIza", 20),
    ("ya29.", 20),
    ("eyJ", 9),
    ("hvs.", 9),
    ("hvb.", 9),
    ("AKIA", 12),
    ("ASIA", 12),
    ("npm_", 20),
    ("pypi-", 20),
    ("dckr_pat_", 9),
    ("dop_v1_", 20),
    ("shpat_", 20),
    ("SG.", 20),
    ("hf_", 20),
    ("tskey-", 9),
    ("K10", 40),
    ("AGE-SECRET-KEY-", 9),
];
/// Characters of a secret access key of AWS.
const AWS_SECRET: usize = 40;

/// Tokens that are known by their beginning and secret keys that are known by their form, wherever they stand.
pub(super) fn tokens(word: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let hidden = runs(word, part, |run| {
        TOKENS.iter().any(|(begin, least)| run.strip_prefix(begin).is_some_and(|rest| rest.len() >= *least))
    });
    let part = |c: char| c.is_ascii_alphanumeric() || "/+".contains(c);
    runs(&hidden, part, |run| {
        let has = |test: fn(&u8) -> bool| run.as_bytes().iter().any(test);
        run.len() == AWS_SECRET
            && !run.starts_with('/')
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
    })
}

/// Replaces the runs of characters for which `hide` holds.
fn runs(text: &str, part: impl Fn(char) -> bool, hide: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let begin = rest.find(&part).unwrap_or(rest.len());
        let (before, run) = rest.split_at_checked(begin).unwrap_or((rest, ""));
        shown.push_str(before);
        let end = run.find(|c| !part(c)).unwrap_or(run.len());
        let (run, behind) = run.split_at_checked(end).unwrap_or((run, ""));
        shown.push_str(if hide(run) { HIDDEN } else { run });
        rest = behind;
    }
    shown
}

/// A private key in PEM (RFC 7468): all behind its first line goes, as where it ends may be cut.
pub(super) fn keys(word: &str) -> String {
    match word.find("PRIVATE KEY-----") {
        Some(at) if word.contains("-----BEGIN ") => {
            format!("{}PRIVATE KEY-----{HIDDEN}", word.get(..at).unwrap_or_default())
        }
        _ => word.to_owned(),
    }
}
