//! TNS, the protocol of Oracle's database: told by its CONNECT packet, with user and service out of its description.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe};

/// Bytes of a CONNECT that are looked at.
const MAX_BYTES: usize = 1024;

/// Length, no checksum, type 1, and a version from 300 up.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match (side, input) {
        (Side::Server, _) => Probe::No,
        (_, [l0, l1, 0, 0, 1, _, 0, 0, v0, v1, ..]) => {
            let (length, version) = (u16::from_be_bytes([*l0, *l1]), u16::from_be_bytes([*v0, *v1]));
            Probe::when((34..4096).contains(&length) && (300..=400).contains(&version))
        }
        _ => Probe::when(false).or_maybe(
            input.len() < 10
                && input
                    .iter()
                    .zip([None, None, Some(0), Some(0), Some(1)])
                    .all(|(byte, want)| want.is_none_or(|want: u8| want == *byte)),
        ),
    }
}

/// Bytes of a packet that are waited for.
pub(crate) fn wanted(input: &[u8]) -> usize {
    input.first_chunk::<2>().map_or(2, |length| usize::from(u16::from_be_bytes(*length))).min(MAX_BYTES)
}

/// Reads `(NAME=value)` pairs.
pub(crate) fn first(context: &mut Context<'_>, input: &[u8]) {
    let window = input.get(..MAX_BYTES.min(input.len())).unwrap_or(input);
    for (name, field) in
        [(&b"(SERVICE_NAME="[..], Field::Database), (b"(SID=", Field::Database), (b"(USER=", Field::User)]
    {
        if let Some(at) = memchr::memmem::find(window, name) {
            let value = window.get(at.saturating_add(name.len())..).unwrap_or_default();
            let value = value.split(|byte| *byte == b')').next().unwrap_or_default();
            context.text(field, 0, value);
        }
    }
}
