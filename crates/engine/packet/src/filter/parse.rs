//! From words to tests.

use std::str::FromStr;

use super::names::{constant, header, number};
use super::qualified::Qualifiers;
use super::words::{Word, words};
use super::{Filter, MAX_FILTER, Node, Operator, Relation, Test, Value};

/// Deepest nesting of brackets and `not`.
const MAX_DEPTH: usize = 64;
/// Most tests of one filter.
const MAX_TESTS: usize = 512;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// More bytes than a filter may have.
    #[error("a filter has at most {MAX_FILTER} bytes")]
    TooLong,
    /// More tests, or deeper brackets, than a filter may have.
    #[error("a filter has at most {MAX_TESTS} tests, in brackets at most {MAX_DEPTH} deep")]
    TooComplex,
    /// It ends where more is to come.
    #[error("the filter ends where {wanted} is to come")]
    Ends {
        /// What.
        wanted: &'static str,
    },
    /// A word that cannot stand there.
    #[error("{word:?} at {at}: {reason}")]
    Word {
        /// The word.
        word: String,
        /// Where it begins, in bytes.
        at: usize,
        /// What is wrong, and what may stand there.
        reason: &'static str,
    },
}

pub(super) type Parsed<T> = Result<T, FilterError>;

impl FromStr for Filter {
    type Err = FilterError;
    /// The empty text wants every packet.
    fn from_str(text: &str) -> Parsed<Self> {
        if text.len() > MAX_FILTER {
            return Err(FilterError::TooLong);
        }
        let words = words(text);
        if words.is_empty() {
            return Ok(Self { root: None });
        }
        let mut parser = Parser { words: &words, next: 0, last: None, depth: 0, tests: 0 };
        let root = parser.either()?;
        match parser.peek() {
            Some(word) => Err(wrong(word, "here the filter should end; join tests with and, or")),
            None => Ok(Self { root: Some(root) }),
        }
    }
}

pub(super) fn wrong(word: Word<'_>, reason: &'static str) -> FilterError {
    FilterError::Word { word: word.text.chars().take(64).collect(), at: word.at, reason }
}

