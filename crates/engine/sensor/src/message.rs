//! One message on its way: a stream for each of its parts, and for what its body is when decoded.

use std::sync::Arc;

use nv_dpi::content;
use nv_dpi::event::SessionId;
use nv_dpi::key::Side;

use crate::armor::{Armor, Decoded};
use crate::bits::Bits;
use crate::decode::content::{Coding, Content, ContentError};
use crate::decode::html::{self, Html};
use crate::decode::percent::{self, Percent};
use crate::sensor::Context;
use crate::set::SensorSet;
use crate::stream::{Scratch, State};
use crate::text::Text;

/// Times that a line is decoded: attackers encode what they have encoded.
const ROUNDS: usize = 3;

/// Buffers that all messages use, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) scratch: Scratch,
    a: Vec<u8>,
    b: Vec<u8>,
    armor: Vec<u8>,
    view: State,
}

/// What decoding has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Troubles {
    pub(crate) broken: u64,
    pub(crate) too_large: u64,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) session: SessionId,
    pub(crate) side: Side,
    pub(crate) transaction: u32,
    /// The next of the same session.
    pub(crate) next: u32,
    pub(crate) set: Arc<SensorSet>,
    pub(crate) matched: Bits,
    /// Rules that were told.
    pub(crate) told: Bits,
    /// Contexts of which there was something.
    pub(crate) seen: u8,
    /// Some of it is missing.
    pub(crate) hole: bool,
    states: [State; 4],
    body: BodyView,
}

/// A body, and what is looked for in its decoded forms.
#[derive(Debug, Default)]
struct BodyView {
    begun: bool,
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

fn place(states: &mut [State; 4], context: Context) -> &mut State {
    let [url, header, body, packet] = states;
    match context {
        Context::Url => url,
        Context::Header => header,
        Context::Body => body,
        Context::Packet => packet,
    }
}

impl Message {
    pub(crate) fn new(set: Arc<SensorSet>) -> Self {
        Self {
            session: SessionId(0),
            side: Side::Client,
            transaction: 0,
            next: u32::MAX,
            set,
            matched: Bits::default(),
            told: Bits::default(),
            seen: 0,
            hole: false,
            states: Default::default(),
            body: BodyView::default(),
        }
    }

    /// Begins anew, for another message, after the last one was forgotten.
    pub(crate) fn begin(
        &mut self,
        session: SessionId,
        side: Side,
        transaction: u32,
        next: u32,
        set: &Arc<SensorSet>,
    ) {
        (self.session, self.side, self.transaction, self.next) = (session, side, transaction, next);
        if !Arc::ptr_eq(&self.set, set) {
            self.set = Arc::clone(set);
        }
        self.matched.reset();
        self.told.reset();
        (self.seen, self.hole) = (0, false);
    }

    /// Forgets where its streams are. Most messages have one, and no body.
    pub(crate) fn forget(&mut self) {
        for state in self.states.iter_mut().filter(|state| !state.is_new()) {
            state.reset();
        }
        let body = &mut self.body;
        if !body.begun {
            return;
        }
        (body.begun, body.closed, body.decoding, body.content, body.coding) =
            (false, false, false, None, None);
        (body.frame, body.armor, body.html) = (Frame::default(), Armor::default(), Html::default());
        body.decoded.reset();
        body.armored.reset();
    }

    /// Bytes are missing: a compressed body cannot be read any further, everything else begins anew.
    pub(crate) fn lose(&mut self) {
        let lost =
            self.body.begun && (self.body.content.is_some() || self.body.kind == content::BodyKind::Grpc);
        self.forget();
        self.hole = true;
        (self.body.begun, self.body.closed) = (lost, lost);
    }

    /// Takes some of a line, or of a stream without messages.
    pub(crate) fn text(&mut self, context: Context, bytes: &[u8], buffers: &mut Buffers) {
        self.seen |= 1 << (context as u8);
        let program = self.set.program(context);
        if program.is_empty() {
            return;
        }
        program.scan(place(&mut self.states, context), bytes, &mut self.matched, &mut buffers.scratch);
        if context == Context::Packet {
            return;
        }
        // A line is there whole, so its decoded form is a stream of its own.
        let Buffers { scratch, a, b, armor, view } = buffers;
        if unescape(bytes, context == Context::Url, a, b) {
            program.scan(view, a, &mut self.matched, scratch);
            program.finish(view, &mut self.matched);
        }
        let mut stretches = Armor::default();
        let mut give = |piece: Decoded<'_>| match piece {
            Decoded::Bytes(bytes) => program.scan(view, bytes, &mut self.matched, scratch),
            Decoded::End => program.finish(view, &mut self.matched),
        };
        let plain = if a.is_empty() { bytes } else { a };
        stretches.push(&Text { tail: &[], data: plain, offset: 0 }, armor, &mut give);
        stretches.finish(armor, &mut give);
    }

