//! HTTP/2 in clear (RFC 9113) and gRPC in it: requests and answers out of compressed headers; data is told as bodies.
//!
//! A unit is a frame, or HEADERS with all their CONTINUATIONs. Where a header block cannot be read, the compression is
//! out of step for good: that direction is told as lost.

mod hpack;
mod huffman;
#[cfg(test)]
pub(crate) mod samples;

use std::collections::VecDeque;

use crate::content::{Body, BodyKind, Coding, Part};
use crate::event::Field;
use crate::key::Side;
use crate::protocol::http::software;
use crate::protocol::{BodyAtHand, Context, Probe, Step};
use crate::threat::Threat;
use hpack::Decoder;

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
const ACK: u8 = 0x01;

const SETTING_TABLE_SIZE: u16 = 1;

/// Messages of one direction whose headers are remembered for their bodies; of older ones the body is text.
const MAX_MESSAGES: usize = 64;

const HTTP: u32 = 1001;
const GRPC: u32 = 2028;
const ETCD: u32 = 2019;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    preface: bool,
    client: Decoder,
    server: Decoder,
    client_bodies: Bodies,
    server_bodies: Bodies,
}

/// Bodies of one direction.
#[derive(Debug, Default)]
struct Bodies {
    /// What the headers of the latest messages say, the latest last.
    known: VecDeque<(u32, Body)>,
    at_hand: BodyAtHand,
    /// Bytes behind the data of the frame at hand.
    padding: u64,
}

pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    match side {
        Side::Client => Probe::starts(input, PREFACE),
        Side::Server => Probe::No,
    }
}

/// A frame's header.
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

fn frame(input: &[u8]) -> Option<Frame> {
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = input.first_chunk::<HEADER_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes([0, *l0, *l1, *l2])).ok()?;
    let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7FFF_FFFF;
    Some(Frame { length, kind: *kind, flags: *flags, stream })
}

impl Http2 {
    pub(crate) fn new() -> Self {
        Self {
            preface: false,
            client: Decoder::new(),
            server: Decoder::new(),
            client_bodies: Bodies::default(),
            server_bodies: Bodies::default(),
        }
    }

    fn bodies(&mut self, side: Side) -> &mut Bodies {
        match side {
            Side::Client => &mut self.client_bodies,
            Side::Server => &mut self.server_bodies,
        }
    }

    /// The body that a direction is in.
    pub(crate) fn body_at_hand(&self, side: Side) -> BodyAtHand {
        match side {
            Side::Client => self.client_bodies.at_hand,
            Side::Server => self.server_bodies.at_hand,
        }
    }

    fn decoder(&mut self, side: Side) -> &mut Decoder {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if context.side == Side::Client && !self.preface {
            if input.len() < PREFACE.len() {
                return Step::More(PREFACE.len());
            }
            if !input.starts_with(PREFACE) {
                return Step::Reject;
            }
            self.preface = true;
            context.text(Field::Version, 0, b"HTTP/2");
            context.identified(HTTP);
            return Step::Took(PREFACE.len());
        }
        let padding = std::mem::take(&mut self.bodies(context.side).padding);
        if padding > 0 {
            return Step::Skip(padding);
        }
        let Some(frame) = frame(input) else { return Step::More(HEADER_BYTES) };
        let end = frame.length.saturating_add(HEADER_BYTES);
        match frame.kind {
            HEADERS | PUSH_PROMISE => self.headers(context, &frame, input),
            DATA => self.data(context, &frame, input),
            SETTINGS if frame.flags & ACK == 0 => {
                if frame.length > 1024 || !frame.length.is_multiple_of(6) {
                    return Step::Reject;
                }
                let Some(body) = input.get(HEADER_BYTES..end) else { return Step::More(end) };
                for [i0, i1, v0, v1, v2, v3] in body.as_chunks::<6>().0 {
                    if u16::from_be_bytes([*i0, *i1]) == SETTING_TABLE_SIZE {
                        // Says what the other side may use; never less than what it may still be using.
                        let size =
                            usize::try_from(u32::from_be_bytes([*v0, *v1, *v2, *v3])).unwrap_or(usize::MAX);
                        let decoder = self.decoder(context.side.other());
                        decoder.allowed = decoder.allowed.max(size);
                    }
                }
                Step::Took(end)
            }
            // A continuation of nothing.
            CONTINUATION => Step::Reject,
            _ => Step::Skip(end as u64),
        }
    }

