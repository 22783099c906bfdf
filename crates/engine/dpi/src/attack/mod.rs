//! Attacks on what is behind a protocol, found in its decoded fields. Everything here is a pure function of a field.

pub(crate) mod decode;
pub(crate) mod lookup;
pub(crate) mod script;
pub(crate) mod sql;

/// Bytes of a field that are looked at.
pub(crate) const MAX_FIELD_BYTES: usize = 8192;

/// Whether a text begins with a lower-case word, whatever its own case.
fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}
