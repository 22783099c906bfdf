//! A request with its answer, piece by piece through a rule set.

use std::sync::Arc;

use nv_dpi::content::{self, Part};
use nv_dpi::key::Endpoints;
use nv_seclang::{Peers, RuleSet, Transaction};

use crate::decode::content::{Coding, Content, ContentError};

/// Bytes of a line that is put together.
const MAX_LINE: usize = 64 * 1024;
/// Bytes of the lines of a message; what is behind is not looked at, and counted.
const MAX_HEAD: usize = 256 * 1024;

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Line,
    Headers,
    Body,
    Over,
}

/// How a body is compressed, once that is known.
#[derive(Debug, Default)]
enum Body {
    #[default]
    New,
    Plain,
    Compressed(Box<Content>),
    /// Nothing more of it can be read.
    Closed,
}

/// A request and its answer.
#[derive(Debug)]
pub struct Exchange {
    transaction: Transaction,
    request: Place,
    answer: Place,
    /// What of a line is there, of each side.
    lines: [Vec<u8>; 2],
    /// Bytes of lines, of each side.
    heads: [usize; 2],
    bodies: [Body; 2],
    /// Lines behind the last that is looked at, and bodies that grow too large when they are decompressed.
    pub(crate) cut: u64,
}

impl Exchange {
    /// Begins one; `set` are variables of TX before the first rule.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, ends: &Endpoints, set: &[(String, String)]) -> Self {
        let (client, server) = (ends.client.address.to_string(), ends.server.address.to_string());
        let peers = Peers {
            client: &client,
            client_port: ends.client.port,
            server: &server,
            server_port: ends.server.port,
            unique_id: "",
        };
        let mut transaction = Transaction::new(rules, peers);
        for (name, value) in set {
            transaction.set(name, value);
        }
        Self {
            transaction,
            request: Place::Line,
            answer: Place::Line,
            lines: Default::default(),
            bodies: Default::default(),
            heads: [0; 2],
            cut: 0,
        }
    }

    /// What rules have found so far.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Whether request and answer are over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.answer == Place::Over
    }

    /// Bytes that are held of it, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let [request, answer] = self.heads;
        self.transaction.bytes().saturating_add(request).saturating_add(answer)
    }

    /// Takes the host that a request names. HTTP/2 says it beside the header, where rules look for it in the header.
    pub fn host(&mut self, host: &[u8]) {
        let [line, _] = &self.lines;
        // HTTP/1 has told its line by now, and brings the host as a header line.
        let is_http1 = line.windows(6).any(|text| text == b" HTTP/") || self.request != Place::Line;
        if !is_http1 {
            self.transaction.request_header(b"host", host);
        }
    }

    /// Whether there is room for another line of one side.
    fn has_room(&mut self, side: usize, part: Part<'_>) -> bool {
        let (Part::Url(bytes) | Part::Header(bytes)) = part else { return true };
        let Some(head) = self.heads.get_mut(side) else { return false };
        let fits = head.saturating_add(bytes.len()) <= MAX_HEAD;
        if fits {
            *head = head.saturating_add(bytes.len());
        } else {
            self.cut = self.cut.saturating_add(1);
        }
        fits
    }

    /// Takes a piece of the request.
    pub fn request(&mut self, part: Part<'_>) {
        if !self.has_room(0, part) {
            return;
        }
        let [line, _] = &mut self.lines;
        match part {
            Part::Url(bytes) if self.request == Place::Line => keep(line, bytes),
            Part::Header(bytes) if self.request <= Place::Headers => {
                if self.request == Place::Line {
                    request_line(&mut self.transaction, &std::mem::take(line));
                    self.request = Place::Headers;
                }
                keep(line, bytes);
                if let Some((name, value)) = field(line) {
                    self.transaction.request_header(name, value);
                    line.clear();
                }
            }
            Part::Body(about, bytes) if self.request != Place::Over => {
                self.end_request_headers();
                let Self { transaction, bodies: [body, _], cut, .. } = self;
                body.push(about, bytes, cut, &mut |piece| transaction.request_body(piece));
            }
            Part::End if self.request != Place::Over => {
                self.end_request_headers();
                self.transaction.request_end();
                self.request = Place::Over;
            }
            Part::Url(_)
            | Part::Header(_)
            | Part::Body(..)
            | Part::Packet(_)
            | Part::Datagram(_)
            | Part::Hole
            | Part::End => {}
        }
    }

    fn end_request_headers(&mut self) {
        let [line, _] = &mut self.lines;
        if self.request == Place::Line {
            request_line(&mut self.transaction, &std::mem::take(line));
        }
        if self.request < Place::Body {
            self.transaction.request_headers_end();
            self.request = Place::Body;
        }
    }

    /// Takes a piece of the answer.
    pub fn answer(&mut self, part: Part<'_>) {
        // Who answers has read as much of the request as it wants to.
        if self.answer == Place::Line {
            self.request(Part::End);
        }
        if !self.has_room(1, part) {
            return;
        }
        let [_, line] = &mut self.lines;
        match part {
            Part::Url(bytes) if self.answer == Place::Line => keep(line, bytes),
            Part::Header(bytes) if self.answer <= Place::Headers => {
                if self.answer == Place::Line {
                    status_line(&mut self.transaction, &std::mem::take(line));
                    self.answer = Place::Headers;
                }
                keep(line, bytes);
                if let Some((name, value)) = field(line) {
                    self.transaction.response_header(name, value);
                    line.clear();
                }
            }
            Part::Body(about, bytes) if self.answer != Place::Over => {
                self.end_answer_headers();
                let Self { transaction, bodies: [_, body], cut, .. } = self;
                if transaction.wants_response_body() {
                    body.push(about, bytes, cut, &mut |piece| transaction.response_body(piece));
                }
            }
            Part::End if self.answer != Place::Over => {
                self.end_answer_headers();
                self.transaction.response_end();
                self.answer = Place::Over;
            }
            Part::Url(_)
            | Part::Header(_)
            | Part::Body(..)
            | Part::Packet(_)
            | Part::Datagram(_)
            | Part::Hole
            | Part::End => {}
        }
    }

    fn end_answer_headers(&mut self) {
        let [_, line] = &mut self.lines;
        if self.answer == Place::Line {
            status_line(&mut self.transaction, &std::mem::take(line));
        }
        if self.answer < Place::Body {
            self.transaction.response_headers_end();
            self.answer = Place::Body;
        }
    }

    /// Ends what is left of it.
    pub fn finish(&mut self) {
        self.answer(Part::End);
        self.transaction.finish();
    }
}

