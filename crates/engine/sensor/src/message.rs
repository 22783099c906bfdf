//! One message on its way: a stream for each of its parts.
//!
//! Most messages are streams or datagrams of other protocols than HTTP, and many are on their way at once: what only HTTP
//! needs is elsewhere, and used again.

use std::sync::Arc;

use nv_dpi::content;
use nv_dpi::event::SessionId;
use nv_dpi::key::Side;

use crate::armor::{Armor, Decoded};
use crate::bits::Bits;
use crate::body::Body;
use crate::decode::{html, percent};
use crate::sensor::Context;
use crate::set::SensorSet;
use crate::stream::{Scratch, State};
use crate::text::Text;

/// Times that a line is decoded: attackers encode what they have encoded.
const ROUNDS: usize = 3;
/// Streams of HTTP that are kept for messages to come.
const MAX_SPARE: usize = 1024;

/// Buffers that all messages use, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) scratch: Scratch,
    pub(crate) a: Vec<u8>,
    pub(crate) b: Vec<u8>,
    pub(crate) armor: Vec<u8>,
    view: State,
    #[expect(clippy::vec_box, reason = "a message takes one as it lies")]
    spare: Vec<Box<Http>>,
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
    packet: State,
    http: Option<Box<Http>>,
}

/// The parts of a message of HTTP.
#[derive(Debug, Default)]
struct Http {
    url: State,
    header: State,
    body: Body,
}

impl Http {
    fn reset(&mut self) {
        for state in [&mut self.url, &mut self.header].into_iter().filter(|state| !state.is_new()) {
            state.reset();
        }
        self.body.reset();
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
            packet: State::default(),
            http: None,
        }
    }

    /// Begins anew, for another message, after the last one was forgotten.
    pub(crate) fn begin(
        &mut self,
        (session, side, transaction): (SessionId, Side, u32),
        set: &Arc<SensorSet>,
    ) {
        (self.session, self.side, self.transaction, self.next) = (session, side, transaction, u32::MAX);
        if !Arc::ptr_eq(&self.set, set) {
            self.set = Arc::clone(set);
        }
        self.matched.reset();
        self.told.reset();
        (self.seen, self.hole) = (0, false);
    }

    /// Forgets where its streams are.
    pub(crate) fn forget(&mut self, buffers: &mut Buffers) {
        if !self.packet.is_new() {
            self.packet.reset();
        }
        if let Some(mut http) = self.http.take()
            && buffers.spare.len() < MAX_SPARE
        {
            http.reset();
            buffers.spare.push(http);
        }
    }

    /// Bytes are missing: a compressed body cannot be read any further, everything else begins anew.
    pub(crate) fn lose(&mut self) {
        self.packet.reset();
        if let Some(http) = &mut self.http {
            let lost = http.body.is_lost_with_a_hole();
            http.reset();
            if lost {
                http.body.close();
            }
        }
        self.hole = true;
    }

    /// Takes some of a line, or of a stream without messages.
    pub(crate) fn text(&mut self, context: Context, bytes: &[u8], buffers: &mut Buffers) {
        self.seen |= 1 << (context as u8);
        let program = self.set.program(context);
        if program.is_empty() {
            return;
        }
        let state = match context {
            Context::Packet => &mut self.packet,
            Context::Url => &mut http(&mut self.http, &mut buffers.spare).url,
            Context::Header | Context::Body => &mut http(&mut self.http, &mut buffers.spare).header,
        };
        program.scan(state, bytes, &mut self.matched, &mut buffers.scratch);
        if context == Context::Packet {
            return;
        }
        // A line is there whole, so its decoded form is a stream of its own.
        let Buffers { scratch, a, b, armor, view, .. } = buffers;
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
        let program = self.set.program(Context::Body);
        if program.is_empty() {
            return;
        }
        let body = &mut http(&mut self.http, &mut buffers.spare).body;
        body.push(program, about, bytes, &mut self.matched, buffers, troubles);
    }

    /// The message is over.
    pub(crate) fn end(&mut self, buffers: &mut Buffers) {
        let (set, matched) = (&self.set, &mut self.matched);
        if let Some(http) = &mut self.http {
            http.body.end(set.program(Context::Body), matched, buffers);
            for (context, state) in [(Context::Url, &mut http.url), (Context::Header, &mut http.header)] {
                if !state.is_new() {
                    set.program(context).finish(state, matched);
                }
            }
        }
        if !self.packet.is_new() {
            set.program(Context::Packet).finish(&mut self.packet, matched);
        }
    }
}

/// What a message of HTTP needs, from that of others where there is some.
#[expect(clippy::vec_box, reason = "a message takes one as it lies")]
fn http<'m>(http: &'m mut Option<Box<Http>>, spare: &mut Vec<Box<Http>>) -> &'m mut Http {
    http.get_or_insert_with(|| spare.pop().unwrap_or_default())
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
