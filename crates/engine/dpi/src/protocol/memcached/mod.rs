//! memcached, text and binary (memcached, protocol.txt; "Binary Protocol Revamped"), and Couchbase, which speaks the
//! binary one with commands of its own. Keys and values are passed over.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Step, read};

/// Longest line: keys have up to 250 bytes, and a get may ask for many.
const MAX_LINE_BYTES: usize = 2048;
/// Largest number in a command that is believed.
const MAX_NUMBER: u64 = 1 << 30;
pub(crate) const MEMCACHED: u32 = 2013;
pub(crate) const COUCHBASE: u32 = 2008;

/// Commands that carry data behind their line.
const STORING: [&[u8]; 6] = [b"set", b"add", b"replace", b"append", b"prepend", b"cas"];
const OTHERS: [&[u8]; 9] =
    [b"get", b"gets", b"delete", b"incr", b"decr", b"touch", b"stats", b"version", b"flush_all"];

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Memcached {
    commands: u32,
}

/// A command with its arguments as the grammar wants them.
struct Command<'a> {
    name: &'a [u8],
    /// Bytes behind the line, with their own line end.
    data: u64,
}

fn command(line: &[u8]) -> Option<Command<'_>> {
    let number = |digits| read::decimal(digits, MAX_NUMBER);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let name = words.next()?;
    if STORING.contains(&name) {
        let _key = words.next().filter(|key| key.len() <= 250)?;
        let (_flags, _expiry, bytes) = (number(words.next()?)?, words.next()?, number(words.next()?)?);
        return Some(Command { name, data: bytes.saturating_add(2) });
    }
    let bare = matches!(name, b"stats" | b"version" | b"flush_all");
    let keyed = words.next().is_some_and(|key| key.len() <= 250 && key.iter().all(u8::is_ascii_graphic));
    (OTHERS.contains(&name) && (bare || keyed)).then_some(Command { name, data: 0 })
}

/// Whether a binary request's lengths fit to one another, and its opcode.
fn binary(input: &[u8]) -> Option<u8> {
    let [0x80, opcode, k0, k1, extras, 0, _, _, b0, b1, b2, b3, ..] = input else { return None };
    let key = u32::from(u16::from_be_bytes([*k0, *k1]));
    let body = u32::from_be_bytes([*b0, *b1, *b2, *b3]);
    // Get, set, add, replace, delete, increment, decrement, append, prepend name a key.
    let keyed = matches!(opcode, 0..=6 | 9 | 0x0C..=0x0F | 0x1F | 0x21) && key == 0;
    (!keyed
        && key <= 250
        && *extras <= 24
        && body >= key.saturating_add(u32::from(*extras))
        && body < 1 << 26)
        .then_some(*opcode)
}

pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    if side == Side::Server {
        return Probe::No;
    }
    if input.first() == Some(&0x80) {
        return if input.len() < 12 { Probe::Maybe } else { Probe::when(binary(input).is_some()) };
    }
    let begun = |name: &&[u8]| Probe::starts(input, name) != Probe::No;
    if !STORING.iter().chain(&OTHERS).any(begun) {
        return Probe::No;
    }
    match memchr::memchr(b'\n', input) {
        Some(end) => {
            let line = input.get(..end).unwrap_or_default();
            Probe::when(line.strip_suffix(b"\r").is_some_and(|line| command(line).is_some()))
        }
        None => Probe::Maybe,
    }
}

impl Memcached {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if context.side == Side::Server {
            return Step::Done;
        }
        if input.first() == Some(&0x80) {
            let Some(opcode) = binary(input) else {
                return if input.len() < 12 { Step::More(12) } else { Step::Reject };
            };
            // HELO, SASL with buckets, and all above 0x80 are Couchbase's.
            context.identified(if matches!(opcode, 0x1F | 0x80..) { COUCHBASE } else { MEMCACHED });
            let body =
                input.get(8..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |b| u32::from_be_bytes(*b));
            return Step::Skip(u64::from(body).saturating_add(24));
        }
        let (line, taken) = match read::line(input, MAX_LINE_BYTES) {
            Ok((line, taken)) => (line.trim_ascii_end(), taken),
            Err(step) => return step,
        };
        let taken = taken as u64;
        context.identified(MEMCACHED);
        let Some(command) = command(line) else {
            // A command of a later version: without data, as far as is known.
            return if line.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                Step::Skip(taken)
            } else {
                Step::Reject
            };
        };
        context.text(Field::Command, self.commands, command.name);
        self.commands = self.commands.saturating_add(1);
        Step::Skip(taken.saturating_add(command.data))
    }
}
