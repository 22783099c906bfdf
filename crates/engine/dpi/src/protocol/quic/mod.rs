//! QUIC (RFC 9000 §17.2, RFC 9369) and its forerunners, by the version in the long header. What follows is encrypted.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe};

/// Least size of a client's first datagram (RFC 9000 §14.1), in bytes; forerunners filled less.
const LEAST_BYTES: usize = 1000;
/// Longest connection identifier (RFC 9000 §17.2).
const MAX_ID_BYTES: u8 = 20;

/// The version of a long header, when it is one that exists.
fn version(input: &[u8]) -> Option<u32> {
    let mut cursor = Cursor(input);
    let first = cursor.u8()?;
    if first & 0xC0 == 0xC0 {
        let version = cursor.u32()?;
        let known = match version {
            // 1, 2, drafts, and Facebook's.
            1 | 0x6B33_43CF | 0xFF00_0001..=0xFF00_00FF | 0xFACE_B000..=0xFACE_B00F => {
                cursor.u8()? <= MAX_ID_BYTES
            }
            _ => is_google(version),
        };
        return known.then_some(version);
    }
    // Google's before version 46: flags with a version and an identifier of 8 bytes.
    if first & 0x09 == 0x09 && first & 0xC0 == 0 {
        cursor.bytes(8)?;
        return cursor.u32().filter(|version| is_google(*version));
    }
    None
}

/// `Q` or `T` and three digits.
fn is_google(version: u32) -> bool {
    matches!(version.to_be_bytes(), [b'Q' | b'T', b'0', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// A client's first datagram, or any answer with the same header.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    let served = matches!(ports.server, 443 | 80 | 853 | 4433);
    let long = side == Side::Server || input.len() >= LEAST_BYTES;
    let negotiation = side == Side::Server
        && served
        && input.len() > 10
        && matches!(input, [0x80..=0xFF, 0, 0, 0, 0, id, ..] if *id <= MAX_ID_BYTES);
    Probe::when(negotiation || (version(input).is_some() && (served || long)))
}

/// Tells the version.
pub(crate) fn datagram(context: &mut Context<'_>, input: &[u8]) {
    if let Some(version) = version(input) {
        match version.to_be_bytes() {
            name @ [b'Q' | b'T', ..] => context.text(Field::Version, 0, &name),
            _ => context.number(Field::Version, 0, u64::from(version)),
        }
    }
}
