//! TLS up to 1.3 (RFC 8446, RFC 5246), and the hellos of SSL 2 and 3 (RFC 6101).
//!
//! A unit is a record, or a handshake message with all records that it lies in. What is encrypted is passed over
//! record by record until the first application data; from there on there is nothing to learn.

mod certificate;
mod fingerprint;
mod hello;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe, Step};
use crate::threat::Threat;

/// Largest record with its expansion (RFC 5246 §6.2.3), in bytes.
const MAX_RECORD_BYTES: u16 = 16_384 + 2048;
/// Longest handshake message that is put together; a chain of certificates beyond it is passed over.
const MAX_MESSAGE_BYTES: usize = 24 * 1024;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;

/// One direction.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    /// Bytes of the handshake record at hand that are not read yet.
    left: usize,
    /// What follows in handshake records cannot be read.
    opaque: bool,
}

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    client: Direction,
    server: Direction,
    /// Length of the client's last encrypted heartbeat.
    heartbeat: Option<u16>,
    certificate_seen: bool,
    /// The server has asked for another hello: what follows a change of ciphers is in clear still.
    retried: bool,
}

/// Whether `input` is the header of a record, and its type and length.
fn record(input: &[u8]) -> Option<(u8, u16)> {
    match input {
        [kind @ CHANGE_CIPHER_SPEC..=HEARTBEAT, 3, 0..=4, l0, l1, ..] => {
            let length = u16::from_be_bytes([*l0, *l1]);
            (length <= MAX_RECORD_BYTES).then_some((*kind, length))
        }
        _ => None,
    }
}

/// Reads a record's first bytes.
pub(crate) fn probe(side: Side, input: &[u8], midstream: bool) -> Probe {
    if side == Side::Client && hello::probe_ssl2(input) != Probe::No {
        return hello::probe_ssl2(input);
    }
    match input {
        [] | [CHANGE_CIPHER_SPEC..=HEARTBEAT] | [CHANGE_CIPHER_SPEC..=HEARTBEAT, 3] => Probe::Maybe,
        [CHANGE_CIPHER_SPEC..=HEARTBEAT, 3, 0..=4] | [CHANGE_CIPHER_SPEC..=HEARTBEAT, 3, 0..=4, _] => {
            Probe::Maybe
        }
        _ => match (record(input), input.get(5), side) {
            (None, ..) => Probe::No,
            (Some((HANDSHAKE, 4..)), None, _) => Probe::Maybe,
            (Some((HANDSHAKE, 4..)), Some(kind), Side::Client) => {
                Probe::when(*kind == CLIENT_HELLO || midstream)
            }
            (Some((HANDSHAKE, 4..)), Some(kind), Side::Server) => {
                Probe::when(*kind == SERVER_HELLO || midstream)
            }
            (Some((ALERT, 2)), None, _) => Probe::Maybe,
            (Some((ALERT, 2)), Some(level), _) => Probe::when(matches!(level, 1 | 2)),
            (Some((APPLICATION_DATA | ALERT | CHANGE_CIPHER_SPEC, length @ 1..)), ..) if midstream => {
                // Three bytes are little: the record behind must begin as one, too.
                let next = input.get(usize::from(length).saturating_add(5)..).unwrap_or_default();
                Probe::when(next.len() < 5 || record(next).is_some())
            }
            (Some(_), ..) => Probe::No,
        },
    }
}

impl Tls {
    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// A direction goes on at the beginning of a record, of a handshake that may be over.
    pub(crate) fn lost(&mut self, side: Side) {
        self.direction(side).left = 0;
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let direction = *self.direction(context.side);
        if direction.left > 0 {
            return self.message(context, direction.left, input);
        }
        if context.side == Side::Client && hello::probe_ssl2(input) == Probe::Yes {
            return hello::ssl2(context, input);
        }
        if input.len() < 5 {
            return Step::More(5);
        }
        let Some((kind, length)) = record(input) else { return Step::Reject };
        let whole = Step::Skip(u64::from(length).saturating_add(5));
        match kind {
            CHANGE_CIPHER_SPEC => {
                // In TLS 1.3 it changes nothing (RFC 8446 §D.4); what is encrypted there is application data by its type.
                self.direction(context.side).opaque = !self.retried;
                whole
            }
            HANDSHAKE if !direction.opaque && length > 0 => {
                self.direction(context.side).left = usize::from(length);
                Step::Took(5)
            }
            HEARTBEAT => self.heartbeat(context, length, input).unwrap_or(whole),
            APPLICATION_DATA => Step::Done,
            _ => whole,
        }
    }

