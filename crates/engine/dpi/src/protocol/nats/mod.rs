//! NATS (NATS client protocol): subjects that are published and subscribed to. Payloads and credentials are passed over.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Step, read};

const MAX_LINE_BYTES: usize = 16 * 1024;
/// Largest payload that is believed, in bytes.
const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Nats {
    messages: u32,
}

/// The server begins with what it is, the client with what it wants.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match side {
        Side::Server => Probe::starts(input, b"INFO {"),
        Side::Client => Probe::starts(input, b"CONNECT {"),
    }
}

impl Nats {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let (line, taken) = match read::line(input, MAX_LINE_BYTES) {
            Ok((line, taken)) => (line.trim_ascii_end(), taken),
            Err(step) => return step,
        };
        let taken = taken as u64;
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default();
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        let carries = is(b"PUB") || is(b"HPUB") || is(b"MSG") || is(b"HMSG");
        if (carries || is(b"SUB"))
            && let Some(subject) = words.next()
        {
            if context.side == Side::Client {
                context.text(Field::Topic, self.messages, subject);
                self.messages = self.messages.saturating_add(1);
            }
            if carries {
                // The last word is the payload's length; its own line end follows it.
                let Some(bytes) = words.next_back().and_then(|word| read::decimal(word, MAX_PAYLOAD_BYTES))
                else {
                    return Step::Reject;
                };
                return Step::Skip(taken.saturating_add(bytes).saturating_add(2));
            }
        }
        Step::Skip(taken)
    }
}
