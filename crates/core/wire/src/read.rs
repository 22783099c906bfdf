//! Readers of single fields, each with its bound.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use nv_model::time::Timestamp;

use crate::bounds::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::error::{Problem, WireError};

pub(crate) type Read<T> = Result<T, WireError>;

/// Free text of at most `max` bytes.
pub(crate) fn text(path: &str, raw: String, max: usize) -> Read<String> {
    length(path, raw.len(), max)?;
    Ok(raw)
}

/// Checks a count against its bound.
pub(crate) fn length(path: &str, found: usize, max: usize) -> Read<()> {
    if found > max {
        return Err(WireError { path: path.to_owned(), problem: Problem::TooLong { found, max } });
    }
    Ok(())
}

/// Text that is parsed into a type of the model; the type holds the bound.
pub(crate) fn parse<T>(path: &str, raw: &str) -> Read<T>
where
    T: FromStr,
    T::Err: Display,
{
    raw.parse().map_err(|error: T::Err| WireError::value(path, error))
}

/// As [`parse`], with empty text for none.
pub(crate) fn parse_optional<T>(path: &str, raw: &str) -> Read<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    if raw.is_empty() { Ok(None) } else { parse(path, raw).map(Some) }
}

/// A smaller number out of the wire's larger one.
pub(crate) fn number<T: TryFrom<u32>>(path: &str, raw: u32) -> Read<T> {
    T::try_from(raw).map_err(|_too_big| WireError::range(path, raw))
}

/// A message that has to be there.
pub(crate) fn required<T>(path: &str, raw: Option<T>) -> Read<T> {
    raw.ok_or_else(|| WireError::missing(path))
}

/// A list whose entries are messages.
pub(crate) fn list<P, M>(path: &str, raw: Vec<P>, max: usize) -> Read<Vec<M>>
where
    M: TryFrom<P, Error = WireError>,
{
    length(path, raw.len(), max)?;
    raw.into_iter()
        .enumerate()
        .map(|(at, entry)| M::try_from(entry).map_err(|error| error.under(format_args!("{path}[{at}]"))))
        .collect()
}

/// A list of texts that are parsed.
pub(crate) fn parsed_list<T>(path: &str, raw: &[String], max: usize) -> Read<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    length(path, raw.len(), max)?;
    raw.iter().enumerate().map(|(at, entry)| parse(&format!("{path}[{at}]"), entry)).collect()
}

/// Labels or annotations.
pub(crate) fn labels(path: &str, raw: BTreeMap<String, String>) -> Read<BTreeMap<String, String>> {
    length(path, raw.len(), MAX_LABELS)?;
    for (key, value) in &raw {
        length(&format!("{path} key"), key.len(), MAX_TEXT_BYTES)?;
        length(&format!("{path} value"), value.len(), MAX_TEXT_BYTES)?;
    }
    Ok(raw)
}

/// A point in time, nanoseconds since the epoch.
pub(crate) const fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// Free text for the wire, cut at a character's end where it is too long.
pub(crate) fn clip(mut raw: String, max: usize) -> String {
    let mut end = max.min(raw.len());
    while !raw.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    raw.truncate(end);
    raw
}

/// Labels for the wire: the first ones that fit, values cut.
pub(crate) fn clip_labels(raw: BTreeMap<String, String>) -> BTreeMap<String, String> {
    raw.into_iter()
        .filter(|(key, _)| key.len() <= MAX_TEXT_BYTES)
        .take(MAX_LABELS)
        .map(|(key, value)| (key, clip(value, MAX_TEXT_BYTES)))
        .collect()
}

/// The first `max` entries.
pub(crate) fn clip_list<T, P: From<T>>(raw: Vec<T>, max: usize) -> Vec<P> {
    raw.into_iter().take(max).map(P::from).collect()
}
