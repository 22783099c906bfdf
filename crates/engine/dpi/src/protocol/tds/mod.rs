//! TDS, the protocol of Microsoft SQL Server (MS-TDS §2.2.3): statements of batches that are not encrypted.

use crate::key::Side;
use crate::protocol::{Context, Ports, Probe, Step};

const PORT: u16 = 1433;
const BATCH: u8 = 1;
const LOGIN: u8 = 0x10;
const PRELOGIN: u8 = 0x12;
const ANSWER: u8 = 4;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Tds {
    statements: u32,
}

/// Type, status and length of a packet.
fn header(input: &[u8]) -> Option<(u8, u8, u16)> {
    match input {
        [kind, status, l0, l1, _, _, _, 0, ..] => Some((*kind, *status, u16::from_be_bytes([*l0, *l1]))),
        _ => None,
    }
}

/// A client begins with PRELOGIN, whose first option is the version, or with a login.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    let kind = input.first();
    match (side, kind) {
        (_, None) => return Probe::Maybe,
        (Side::Client, Some(&PRELOGIN | &LOGIN)) => {}
        (Side::Client, Some(1 | 3 | 0x0E)) | (Side::Server, Some(&ANSWER))
            if ports.midstream && ports.server == PORT => {}
        _ => return Probe::No,
    }
    match (header(input), input.get(8..)) {
        (None, _) if input.len() < 8 => Probe::Maybe,
        (Some((PRELOGIN, 1, 26..=4096)), Some([])) => Probe::Maybe,
        (Some((PRELOGIN, 1, 26..=4096)), Some([0, ..])) => Probe::Yes,
        (Some((LOGIN, 0 | 1, 86..)), _) => Probe::Yes,
        (Some((BATCH | 3 | 0x0E | ANSWER, 0..=9, 8..)), _) => Probe::Yes,
        _ => Probe::No,
    }
}

impl Tds {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if input.len() < 8 {
            return Step::More(8);
        }
        let Some((kind, _, length @ 8..)) = header(input) else { return Step::Reject };
        if context.side == Side::Server || kind != BATCH {
            return Step::Skip(u64::from(length));
        }
        let Some(body) = input.get(8..usize::from(length)) else { return Step::More(usize::from(length)) };
        // Headers of the stream come first since TDS 7.2, behind their own length (§2.2.5.3).
        let headers = body.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
        let headers = usize::try_from(headers).unwrap_or(0);
        let text = body.get(if (4..=64).contains(&headers) { headers } else { 0 }..).unwrap_or_default();
        let mut statement = std::mem::take(context.scratch);
        statement.clear();
        // UTF-16; what is not ASCII is of no interest to who reads statements.
        statement
            .extend(text.as_chunks::<2>().0.iter().map(|[low, high]| if *high == 0 { *low } else { b'?' }));
        context.statement(self.statements, &statement);
        *context.scratch = statement;
        self.statements = self.statements.saturating_add(1);
        Step::Skip(u64::from(length))
    }
}