    /// Reads what is in front of a frame's data (RFC 9113 §6.1).
    fn data(&mut self, context: &mut Context<'_>, frame: &Frame, input: &[u8]) -> Step {
        let padded = frame.flags & PADDED != 0;
        let before = HEADER_BYTES.saturating_add(usize::from(padded));
        if input.len() < before {
            return Step::More(before);
        }
        let padding = if padded { input.get(HEADER_BYTES).copied().unwrap_or(0) } else { 0 };
        let Some(length) = frame.length.checked_sub(usize::from(padded).saturating_add(usize::from(padding)))
        else {
            return Step::Reject;
        };
        let transaction = frame.stream.saturating_sub(1) / 2;
        let bodies = self.bodies(context.side);
        let about = bodies.known.iter().rev().find(|(of, _)| *of == transaction).map(|(_, body)| *body);
        let last = frame.flags & END_STREAM != 0;
        bodies.at_hand = BodyAtHand { transaction, about: about.unwrap_or_default(), last };
        bodies.padding = u64::from(padding);
        if length > 0 {
            return Step::Body(before, length as u64);
        }
        if last {
            context.content(transaction, Part::End);
        }
        Step::Took(before)
    }

    /// Reads a header block, of this frame and those that continue it.
    fn headers(&mut self, context: &mut Context<'_>, first: &Frame, input: &[u8]) -> Step {
        let mut block = std::mem::take(context.scratch);
        let gathered = gather(first, input, &mut block);
        let step = match gathered {
            Ok(taken) => {
                let transaction = first.stream.saturating_sub(1) / 2;
                let side = context.side;
                let mut message = Message::default();
                let read = self
                    .decoder(side)
                    .read(&block, |name, value| message.header(context, transaction, name, value));
                let bodies = self.bodies(side);
                if message.first {
                    if bodies.known.len() >= MAX_MESSAGES {
                        bodies.known.pop_front();
                    }
                    bodies.known.push_back((transaction, message.body()));
                }
                match read {
                    Some(()) => {
                        if first.kind == HEADERS && first.flags & END_STREAM != 0 {
                            context.content(transaction, Part::End);
                        }
                        Step::Took(taken)
                    }
                    None => Step::Reject,
                }
            }
            Err(step) => step,
        };
        *context.scratch = block;
        step
    }
}

/// Puts a header block together; gives the bytes that it took.
fn gather(first: &Frame, input: &[u8], block: &mut Vec<u8>) -> Result<usize, Step> {
    block.clear();
    let mut taken = first.length.saturating_add(HEADER_BYTES);
    let body = input.get(HEADER_BYTES..taken).ok_or(Step::More(taken))?;
    let padding = if first.flags & PADDED != 0 { usize::from(*body.first().ok_or(Step::Reject)?) } else { 0 };
    let fixed = usize::from(first.flags & PADDED != 0)
        .saturating_add(if first.kind == HEADERS && first.flags & PRIORITY != 0 { 5 } else { 0 })
        .saturating_add(if first.kind == PUSH_PROMISE { 4 } else { 0 });
    let end = body.len().checked_sub(padding).ok_or(Step::Reject)?;
    block.extend_from_slice(body.get(fixed..end).ok_or(Step::Reject)?);
    let mut flags = first.flags;
    // Each turn takes a frame of at least nine bytes.
    while flags & END_HEADERS == 0 {
        let rest = input.get(taken..).unwrap_or_default();
        let next = frame(rest).ok_or(Step::More(taken.saturating_add(HEADER_BYTES)))?;
        if next.kind != CONTINUATION || next.stream != first.stream {
            return Err(Step::Reject);
        }
        let end = next.length.saturating_add(HEADER_BYTES);
        let part = rest.get(HEADER_BYTES..end).ok_or(Step::More(taken.saturating_add(end)))?;
        block.extend_from_slice(part);
        taken = taken.saturating_add(end);
        flags = next.flags;
    }
    Ok(taken)
}

