//! The exchanges of many sessions on their way through rule sets, and what is told of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nv_dpi::content::{Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::{Endpoints, Side};
use nv_seclang::{Engine, RuleSet, Settings, Severity};

use super::exchange::Exchange;

/// Sessions of which it is remembered that an exchange of theirs made room for others.
const MAX_LEFT: usize = 4096;

/// Longest name of a host.
const MAX_HOST_BYTES: usize = 1024;

/// What transactions may use. Each bound has a counter in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Exchanges at once.
    pub exchanges: usize,
    /// Exchanges of one session at once (streams of HTTP/2).
    pub of_session: usize,
    /// Bytes that all of them hold, about.
    pub bytes: usize,
}

/// How far a rule set may go on live traffic, whatever it says of itself: bodies of 128 KiB each way, 4 MiB for values, and
/// as much work as the Core Rule Set has with such a body.
#[must_use]
pub fn live_settings() -> Settings {
    Settings {
        engine: Engine::On,
        request_body_limit: LIVE_BODY_BYTES,
        response_body_limit: LIVE_BODY_BYTES,
        view_bytes: 4 << 20,
        steps: 100_000_000,
        ..Settings::default()
    }
}

/// Most bytes of a body that are looked at live.
const LIVE_BODY_BYTES: usize = 128 * 1024;

/// A rule set of a sensor.
#[derive(Clone, Debug)]
pub struct Named {
    /// The sensor.
    pub sensor: Arc<str>,
    /// Its rules.
    pub rules: Arc<RuleSet>,
}

/// What was done so far, and what bounds have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were looked at, once by each rule set.
    pub exchanges: u64,
    /// Exchanges that made room for others before they were over, or found none.
    pub left: u64,
    /// Lines and bodies that were not looked at to their end.
    pub cut: u64,
    /// Exchanges whose work was used up.
    pub exhausted: u64,
}

/// What is told of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Time of the packet, in nanoseconds since 1970.
    pub at: u64,
    /// Who talks to whom.
    pub endpoints: Endpoints,
    /// The sensor whose rule set it is.
    pub sensor: &'a str,
    /// The rule; 0 when an exchange could not be judged to its end.
    pub rule: u32,
    /// What the rule says of itself, without what was sent.
    pub message: &'a str,
    /// The variable that it matched, without its value.
    pub variable: &'a str,
    /// How grave it is.
    pub severity: Option<Severity>,
    /// It is about the answer.
    pub of_answer: bool,
    /// The rule set decides that the exchange must not go on; else the rule only adds to its score, or tells.
    pub decides: bool,
}

/// An exchange in one rule set.
#[derive(Debug)]
struct Run {
    sensor: Arc<str>,
    exchange: Exchange,
    /// Matches that were told.
    told: usize,
    decided: bool,
    exhausted: bool,
}

/// An exchange.
#[derive(Debug)]
struct Open {
    /// Its place in the order of their beginnings.
    number: u64,
    endpoints: Endpoints,
    runs: Vec<Run>,
    bytes: usize,
}

type Key = (SessionId, u32);

/// The exchanges of one engine's sessions.
#[derive(Debug)]
pub struct Transactions {
    limits: Limits,
    open: HashMap<Key, Open, foldhash::fast::RandomState>,
    order: BTreeMap<u64, Key>,
    of_session: HashMap<SessionId, HashSet<u32, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    /// Sessions whose exchange made room, and in which sensors' rule sets it was.
    left: HashMap<SessionId, Vec<Arc<str>>, foldhash::fast::RandomState>,
    /// A host that was named before its exchange began.
    host: Option<(Key, Vec<u8>)>,
    next: u64,
    bytes: usize,
    counters: Counters,
}

impl Transactions {
    /// None on their way.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: HashMap::default(),
            order: BTreeMap::new(),
            of_session: HashMap::default(),
            left: HashMap::default(),
            host: None,
            next: 0,
            bytes: 0,
            counters: Counters::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// Exchanges on their way, and the bytes that they hold.
    #[must_use]
    pub fn in_use(&self) -> (usize, usize) {
        (self.open.len(), self.bytes)
    }

