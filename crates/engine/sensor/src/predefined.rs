//! The sensors that are there from the start, by the contract's names.
//!
//! An expression says which digits may be such a number, [`Check`] whether they are: no look-around is needed, and a
//! number that only looks like a card is none.

use crate::check::{Check, Scheme};
use crate::sensor::{Action, Context, Kind, Pattern, Rule, Sensor};

/// First number of predefined DLP rules.
const DLP: u32 = 30_000;
/// First number of WAF rules, which the predefined ones have.
const WAF: u32 = 40_000;

/// Sixteen digits in fours, behind a beginning of four.
macro_rules! fours {
    ($beginning:literal) => {
        concat!(r"\b", $beginning, r"(?:[ -]?[0-9]{4}){3}\b")
    };
}

const CARDS: &[(&str, Scheme, &str)] = &[
    ("rule.americanexpress", Scheme::AmericanExpress, r"\b3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}\b"),
    ("rule.discover", Scheme::Discover, fours!("6(?:011|4[4-9][0-9]|5[0-9]{2})")),
    ("rule.master", Scheme::Mastercard, fours!("(?:5[1-5]|2[2-7])[0-9]{2}")),
    ("rule.visa", Scheme::Visa, r"\b4[0-9]{3}(?:(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{3})?|[0-9]{9})\b"),
    ("rule.diner1", Scheme::Diners, r"\b3(?:0[0-5]|[68][0-9])[0-9][ -]?[0-9]{6}[ -]?[0-9]{4}\b"),
    ("rule.diner2", Scheme::EnRoute, r"\b2(?:014|149)[ -]?[0-9]{7}[ -]?[0-9]{4}\b"),
    (
        "rule.jcb",
        Scheme::Jcb,
        r"\b(?:35[2-8][0-9](?:[ -]?[0-9]{4}){3}|(?:1800|2131)[ -]?[0-9]{6}[ -]?[0-9]{5})\b",
    ),
];

const SOCIAL_SECURITY: &str = r"\b[0-8][0-9]{2}[ -][0-9]{2}[ -][0-9]{4}\b";

/// A lookup of JNDI in a message that Log4j writes down (CVE-2021-44228), its letters plain or made of other lookups.
const LOG4SHELL: &str =
    r"(?i)\$\{[-a-z0-9$:{}._/ ]*j[-a-z0-9$:{}._/ ]*n[-a-z0-9$:{}._/ ]*d[-a-z0-9$:{}._/ ]*i[-a-z$:{}._/ ]*:";

/// A parameter that reaches a Java class loader through a bound object (CVE-2022-22965).
const SPRING4SHELL: &str = r"(?i)class(?:\.module|\[.?module.?\])?[.\[].?classLoader";

/// All of them; what a group does with one is the group's.
#[must_use]
pub fn sensors() -> Vec<Sensor> {
    let pattern = |value: &str, check| Pattern {
        value: value.to_owned(),
        absent: false,
        context: Context::Packet,
        check,
    };
    let rule = |name: &str, id, value, check| Rule {
        name: name.to_owned(),
        id,
        patterns: vec![pattern(value, check)],
    };
    let sensor =
        |name: &str, kind, rules| Sensor { name: name.to_owned(), kind, action: Action::Allow, rules };
    let cards = (DLP..)
        .zip(CARDS)
        .map(|(id, (name, scheme, value))| rule(name, id, value, Some(Check::Card(*scheme))));
    vec![
        sensor("sensor.creditcard", Kind::Dlp, cards.collect()),
        sensor(
            "sensor.ssn",
            Kind::Dlp,
            vec![rule("rule.ssn", DLP.saturating_add(7), SOCIAL_SECURITY, Some(Check::SocialSecurity))],
        ),
        sensor("sensor.log4shell", Kind::Waf, vec![rule("rule.log4shell", WAF, LOG4SHELL, None)]),
        sensor(
            "sensor.spring4shell",
            Kind::Waf,
            vec![rule("rule.spring4shell", WAF.saturating_add(1), SPRING4SHELL, None)],
        ),
    ]
}

/// One of them by its name; the federation's twin (`fed.…`) is the same under its own name.
#[must_use]
pub fn sensor(name: &str) -> Option<Sensor> {
    let plain = name.strip_prefix("fed.").unwrap_or(name);
    let mut found = sensors().into_iter().find(|sensor| sensor.name == plain)?;
    if plain != name {
        found.name = name.to_owned();
        for rule in &mut found.rules {
            rule.name.insert_str(0, "fed.");
        }
    }
    Some(found)
}