/// What the headers of one message have shown so far.
#[derive(Default)]
struct Message {
    smuggled: bool,
    /// These are the headers of a message, not the trailers.
    first: bool,
    kind: BodyKind,
    content_encoding: Option<Coding>,
    grpc_encoding: Option<Coding>,
}

impl Message {
    /// What the headers say of the body.
    fn body(&self) -> Body {
        let grpc = self.kind == BodyKind::Grpc;
        Body { kind: self.kind, coding: if grpc { self.grpc_encoding } else { self.content_encoding } }
    }

    /// Tells a header as it would be written in HTTP/1.
    fn content(&mut self, context: &mut Context<'_>, transaction: u32, name: &[u8], value: &[u8]) {
        match name {
            b":method" => {
                context.content(transaction, Part::Url(value));
                context.content(transaction, Part::Url(b" "));
            }
            b":path" => context.content(transaction, Part::Url(value)),
            _ if name.first() == Some(&b':') => {}
            _ => {
                for part in [name, b": ", value, b"\r\n"] {
                    context.content(transaction, Part::Header(part));
                }
            }
        }
        match name {
            b":method" | b":status" => self.first = true,
            b"content-type" => self.kind = BodyKind::of(value),
            b"content-encoding" => self.content_encoding = Coding::of(value),
            b"grpc-encoding" => self.grpc_encoding = Coding::of(value),
            _ => {}
        }
    }

    fn header(&mut self, context: &mut Context<'_>, transaction: u32, name: &[u8], value: &[u8]) {
        self.content(context, transaction, name, value);
        // What HTTP/1 behind a proxy would take for other headers (RFC 9113 §8.2, §10.3).
        let splits = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let colon = name.iter().skip(1).any(|byte| *byte == b':');
        let wrong = splits(value) || splits(name) || colon || name == b"transfer-encoding";
        if context.side == Side::Client && wrong && !self.smuggled {
            self.smuggled = true;
            context.threat(Threat::HttpRequestSmuggling);
        }
        match (context.side, name) {
            (Side::Client, b":method") => context.text(Field::Method, transaction, value),
            (Side::Client, b":authority") => context.text(Field::Host, transaction, value),
            (Side::Client, b":path") => {
                context.text(Field::Uri, transaction, value);
                if value.starts_with(b"/etcdserverpb.") {
                    context.software(ETCD);
                }
            }
            (Side::Client, b"user-agent") => context.text(Field::UserAgent, transaction, value),
            (Side::Client, b"x-forwarded-for") => context.text(Field::ForwardedFor, transaction, value),
            (_, b"content-type") => {
                if value.starts_with(b"application/grpc") {
                    context.identified(GRPC);
                }
                context.text(Field::ContentType, transaction, value);
            }
            (Side::Server, b":status") => {
                let status = value.iter().take(3).try_fold(0_u64, |status, digit| {
                    digit
                        .is_ascii_digit()
                        .then(|| status.saturating_mul(10).saturating_add(u64::from(digit & 0x0F)))
                });
                if let Some(status) = status.filter(|status| *status >= 200) {
                    context.number(Field::Status, transaction, status);
                }
            }
            (Side::Server, b"server") => {
                context.text(Field::Server, transaction, value);
                if let Some(application) = software::of_server(value) {
                    context.software(application);
                }
            }
            _ => {}
        }
    }
}
