//! HTTP/1 (RFC 9110, RFC 9112), and RTSP (RFC 2326) and SIP (RFC 3261), which are written the same way.
//!
//! A unit is a line. Bodies are passed over by their length or chunk by chunk; where two readers could end a request
//! at different bytes, that is told as smuggling.

mod parse;
mod probe;
mod request;
#[cfg(test)]
mod samples;
pub(crate) mod software;
#[cfg(test)]
mod tests;

pub(crate) use probe::{probe, probe_sip};
#[cfg(test)]
pub(crate) use samples::samples;

use crate::attack::MAX_FIELD_BYTES;
use crate::content::{self, Part};
use crate::event::Field;
use crate::key::Side;
use crate::limits::MAX_PROBE_BYTES;
use crate::protocol::{BodyAtHand, Context, Probe, Protocol, Step, read};
use crate::threat::Threat;
use parse::{ChunkSize, Coding, Length, Start};
use request::Body;

/// Longest line that is read, in bytes; servers take 8 KiB as a rule.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Longest that the headers of a request take, in nanoseconds (10 s); a slow line brings them in one or two packets.
const MAX_HEADERS_NANOSECONDS: u64 = 10_000_000_000;
/// Requests without answer whose method is remembered.
const MAX_WAITING: u32 = 64;

const HTTP: u32 = 1001;
const RTSP: u32 = 1009;
const SIP: u32 = 1010;

/// Where in a message a direction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before a request or status line.
    #[default]
    Start,
    /// Between header lines.
    Headers,
    /// Before a body that is looked into.
    Body,
    /// Before the size of a chunk.
    ChunkSize,
    /// Behind the data of a chunk.
    ChunkEnd,
    /// Between lines behind the last chunk.
    Trailers,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    place: Place,
    /// Headers of the message at hand, as far as they say where it ends.
    length: Option<u64>,
    /// Two lengths differ.
    lengths_differ: bool,
    coding: Option<Coding>,
    /// What the body is, when it is a request's and can be looked into.
    body: Option<Body>,
    /// What is said of the body.
    about: content::Body,
    /// It offers to go on in HTTP/2.
    to_http2: bool,
    /// When the message began, and that it has been told to be slow.
    since: u64,
    slow: bool,
    /// The message is an answer, with this status.
    status: Option<u16>,
    /// Messages so far: the number of the one at hand.
    messages: u32,
}

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Http {
    client: Direction,
    server: Direction,
    /// Bit n: the waiting request whose number is n modulo [`MAX_WAITING`] was a HEAD, and was a CONNECT.
    heads: u64,
    connects: u64,
    /// A proxy has opened a tunnel, and nothing of what goes through it was seen yet.
    tunnel: bool,
    /// The request was one of HTTP/0.9: the answer is a body and nothing else.
    oldest: bool,
    /// Bodies that the directions are in.
    client_body: BodyAtHand,
    server_body: BodyAtHand,
}

impl Http {
    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The body that a direction is in.
    pub(crate) fn body_at_hand(&self, side: Side) -> BodyAtHand {
        match side {
            Side::Client => self.client_body,
            Side::Server => self.server_body,
        }
    }

    /// The message that a direction is in.
    pub(crate) fn transaction(&self, side: Side) -> u32 {
        match side {
            Side::Client => self.client.messages,
            Side::Server => self.server.messages,
        }
    }

    /// The next bytes, behind `taken`, are of the body.
    fn enter_body(&mut self, side: Side, taken: usize, bytes: u64, last: bool) -> Step {
        let direction = self.direction(side);
        let body = BodyAtHand { transaction: direction.messages, about: direction.about, last };
        match side {
            Side::Client => self.client_body = body,
            Side::Server => self.server_body = body,
        }
        if last {
            self.next_message(side);
        }
        Step::Body(taken, bytes)
    }

    /// A direction goes on at the beginning of a message.
    pub(crate) fn lost(&mut self, side: Side) {
        let direction = self.direction(side);
        if direction.place != Place::Start {
            direction.messages = direction.messages.saturating_add(1);
        }
        direction.place = Place::Start;
    }