    /// Takes some of the body.
    pub(crate) fn body(
        &mut self,
        about: content::Body,
        bytes: &[u8],
        buffers: &mut Buffers,
        troubles: &mut Troubles,
    ) {
        self.seen |= 1 << (Context::Body as u8);
        if self.set.program(Context::Body).is_empty() {
            return;
        }
        if !self.body.begun {
            self.body.begun = true;
            self.body.kind = about.kind;
            self.body.percent = [Percent::new(true), Percent::new(false)];
            self.body.coding = match about.coding {
                Some(content::Coding::Gzip) => Some(Coding::Gzip),
                Some(content::Coding::Deflate) => Some(Coding::Deflate),
                Some(content::Coding::Brotli) => Some(Coding::Brotli),
                Some(content::Coding::Unknown) | None => None,
            };
            if about.kind != content::BodyKind::Grpc {
                self.body.content = self.body.coding.map(Content::new);
            }
        }
        if self.body.closed {
            return;
        }
        if self.body.kind == content::BodyKind::Grpc {
            self.frames(bytes, buffers, troubles);
        } else {
            self.compressed(bytes, buffers, troubles);
        }
    }

    /// Takes bytes of the body that may be compressed.
    fn compressed(&mut self, bytes: &[u8], buffers: &mut Buffers, troubles: &mut Troubles) {
        let Some(mut content) = self.body.content.take() else {
            self.plain(bytes, buffers);
            return;
        };
        let outcome = content.push(bytes, &mut |piece| self.plain(piece, buffers));
        match outcome {
            Ok(()) => self.body.content = Some(content),
            Err(ContentError::TooLarge) => {
                troubles.too_large = troubles.too_large.saturating_add(1);
                self.body.closed = true;
            }
            // It is not what it says: what is there is looked at as it is.
            Err(ContentError::Broken) => {
                troubles.broken = troubles.broken.saturating_add(1);
                self.plain(bytes, buffers);
            }
        }
    }

    /// Takes bytes of gRPC's messages (a flag, four bytes of length, the message).
    fn frames(&mut self, bytes: &[u8], buffers: &mut Buffers, troubles: &mut Troubles) {
        let mut rest = bytes;
        // Each turn takes a byte at least.
        while !rest.is_empty() {
            if self.body.frame.left > 0 {
                let length = usize::try_from(self.body.frame.left).unwrap_or(usize::MAX).min(rest.len());
                let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                self.compressed(part, buffers, troubles);
                self.body.frame.left =
                    self.body.frame.left.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
                rest = after;
                continue;
            }
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            let frame = &mut self.body.frame;
            if let Some(place) = frame.head.get_mut(frame.have) {
                *place = *byte;
            }
            frame.have = frame.have.saturating_add(1);
            if frame.have == frame.head.len() {
                let [flag, l0, l1, l2, l3] = frame.head;
                (frame.have, frame.left) = (0, u32::from_be_bytes([l0, l1, l2, l3]));
                self.body.content = self.body.coding.filter(|_| flag & 1 != 0).map(Content::new);
            }
        }
    }

    /// Takes bytes of the body as it is without compression.
    fn plain(&mut self, bytes: &[u8], buffers: &mut Buffers) {
        let program = self.set.program(Context::Body);
        let Buffers { scratch, a, b, armor, .. } = buffers;
        let raw = place(&mut self.states, Context::Body);
        let body = &mut self.body;
        let matched = &mut self.matched;
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

    /// The message is over.
    pub(crate) fn end(&mut self, buffers: &mut Buffers) {
        let Buffers { scratch, a, b, armor, .. } = buffers;
        let body = &mut self.body;
        let program = self.set.program(Context::Body);
        let matched = &mut self.matched;
        if body.begun {
            let armored = &mut body.armored;
            body.armor.finish(armor, &mut |piece| match piece {
                Decoded::Bytes(bytes) => program.scan(armored, bytes, matched, scratch),
                Decoded::End => program.finish(armored, matched),
            });
            if body.decoding {
                a.clear();
                b.clear();
                if body.kind == content::BodyKind::Form {
                    let [first, second] = &mut body.percent;
                    first.finish(b);
                    second.push(b, a);
                    second.finish(a);
                    b.clear();
                    body.html.push(a, b);
                    std::mem::swap(a, b);
                }
                body.html.finish(a);
                program.scan(&mut body.decoded, a, matched, scratch);
                program.finish(&mut body.decoded, matched);
            }
        }
        for context in Context::ALL {
            let state = place(&mut self.states, context);
            if !state.is_new() {
                self.set.program(context).finish(state, matched);
            }
        }
    }
}

/// Decodes a line, escape by escape until none is left; `out` is empty where there was none.
fn unescape(line: &[u8], plus: bool, out: &mut Vec<u8>, other: &mut Vec<u8>) -> bool {
    out.clear();
    let escaped =
        memchr::memchr2(b'%', b'&', line).is_some() || (plus && memchr::memchr(b'+', line).is_some());
    if !escaped {
        return false;
    }
    let mut changed = percent::decode(line, plus, out);
    for _ in 1..ROUNDS {
        other.clear();
        let percent = percent::decode(out, false, other);
        out.clear();
        let html = html::decode(other, out);
        if !percent && !html {
            break;
        }
        changed = true;
    }
    if !changed {
        out.clear();
    }
    changed
}
