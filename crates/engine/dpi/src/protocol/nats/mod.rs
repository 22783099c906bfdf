//! NATS (NATS client protocol): subjects that are published and subscribed to. Payloads and credentials are passed over.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Step};

const MAX_LINE_BYTES: usize = 16 * 1024;

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
        let window = input.get(..MAX_LINE_BYTES.min(input.len())).unwrap_or(input);
        let Some(end) = memchr::memchr(b'\n', window) else {
            return if window.len() == MAX_LINE_BYTES {
                Step::Reject
            } else {
                Step::More(input.len().saturating_add(1))
            };
        };
        let line = window.get(..end).unwrap_or_default().trim_ascii_end();
        let taken = (end as u64).saturating_add(1);
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
                let Some(bytes) = words.next_back().and_then(decimal) else { return Step::Reject };
                return Step::Skip(taken.saturating_add(bytes).saturating_add(2));
            }
        }
        Step::Skip(taken)
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit & 0x0F))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    value.filter(|value| *value <= 64 << 20)
}
