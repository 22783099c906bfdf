//! Operators: what a rule asks of a value.

mod address;
mod bytes;
pub(crate) mod expression;
pub(crate) mod literals;
pub(crate) mod pattern;
mod phrases;

use std::sync::Arc;

use crate::error::Reason;
use crate::template::Template;
use address::Addresses;
use bytes::ByteSet;
use expression::{Expression, Made};
use literals::Literals;
use phrases::Phrases;

/// Every operator by its name in the rule language.
pub const OPERATORS: &[&str] = &[
    "beginsWith",
    "contains",
    "containsWord",
    "detectSQLi",
    "detectXSS",
    "endsWith",
    "eq",
    "ge",
    "gt",
    "ipMatch",
    "ipMatchF",
    "ipMatchFromFile",
    "le",
    "lt",
    "noMatch",
    "pm",
    "pmf",
    "pmFromFile",
    "rx",
    "rxGlobal",
    "streq",
    "strmatch",
    "unconditionalMatch",
    "validateByteRange",
    "validateUrlEncoding",
    "validateUtf8Encoding",
    "within",
];

/// How two numbers compare.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Equal,
    GreaterOrEqual,
    Greater,
    LessOrEqual,
    Less,
}

/// How a value and a text compare.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Begins,
    Contains,
    ContainsWord,
    Ends,
    Equals,
    Within,
}

#[derive(Debug)]
pub(crate) enum Test {
    Pattern(Box<Expression>),
    Phrases(Box<Phrases>),
    Text(Place, Template),
    Number(Order, Template),
    Addresses(Box<Addresses>),
    Bytes(Box<ByteSet>),
    UrlEncoding,
    Utf8,
    SqlInjection,
    Script,
    Always,
    Never,
}

/// An operator with its argument.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) negated: bool,
    pub(crate) test: Test,
    /// Of which one at least is in every value that the test finds something in.
    pub(crate) literals: Option<Literals>,
}

/// What was found: groups of a pattern, the first the whole of it.
pub(crate) type Found = Vec<Vec<u8>>;

/// Groups that a match keeps: `TX:0` to `TX:9`.
const MAX_GROUPS: usize = 10;