    /// Reads a datagram: SIP has one message in each (RFC 3261 §18).
    pub(crate) fn datagram(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        self.direction(context.side).place = Place::Start;
        self.step(context, input);
        // A message whose end is not there ends with the datagram.
        if self.direction(context.side).place != Place::Start {
            self.next_message(context.side);
        }
        Step::Took(1)
    }

    /// Reads as many lines as there are.
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let mut taken = 0_usize;
        // Each turn takes a line, or ends.
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            let step = self.line(context, rest);
            match step {
                Step::Took(bytes) => {
                    taken = taken.saturating_add(bytes);
                    if taken < input.len() {
                        continue;
                    }
                    return Step::Took(taken);
                }
                // What was taken goes first; the same answer comes again for the rest.
                _ if taken > 0 && matches!(step, Step::More(_)) => return Step::Took(taken),
                Step::Skip(bytes) => {
                    return Step::Skip(if bytes == u64::MAX {
                        bytes
                    } else {
                        bytes.saturating_add(taken as u64)
                    });
                }
                Step::Body(bytes, body) => return Step::Body(taken.saturating_add(bytes), body),
                Step::Become(bytes, protocol) => {
                    return Step::Become(taken.saturating_add(bytes), protocol);
                }
                Step::More(_) | Step::Done | Step::Reject => return step,
            }
        }
    }

    fn line(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let side = context.side;
        if self.oldest {
            return Step::Done;
        }
        let place = self.direction(side).place;
        if place == Place::Start && self.tunnel {
            // TLS as a rule, or HTTP again; anything else is told as lost.
            match probe(side, input.get(..MAX_PROBE_BYTES).unwrap_or(input)) {
                Probe::Yes => self.tunnel = false,
                Probe::Maybe if input.len() < MAX_PROBE_BYTES => {
                    return Step::More(input.len().saturating_add(1));
                }
                Probe::Maybe | Probe::No => return Step::Become(0, Protocol::Tls),
            }
        }
        if place == Place::Start && input.first() == Some(&b'$') {
            return parse::interleaved(input);
        }
        if place == Place::Body {
            return self.look_into_body(context, input);
        }
        // Of a carriage return before the line feed too (RFC 9112 §2.2).
        let (line, taken) = match read::line(input, MAX_LINE_BYTES) {
            Ok(whole) => whole,
            Err(step) => return step,
        };
        let whole = input.get(..taken).unwrap_or_default();
        match place {
            Place::Start if line.is_empty() => {} // RFC 9112 §2.2
            Place::Start => {
                let transaction = self.direction(side).messages;
                let step = self.start(context, line, taken);
                if step != Step::Reject {
                    context.content(transaction, Part::Url(whole));
                }
                return step;
            }
            Place::Headers if line.is_empty() => return self.end_of_headers(context, taken),
            Place::Headers => {
                self.header(context, line);
                context.content(self.direction(side).messages, Part::Header(whole));
            }
            Place::ChunkSize => match parse::chunk_size(line) {
                ChunkSize::Last => self.direction(side).place = Place::Trailers,
                ChunkSize::Bytes(bytes) => {
                    self.direction(side).place = Place::ChunkEnd;
                    return self.enter_body(side, taken, bytes, false);
                }
                ChunkSize::Negative => {
                    context.threat(Threat::HttpNegativeBodyLength);
                    return Step::Reject;
                }
                ChunkSize::Invalid => return Step::Reject,
            },
            Place::ChunkEnd if line.is_empty() => self.direction(side).place = Place::ChunkSize,
            Place::ChunkEnd => return Step::Reject,
            Place::Body => {}
            Place::Trailers if line.is_empty() => self.end_of_message(context),
            Place::Trailers => context.content(self.direction(side).messages, Part::Header(whole)),
        }
        Step::Took(taken)
    }

    fn start(&mut self, context: &mut Context<'_>, line: &[u8], taken: usize) -> Step {
        let Some(start) = parse::start_line(line) else {
            let Some(target) = parse::oldest(line).filter(|_| context.side == Side::Client) else {
                return Step::Reject;
            };
            self.oldest = true;
            identify(context, b"HTTP/0.9");
            context.text(Field::Method, 0, b"GET");
            context.text(Field::Uri, 0, target);
            request::target(context, target);
            return Step::Done;
        };
        let messages = self.direction(context.side).messages;
        let mut direction =
            Direction { place: Place::Headers, messages, since: context.at, ..Direction::default() };
        match start {
            Start::Request { method, target, version } => {
                identify(context, version);
                context.text(Field::Method, messages, method);
                context.text(Field::Uri, messages, target);
                request::target(context, target);
                let bit = 1_u64 << (messages % MAX_WAITING);
                self.heads = if method == b"HEAD" { self.heads | bit } else { self.heads & !bit };
                self.connects = if method == b"CONNECT" { self.connects | bit } else { self.connects & !bit };
                if memchr::memmem::find(target, b"/wp-content/").is_some() {
                    context.software(software::WORDPRESS);
                }
            }
            Start::Answer { status, version } => {
                identify(context, version);
                direction.status = Some(status);
                if !interim(status) {
                    context.number(Field::Status, messages, u64::from(status));
                }
            }
        }
        *self.direction(context.side) = direction;
        Step::Took(taken)
    }

    fn header(&mut self, context: &mut Context<'_>, line: &[u8]) {
        let Some((name, value)) = parse::header(line) else { return };
        self.judge_pace(context);
        let direction = self.direction(context.side);
        let (transaction, answer) = (direction.messages, direction.status.is_some());
        let spaced = name.last().is_some_and(|last| matches!(last, b' ' | b'\t'));
        let name = name.trim_ascii_end();
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if !answer {
            request::header(context, name, value);
        }
        match name.len() {
            4 if is(b"host") && !answer => context.text(Field::Host, transaction, value),
            6 if is(b"server") && answer => {
                context.text(Field::Server, transaction, value);
                if let Some(application) = software::of_server(value) {
                    context.software(application);
                }
            }
            10 if is(b"user-agent") => context.text(Field::UserAgent, transaction, value),
            12 if is(b"content-type") => {
                direction.body = if answer { None } else { Body::of(value) };
                direction.about.kind = content::BodyKind::of(value);
                context.text(Field::ContentType, transaction, value);
            }
            15 if is(b"x-forwarded-for") && !answer => {
                context.text(Field::ForwardedFor, transaction, value);
            }
            7 if is(b"upgrade") && direction.status == Some(101) => {
                direction.to_http2 = value.eq_ignore_ascii_case(b"h2c");
                context.text(Field::Upgrade, 0, value);
            }
            14 if is(b"content-length") => {
                // RFC 9112 §5.1: no space between name and colon; readers differ in whether they take it.
                direction.lengths_differ |= spaced;
                match parse::content_length(value) {
                    Length::Bytes(bytes) => {
                        direction.lengths_differ |= direction.length.is_some_and(|other| other != bytes);
                        direction.length = Some(bytes);
                    }
                    Length::Differ => direction.lengths_differ = true,
                    Length::Negative => context.threat(Threat::HttpNegativeBodyLength),
                    Length::Invalid => direction.lengths_differ = true,
                }
            }
            16 if is(b"content-encoding") => direction.about.coding = content::Coding::of(value),
            17 if is(b"transfer-encoding") => {
                let coding = parse::coding(value, direction.coding);
                direction.coding = Some(if spaced { Coding::Doubtful } else { coding });
            }
            _ if answer => {
                if let Some(application) = software::of_header(name) {
                    context.software(application);
                }
            }
            _ => {}
        }
    }

    /// Who sends headers a line at a time holds the server's workers (Slowloris).
    fn judge_pace(&mut self, context: &mut Context<'_>) {
        let direction = self.direction(context.side);
        let late = context.at.saturating_sub(direction.since) > MAX_HEADERS_NANOSECONDS;
        if late && direction.status.is_none() && !direction.slow {
            direction.slow = true;
            context.threat(Threat::HttpSlowloris);
        }
    }

    fn end_of_headers(&mut self, context: &mut Context<'_>, taken: usize) -> Step {
        self.judge_pace(context);
        let side = context.side;
        let waiting = self.server.messages;
        let direction = *self.direction(side);
        let Some(status) = direction.status else {
            // RFC 9112 §6.3: a length and a coding, lengths that differ, or a coding that does not end in chunked.
            let two = direction.coding.is_some() && direction.length.is_some();
            let doubtful = matches!(direction.coding, Some(Coding::Doubtful | Coding::Other));
            if two || doubtful || direction.lengths_differ {
                context.threat(Threat::HttpRequestSmuggling);
            }
            if let (Some(_), None, Some(1..)) = (direction.body, direction.coding, direction.length) {
                self.direction(side).place = Place::Body;
                return Step::Took(taken);
            }
            return self.body(context, taken, direction.coding, direction.length.or(Some(0)));
        };
        if direction.lengths_differ && direction.coding.is_none() {
            context.threat(Threat::HttpRequestSmuggling);
        }
        let bit = 1_u64 << (waiting % MAX_WAITING);
        if side == Side::Server && status == 101 {
            // The answer to the upgraded request comes in HTTP/2 (RFC 7540 §3.2).
            return if direction.to_http2 {
                Step::Become(taken, Protocol::Http2)
            } else {
                self.enter_body(side, taken, u64::MAX, false)
            };
        }
        if side == Side::Server && self.connects & bit != 0 && (200..300).contains(&status) {
            self.tunnel = true;
            self.end_of_message(context);
            return Step::Took(taken);
        }
        if interim(status) {
            self.direction(side).place = Place::Start;
            return Step::Took(taken);
        }
        if matches!(status, 204 | 304) || (side == Side::Server && self.heads & bit != 0) {
            self.end_of_message(context);
            return Step::Took(taken);
        }
        let length = direction.length.or((*context.application != HTTP).then_some(0));
        self.body(context, taken, direction.coding, length)
    }

    /// Looks at the first bytes of a request's body, and passes over all of it.
    fn look_into_body(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let direction = *self.direction(context.side);
        let length = direction.length.unwrap_or(0);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_FIELD_BYTES);
        let Some(bytes) = input.get(..wanted) else { return Step::More(wanted) };
        if let Some(kind) = direction.body {
            request::body(context, kind, bytes);
        }
        self.enter_body(context.side, 0, length, true)
    }

    /// Passes over the body: chunked before length (RFC 9112 §6.3), and to the end of the stream without either.
    fn body(
        &mut self,
        context: &mut Context<'_>,
        taken: usize,
        coding: Option<Coding>,
        length: Option<u64>,
    ) -> Step {
        let side = context.side;
        match (coding, length) {
            (Some(Coding::Chunked | Coding::Doubtful), _) => {
                self.direction(side).place = Place::ChunkSize;
                Step::Took(taken)
            }
            (_, Some(0)) => {
                self.end_of_message(context);
                Step::Took(taken)
            }
            (_, Some(bytes)) => self.enter_body(side, taken, bytes.min(u64::MAX - 1), true),
            (_, None) => self.enter_body(side, taken, u64::MAX, false),
        }
    }

    fn end_of_message(&mut self, context: &mut Context<'_>) {
        context.content(self.direction(context.side).messages, Part::End);
        self.next_message(context.side);
    }

    fn next_message(&mut self, side: Side) {
        let direction = self.direction(side);
        *direction = Direction { messages: direction.messages.saturating_add(1), ..Direction::default() };
    }
}

fn interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// Tells the protocol by the name in front of the version, once.
fn identify(context: &mut Context<'_>, version: &[u8]) {
    let application = match version.split(|byte| *byte == b'/').next() {
        Some(b"RTSP") => RTSP,
        Some(b"SIP") => SIP,
        _ => HTTP,
    };
    if *context.application == 0 {
        context.text(Field::Version, 0, version);
        context.identified(application);
    }
}
