//! MongoDB's wire protocol (MongoDB manual, "Wire Protocol"): told by its header and what must follow it.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::Context;
use crate::protocol::Probe;
use crate::protocol::read::Cursor;

const QUERY: u32 = 2004;
const COMPRESSED: u32 = 2012;
const MESSAGE: u32 = 2013;
/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: u32 = 48_000_000;

/// Length, the message that is answered, and the operation.
fn header(input: &[u8]) -> Option<(u32, u32, u32)> {
    let mut cursor = Cursor(input);
    let mut little = || cursor.array().map(u32::from_le_bytes);
    let (length, _id, answers, operation) = (little()?, little()?, little()?, little()?);
    Some((length, answers, operation))
}

/// Name of the collection in an old query.
fn collection(input: &[u8]) -> Option<&[u8]> {
    let name = Cursor(input.get(20..)?).text()?;
    (name.len() <= 255 && name.contains(&b'.') && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    let Some((length, answers, operation)) = header(input) else {
        // The last byte of a length is at most 2.
        return if input.get(3).is_some_and(|last| *last > 2) { Probe::No } else { Probe::Maybe };
    };
    if !(21..=MAX_MESSAGE_BYTES).contains(&length) || (answers == 0) != (side == Side::Client) {
        return Probe::No;
    }
    let short = input.len() < 26;
    match operation {
        QUERY if side == Side::Client => match collection(input) {
            Some(_) => Probe::Yes,
            None if input.len() < 300 && !input.get(20..).unwrap_or_default().contains(&0) => Probe::Maybe,
            None => Probe::No,
        },
        MESSAGE if short => Probe::Maybe,
        // Flags that are defined, then a section with a document.
        MESSAGE => Probe::when(matches!(input.get(16..), Some([0..=3, 0, 0 | 1, 0, 0 | 1, ..]))),
        COMPRESSED if short => Probe::Maybe,
        COMPRESSED => Probe::when(matches!(input.get(16..), Some([0xDD, 7, 0, 0, _, _, _, _, 0..=3, ..]))),
        // An old reply: defined flags, and a number of documents that fits.
        1 if side == Side::Server => match input.get(16..36).and_then(|rest| rest.first_chunk::<20>()) {
            Some([0..=15, 0, 0, 0, .., n0, n1, n2, 0]) => {
                Probe::when(length >= 36 && u32::from_le_bytes([*n0, *n1, *n2, 0]) <= length / 5)
            }
            Some(_) => Probe::No,
            None => Probe::Maybe,
        },
        _ => Probe::No,
    }
}

/// Tells the database of an old query.
pub(crate) fn first(context: &mut Context<'_>, input: &[u8]) {
    if context.side == Side::Client
        && header(input).is_some_and(|(_, _, operation)| operation == QUERY)
        && let Some(database) = collection(input).and_then(|name| name.split(|byte| *byte == b'.').next())
    {
        context.text(Field::Database, 0, database);
    }
}
