//! PostgreSQL's protocol 3.0 (PostgreSQL documentation, "Frontend/Backend Protocol"): who logs in to what, statements,
//! errors. Passwords and rows are passed over.

#[cfg(test)]
pub(crate) mod samples;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe, Protocol, Step};

const PORT: u16 = 5432;
/// Longest startup message, in bytes; servers take 10,000.
const MAX_STARTUP_BYTES: u32 = 10_000;
/// Bytes of a statement that are told.
const MAX_STATEMENT_BYTES: usize = 16 * 1024;

const VERSION_3: u32 = 196_608;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct PostgreSql {
    /// The startup message has been seen: messages have types.
    started: bool,
    /// The client has asked for encryption: the server answers with one byte.
    asked: bool,
    statements: u32,
    answers: u32,
}

pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    let mut cursor = Cursor(input);
    if side == Side::Server {
        // A login's first answer, or any message, when the beginning was missed.
        let named = ports.server == PORT && ports.midstream;
        return match input {
            [b'R', 0, 0, 0, 8 | 12 | 23 | 42, ..] if named => Probe::Yes,
            [b'T' | b'C' | b'Z' | b'E' | b'S' | b'1' | b'2', 0, 0, _, _, ..] if named => Probe::Yes,
            _ => Probe::No,
        };
    }
    match (cursor.u32(), cursor.u32()) {
        (Some(8), Some(SSL | GSS)) | (Some(16), Some(CANCEL)) => Probe::Yes,
        (Some(9..=MAX_STARTUP_BYTES), Some(VERSION_3)) => Probe::Yes,
        (Some(8..=MAX_STARTUP_BYTES), None) => Probe::Maybe,
        (None, _) if input.iter().take(2).all(|byte| *byte == 0) => Probe::Maybe,
        _ => match input {
            [b'Q' | b'P' | b'X' | b'p', 0, 0, _, _, ..] if ports.server == PORT && ports.midstream => {
                Probe::Yes
            }
            _ => Probe::No,
        },
    }
}

impl PostgreSql {
    /// A direction goes on at the beginning of a message.
    pub(crate) fn lost(&mut self) {
        (self.started, self.asked) = (true, false);
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        match context.side {
            Side::Client if !self.started => self.startup(context, input),
            Side::Server if self.asked => {
                self.asked = false;
                match input.first() {
                    Some(b'S') => Step::Become(1, Protocol::Tls),
                    // Encrypted by GSSAPI: nothing to read.
                    Some(b'G') => Step::Done,
                    _ => Step::Took(1),
                }
            }
            side => self.message(context, side, input),
        }
    }

    fn startup(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let mut cursor = Cursor(input);
        let (Some(length), Some(code)) = (cursor.u32(), cursor.u32()) else {
            // A mid-stream message begins with its type.
            return match input.first() {
                Some(0) | None => Step::More(8),
                Some(_) => self.resume(context, input),
            };
        };
        if !(8..=MAX_STARTUP_BYTES).contains(&length) {
            return self.resume(context, input);
        }
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(mut parameters) = input.get(8..whole).map(Cursor) else { return Step::More(whole) };
        match code {
            SSL | GSS => self.asked = true,
            VERSION_3 => {
                self.started = true;
                // Pairs of name and value, ended by an empty name; each turn eats two bytes or ends.
                while let (Some(name), Some(value)) = (parameters.text(), parameters.text()) {
                    match name {
                        b"user" => context.text(Field::User, 0, value),
                        b"database" => context.text(Field::Database, 0, value),
                        b"application_name" => context.text(Field::ClientSoftware, 0, value),
                        _ => {}
                    }
                }
            }
            CANCEL => {}
            _ => return Step::Reject,
        }
        Step::Took(whole)
    }

    fn resume(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        self.started = true;
        self.message(context, Side::Client, input)
    }

    fn message(&mut self, context: &mut Context<'_>, side: Side, input: &[u8]) -> Step {
        let Some([kind, length @ ..]) = input.first_chunk::<5>() else { return Step::More(5) };
        let length = u32::from_be_bytes(*length);
        if !(4..=1 << 30).contains(&length) || !kind.is_ascii_alphanumeric() {
            return Step::Reject;
        }
        let whole = u64::from(length).saturating_add(1);
        let wanted = match (side, kind) {
            (Side::Client, b'Q' | b'P') => MAX_STATEMENT_BYTES,
            (Side::Server, b'E' | b'S') => 1024,
            (Side::Server, b'Z') => 0,
            _ => return Step::Skip(whole),
        };
        let end = usize::try_from(whole).unwrap_or(usize::MAX).min(wanted.saturating_add(5));
        let Some(body) = input.get(5..end.max(5)) else { return Step::More(end) };
        let mut cursor = Cursor(body);
        match (side, kind) {
            (Side::Client, kind) => {
                if *kind == b'P' {
                    cursor.text();
                }
                let statement = cursor.0.split(|byte| *byte == 0).next().unwrap_or_default();
                context.statement(self.statements, statement);
                self.statements = self.statements.saturating_add(1);
            }
            (Side::Server, b'E') => {
                // Fields of a letter and a text; each turn eats two bytes or ends.
                while let (Some(field @ 1..), Some(text)) = (cursor.u8(), cursor.text()) {
                    if field == b'C' {
                        context.text(Field::Error, self.answers, text);
                    }
                }
            }
            (Side::Server, b'S') => {
                if let (Some(b"server_version"), Some(version)) = (cursor.text(), cursor.text()) {
                    context.text(Field::ServerSoftware, 0, version);
                }
            }
            (Side::Server, _) => {
                // Ready for the next statement; the first time, behind the login.
                self.answers = self.answers.saturating_add(1).min(self.statements);
            }
        }
        Step::Skip(whole)
    }
}