impl Operator {
    /// Reads `@name argument`, `!@name argument`, or a pattern. `file` gives the content of a file by the name that the
    /// argument has, `capture` says whether groups are asked for, `made` is where patterns keep their automata.
    pub(crate) fn compile<'f>(
        text: &[u8],
        capture: bool,
        made: &Arc<Made>,
        file: &dyn Fn(&str) -> Option<&'f [u8]>,
    ) -> Result<Self, Reason> {
        let (negated, text) = match text.trim_ascii_start() {
            [b'!', rest @ ..] => (true, rest.trim_ascii_start()),
            rest => (false, rest),
        };
        let (name, argument) = match text {
            [b'@', rest @ ..] => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (name, argument) = rest.split_at_checked(end).unwrap_or_default();
                (String::from_utf8_lossy(name).into_owned(), argument.trim_ascii_start())
            }
            pattern => ("rx".to_owned(), pattern),
        };
        let mut literals = None;
        let shown = String::from_utf8_lossy(argument).into_owned();
        let given = |name: &str| file(name).ok_or_else(|| Reason::File(name.to_owned()));
        let test = match name.to_ascii_lowercase().as_str() {
            "rx" | "rxglobal" => {
                if memchr::memmem::find(argument, b"%{").is_some() {
                    return Err(Reason::Pattern("a pattern with macros cannot be compiled ahead".to_owned()));
                }
                let hir = pattern::parse(argument, false).map_err(Reason::Pattern)?;
                literals = literals::required(&hir);
                let expression = Expression::new((argument, false), &hir, capture, made);
                Test::Pattern(Box::new(expression.map_err(Reason::Pattern)?))
            }
            "pm" => Test::Phrases(Box::new(Phrases::words(argument).map_err(Reason::Pattern)?)),
            "pmf" | "pmfromfile" => {
                let mut phrases = Vec::new();
                for name in shown.split_ascii_whitespace() {
                    phrases.extend(phrases::lines(given(name)?));
                }
                Test::Phrases(Box::new(Phrases::new(phrases).map_err(Reason::Pattern)?))
            }
            "beginswith" => Test::Text(Place::Begins, Template::parse(argument)?),
            "contains" | "strmatch" => Test::Text(Place::Contains, Template::parse(argument)?),
            "containsword" => Test::Text(Place::ContainsWord, Template::parse(argument)?),
            "endswith" => Test::Text(Place::Ends, Template::parse(argument)?),
            "streq" => Test::Text(Place::Equals, Template::parse(argument)?),
            "within" => Test::Text(Place::Within, Template::parse(argument)?),
            "eq" => Test::Number(Order::Equal, Template::parse(argument)?),
            "ge" => Test::Number(Order::GreaterOrEqual, Template::parse(argument)?),
            "gt" => Test::Number(Order::Greater, Template::parse(argument)?),
            "le" => Test::Number(Order::LessOrEqual, Template::parse(argument)?),
            "lt" => Test::Number(Order::Less, Template::parse(argument)?),
            "ipmatch" => Test::Addresses(Box::new(Addresses::parse(&shown)?)),
            "ipmatchf" | "ipmatchfromfile" => {
                let content = String::from_utf8_lossy(given(shown.trim())?).into_owned();
                Test::Addresses(Box::new(Addresses::parse(&content)?))
            }
            "validatebyterange" => Test::Bytes(Box::new(ByteSet::parse(&shown)?)),
            "validateurlencoding" => Test::UrlEncoding,
            "validateutf8encoding" => Test::Utf8,
            "detectsqli" => Test::SqlInjection,
            "detectxss" => Test::Script,
            "unconditionalmatch" => Test::Always,
            "nomatch" => Test::Never,
            _ => return Err(Reason::Operator(name)),
        };
        if let Test::Phrases(phrases) = &test {
            literals = phrases.literals();
        }
        Ok(Self { negated, test, literals })
    }

    /// Bytes of its pattern, and of its phrases.
    pub(crate) fn memory(&self) -> (usize, usize) {
        match &self.test {
            Test::Pattern(pattern) => (pattern.memory(), 0),
            Test::Phrases(phrases) => (0, phrases.memory()),
            _ => (0, 0),
        }
    }

    /// What the test finds in a value, negation left out: groups are given where `capture` asks for them. `expand` fills
    /// macros of the argument in.
    pub(crate) fn find(
        &self,
        value: &[u8],
        capture: bool,
        expand: &mut dyn FnMut(&Template) -> Vec<u8>,
    ) -> Option<Found> {
        let whole = |found: bool| found.then(|| if capture { vec![value.to_vec()] } else { Vec::new() });
        match &self.test {
            Test::Pattern(pattern) if capture => pattern.groups(value),
            Test::Pattern(pattern) => pattern.is_match(value).then(Vec::new),
            Test::Phrases(phrases) => phrases.find(value).map(|phrase| vec![phrase.to_vec()]),
            Test::Text(place, template) => {
                let argument = expand(template);
                place.holds(value, &argument).then(|| vec![argument])
            }
            Test::Number(order, template) => {
                let argument = number(&expand(template));
                let value = number(value);
                whole(match order {
                    Order::Equal => value == argument,
                    Order::GreaterOrEqual => value >= argument,
                    Order::Greater => value > argument,
                    Order::LessOrEqual => value <= argument,
                    Order::Less => value < argument,
                })
            }
            Test::Addresses(addresses) => whole(addresses.have(value)),
            Test::Bytes(allowed) => whole(!allowed.has_all(value)),
            Test::UrlEncoding => whole(bytes::has_bad_escape(value)),
            Test::Utf8 => whole(std::str::from_utf8(value).is_err()),
            Test::SqlInjection => {
                let result = libinjectionrs::detect_sqli(value);
                result.is_injection().then(|| {
                    result.fingerprint.map(|print| vec![print.to_string().into_bytes()]).unwrap_or_default()
                })
            }
            Test::Script => whole(libinjectionrs::detect_xss(value).is_injection()),
            Test::Always => whole(true),
            Test::Never => None,
        }
    }
}

impl Place {
    fn holds(self, value: &[u8], argument: &[u8]) -> bool {
        match self {
            Self::Begins => value.starts_with(argument),
            Self::Ends => value.ends_with(argument),
            Self::Equals => value == argument,
            Self::Contains => memchr::memmem::find(value, argument).is_some(),
            Self::Within => memchr::memmem::find(argument, value).is_some(),
            Self::ContainsWord => memchr::memmem::find_iter(value, argument).any(|at| {
                let word = |byte: Option<&u8>| {
                    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                };
                !word(at.checked_sub(1).and_then(|before| value.get(before)))
                    && !word(value.get(at.saturating_add(argument.len())))
            }),
        }
    }
}

