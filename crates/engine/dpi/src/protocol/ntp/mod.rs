//! NTP (RFC 5905 §7.3) on its port: told by its first byte and length.

use crate::event::Field;
use crate::protocol::{Context, Ports, Probe};

const PORT: u16 = 123;

/// Versions 1 to 4; control messages (modes 6 and 7) are shorter.
pub(crate) fn probe(input: &[u8], ports: Ports) -> Probe {
    let Some(first) = input.first() else { return Probe::No };
    let (version, mode) = ((first >> 3) & 7, first & 7);
    let least = if mode >= 6 { 8 } else { 48 };
    let served = ports.server == PORT || ports.client == PORT;
    Probe::when(served && (1..=4).contains(&version) && input.len() >= least)
}

/// Tells the version.
pub(crate) fn datagram(context: &mut Context<'_>, input: &[u8]) {
    if let Some(first) = input.first() {
        context.number(Field::Version, 0, u64::from((first >> 3) & 7));
    }
}
