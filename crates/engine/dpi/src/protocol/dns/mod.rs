//! DNS (RFC 1035), over UDP on any port, over TCP, as multicast (RFC 6762) and link-local (RFC 4795).

mod message;
mod name;
#[cfg(test)]
pub(crate) mod samples;
mod service;
#[cfg(test)]
mod tests;
mod tunnel;

use crate::event::{Field, Value};
use crate::key::Side;
use crate::protocol::{Context, Ports, Probe, Step};
use crate::threat::Threat;
use message::{Message, Record};
use name::Name;

/// Ports on which a message may be a little wrong and still is one: DNS, mDNS, LLMNR.
const PORTS: [u16; 3] = [53, 5353, 5355];
/// Longest message of a client over TCP that is taken for one; updates with signatures stay below.
const MAX_QUESTION_BYTES: usize = 4096;
/// Questions whose number is remembered until their answer.
const WAITING: usize = 8;
/// Records of an answer that are told.
const MAX_RECORDS: usize = 64;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_NULL: u16 = 10;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;

/// A connection, or datagrams between two ports.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    /// Identifiers of the last questions, what they asked for, and their transactions.
    waiting: [(u16, u32, u32); WAITING],
    next: u32,
    tunnel: tunnel::Tunnel,
}

/// Whether a datagram is a message, and whether its sender may be `side`.
pub(crate) fn probe_datagram(side: Side, input: &[u8], ports: Ports) -> Probe {
    let lenient = PORTS.contains(&ports.server) || PORTS.contains(&ports.client);
    // NetBIOS names (RFC 1002) look the same.
    let netbios = ports.server == 137 || ports.client == 137;
    let Some(message) = Message::parse(input).filter(|_| !netbios) else { return Probe::No };
    let multicast = ports.server == 5353 || ports.client == 5353;
    let sender = multicast || message.is_answer == (side == Side::Server);
    Probe::when(sender && message.is_plausible(!lenient))
}

/// Whether a stream begins with a message behind its length (RFC 1035 §4.2.2).
pub(crate) fn probe_stream(side: Side, input: &[u8]) -> Probe {
    let [l0, l1, message @ ..] = input else { return Probe::Maybe };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    // Flags and counts first: they rule out nearly all that is not DNS.
    let longest = if side == Side::Client { MAX_QUESTION_BYTES } else { usize::MAX };
    match message {
        _ if length < 17 || length > longest => Probe::No,
        [_, _, f0, f1, 0, 1, a0, a1, ..] => {
            let answer = f0 & 0x80 != 0;
            if f0 & 0x78 != 0 || f1 & 0x40 != 0 || answer != (side == Side::Server) {
                return Probe::No;
            }
            if !answer && (*a0, *a1) != (0, 0) {
                return Probe::No;
            }
            match message.get(12..).map(name::length) {
                Some(name::Length::Whole) => Probe::Yes,
                Some(name::Length::More) | None => Probe::Maybe,
                Some(name::Length::Wrong) => Probe::No,
            }
        }
        [_, _, _, _, 0, 1] | [_, _, _, _, 0, 1, _] | [_, _, _, _, 0] => Probe::Maybe,
        _ if message.len() < 5 => Probe::Maybe,
        _ => Probe::No,
    }
}

impl Dns {
    /// Reads a message behind its length.
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let Some([l0, l1]) = input.first_chunk::<2>() else { return Step::More(2) };
        let length = usize::from(u16::from_be_bytes([*l0, *l1])).saturating_add(2);
        if length > crate::limits::MAX_UNIT_BYTES {
            return Step::Skip(length as u64);
        }
        let Some(message) = input.get(2..length) else { return Step::More(length) };
        if self.datagram(context, message) == Step::Reject {
            return Step::Reject;
        }
        Step::Took(length)
    }

    /// Reads a message.
    pub(crate) fn datagram(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let Some(message) = Message::parse(input) else { return Step::Reject };
        let mut name = Name::default();
        let asked = message.questions().question(&mut name).map_or(0, |kind| digest(name.as_bytes(), kind));
        // An answer is one to a question of the other side, and says which one it was.
        let known = self.waiting.iter().find(|(id, question, _)| (*id, *question) == (message.id, asked));
        let known = known.map(|(_, _, transaction)| *transaction);
        let known = known.filter(|_| message.is_answer && self.next > 0 && context.side == Side::Server);
        let transaction = match known {
            Some(transaction) => transaction,
            None => {
                let transaction = self.next;
                self.next = self.next.saturating_add(1);
                let place = usize::try_from(transaction).unwrap_or(0) & (WAITING - 1);
                if let Some(place) = self.waiting.get_mut(place).filter(|_| !message.is_answer) {
                    *place = (message.id, asked, transaction);
                }
                transaction
            }
        };
        let mut reader = message.questions();
        while let Some(question) = reader.question(&mut name) {
            if known.is_none() {
                context.text(Field::Query, transaction, name.as_bytes());
                context.number(Field::QueryType, transaction, u64::from(question));
            }
            if !message.is_answer && self.tunnel.question(name.as_bytes()) {
                context.threat(Threat::DnsTunneling);
            }
            if !message.is_answer {
                match question {
                    TYPE_AXFR | TYPE_IXFR => context.threat(Threat::DnsZoneTransfer),
                    TYPE_NULL => context.threat(Threat::DnsTypeNull),
                    _ => {}
                }
            }
        }
        if message.is_answer {
            context.number(Field::ResponseCode, transaction, u64::from(message.response_code));
        }
        for _ in 0..MAX_RECORDS {
            let Some(record) = reader.answer(&mut name) else { break };
            tell(context, transaction, &message, &record, &mut name);
        }
        reader.skip_rest(&mut name);
        if reader.looped {
            context.threat(Threat::DnsLoopPointer);
        }
        // A message that stops making sense long before its end carries something else.
        if input.len() > 2048 && reader.unread() > 1024 {
            context.threat(Threat::DnsStackOverflow);
        }
        Step::Took(input.len().max(1))
    }
}

fn tell(
    context: &mut Context<'_>,
    transaction: u32,
    message: &Message<'_>,
    record: &Record<'_>,
    name: &mut Name,
) {
    match (record.kind, record.data) {
        (TYPE_A, data) => {
            let Some(data) = data.first_chunk::<4>() else { return };
            context.value(Field::Answer, transaction, Value::Address((*data).into()));
            context.number(Field::AnswerTtl, transaction, u64::from(record.ttl));
        }
        (TYPE_AAAA, data) => {
            let Some(data) = data.first_chunk::<16>() else { return };
            context.value(Field::Answer, transaction, Value::Address((*data).into()));
            context.number(Field::AnswerTtl, transaction, u64::from(record.ttl));
        }
        (TYPE_SVCB | TYPE_HTTPS, data) => {
            for address in service::addresses(message.bytes, record.data_at, data) {
                context.value(Field::Answer, transaction, Value::Address(address));
                context.number(Field::AnswerTtl, transaction, u64::from(record.ttl));
            }
        }
        (TYPE_CNAME | TYPE_PTR | TYPE_NS, _) if name.read(message.bytes, record.data_at).is_some() => {
            context.text(Field::AnswerName, transaction, name.as_bytes());
        }
        _ => {}
    }
}

/// A number for a question, whatever the case of its letters (FNV-1a).
fn digest(name: &[u8], kind: u16) -> u32 {
    let bytes = name.iter().copied().map(|byte| byte.to_ascii_lowercase()).chain(kind.to_be_bytes());
    bytes.fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What a message is a stream's or datagram's application by its port; all are DNS in the contract.
pub(crate) const APPLICATION: u32 = 1004;
