//! The body of a message of HTTP: a stream as it is, and for what it is when decoded.

use nv_dpi::content;

use crate::armor::{Armor, Decoded};
use crate::bits::Bits;
use crate::decode::content::{Coding, Content, ContentError};
use crate::decode::html::{self, Html};
use crate::decode::percent::Percent;
use crate::message::{Buffers, Troubles};
use crate::program::Program;
use crate::stream::State;
use crate::text::Text;

/// A body, and what it is when decoded.
#[derive(Debug, Default)]
pub(crate) struct Body {
    begun: bool,
    raw: State,
    kind: content::BodyKind,
    coding: Option<Coding>,
    content: Option<Content>,
    /// Nothing more of it can be read.
    closed: bool,
    frame: Frame,
    /// The body with its escapes decoded, from the first escape on.
    decoding: bool,
    decoded: State,
    percent: [Percent; 2],
    html: Html,
    armor: Armor,
    armored: State,
}

/// Where in the messages of gRPC a body is: five bytes, then as many as they say.
#[derive(Debug, Default)]
struct Frame {
    head: [u8; 5],
    have: usize,
    left: u32,
}

/// What looks at a body, and what it has found.
struct Looking<'l> {
    program: &'l Program,
    matched: &'l mut Bits,
    buffers: &'l mut Buffers,
    troubles: &'l mut Troubles,
}

impl Body {
    /// Forgets where it is.
    pub(crate) fn reset(&mut self) {
        if !self.raw.is_new() {
            self.raw.reset();
        }
        if !self.begun {
            return;
        }
        (self.begun, self.closed, self.decoding, self.content, self.coding) =
            (false, false, false, None, None);
        (self.frame, self.armor, self.html) = (Frame::default(), Armor::default(), Html::default());
        self.decoded.reset();
        self.armored.reset();
    }

    /// Whether nothing of it can be read behind missing bytes.
    pub(crate) fn is_lost_with_a_hole(&self) -> bool {
        self.begun && (self.content.is_some() || self.kind == content::BodyKind::Grpc)
    }

    /// Nothing more of it is looked at.
    pub(crate) fn close(&mut self) {
        (self.begun, self.closed) = (true, true);
    }

    /// Takes some of the body.
    pub(crate) fn push(
        &mut self,
        program: &Program,
        about: content::Body,
        bytes: &[u8],
        matched: &mut Bits,
        buffers: &mut Buffers,
        troubles: &mut Troubles,
    ) {
        let mut looking = Looking { program, matched, buffers, troubles };
        if !self.begun {
            self.begun = true;
            self.kind = about.kind;
            self.percent = [Percent::new(true), Percent::new(false)];
            self.coding = match about.coding {
                Some(content::Coding::Gzip) => Some(Coding::Gzip),
                Some(content::Coding::Deflate) => Some(Coding::Deflate),
                Some(content::Coding::Brotli) => Some(Coding::Brotli),
                Some(content::Coding::Unknown) | None => None,
            };
            if about.kind != content::BodyKind::Grpc {
                self.content = self.coding.map(Content::new);
            }
        }
        if self.closed {
            return;
        }
        if self.kind == content::BodyKind::Grpc {
            self.frames(bytes, &mut looking);
        } else {
            self.compressed(bytes, &mut looking);
        }
    }

    /// Takes bytes of the body that may be compressed.
    fn compressed(&mut self, bytes: &[u8], looking: &mut Looking<'_>) {
        let Some(mut content) = self.content.take() else {
            self.plain(bytes, looking);
            return;
        };
        let outcome = content.push(bytes, &mut |piece| self.plain(piece, looking));
        match outcome {
            Ok(()) => self.content = Some(content),
            Err(ContentError::TooLarge) => {
                looking.troubles.too_large = looking.troubles.too_large.saturating_add(1);
                self.closed = true;
            }
            // It is not what it says: what is there is looked at as it is.
            Err(ContentError::Broken) => {
                looking.troubles.broken = looking.troubles.broken.saturating_add(1);
                self.plain(bytes, looking);
            }
        }
    }

    /// Takes bytes of gRPC's messages (a flag, four bytes of length, the message).
    fn frames(&mut self, bytes: &[u8], looking: &mut Looking<'_>) {
        let mut rest = bytes;
        // Each turn takes a byte at least.
        while !rest.is_empty() {
            if self.frame.left > 0 {
                let length = usize::try_from(self.frame.left).unwrap_or(usize::MAX).min(rest.len());
                let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                self.compressed(part, looking);
                self.frame.left = self.frame.left.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
                rest = after;
                continue;
            }
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            let frame = &mut self.frame;
            if let Some(place) = frame.head.get_mut(frame.have) {
                *place = *byte;
            }
            frame.have = frame.have.saturating_add(1);
            if frame.have == frame.head.len() {
                let [flag, l0, l1, l2, l3] = frame.head;
                (frame.have, frame.left) = (0, u32::from_be_bytes([l0, l1, l2, l3]));
                self.content = self.coding.filter(|_| flag & 1 != 0).map(Content::new);
            }
        }
    }

    /// Takes bytes of the body as it is without compression.
    fn plain(&mut self, bytes: &[u8], looking: &mut Looking<'_>) {
        let Looking { program, matched, buffers, .. } = looking;
        let Buffers { scratch, a, b, armor, .. } = &mut **buffers;
        let body = self;
        let raw = &mut body.raw;
        let media = body.kind == content::BodyKind::Media;
        let form = body.kind == content::BodyKind::Form;
        if !media && !body.decoding {
            let escape = if form { memchr::memchr2(b'%', b'+', bytes) } else { html::first(bytes) };
            if escape.is_some() {
                // Up to here both forms are the same.
                body.decoding = true;
                body.decoded.become_like(raw);
            }
        }
        let text = Text { tail: raw.tail(), data: bytes, offset: raw.offset() };
        if !media && !form {
            let armored = &mut body.armored;
            body.armor.push(&text, armor, &mut |piece| match piece {
                Decoded::Bytes(bytes) => program.scan(armored, bytes, matched, scratch),
                Decoded::End => program.finish(armored, matched),
            });
        }
        program.scan(raw, bytes, matched, scratch);
        if body.decoding {
            a.clear();
            if form {
                b.clear();
                let [first, second] = &mut body.percent;
                first.push(bytes, b);
                second.push(b, a);
                b.clear();
                body.html.push(a, b);
                std::mem::swap(a, b);
            } else {
                body.html.push(bytes, a);
            }
            program.scan(&mut body.decoded, a, matched, scratch);
        }
    }

    /// It is over.
    pub(crate) fn end(&mut self, program: &Program, matched: &mut Bits, buffers: &mut Buffers) {
        let Buffers { scratch, a, b, armor, .. } = buffers;
        if self.begun {
            let armored = &mut self.armored;
            self.armor.finish(armor, &mut |piece| match piece {
                Decoded::Bytes(bytes) => program.scan(armored, bytes, matched, scratch),
                Decoded::End => program.finish(armored, matched),
            });
            if self.decoding {
                a.clear();
                b.clear();
                if self.kind == content::BodyKind::Form {
                    let [first, second] = &mut self.percent;
                    first.finish(b);
                    second.push(b, a);
                    second.finish(a);
                    b.clear();
                    self.html.push(a, b);
                    std::mem::swap(a, b);
                }
                self.html.finish(a);
                program.scan(&mut self.decoded, a, matched, scratch);
                program.finish(&mut self.decoded, matched);
            }
        }
        if !self.raw.is_new() {
            program.finish(&mut self.raw, matched);
        }
    }
}
