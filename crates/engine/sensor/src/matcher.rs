//! Messages of many sessions, each on its way through the sensors, and what is told when a rule holds.

use std::sync::Arc;

use hashbrown::HashMap;
use nv_dpi::content::{Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::Side;

use crate::message::{Buffers, Message, Troubles};
use crate::sensor::{Action, Context, Kind};
use crate::set::{CompiledRule, SensorSet};

/// No message.
const NONE: u32 = u32::MAX;

/// What a matcher may use. Each bound has a counter in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages at once.
    pub messages: u32,
    /// Messages of one session at once (streams of HTTP/2).
    pub of_session: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: 1 << 16, of_session: 128 }
    }
}

/// What a matcher has done, and what its bounds have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages.
    pub messages: u64,
    /// Rules that held.
    pub matches: u64,
    /// Pieces not looked at because too many messages were on their way.
    pub refused: u64,
    /// Bodies that were not compressed as they said, and were looked at as they are.
    pub broken_bodies: u64,
    /// Bodies of which only the beginning was looked at, because they grow too large.
    pub cut_bodies: u64,
    /// Places where a pattern was not tried, because too many were being tried.
    pub dropped: u64,
}

/// A rule holds for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// Time of the packet, in nanoseconds since 1970.
    pub at: u64,
    /// The flow.
    pub session: SessionId,
    /// Who sent the message.
    pub side: Side,
    /// Which request or answer it is.
    pub transaction: u32,
    /// The sensor.
    pub sensor: &'a str,
    /// Its rule.
    pub rule: &'a str,
    /// The rule's number.
    pub id: u32,
    /// What the sensor is for.
    pub kind: Kind,
    /// What becomes of the message.
    pub action: Action,
    /// Where the last of its patterns was found; of a rule that only says what must not be there, where that is.
    pub context: Context,
}

/// Matches the messages of one engine's sessions.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<SensorSet>,
    limits: Limits,
    messages: Vec<Message>,
    free: Vec<u32>,
    /// First message of each session.
    sessions: HashMap<SessionId, u32, foldhash::fast::FixedState>,
    /// The message that the last piece was of.
    last: u32,
    /// Datagrams, which are whole, one after the other.
    datagram: Message,
    buffers: Buffers,
    counters: Counters,
}

impl Matcher {
    /// A matcher with nothing on its way.
    #[must_use]
    pub fn new(set: Arc<SensorSet>, limits: Limits) -> Self {
        Self {
            datagram: Message::new(Arc::clone(&set)),
            set,
            limits,
            messages: Vec::new(),
            free: Vec::new(),
            sessions: HashMap::default(),
            last: NONE,
            buffers: Buffers::default(),
            counters: Counters::default(),
        }
    }

