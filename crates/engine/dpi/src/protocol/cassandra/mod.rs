//! Cassandra's native protocol, versions 1 to 5 (Apache Cassandra, native_protocol_v*.spec): told by the client's first
//! frame, with the statements of queries.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe, Step};

const STARTUP: u8 = 1;
const OPTIONS: u8 = 5;
const QUERY: u8 = 7;
const PREPARE: u8 = 9;
/// Longest frame, in bytes (256 MB).
const MAX_FRAME_BYTES: u32 = 256 << 20;
/// Bytes of a statement that are told.
const MAX_STATEMENT_BYTES: usize = 8192;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Cassandra {
    statements: u32,
}

/// Opcode, length of the body and size of the header; streams have one byte up to version 2, then two.
fn header(input: &[u8]) -> Option<(u8, u32, usize)> {
    match input {
        [1 | 2, _, _, opcode, b0, b1, b2, b3, ..] => {
            Some((*opcode, u32::from_be_bytes([*b0, *b1, *b2, *b3]), 8))
        }
        [3..=5, _, _, _, opcode, b0, b1, b2, b3, ..] => {
            Some((*opcode, u32::from_be_bytes([*b0, *b1, *b2, *b3]), 9))
        }
        _ => None,
    }
}

/// OPTIONS, or STARTUP with the language's version.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match (side, input) {
        (Side::Server, _) | (_, [0 | 6.., ..]) | (_, [_, 0x20..=0xFF, ..]) => Probe::No,
        _ => match header(input) {
            None => Probe::Maybe,
            Some((OPTIONS, 0, _)) => Probe::Yes,
            Some((STARTUP, 10..=1024, size)) => {
                let parameters = input.get(size..).unwrap_or_default();
                match parameters {
                    [] | [0] => Probe::Maybe,
                    [0, 1..=16, name @ ..] => [
                        &b"\0\x0BCQL_VERSION"[..],
                        b"\0\x0BCOMPRESSION",
                        b"\0\x0BDRIVER_NAME",
                        b"\0\x0EDRIVER_VERSION",
                    ]
                    .iter()
                    .map(|known| Probe::starts(name, known))
                    .find(|probe| *probe != Probe::No)
                    .unwrap_or(Probe::No),
                    _ => Probe::No,
                }
            }
            Some(_) => Probe::No,
        },
    }
}

impl Cassandra {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if context.side == Side::Server {
            return Step::Done;
        }
        let Some((opcode, length, size)) = header(input) else {
            // No more than is looked at: what is wrong with a header shows with its last byte, wherever it is cut.
            return match input.first() {
                None => Step::More(1),
                Some(1 | 2) => Step::More(8),
                Some(3..=5) => Step::More(9),
                Some(_) => Step::Reject,
            };
        };
        if length > MAX_FRAME_BYTES || opcode > 0x10 {
            return Step::Reject;
        }
        let whole = Step::Skip(u64::from(length).saturating_add(size as u64));
        let compressed = input.get(1).is_some_and(|flags| flags & 1 != 0);
        if !matches!(opcode, QUERY | PREPARE) || compressed {
            return whole;
        }
        let read = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_STATEMENT_BYTES);
        let end = size.saturating_add(read);
        let Some(body) = input.get(size..end) else { return Step::More(end) };
        let mut cursor = Cursor(body);
        if let Some(length) = cursor.u32() {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(cursor.0.len());
            context.text(Field::Statement, self.statements, cursor.bytes(length).unwrap_or_default());
            self.statements = self.statements.saturating_add(1);
        }
        whole
    }
}
