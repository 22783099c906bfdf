//! QUIC (RFC 9000 §17.2, RFC 9369) and its forerunners, by the version in the long header. The client's hello lies in its
//! first packets, which can be read; what follows cannot.

mod initial;
#[cfg(test)]
mod tests;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Ports, Probe, Step, tls};

/// Least size of a client's first datagram (RFC 9000 §14.1), in bytes; forerunners filled less.
const LEAST_BYTES: usize = 1000;
/// Longest connection identifier (RFC 9000 §17.2).
const MAX_ID_BYTES: u8 = 20;

/// The version of a long header, when it is one that exists.
fn version(input: &[u8]) -> Option<u32> {
    let mut cursor = Cursor(input);
    let first = cursor.u8()?;
    if first & 0xC0 == 0xC0 {
        let version = cursor.u32()?;
        let known = match version {
            // 1, 2, drafts, and Facebook's.
            1 | 0x6B33_43CF | 0xFF00_0001..=0xFF00_00FF | 0xFACE_B000..=0xFACE_B00F => {
                cursor.u8()? <= MAX_ID_BYTES
            }
            _ => is_google(version),
        };
        return known.then_some(version);
    }
    // Google's before version 46: flags with a version and an identifier of 8 bytes.
    if first & 0x09 == 0x09 && first & 0xC0 == 0 {
        cursor.bytes(8)?;
        return cursor.u32().filter(|version| is_google(*version));
    }
    None
}

/// `Q` or `T` and three digits.
fn is_google(version: u32) -> bool {
    matches!(version.to_be_bytes(), [b'Q' | b'T', b'0', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// A client's first datagram, or any answer with the same header.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    let served = matches!(ports.server, 443 | 80 | 853 | 4433);
    let long = side == Side::Server || input.len() >= LEAST_BYTES;
    let negotiation = side == Side::Server
        && served
        && input.len() > 10
        && matches!(input, [0x80..=0xFF, 0, 0, 0, 0, id, ..] if *id <= MAX_ID_BYTES);
    Probe::when(negotiation || (version(input).is_some() && (served || long)))
}

/// Longest hello that is put together, in bytes; those with post-quantum keys have about 1,800.
const MAX_HELLO_BYTES: usize = 8192;
/// Pieces of a hello that came out of order.
const MAX_PIECES: usize = 32;
/// Datagrams of a client that are looked at for its hello.
const MAX_DATAGRAMS: u8 = 8;

/// A connection up to the client's hello.
#[derive(Debug, Default)]
pub(crate) struct Quic {
    versioned: bool,
    datagrams: u8,
    /// Identifier that the client first sent to: the keys follow from it.
    connection: Vec<u8>,
    hello: Vec<u8>,
    /// Where pieces of it begin and end.
    pieces: Vec<(usize, usize)>,
}

impl Quic {
    pub(crate) fn datagram(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if !self.versioned
            && let Some(version) = version(input)
        {
            self.versioned = true;
            match version.to_be_bytes() {
                name @ [b'Q' | b'T', ..] => context.text(Field::Version, 0, &name),
                _ => context.number(Field::Version, 0, u64::from(version)),
            }
        }
        if context.side == Side::Server {
            return if self.versioned { Step::Done } else { Step::Took(input.len()) };
        }
        self.datagrams = self.datagrams.saturating_add(1);
        let mut packet = std::mem::take(context.scratch);
        let mut rest = input;
        // Packets may share a datagram (RFC 9000 §12.2); each turn takes one.
        while let Some(size) = initial::open(rest, self.first_connection(rest), &mut packet) {
            self.frames(&packet);
            rest = rest.get(size..).unwrap_or_default();
        }
        *context.scratch = packet;
        if self.told(context) || self.datagrams >= MAX_DATAGRAMS {
            (self.hello, self.pieces) = (Vec::new(), Vec::new());
            return Step::Done;
        }
        Step::Took(input.len())
    }

    /// Remembers where the first packet went.
    fn first_connection(&mut self, packet: &[u8]) -> Option<&[u8]> {
        if self.connection.is_empty() {
            let mut cursor = Cursor(packet.get(5..)?);
            self.connection.extend_from_slice(cursor.short()?);
        }
        Some(&self.connection)
    }

    /// Takes the pieces of the hello out of a packet's frames (RFC 9000 §19).
    fn frames(&mut self, packet: &[u8]) -> Option<()> {
        let mut cursor = Cursor(packet);
        // Each turn takes at least a byte; other frames do not come before the hello is whole.
        loop {
            match cursor.u8()? {
                0 | 1 => {}
                kind @ (2 | 3) => {
                    initial::integer(&mut cursor)?;
                    initial::integer(&mut cursor)?;
                    let ranges = initial::integer(&mut cursor)?.min(64);
                    let numbers = ranges.saturating_mul(2).saturating_add(if kind == 3 { 4 } else { 1 });
                    for _ in 0..numbers {
                        initial::integer(&mut cursor)?;
                    }
                }
                6 => {
                    let start = usize::try_from(initial::integer(&mut cursor)?).ok()?;
                    let length = usize::try_from(initial::integer(&mut cursor)?).ok()?;
                    self.piece(start, cursor.bytes(length)?);
                }
                _ => return None,
            }
        }
    }

    fn piece(&mut self, start: usize, bytes: &[u8]) {
        let end = start.saturating_add(bytes.len());
        if end > MAX_HELLO_BYTES || self.pieces.len() >= MAX_PIECES {
            return;
        }
        if self.hello.len() < end {
            self.hello.resize(end, 0);
        }
        if let Some(place) = self.hello.get_mut(start..end) {
            place.copy_from_slice(bytes);
            self.pieces.push((start, end));
        }
    }

    /// Tells the hello when it is whole.
    fn told(&mut self, context: &mut Context<'_>) -> bool {
        self.pieces.sort_unstable();
        let whole =
            self.pieces.iter().fold(0, |end, (start, stop)| if *start <= end { end.max(*stop) } else { end });
        let hello = self.hello.get(..whole).unwrap_or_default();
        tls::client_hello(context, hello, b'q')
    }
}