    /// Takes another set for all messages that begin from now on; those on their way end under theirs.
    pub fn replace(&mut self, set: Arc<SensorSet>) {
        self.set = set;
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { dropped: self.buffers.scratch.dropped, ..self.counters }
    }
    /// Messages on their way.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.messages.len().saturating_sub(self.free.len())
    }

    /// Takes a piece, and tells the rules that hold with it.
    pub fn content(&mut self, content: &Content<'_>, tell: &mut dyn FnMut(&Match<'_>)) {
        if let Part::Datagram(bytes) = content.part {
            self.datagram(content, bytes, tell);
            return;
        }
        let end = matches!(content.part, Part::End);
        let Some(index) = self.message(content, end) else { return };
        let Self { messages, buffers, counters, .. } = self;
        let Some(message) = usize::try_from(index).ok().and_then(|index| messages.get_mut(index)) else {
            return;
        };
        let mut troubles = Troubles::default();
        match content.part {
            Part::Url(bytes) => message.text(Context::Url, bytes, buffers),
            Part::Header(bytes) => message.text(Context::Header, bytes, buffers),
            Part::Packet(bytes) | Part::Datagram(bytes) => message.text(Context::Packet, bytes, buffers),
            Part::Body(about, bytes) => message.body(about, bytes, buffers, &mut troubles),
            Part::Hole => message.lose(),
            Part::End => {
                self.end(index, content.at, tell);
                self.release(index);
                return;
            }
        }
        counters.broken_bodies = counters.broken_bodies.saturating_add(troubles.broken);
        counters.cut_bodies = counters.cut_bodies.saturating_add(troubles.too_large);
        judge(message, content.at, counters, tell);
    }

    /// Takes a message that is whole, and so comes into no table.
    fn datagram(&mut self, content: &Content<'_>, bytes: &[u8], tell: &mut dyn FnMut(&Match<'_>)) {
        if !self.set.looks_at(content.part) {
            return;
        }
        let Self { datagram, set, buffers, counters, .. } = self;
        counters.messages = counters.messages.saturating_add(1);
        datagram.begin((content.session, content.side, content.transaction), set);
        datagram.text(Context::Packet, bytes, buffers);
        datagram.end(buffers);
        judge(datagram, content.at, counters, tell);
        judge_late(datagram, content.at, counters, tell);
    }

    /// A session is over, and with it what it has not ended.
    pub fn closed(&mut self, session: SessionId, at: u64, tell: &mut dyn FnMut(&Match<'_>)) {
        // Each turn takes one away.
        while let Some(index) = self.sessions.get(&session).copied() {
            self.end(index, at, tell);
            self.release(index);
        }
    }

    fn get(&mut self, index: u32) -> Option<&mut Message> {
        self.messages.get_mut(usize::try_from(index).ok()?)
    }

    /// The message of a piece; begun when there is none, unless the piece only ends one.
    fn message(&mut self, content: &Content<'_>, end: bool) -> Option<u32> {
        let (session, side, transaction) = (content.session, content.side, content.transaction);
        let is = |message: &Message| {
            message.session == session && message.side == side && message.transaction == transaction
        };
        let last = self.last;
        if self.get(last).is_some_and(|message| is(message)) {
            return Some(last);
        }
        let mut index = self.sessions.get(&session).copied().unwrap_or(NONE);
        let mut count = 0_u32;
        while let Some(message) = self.get(index) {
            if is(message) {
                self.last = index;
                return Some(index);
            }
            (index, count) = (message.next, count.saturating_add(1));
        }
        if end || !self.set.looks_at(content.part) {
            return None;
        }
        let index = if count >= self.limits.of_session { None } else { self.room() };
        let Some(index) = index else {
            self.counters.refused = self.counters.refused.saturating_add(1);
            return None;
        };
        self.counters.messages = self.counters.messages.saturating_add(1);
        let Self { messages, sessions, set, .. } = self;
        let message = usize::try_from(index).ok().and_then(|index| messages.get_mut(index))?;
        message.begin((session, side, transaction), set);
        message.next = sessions.insert(session, index).unwrap_or(NONE);
        self.last = index;
        Some(index)
    }

    fn room(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = u32::try_from(self.messages.len()).ok().filter(|index| *index < self.limits.messages)?;
        self.messages.push(Message::new(Arc::clone(&self.set)));
        Some(index)
    }

    /// Judges a message at its end.
    fn end(&mut self, index: u32, at: u64, tell: &mut dyn FnMut(&Match<'_>)) {
        let Self { messages, buffers, counters, .. } = self;
        let Some(message) = usize::try_from(index).ok().and_then(|index| messages.get_mut(index)) else {
            return;
        };
        message.end(buffers);
        judge(message, at, counters, tell);
        judge_late(message, at, counters, tell);
    }

    fn release(&mut self, index: u32) {
        let Self { messages, buffers, .. } = self;
        let Some(message) = usize::try_from(index).ok().and_then(|index| messages.get_mut(index)) else {
            return;
        };
        message.forget(buffers);
        let (session, next) = (message.session, message.next);
        message.session = SessionId(0);
        let head = self.sessions.get(&session).copied().unwrap_or(NONE);
        if head == index {
            if next == NONE {
                self.sessions.remove(&session);
            } else {
                self.sessions.insert(session, next);
            }
        } else {
            let mut before = head;
            while let Some(message) = self.get(before) {
                if message.next == index {
                    message.next = next;
                    break;
                }
                before = message.next;
            }
        }
        self.free.push(index);
        self.last = NONE;
    }
}

/// What is told of a rule that holds for a message.
fn found<'a>(message: &Message, rule: &'a CompiledRule, at: u64, context: Context) -> Match<'a> {
    Match {
        at,
        session: message.session,
        side: message.side,
        transaction: message.transaction,
        sensor: &rule.sensor,
        rule: &rule.name,
        id: rule.id,
        kind: rule.kind,
        action: rule.action,
        context,
    }
}

/// Tells the rules that hold because of patterns that were just found.
fn judge(message: &mut Message, at: u64, counters: &mut Counters, tell: &mut dyn FnMut(&Match<'_>)) {
    while let Some(number) = message.matched.fresh() {
        let set = &message.set;
        let context = set.contexts.get(usize::from(number)).copied().unwrap_or_default();
        for index in set.rules_of.get(usize::from(number)).map_or(&[][..], Vec::as_slice) {
            let Some(rule) = set.rules.get(usize::from(*index)) else { continue };
            let holds = rule.has_not.is_empty() && rule.has.iter().all(|has| message.matched.has(*has));
            if holds && !message.told.has(*index) {
                message.told.add(*index);
                counters.matches = counters.matches.saturating_add(1);
                tell(&found(message, rule, at, context));
            }
        }
    }
    while message.told.fresh().is_some() {}
}

/// Tells the rules that hold because something is not there. Of a message with holes nobody knows.
fn judge_late(message: &mut Message, at: u64, counters: &mut Counters, tell: &mut dyn FnMut(&Match<'_>)) {
    if message.hole {
        return;
    }
    let set = &message.set;
    for index in &set.late {
        let Some(rule) = set.rules.get(usize::from(*index)) else { continue };
        let context_of = |number: &u16| set.contexts.get(usize::from(*number)).copied().unwrap_or_default();
        let there = |number: &u16| {
            context_of(number) == Context::Packet || message.seen & (1 << (context_of(number) as u8)) != 0
        };
        let holds = rule.has.iter().all(|has| message.matched.has(*has))
            && !rule.has_not.iter().any(|has| message.matched.has(*has))
            && rule.has_not.iter().all(there);
        if holds {
            counters.matches = counters.matches.saturating_add(1);
            let context = rule.has.last().or(rule.has_not.first()).map(context_of).unwrap_or_default();
            tell(&found(message, rule, at, context));
        }
    }
}