impl Body {
    /// Takes compression off; what is not compressed as it says is looked at as it is.
    fn push(&mut self, about: content::Body, bytes: &[u8], cut: &mut u64, give: &mut dyn FnMut(&[u8])) {
        if matches!(self, Self::New) {
            let coding = match about.coding {
                Some(content::Coding::Gzip) => Some(Coding::Gzip),
                Some(content::Coding::Deflate) => Some(Coding::Deflate),
                Some(content::Coding::Brotli) => Some(Coding::Brotli),
                Some(content::Coding::Unknown) | None => None,
            };
            // The messages of gRPC are compressed one by one, and binary.
            let coding = coding.filter(|_| about.kind != content::BodyKind::Grpc);
            *self = coding.map_or(Self::Plain, |coding| Self::Compressed(Box::new(Content::new(coding))));
        }
        match self {
            Self::New | Self::Plain => give(bytes),
            Self::Closed => {}
            Self::Compressed(content) => match content.push(bytes, give) {
                Ok(()) => {}
                Err(ContentError::TooLarge) => {
                    *cut = cut.saturating_add(1);
                    *self = Self::Closed;
                }
                Err(ContentError::Broken) => {
                    give(bytes);
                    *self = Self::Plain;
                }
            },
        }
    }
}

/// Adds to a line while there is room.
fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_LINE.saturating_sub(line.len()).min(bytes.len());
    line.extend_from_slice(bytes.get(..room).unwrap_or_default());
}

/// Name and value of a header line, once it is whole.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\n")?;
    let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at_checked(at)?;
    Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// `GET /path HTTP/1.1`; of HTTP/2 there is no version.
fn request_line(transaction: &mut Transaction, line: &[u8]) {
    let line = line.trim_ascii();
    let (method, rest) = cut(line, line.iter().position(|byte| *byte == b' '));
    let version = rest.iter().rposition(|byte| *byte == b' ');
    match version.filter(|at| rest.get(at.saturating_add(1)..).is_some_and(|text| text.starts_with(b"HTTP/")))
    {
        Some(at) => {
            let (target, version) = cut(rest, Some(at));
            transaction.request_line(method, target, version);
        }
        None => transaction.request_line(method, rest, b"HTTP/2.0"),
    }
}

/// `HTTP/1.1 200 OK`; of HTTP/2 nothing is known of it.
fn status_line(transaction: &mut Transaction, line: &[u8]) {
    let mut parts = line.trim_ascii().split(|byte| *byte == b' ');
    let version = parts.next().filter(|version| !version.is_empty()).unwrap_or(b"HTTP/2.0");
    let status = parts.next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    transaction.response_line(version, status.unwrap_or(200));
}

/// What is before and behind one byte.
fn cut(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    let (before, behind) = text.split_at_checked(at.unwrap_or(text.len())).unwrap_or_default();
    (before, behind.get(1..).unwrap_or_default())
}
