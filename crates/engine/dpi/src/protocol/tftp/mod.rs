//! TFTP (RFC 1350 §5): told by its request, with the name of the file.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe};

const PORT: u16 = 69;

/// The file's name of a request to read or write; its transfer mode must be a known one.
fn request(input: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor(input);
    if !matches!(cursor.u16()?, 1 | 2) {
        return None;
    }
    let name = cursor.text()?;
    let mode = cursor.text()?;
    let known = [&b"octet"[..], b"netascii", b"mail"].iter().any(|known| mode.eq_ignore_ascii_case(known));
    (known && !name.is_empty()).then_some(name)
}

/// A request; answers come from another port, and are a flow of their own.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    Probe::when(side == Side::Client && ports.server == PORT && request(input).is_some())
}

/// Tells the file.
pub(crate) fn datagram(context: &mut Context<'_>, input: &[u8]) {
    if let Some(name) = request(input) {
        context.text(Field::Uri, 0, name);
    }
}
