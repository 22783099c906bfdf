//! MQTT 3.1 to 5 (OASIS MQTT 5.0 §2, §3): who connects, and the topics of messages. Passwords and payloads are passed
//! over.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe, Step};

const PORT: u16 = 1883;
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
/// Bytes of a packet that are read.
const MAX_READ_BYTES: usize = 4096;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Mqtt {
    messages: u32,
}

/// A length of up to four bytes, seven bits each (§1.5.5): its value and size. Outer `None` when it is not whole.
fn length(input: &[u8]) -> Option<Option<(usize, usize)>> {
    let (mut value, mut shift) = (0_usize, 0_u32);
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << shift;
        shift = shift.saturating_add(7);
        if byte & 0x80 == 0 {
            return Some(Some((value, at.saturating_add(1))));
        }
    }
    if input.len() >= 4 { Some(None) } else { None }
}

pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    let Some((first, rest)) = input.split_first() else { return Probe::Maybe };
    let named = ports.midstream && ports.server == PORT;
    match (first >> 4, first & 0x0F, length(rest)) {
        (_, _, Some(None)) => Probe::No,
        (CONNECT, 0, None) => Probe::Maybe,
        (CONNECT, 0, Some(Some((bytes, size)))) if side == Side::Client => {
            let body = rest.get(size..).unwrap_or_default();
            [&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"]
                .iter()
                .map(|name| if bytes < 10 { Probe::No } else { Probe::starts(body, name) })
                .find(|probe| *probe != Probe::No)
                .unwrap_or(Probe::No)
        }
        (PUBLISH, _, Some(Some((2.., _)))) if named => Probe::Yes,
        (4 | 9 | 11 | 12 | 13, 0, Some(Some((0 | 2 | 3, _)))) if named => Probe::Yes,
        _ => Probe::No,
    }
}

impl Mqtt {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let Some((first, rest)) = input.split_first() else { return Step::More(2) };
        let (bytes, size) = match length(rest) {
            None => return Step::More(input.len().saturating_add(1)),
            Some(None) => return Step::Reject,
            Some(Some(length)) => length,
        };
        let header = size.saturating_add(1);
        let whole = Step::Skip((bytes as u64).saturating_add(header as u64));
        let kind = first >> 4;
        if !matches!(kind, CONNECT | PUBLISH) || bytes == 0 {
            return if kind == 0 { Step::Reject } else { whole };
        }
        let end = header.saturating_add(bytes.min(MAX_READ_BYTES));
        let Some(body) = input.get(header..end) else { return Step::More(end) };
        let mut cursor = Cursor(body);
        if kind == PUBLISH {
            if let Some(topic) = cursor.long() {
                context.text(Field::Topic, self.messages, topic);
                self.messages = self.messages.saturating_add(1);
            }
        } else {
            connect(context, &mut cursor);
        }
        whole
    }
}

/// Reads a CONNECT (§3.1).
fn connect(context: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.long()?;
    let (version, flags) = (cursor.u8()?, cursor.u8()?);
    context.number(Field::Version, 0, u64::from(version));
    cursor.u16()?;
    if version == 5 {
        let (bytes, size) = length(cursor.0)??;
        cursor.bytes(size)?;
        cursor.bytes(bytes)?;
    }
    context.text(Field::ClientSoftware, 0, cursor.long()?);
    if flags & 0x04 != 0 {
        if version == 5 {
            let (bytes, size) = length(cursor.0)??;
            cursor.bytes(size)?;
            cursor.bytes(bytes)?;
        }
        cursor.long()?;
        cursor.long()?;
    }
    if flags & 0x80 != 0 {
        context.text(Field::User, 0, cursor.long()?);
    }
    Some(())
}
