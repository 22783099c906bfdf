//! What a session says, piece by piece, for whoever looks for patterns in it. A piece is where it lay in the packet:
//! nothing is copied, and how the pieces are cut may change with how the stream was cut; what they are together does not.

use crate::event::SessionId;
use crate::key::{Endpoints, Side};

/// A piece of what one side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Time of the packet, in nanoseconds since 1970.
    pub at: u64,
    /// The flow.
    pub session: SessionId,
    /// Who talks to whom.
    pub endpoints: Endpoints,
    /// Who says it.
    pub side: Side,
    /// Which request or answer; 0 where a stream has none.
    pub transaction: u32,
    /// Which part of it.
    pub part: Part<'a>,
}

/// A part of a message. A message has its URL, then its headers, then its body, then its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Some of the request or status line; of HTTP/2 the method and the target.
    Url(&'a [u8]),
    /// A header line, whole. Of HTTP/2, the name, a colon with a blank, the value and a line break, each a piece.
    Header(&'a [u8]),
    /// Bytes of the body, without the framing of chunks or frames.
    Body(Body, &'a [u8]),
    /// Bytes of a stream in clear that is no message of HTTP.
    Packet(&'a [u8]),
    /// A datagram in clear: a message of its own, whole.
    Datagram(&'a [u8]),
    /// Bytes are missing here.
    Hole,
    /// The message is over. A session that closes ends all that is left.
    End,
}

/// What a message says of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// How it is compressed; of gRPC, how its compressed messages are.
    pub coding: Option<Coding>,
    /// What it is.
    pub kind: BodyKind,
}

/// How a body is compressed (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// gzip, x-gzip.
    Gzip,
    /// deflate.
    Deflate,
    /// br.
    Brotli,
    /// Another one, or several.
    Unknown,
}

impl Coding {
    /// By a Content-Encoding or grpc-encoding; `None` for one that changes nothing.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let is = |wanted: &[u8]| value.eq_ignore_ascii_case(wanted);
        if value.is_empty() || is(b"identity") {
            None
        } else if is(b"gzip") || is(b"x-gzip") {
            Some(Self::Gzip)
        } else if is(b"deflate") {
            Some(Self::Deflate)
        } else if is(b"br") {
            Some(Self::Brotli)
        } else {
            Some(Self::Unknown)
        }
    }
}

/// What a body is, as far as it says how to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// Text, or not said.
    #[default]
    Text,
    /// Names and values, encoded as in a query.
    Form,
    /// Messages of gRPC, each behind five bytes.
    Grpc,
    /// Pictures, sound, archives: nothing to decode as text.
    Media,
}

impl BodyKind {
    /// By a Content-Type.
    pub(crate) fn of(value: &[u8]) -> Self {
        let begins =
            |wanted: &[u8]| value.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted));
        if begins(b"application/x-www-form-urlencoded") {
            Self::Form
        } else if begins(b"application/grpc") {
            Self::Grpc
        } else if [&b"image/"[..], b"audio/", b"video/", b"font/", b"application/zip", b"application/gzip"]
            .iter()
            .any(|m| begins(m))
            && !begins(b"image/svg")
        {
            Self::Media
        } else {
            Self::Text
        }
    }
}
