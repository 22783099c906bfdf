//! MySQL and MariaDB (MySQL internals, "Client/Server Protocol"): who logs in, statements, errors. Passwords and rows
//! are passed over.

#[cfg(test)]
pub(crate) mod samples;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe, Protocol, Step};
use crate::threat::Threat;

/// Bytes of a packet that are read.
const MAX_READ_BYTES: usize = 16 * 1024;

const CAPABILITY_DATABASE: u32 = 0x0008;
const CAPABILITY_SSL: u32 = 0x0800;
const CAPABILITY_PLUGIN_LENGTH: u32 = 0x0020_0000;
const CAPABILITY_SECURE: u32 = 0x8000;

const COM_INIT_DB: u8 = 2;
const COM_QUERY: u8 = 3;
const COM_PREPARE: u8 = 22;

/// Access denied to a database, and with a user and password.
const DENIED: [u16; 2] = [1044, 1045];

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct MySql {
    greeted: bool,
    logged_in: bool,
    statements: u32,
}

/// The server begins: a greeting of protocol 10, or a refusal.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    if side == Side::Client {
        return Probe::No;
    }
    match input {
        [l0, l1, 0, 0, 10, version @ ..] => {
            let length = u16::from_le_bytes([*l0, *l1]);
            let digits = version.iter().take(3).all(|byte| byte.is_ascii_digit() || *byte == b'.');
            match version {
                _ if !(40..1024).contains(&length) || !digits => Probe::No,
                [_, _, _, ..] => Probe::Yes,
                _ => Probe::Maybe,
            }
        }
        [l0, l1, 0, 0 | 1, 0xFF, code @ ..] => {
            let length = u16::from_le_bytes([*l0, *l1]);
            match code {
                // "Host is blocked", "host is not allowed", "too many connections".
                [c0, c1, ..] => {
                    let known = matches!(u16::from_le_bytes([*c0, *c1]), 1040 | 1129 | 1130 | 1203);
                    Probe::when(known && (9..1024).contains(&length))
                }
                _ => Probe::Maybe,
            }
        }
        [] | [_] | [_, _] | [_, _, 0] | [_, _, 0, 0 | 1] => Probe::Maybe,
        _ => Probe::No,
    }
}

impl MySql {
    /// A direction goes on at the beginning of a packet.
    pub(crate) fn lost(&mut self) {
        (self.greeted, self.logged_in) = (true, true);
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let Some([l0, l1, l2, sequence]) = input.first_chunk::<4>() else { return Step::More(4) };
        let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, 0])).unwrap_or(usize::MAX);
        let whole = Step::Skip((length as u64).saturating_add(4));
        if length == 0 {
            return whole;
        }
        let Some(first) = input.get(4) else { return Step::More(5) };
        let read = match (context.side, first, *sequence) {
            (Side::Server, 10, 0) if !self.greeted => true,
            (Side::Server, 0xFF, _) => (3..1024).contains(&length),
            (Side::Server, ..) => false,
            (Side::Client, _, 1..) if !self.logged_in => true,
            (Side::Client, kind, 0) => matches!(*kind, COM_INIT_DB | COM_QUERY | COM_PREPARE),
            (Side::Client, ..) => false,
        };
        if !read {
            return whole;
        }
        let end = length.min(MAX_READ_BYTES).saturating_add(4);
        let Some(body) = input.get(4..end) else { return Step::More(end) };
        if context.side == Side::Client && !self.logged_in && *sequence > 0 {
            return if self.login(context, body) { Step::Become(end, Protocol::Tls) } else { whole };
        }
        match (context.side, body.split_first()) {
            (Side::Server, Some((10, rest))) => {
                self.greeted = true;
                if let Some(version) = Cursor(rest).text() {
                    context.text(Field::ServerSoftware, 0, version);
                }
            }
            (Side::Server, Some((0xFF, rest))) => {
                if let Some([c0, c1]) = rest.first_chunk::<2>() {
                    let code = u16::from_le_bytes([*c0, *c1]);
                    context.number(Field::Error, self.statements.saturating_sub(1), u64::from(code));
                    if DENIED.contains(&code) {
                        context.threat(Threat::MySqlAccessDeny);
                    }
                }
            }
            (Side::Client, Some((&COM_INIT_DB, name))) => context.text(Field::Database, 0, name),
            (Side::Client, Some((_, statement))) => {
                context.statement(self.statements, statement);
                self.statements = self.statements.saturating_add(1);
            }
            _ => {}
        }
        whole
    }

    /// Reads a login; true when it only asks for TLS.
    fn login(&mut self, context: &mut Context<'_>, body: &[u8]) -> bool {
        let mut cursor = Cursor(body);
        let Some(capabilities) = cursor.array().map(u32::from_le_bytes) else { return false };
        if capabilities & CAPABILITY_SSL != 0 && body.len() == 32 {
            return true;
        }
        self.logged_in = true;
        let read = cursor.bytes(28).and_then(|_| {
            let user = cursor.text()?;
            context.text(Field::User, 0, user);
            if capabilities & CAPABILITY_PLUGIN_LENGTH != 0 || capabilities & CAPABILITY_SECURE != 0 {
                cursor.short()?;
            } else {
                cursor.text()?;
            }
            (capabilities & CAPABILITY_DATABASE != 0).then(|| cursor.text()).flatten()
        });
        if let Some(database) = read {
            context.text(Field::Database, 0, database);
        }
        false
    }
}
