//! Kafka (Apache Kafka, "A Guide to the Kafka Protocol"): told by a request's header, with the client's name.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe};

/// Keys and versions of requests that exist.
const MAX_KEY: u16 = 92;
const MAX_VERSION: u16 = 20;
/// Longest request, in bytes (100 MiB).
const MAX_BYTES: u32 = 100 << 20;

/// Name of the client; outer `None` when the header is not whole, inner when it is not one.
fn client(input: &[u8]) -> Option<Option<&[u8]>> {
    let mut cursor = Cursor(input);
    let (length, key, version) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
    if !(11..=MAX_BYTES).contains(&length) || key > MAX_KEY || version > MAX_VERSION {
        return Some(None);
    }
    let (_correlation, name) = (cursor.u32()?, cursor.u16()?);
    if !(1..=249).contains(&name) || u32::from(name).saturating_add(10) > length {
        return Some(None);
    }
    // The first letters decide; the whole name may be cut.
    let letters = cursor.0.get(..usize::from(name).min(cursor.0.len()))?;
    if !letters.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)) {
        return Some(None);
    }
    if letters.len() == usize::from(name) { Some(Some(letters)) } else { None }
}

pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match (side, client(input)) {
        (Side::Server, _) | (_, Some(None)) => Probe::No,
        (_, Some(Some(_))) => Probe::Yes,
        (_, None) if input.len() >= 5 && input.get(4) != Some(&0) => Probe::No,
        (_, None) => Probe::Maybe,
    }
}

/// Tells the client's name.
pub(crate) fn first(context: &mut Context<'_>, input: &[u8]) {
    if context.side == Side::Client
        && let Some(Some(name)) = client(input)
    {
        context.text(Field::ClientSoftware, 0, name);
    }
}
