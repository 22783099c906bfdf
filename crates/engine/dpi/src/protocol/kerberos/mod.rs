//! Kerberos 5 (RFC 4120 §5): told by its application tags and the version inside; over TCP behind a length (§7.2.2).

use crate::protocol::Probe;
use crate::protocol::read::Cursor;

/// A message of the key distribution centre: an application tag, a sequence, and version 5 as its first element.
pub(crate) fn probe_datagram(input: &[u8]) -> Probe {
    Probe::when(is_message(input).unwrap_or(false))
}

/// As a datagram, behind four bytes of length.
pub(crate) fn probe_stream(input: &[u8]) -> Probe {
    match input {
        [] | [0] | [0, 0] | [0, 0, _] | [0, 0, _, _] => Probe::Maybe,
        [0, 0, _, _, 0x6A..=0x6F | 0x7E, rest @ ..] if rest.len() < 16 => Probe::Maybe,
        [0, 0, _, _, message @ ..] => probe_datagram(message),
        _ => Probe::No,
    }
}

fn is_message(input: &[u8]) -> Option<bool> {
    let mut cursor = Cursor(input);
    if !matches!(cursor.u8()?, 0x6A..=0x6F | 0x7E) {
        return Some(false);
    }
    cursor.ber_length(3)?;
    if cursor.u8()? != 0x30 {
        return Some(false);
    }
    cursor.ber_length(3)?;
    Some(matches!(cursor.array::<5>()?, [0xA0 | 0xA1, 3, 2, 1, 5]))
}
