//! AMQP 0-8 to 1.0 (AMQP 0-9-1 §4.2.2): told by the client's header; RabbitMQ names itself in its first frame.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Step};

const RABBITMQ: u32 = 2014;
/// Bytes of the server's first frame in which its name is looked for.
const MAX_READ_BYTES: usize = 1024;

pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match side {
        Side::Client => Probe::starts(input, b"AMQP"),
        // A frame of a method of class connection, Start.
        Side::Server => match input {
            [1, 0, 0, _, _, _, _, 0, 10, 0, 10, ..] => Probe::Yes,
            _ if input.len() < 11 => {
                let start: &[Option<u8>] =
                    &[Some(1), Some(0), Some(0), None, None, None, None, Some(0), Some(10), Some(0)];
                Probe::when(false).or_maybe(
                    input.iter().zip(start).all(|(byte, want)| want.is_none_or(|want| want == *byte)),
                )
            }
            _ => Probe::No,
        },
    }
}

/// Reads the client's header, and the server's first frame.
pub(crate) fn step(context: &mut Context<'_>, input: &[u8]) -> Step {
    if context.side == Side::Client {
        let Some([b'A', b'M', b'Q', b'P', _, version @ ..]) = input.first_chunk::<8>() else {
            return if input.len() < 8 { Step::More(8) } else { Step::Done };
        };
        let [major, minor, revision] = version.map(|digit| b'0'.saturating_add(digit.min(9)));
        context.text(Field::Version, 0, &[major, b'.', minor, b'.', revision]);
        return Step::Done;
    }
    let Some([1, _, _, s0, s1, s2, s3]) = input.first_chunk::<7>() else {
        return if input.len() < 7 { Step::More(7) } else { Step::Done };
    };
    let size = usize::try_from(u32::from_be_bytes([*s0, *s1, *s2, *s3])).unwrap_or(usize::MAX);
    let end = size.min(MAX_READ_BYTES).saturating_add(7);
    let Some(frame) = input.get(..end) else { return Step::More(end) };
    if memchr::memmem::find(frame, b"RabbitMQ").is_some() {
        context.software(RABBITMQ);
    }
    Step::Done
}