    /// Takes a piece of a message; an exchange that begins with it goes through the rule sets that `sets` gives.
    pub fn content<'s>(
        &mut self,
        content: &Content<'_>,
        sets: impl Fn() -> Vec<&'s Named>,
        tell: &mut dyn FnMut(&Found<'_>),
    ) {
        if matches!(content.part, Part::Packet(_) | Part::Datagram(_)) {
            return;
        }
        self.tell_left(content, tell);
        let key = (content.session, content.transaction);
        if !self.open.contains_key(&key) {
            // An answer alone says nothing of the request that rules ask about.
            let begins = content.side == Side::Client && !matches!(content.part, Part::End | Part::Hole);
            if !begins || !self.begin(key, &content.endpoints, &sets()) {
                return;
            }
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        let mut is_over = true;
        for run in &mut open.runs {
            match content.side {
                Side::Client => run.exchange.request(content.part),
                Side::Server => run.exchange.answer(content.part),
            }
            is_over &= run.exchange.is_over();
            self.counters.take(run);
            run.tell(content.at, &open.endpoints, tell);
        }
        if is_over {
            return self.end(key, content.at, tell);
        }
        self.weigh(key);
    }

    /// Takes the host that a request of HTTP/2 names beside its header.
    pub fn host(&mut self, session: SessionId, number: u32, host: &[u8]) {
        let key = (session, number);
        match self.open.get_mut(&key) {
            Some(open) => open.runs.iter_mut().for_each(|run| run.exchange.host(host)),
            None if host.len() <= MAX_HOST_BYTES => self.host = Some((key, host.to_vec())),
            None => {}
        }
    }

    /// A session is over, and with it what it has not ended.
    pub fn closed(&mut self, session: SessionId, at: u64, tell: &mut dyn FnMut(&Found<'_>)) {
        self.left.remove(&session);
        let numbers = self.of_session.get(&session).map(|held| held.iter().copied().collect::<Vec<_>>());
        let mut numbers = numbers.unwrap_or_default();
        numbers.sort_unstable();
        for number in numbers {
            self.end((session, number), at, tell);
        }
    }

    fn begin(&mut self, key: Key, endpoints: &Endpoints, sets: &[&Named]) -> bool {
        let (session, number) = key;
        let of_session = self.of_session.get(&session).map_or(0, HashSet::len);
        if sets.is_empty() {
            return false;
        }
        if of_session >= self.limits.of_session {
            let sensors = sets.iter().map(|set| Arc::clone(&set.sensor)).collect();
            self.leave(session, sensors);
            return false;
        }
        if self.open.len() >= self.limits.exchanges {
            self.make_room();
        }
        let runs = sets.iter().map(|set| Run {
            sensor: Arc::clone(&set.sensor),
            exchange: Exchange::new(Arc::clone(&set.rules), endpoints, &[]),
            told: 0,
            decided: false,
            exhausted: false,
        });
        let mut runs: Vec<Run> = runs.collect();
        if let Some((_, host)) = self.host.take().filter(|(of, _)| *of == key) {
            runs.iter_mut().for_each(|run| run.exchange.host(&host));
        }
        self.counters.exchanges = self.counters.exchanges.saturating_add(runs.len() as u64);
        let place = self.next;
        self.next = self.next.saturating_add(1);
        self.order.insert(place, key);
        self.of_session.entry(session).or_default().insert(number);
        self.open.insert(key, Open { number: place, endpoints: *endpoints, runs, bytes: 0 });
        true
    }

    /// Takes note of what an exchange holds now; the oldest make room when all of them hold too much.
    fn weigh(&mut self, key: Key) {
        let Some(open) = self.open.get_mut(&key) else { return };
        let bytes = open.runs.iter().map(|run| run.exchange.bytes()).fold(0_usize, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(open.bytes).saturating_add(bytes);
        open.bytes = bytes;
        // Each turn takes one away.
        while self.bytes > self.limits.bytes && !self.open.is_empty() {
            self.make_room();
        }
    }

    /// The oldest exchange goes unjudged: who keeps many of them open loses them first.
    fn make_room(&mut self) {
        let Some(key) = self.order.first_key_value().map(|(_, key)| *key) else { return };
        if let Some(open) = self.remove(key) {
            self.leave(key.0, open.runs.into_iter().map(|run| run.sensor).collect());
        }
    }

    fn leave(&mut self, session: SessionId, sensors: Vec<Arc<str>>) {
        self.counters.left = self.counters.left.saturating_add(sensors.len() as u64);
        if self.left.len() < MAX_LEFT {
            self.left.insert(session, sensors);
        }
    }

    /// A session whose exchange went unjudged goes on: that is told, as nobody knows what it says.
    fn tell_left(&mut self, content: &Content<'_>, tell: &mut dyn FnMut(&Found<'_>)) {
        if self.left.is_empty() {
            return;
        }
        for sensor in self.left.remove(&content.session).unwrap_or_default() {
            tell(&unjudged(
                content.at,
                content.endpoints,
                &sensor,
                "too many requests at once to judge this one",
            ));
        }
    }

    fn remove(&mut self, key: Key) -> Option<Open> {
        let open = self.open.remove(&key)?;
        self.order.remove(&open.number);
        self.bytes = self.bytes.saturating_sub(open.bytes);
        if let Some(held) = self.of_session.get_mut(&key.0) {
            held.remove(&key.1);
            if held.is_empty() {
                self.of_session.remove(&key.0);
            }
        }
        Some(open)
    }

    fn end(&mut self, key: Key, at: u64, tell: &mut dyn FnMut(&Found<'_>)) {
        let Some(mut open) = self.remove(key) else { return };
        for run in &mut open.runs {
            run.exchange.finish();
            self.counters.take(run);
            run.tell(at, &open.endpoints, tell);
        }
    }
}

impl Counters {
    /// What an exchange has cost since it was asked last.
    fn take(&mut self, run: &mut Run) {
        self.cut = self.cut.saturating_add(std::mem::take(&mut run.exchange.cut));
        if run.exchange.transaction().is_exhausted() && !run.exhausted {
            self.exhausted = self.exhausted.saturating_add(1);
        }
    }
}

fn unjudged<'a>(at: u64, endpoints: Endpoints, sensor: &'a str, message: &'a str) -> Found<'a> {
    let severity = Some(Severity::Warning);
    Found { at, endpoints, sensor, rule: 0, message, variable: "", severity, of_answer: false, decides: true }
}

impl Run {
    /// Tells what is new; a decision first.
    fn tell(&mut self, at: u64, ends: &Endpoints, tell: &mut dyn FnMut(&Found<'_>)) {
        let transaction = self.exchange.transaction();
        let decision = transaction.decision().filter(|decision| decision.enforced);
        let found = |found: &nv_seclang::Match, decides| {
            let of_answer = matches!(found.phase, 3 | 4);
            (found.rule, found.severity, of_answer, decides)
        };
        let mut say = |(rule, severity, of_answer, decides), message, variable| {
            let (sensor, endpoints) = (&*self.sensor, *ends);
            tell(&Found { at, endpoints, sensor, rule, message, variable, severity, of_answer, decides });
        };
        let fresh = transaction.matches().get(self.told..).unwrap_or_default();
        if let Some(decision) = decision.filter(|_| !self.decided) {
            self.decided = true;
            // A rule that decides may be one that is not to be logged.
            match fresh.iter().find(|one| one.rule == decision.rule) {
                Some(one) => say(found(one, true), &one.title, &one.variable),
                None => say((decision.rule, None, matches!(decision.phase, 3 | 4), true), "", ""),
            }
        }
        for one in fresh.iter().filter(|one| decision.is_none_or(|decision| decision.rule != one.rule)) {
            say(found(one, false), &one.title, &one.variable);
        }
        self.told = transaction.matches().len();
        if transaction.is_exhausted() && !self.exhausted {
            self.exhausted = true;
            tell(&unjudged(
                at,
                *ends,
                &self.sensor,
                "the work for one request is used up before it is judged",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