pub(super) struct Parser<'a> {
    words: &'a [Word<'a>],
    pub(super) next: usize,
    /// Of the last address or port, for `host a or b`.
    pub(super) last: Option<Qualifiers>,
    depth: usize,
    tests: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }

    pub(super) fn after(&self, more: usize) -> &'a str {
        self.words.get(self.next.saturating_add(more)).map_or("", |word| word.text)
    }

    pub(super) fn take(&mut self, wanted: &'static str) -> Parsed<Word<'a>> {
        let word = self.peek().ok_or(FilterError::Ends { wanted })?;
        self.next += 1;
        Ok(word)
    }

    pub(super) fn accept(&mut self, texts: &[&str]) -> bool {
        let is = self.peek().is_some_and(|word| texts.contains(&word.text));
        self.next += usize::from(is);
        is
    }

    pub(super) fn demand(&mut self, text: &'static str) -> Parsed<()> {
        let word = self.take(text)?;
        if word.text == text {
            Ok(())
        } else {
            Err(wrong(word, "a closing bracket or a colon is to come here"))
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::TooComplex);
        }
        let found = inner(self)?;
        self.depth -= 1;
        Ok(found)
    }

    /// `and` and `or` bind equally, from the left, as in libpcap.
    fn either(&mut self) -> Parsed<Node> {
        let mut left = self.single()?;
        loop {
            if self.accept(&["and", "&&"]) {
                left = Node::And(Box::new(left), Box::new(self.single()?));
            } else if self.accept(&["or", "||"]) {
                left = Node::Or(Box::new(left), Box::new(self.single()?));
            } else {
                return Ok(left);
            }
            self.count()?;
        }
    }

    fn count(&mut self) -> Parsed<()> {
        self.tests += 1;
        if self.tests > MAX_TESTS { Err(FilterError::TooComplex) } else { Ok(()) }
    }

    fn single(&mut self) -> Parsed<Node> {
        if self.accept(&["not", "!"]) {
            return self.deeper(|parser| Ok(Node::Not(Box::new(parser.single()?))));
        }
        if let Some(comparison) = self.comparison()? {
            return Ok(Node::Test(comparison));
        }
        if self.accept(&["("]) {
            let inner = self.deeper(Self::either)?;
            self.demand(")")?;
            return Ok(inner);
        }
        self.test()
    }

    // ---- bytes and lengths

    /// `value relation value`, or nothing when another test begins here.
    fn comparison(&mut self) -> Parsed<Option<Test>> {
        let begin = (self.next, self.depth);
        let back = |parser: &mut Self| (parser.next, parser.depth) = begin;
        let is_bytes = self.after(1) == "[";
        let left = match self.value() {
            Ok(left) => left,
            // Nothing else begins like this, so this error is the one to tell.
            Err(error) if is_bytes => return Err(error),
            Err(_other) => {
                back(self);
                return Ok(None);
            }
        };
        let relation = match self.peek().map(|word| word.text) {
            Some("<") => Relation::Less,
            Some("<=") => Relation::LessOrEqual,
            Some("=" | "==") => Relation::Equal,
            Some("!=") => Relation::Unequal,
            Some(">=") => Relation::GreaterOrEqual,
            Some(">") => Relation::Greater,
            _ => {
                back(self);
                return Ok(None);
            }
        };
        self.next += 1;
        Ok(Some(Test::Compare(left, relation, self.value()?)))
    }

    /// Lowest first: `|`, `^`, `&`, shifts, sums, products, as in C.
    fn value(&mut self) -> Parsed<Value> {
        const LEVELS: &[&[(&str, Operator)]] = &[
            &[("|", Operator::Or)],
            &[("^", Operator::ExclusiveOr)],
            &[("&", Operator::And)],
            &[("<<", Operator::Left), (">>", Operator::Right)],
            &[("+", Operator::Add), ("-", Operator::Subtract)],
            &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
        ];
        self.level(LEVELS)
    }

    fn level(&mut self, levels: &[&[(&str, Operator)]]) -> Parsed<Value> {
        let Some((operators, higher)) = levels.split_first() else { return self.operand() };
        let mut left = self.level(higher)?;
        while let Some((_, operator)) =
            self.peek().and_then(|word| operators.iter().find(|(sign, _)| *sign == word.text))
        {
            self.next += 1;
            self.count()?;
            left = Value::Calculated(Box::new(left), *operator, Box::new(self.level(higher)?));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Parsed<Value> {
        let word = self.take("a number")?;
        if word.text == "(" {
            let inner = self.deeper(Self::value)?;
            self.demand(")")?;
            return Ok(inner);
        }
        if word.text == "len" {
            return Ok(Value::Length);
        }
        if let Some(of) = header(word.text)
            && self.accept(&["["])
        {
            let at = Box::new(self.deeper(Self::value)?);
            let size = if self.accept(&[":"]) {
                let size = self.take("1, 2 or 4")?;
                match size.text {
                    "1" => 1,
                    "2" => 2,
                    "4" => 4,
                    _ => return Err(wrong(size, "1, 2 or 4 bytes can be compared")),
                }
            } else {
                1
            };
            self.demand("]")?;
            return Ok(Value::Bytes { of, at, size });
        }
        number(word.text)
            .or_else(|| constant(word.text))
            .map(Value::Number)
            .ok_or_else(|| wrong(word, "a number, len, or bytes of a header such as tcp[13] may stand here"))
    }

    // ---- everything else

    fn test(&mut self) -> Parsed<Node> {
        self.count()?;
        let begin = self.take("a test")?;
        let test = match begin.text {
            "vlan" => {
                let id = self.peek().and_then(|word| word.text.parse().ok()).filter(|id| *id < 4_096);
                self.next += usize::from(id.is_some());
                Test::Vlan(id)
            }
            "less" => Test::Compare(Value::Length, Relation::LessOrEqual, Value::Number(self.length()?)),
            "greater" => {
                Test::Compare(Value::Length, Relation::GreaterOrEqual, Value::Number(self.length()?))
            }
            "broadcast" => Test::EthernetGroup { all: true },
            "multicast" => Test::EthernetGroup { all: false },
            "inbound" | "outbound" | "gateway" | "ifname" | "on" | "mpls" | "pppoes" | "geneve" => {
                return Err(wrong(begin, "this test is not supported"));
            }
            _ => {
                self.next -= 1;
                return self.qualified();
            }
        };
        Ok(Node::Test(test))
    }

    fn length(&mut self) -> Parsed<u32> {
        let word = self.take("a length in bytes")?;
        number(word.text).ok_or_else(|| wrong(word, "a length in bytes is to come here"))
    }
}
