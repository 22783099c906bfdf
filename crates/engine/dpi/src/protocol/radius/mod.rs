//! RADIUS (RFC 2865 §3, RFC 2866) on its ports: who logs in. Passwords are passed over.

use crate::event::Field;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe};

const PORTS: [u16; 5] = [1812, 1813, 1645, 1646, 3799];
/// Attributes that are looked at.
const MAX_ATTRIBUTES: usize = 64;
const USER_NAME: u8 = 1;

/// Codes that are assigned, and a length that is the datagram's.
pub(crate) fn probe(input: &[u8], ports: Ports) -> Probe {
    let served = PORTS.contains(&ports.server) || PORTS.contains(&ports.client);
    let right = match input {
        [1..=5 | 11..=13 | 40..=45, _, l0, l1, ..] => {
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            (20..=4096).contains(&length) && length <= input.len()
        }
        _ => false,
    };
    Probe::when(served && right)
}

/// Reads the attributes.
pub(crate) fn datagram(context: &mut Context<'_>, input: &[u8]) {
    let mut cursor = Cursor(input.get(20..).unwrap_or_default());
    for _ in 0..MAX_ATTRIBUTES {
        let (Some(kind), Some(length)) = (cursor.u8(), cursor.u8()) else { break };
        let Some(value) = cursor.bytes(usize::from(length).saturating_sub(2)) else { break };
        if kind == USER_NAME {
            context.text(Field::User, 0, value);
        }
    }
}
