//! The protocol between nodes of Elasticsearch: `ES`, a length, a request's number and its status.

use crate::protocol::Probe;

/// Longest message, in bytes.
const MAX_BYTES: u32 = 1 << 30;

/// Reads a message's header; a length of -1 is a sign of life.
pub(crate) fn probe(input: &[u8]) -> Probe {
    match input {
        [b'E', b'S', l0, l1, l2, l3, ..] => {
            let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
            Probe::when(length == u32::MAX || (9..MAX_BYTES).contains(&length))
        }
        [] | [b'E'] => Probe::Maybe,
        [b'E', b'S', ..] => Probe::Maybe,
        _ => Probe::No,
    }
}
