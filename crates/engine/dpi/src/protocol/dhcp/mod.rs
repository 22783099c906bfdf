//! DHCP (RFC 2131) on its ports: told by its cookie, with the client's host name.

use crate::event::Field;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe};

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Fixed fields in front of the cookie (RFC 2131 §2).
const FIXED_BYTES: usize = 236;
/// Options that are looked at.
const MAX_OPTIONS: usize = 64;
const HOST_NAME: u8 = 12;

/// A message between the ports of clients, servers and relays.
pub(crate) fn probe(input: &[u8], ports: Ports) -> Probe {
    let served = matches!((ports.client, ports.server), (67 | 68, _) | (_, 67 | 68));
    let cookie = input.get(FIXED_BYTES..).is_some_and(|rest| rest.starts_with(&COOKIE));
    Probe::when(served && cookie && matches!(input.first(), Some(1 | 2)))
}

/// Reads the options (RFC 2132 §2).
pub(crate) fn datagram(context: &mut Context<'_>, input: &[u8]) {
    let Some(options) = input.get(FIXED_BYTES.saturating_add(4)..) else { return };
    let mut cursor = Cursor(options);
    for _ in 0..MAX_OPTIONS {
        match cursor.u8() {
            Some(0) => {}
            Some(255) | None => break,
            Some(kind) => match cursor.short() {
                Some(name) if kind == HOST_NAME => context.text(Field::ClientSoftware, 0, name),
                Some(_) => {}
                None => break,
            },
        }
    }
}