/// A number as C's `atoi` reads it: blanks, a sign, digits, anything; no digits are 0.
pub(crate) fn number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value = digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0')))
    });
    if negative { value.saturating_neg() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Arc<Made> {
        Arc::default()
    }

    fn finds(operator: &str, value: &[u8]) -> bool {
        let files = |name: &str| (name == "words.data").then_some(&b"# words\nalpha beta\n\ngamma\n"[..]);
        let operator = Operator::compile(operator.as_bytes(), true, &made(), &files).unwrap();
        let found = operator.find(value, true, &mut |template| template.plain().unwrap_or_default().to_vec());
        found.is_some() != operator.negated
    }

    #[test]
    fn operators_find_what_their_names_say() {
        for (operator, value, want) in [
            ("@rx ^a(b+)c$", &b"abbc"[..], true),
            ("^a", b"ba", false),
            ("!@rx ^a", b"ba", true),
            ("@rx \\xff", b"a\xff", true),
            ("@rx a.b", b"a\nb", true),
            ("@pm foo BAR", b"xbarx", true),
            ("@pmFromFile words.data", b"an Alpha BETA", true),
            ("@pmFromFile words.data", b"alpha", false),
            ("@streq GET", b"GET", true),
            ("@streq GET", b"get", false),
            ("@within |a| |b|", b"|b|", true),
            ("@contains x", b"axb", true),
            ("@containsWord or", b"a or b", true),
            ("@containsWord or", b"word", false),
            ("@beginsWith ab", b"abc", true),
            ("@endsWith bc", b"abc", true),
            ("@eq 5", b"5", true),
            ("@lt 5", b"4x", true),
            ("@ge 5", b"5", true),
            ("@gt 5", b"", false),
            ("!@lt 3", b"3", true),
            ("@ipMatch 10.0.0.0/8,::1", b"10.2.3.4", true),
            ("@ipMatch 10.0.0.0/8,::1", b"::1", true),
            ("@ipMatch 10.0.0.0/8", b"11.0.0.1", false),
            ("@validateByteRange 32-126", b"abc", false),
            ("@validateByteRange 32-126, 10", b"a\nb\0", true),
            ("@validateUrlEncoding", b"%4x", true),
            ("@validateUrlEncoding", b"%41%42", false),
            ("@validateUtf8Encoding", b"\xc3\x28", true),
            ("@detectSQLi", b"1' or '1'='1", true),
            ("@detectSQLi", b"it is one of these", false),
            ("@detectXSS", b"<script>alert(1)</script>", true),
            ("@detectXSS", b"1 < 2", false),
            ("@unconditionalMatch", b"", true),
            ("@noMatch", b"", false),
        ] {
            assert_eq!(finds(operator, value), want, "{operator} on {:?}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn groups_of_a_pattern_are_kept() {
        let operator = Operator::compile(b"@rx (a)(x)?(b)", true, &made(), &|_| None).unwrap();
        let found = operator.find(b"-ab-", true, &mut |_| Vec::new()).unwrap();
        assert_eq!(found, [b"ab".to_vec(), b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn every_listed_operator_is_compiled_and_others_are_refused_by_name() {
        for name in OPERATORS {
            let argument = match *name {
                "ipMatch" | "ipMatchF" | "ipMatchFromFile" => "10.0.0.1",
                "validateByteRange" => "1-255",
                _ => "x",
            };
            let file = |_: &str| Some(&b"10.0.0.1\n"[..]);
            let operator = Operator::compile(format!("@{name} {argument}").as_bytes(), false, &made(), &file);
            assert!(operator.is_ok(), "{name}: {operator:?}");
        }
        let refused = Operator::compile(b"@rbl x", false, &made(), &|_| None).unwrap_err();
        assert_eq!(refused, Reason::Operator("rbl".to_owned()));
        let refused = Operator::compile(b"@pmFromFile gone", false, &made(), &|_| None).unwrap_err();
        assert_eq!(refused, Reason::File("gone".to_owned()));
    }
}
