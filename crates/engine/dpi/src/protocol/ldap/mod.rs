//! LDAP (RFC 4511 §4): told by its envelope, with the name that binds. Passwords are passed over.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe};

const BIND_REQUEST: u8 = 0x60;
/// Bytes of a message that are read.
const MAX_BYTES: usize = 4096;

/// Operation of a message, and what is in it.
fn operation(input: &[u8]) -> Option<(u8, Cursor<'_>)> {
    let mut cursor = Cursor(input);
    if cursor.u8()? != 0x30 {
        return None;
    }
    cursor.ber_length(4)?;
    if cursor.u8()? != 2 {
        return None;
    }
    let number = cursor.ber_length(4)?;
    if !(1..=4).contains(&number) {
        return None;
    }
    cursor.bytes(number)?;
    let operation = cursor.u8()?;
    cursor.ber_length(4)?;
    Some((operation, cursor))
}

/// Reads the envelope.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match (operation(input), side) {
        // Bind, unbind, search, modify, add, delete, compare, extended.
        (Some((0x60 | 0x42 | 0x63 | 0x66 | 0x68 | 0x4A | 0x6E | 0x77, _)), Side::Client) => Probe::Yes,
        (Some((0x61 | 0x64 | 0x65 | 0x67 | 0x69 | 0x6B | 0x6F | 0x78, _)), Side::Server) => Probe::Yes,
        (None, _) if input.len() < 20 && matches!(input.first(), None | Some(0x30)) => Probe::Maybe,
        _ => Probe::No,
    }
}

/// Bytes of a message that are waited for.
pub(crate) fn wanted(input: &[u8]) -> usize {
    let mut cursor = Cursor(input.get(1..).unwrap_or_default());
    let header = |cursor: Cursor<'_>| input.len().saturating_sub(cursor.0.len());
    cursor.ber_length(4).map_or(6, |length| length.saturating_add(header(cursor))).min(MAX_BYTES)
}

/// Tells who binds.
pub(crate) fn first(context: &mut Context<'_>, input: &[u8]) {
    let Some((BIND_REQUEST, mut cursor)) = operation(input) else { return };
    let name = (|| {
        let [2, 1, version] = cursor.array()? else { return None };
        context.number(Field::Version, 0, u64::from(version));
        if cursor.u8()? != 4 {
            return None;
        }
        let length = cursor.ber_length(4)?;
        cursor.bytes(length)
    })();
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        context.text(Field::User, 0, name);
    }
}
