//! `@pm`: many phrases at once, in any case.

use aho_corasick::{AhoCorasick, MatchKind};

use super::literals::Literals;

/// Phrases in one automaton.
#[derive(Debug)]
pub(crate) struct Phrases {
    automaton: AhoCorasick,
    literals: Option<Literals>,
}

/// Phrases of one operator.
const MAX: usize = 100_000;

impl Phrases {
    /// Phrases between blanks; `|hh hh|` gives bytes in hexadecimal.
    pub(super) fn words(text: &[u8]) -> Result<Self, String> {
        let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Self::new(words.map(<[u8]>::to_vec).collect())
    }

    pub(super) fn new(phrases: Vec<Vec<u8>>) -> Result<Self, String> {
        if phrases.len() > MAX {
            return Err(format!("more than {MAX} phrases"));
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostFirst)
            .build(&phrases)
            .map_err(|error| error.to_string())?;
        Ok(Self { automaton, literals: Literals::new(phrases) })
    }

    /// The first phrase that is in `value`.
    pub(super) fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        value.get(self.automaton.find(value)?.range())
    }

    pub(super) fn memory(&self) -> usize {
        self.automaton.memory_usage()
    }

    pub(super) fn literals(&self) -> Option<Literals> {
        self.literals.clone()
    }
}

/// Phrases of a file: one a line, `#` begins a line that is none.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec)
}