    /// A heartbeat that claims more payload than it has makes a broken server answer with its memory (CVE-2014-0160,
    /// RFC 6520 §4). Encrypted, it shows by an answer longer than the question.
    fn heartbeat(&mut self, context: &mut Context<'_>, length: u16, input: &[u8]) -> Option<Step> {
        if self.direction(context.side).opaque {
            match (context.side, self.heartbeat) {
                (Side::Client, _) => self.heartbeat = Some(length),
                (Side::Server, Some(asked)) if length >= asked.saturating_add(16) => {
                    context.threat(Threat::SslHeartbleed);
                }
                (Side::Server, _) => {}
            }
            return None;
        }
        let Some([kind, p0, p1]) = input.get(5..).and_then(|body| body.first_chunk::<3>()) else {
            return (length >= 3).then_some(Step::More(8));
        };
        let claimed = u16::from_be_bytes([*p0, *p1]);
        // Type, length and at least 16 bytes of padding belong to it.
        if *kind == 1 && claimed.saturating_add(19) > length {
            context.threat(Threat::SslHeartbleed);
        }
        None
    }

    /// Reads a handshake message, of which `left` bytes may lie in the record at hand.
    fn message(&mut self, context: &mut Context<'_>, left: usize, input: &[u8]) -> Step {
        let mut scratch = std::mem::take(context.scratch);
        let gathered = gather(left, input, &mut scratch);
        let step = match gathered {
            Gathered::More(bytes) => Step::More(bytes),
            Gathered::Reject => Step::Reject,
            Gathered::TooLong => {
                *self.direction(context.side) = Direction { left: 0, opaque: true };
                Step::Skip(left as u64)
            }
            Gathered::Whole { taken, left } => {
                self.direction(context.side).left = left;
                let mut cursor = Cursor(&scratch);
                if let (Some(kind), Some(_)) = (cursor.u8(), cursor.u24()) {
                    self.handshake(context, kind, cursor.0);
                }
                Step::Took(taken)
            }
        };
        *context.scratch = scratch;
        step
    }

    fn handshake(&mut self, context: &mut Context<'_>, kind: u8, body: &[u8]) {
        match (context.side, kind) {
            (Side::Client, CLIENT_HELLO) => {
                if let Some(hello) = hello::Hello::client(body) {
                    fingerprint::client(context, &hello, b't');
                }
            }
            (Side::Server, SERVER_HELLO) => {
                if let Some(hello) = hello::Hello::server(body) {
                    self.retried |= hello.is_retry;
                    fingerprint::server(context, &hello);
                    hello::judge_version(context, hello.version());
                }
            }
            (Side::Server, CERTIFICATE) if !self.certificate_seen => {
                self.certificate_seen = true;
                if let Some(names) = certificate::first(body).and_then(certificate::names) {
                    for (field, name) in [(Field::Issuer, names.issuer), (Field::Subject, names.subject)] {
                        if let Some(name) = name {
                            context.text(field, 0, name);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// Tells a client's hello that came over `transport` (`t` for TCP, `q` for QUIC); false when it is not whole.
pub(crate) fn client_hello(context: &mut Context<'_>, message: &[u8], transport: u8) -> bool {
    let mut cursor = Cursor(message);
    let (Some(CLIENT_HELLO), Some(length)) = (cursor.u8(), cursor.u24()) else { return false };
    let Some(hello) = cursor.bytes(length).and_then(hello::Hello::client) else { return false };
    fingerprint::client(context, &hello, transport);
    true
}

/// A handshake message out of the records that it lies in.
enum Gathered {
    More(usize),
    /// `taken` bytes of input; `left` bytes of the last record are not read yet.
    Whole {
        taken: usize,
        left: usize,
    },
    TooLong,
    Reject,
}

/// Puts header and body of a message into `out`.
fn gather(left: usize, input: &[u8], out: &mut Vec<u8>) -> Gathered {
    out.clear();
    let (mut left, mut taken, mut needed) = (left, 0_usize, 4_usize);
    // Each turn takes a record, or a part of one, and ends with the input.
    loop {
        let missing = needed.saturating_sub(out.len());
        if missing == 0 {
            let length = Cursor(out.get(1..).unwrap_or_default()).u24().unwrap_or(0);
            if needed == 4 && length > 0 {
                if length > MAX_MESSAGE_BYTES {
                    return Gathered::TooLong;
                }
                needed = length.saturating_add(4);
                continue;
            }
            return Gathered::Whole { taken, left };
        }
        if left == 0 {
            let header = input.get(taken..).unwrap_or_default();
            if header.len() < 5 {
                return Gathered::More(taken.saturating_add(5));
            }
            match record(header) {
                Some((HANDSHAKE, length)) => left = usize::from(length),
                _ => return Gathered::Reject,
            }
            taken = taken.saturating_add(5);
            continue;
        }
        let part = missing.min(left);
        let Some(bytes) = input.get(taken..taken.saturating_add(part)) else {
            return Gathered::More(taken.saturating_add(part));
        };
        out.extend_from_slice(bytes);
        (left, taken) = (left.saturating_sub(part), taken.saturating_add(part));
    }
}
