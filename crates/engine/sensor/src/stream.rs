//! One stream on its way through a program, piece by piece.
//!
//! Needles are found by short pieces of them, numbers by the length of their run. Only where one is found do automata run, from the place on where a match with it can begin; they stop where no match with it can end any more.
//! Where the stream is cut changes nothing: all places are counted from its beginning.

use regex_automata::Anchored;
use regex_automata::dfa::Automaton as _;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

use crate::bits::Bits;
use crate::check::WINDOW;
use crate::literal::MAX_NEEDLE_BYTES;
use crate::program::{Dfa, Local, Many, Program, Runs, Use};
use crate::text::Text;

/// Patterns of one stream whose automata run at once.
const MAX_ACTIVE: usize = 128;
/// Bytes on each side of a cut that a needle over it may have.
const EDGE: usize = MAX_NEEDLE_BYTES - 1;

/// Where a stream is.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    offset: u64,
    tail: Vec<u8>,
    active: Vec<Active>,
    /// In a run that the last piece did not end.
    run: Option<StateID>,
    always: Vec<Running>,
}

/// States whose matches were told last, by the low bits of their numbers.
const TOLD: usize = 16;

/// An automaton that runs on every byte.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    at: StateID,
    told: [StateID; TOLD],
}

/// A pattern whose automaton runs.
#[derive(Clone, Copy, Debug)]
struct Active {
    pattern: u16,
    state: StateID,
    /// Its next byte.
    next: u64,
    /// Behind the last needle that was found.
    needle: u64,
    /// Where it stops.
    until: u64,
}

/// What scanning needs beside the stream, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Needles that were found: the place behind each, and whose it is.
    found: Vec<(u64, Use)>,
    edge: Vec<u8>,
    /// Automata that did not run because too many did.
    pub(crate) dropped: u64,
}

impl State {
    /// Back to the beginning of a stream.
    pub(crate) fn reset(&mut self) {
        (self.offset, self.run) = (0, None);
        self.always.clear();
        self.tail.clear();
        self.active.clear();
    }
    /// Whether nothing was said yet.
    pub(crate) fn is_new(&self) -> bool {
        self.offset == 0
    }
    /// Bytes so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
    /// The last bytes.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }
    /// Becomes what another stream is so far.
    pub(crate) fn become_like(&mut self, other: &Self) {
        self.clone_from(other);
    }
}

impl Program {
    /// Takes the next piece; adds the numbers of patterns that have matched to `matched`.
    pub(crate) fn scan(&self, state: &mut State, data: &[u8], matched: &mut Bits, scratch: &mut Scratch) {
        if data.is_empty() || self.is_empty() {
            return;
        }
        let text = Text { tail: &state.tail, data, offset: state.offset };
        scratch.found.clear();
        self.find_needles(&text, &state.active, matched, scratch);
        if !scratch.found.is_empty() {
            scratch.found.sort_unstable();
            for (end, this) in &scratch.found {
                self.start(&mut state.active, &text, *end, *this, matched, &mut scratch.dropped);
            }
        }
        if !state.active.is_empty() {
            let end = text.end();
            state.active.retain_mut(|active| {
                let runs = self.feed(active, &text, end, matched);
                runs && active.until > end && active.next == end
            });
        }
        if let Some(runs) = &self.runs {
            self.run(runs, &mut state.run, &text, matched);
        }
        for (pattern, bytes) in &self.bytes {
            if let Some(local) = self.patterns.get(usize::from(*pattern))
                && !matched.has(local.number)
                && bytes.is_in(data)
            {
                matched.add(local.number);
            }
        }
        if !self.always.is_empty() {
            if state.always.is_empty() {
                let start = |many: &Many| {
                    let anchored = if many.anchored { Anchored::Yes } else { Anchored::No };
                    Running { at: begin(&many.automaton, None, anchored), ..Running::default() }
                };
                state.always.extend(self.always.iter().map(start));
            }
            for (many, running) in self.always.iter().zip(&mut state.always) {
                self.run_always(many, running, &text, matched);
            }
        }
        state.offset = text.end();
        keep(&mut state.tail, data, self.keep);
    }

    /// The stream is over: matches that its end makes.
    pub(crate) fn finish(&self, state: &mut State, matched: &mut Bits) {
        let text = Text { tail: &state.tail, data: &[], offset: state.offset };
        for active in &state.active {
            let Some(local) = self.patterns.get(usize::from(active.pattern)) else { continue };
            let Some(automaton) = &local.automaton else { continue };
            if automaton.is_match_state(automaton.next_eoi_state(active.state)) {
                self.matched(active.pattern, state.offset, &text, matched);
            }
        }
        let runs = self.runs.as_ref().map(|runs| &runs.many).zip(state.run);
        let always = self.always.iter().zip(state.always.iter().map(|running| running.at));
        for (many, at) in runs.into_iter().chain(always) {
            self.tell(many, many.automaton.next_eoi_state(at), state.offset, &text, matched);
        }
        state.reset();
    }

    /// Looks for needles that end in the piece.
    fn find_needles(&self, text: &Text<'_>, active: &[Active], matched: &Bits, scratch: &mut Scratch) {
        let Scratch { found, edge, .. } = scratch;
        let mut add = |end: u64, uses: &[Use]| {
            for this in uses {
                // Of a pattern whose matches begin where the stream does, only what runs since then goes on.
                let late = |local: &Local| {
                    local.beginning.is_some_and(|last| text.offset >= last)
                        && !active.iter().any(|running| running.pattern == this.pattern)
                };
                let local = self.patterns.get(usize::from(this.pattern));
                if local.is_some_and(|local| !matched.has(local.number) && !late(local)) {
                    found.push((end, *this));
                }
            }
        };
        let start = text.offset;
        for (table, uses) in &self.tables {
            table.find(text.data, 0, &mut |index, end| {
                add(
                    start.saturating_add(end as u64),
                    uses.get(usize::from(index)).map_or(&[][..], Vec::as_slice),
                );
            });
        }
        // A needle that began before the piece lies within a few bytes of the cut; most pieces end with the beginning of none.
        if self.openings.may_end(text.tail) {
            let old = text.tail.get(text.tail.len().saturating_sub(EDGE)..).unwrap_or_default();
            edge.clear();
            edge.extend_from_slice(old);
            edge.extend_from_slice(text.data.get(..EDGE).unwrap_or(text.data));
            let start = text.offset.saturating_sub(old.len() as u64);
            for (table, uses) in &self.tables {
                table.find(edge, old.len(), &mut |index, end| {
                    add(
                        start.saturating_add(end as u64),
                        uses.get(usize::from(index)).map_or(&[][..], Vec::as_slice),
                    );
                });
            }
        }
        for (finder, uses) in &self.pairs {
            if let ([.., last], [first, ..]) = (text.tail, text.data)
                && finder.needle() == [*last, *first]
            {
                add(text.offset.saturating_add(1), uses);
            }
            for at in finder.find_iter(text.data) {
                add(text.offset.saturating_add(at as u64).saturating_add(2), uses);
            }
        }
    }

    /// Starts a pattern's automaton because of a needle, or lets it run on.
    fn start(
        &self,
        active: &mut Vec<Active>,
        text: &Text<'_>,
        end: u64,
        this: Use,
        matched: &mut Bits,
        dropped: &mut u64,
    ) {
        let Some(local) = self.patterns.get(usize::from(this.pattern)) else { return };
        let Some(automaton) = &local.automaton else { return };
        if matched.has(local.number) {
            return;
        }
        let until = end.saturating_add(local.reach);
        let from = end.saturating_sub(u64::from(this.back)).max(text.start());
        let look_behind = from.checked_sub(1).and_then(|before| text.byte(before));
        let fresh = |state| Active { pattern: this.pattern, state, next: from, needle: end, until };
        let full = active.len() >= MAX_ACTIVE;
        // No match begins here where it can only begin with the stream.
        let anchored = if local.beginning.is_some() { Anchored::Yes } else { Anchored::No };
        let late = local.beginning.is_some() && from > 0;
        match active.iter_mut().enumerate().find(|(_, other)| other.pattern == this.pattern) {
            Some((index, running)) => {
                // What was before goes on where a match has begun and may still end.
                let before = if running.until >= end { from } else { running.until };
                if self.feed(running, text, before, matched) && running.until >= end {
                    (running.needle, running.until) = (running.needle.max(end), running.until.max(until));
                } else if late {
                    active.swap_remove(index);
                } else {
                    *running = fresh(begin(automaton, look_behind, anchored));
                }
            }
            None if late => {}
            None if !full => active.push(fresh(begin(automaton, look_behind, anchored))),
            None => *dropped = dropped.saturating_add(1),
        }
    }

    /// Runs a pattern's automaton over what it has not seen of the piece, up to `to`. False when it has nothing left to do: its
    /// pattern has matched, or behind its last needle no match has begun, so that the next one has a needle of its own.
    fn feed(&self, active: &mut Active, text: &Text<'_>, to: u64, matched: &mut Bits) -> bool {
        let Some(local) = self.patterns.get(usize::from(active.pattern)) else { return false };
        let Some(automaton) = &local.automaton else { return false };
        if matched.has(local.number) {
            return false;
        }
        let (old, new) = text.slices(active.next, active.until.min(to));
        let mut at = active.state;
        for (position, byte) in (active.next..).zip(old.iter().chain(new)) {
            at = automaton.next_state(at, *byte);
            if automaton.is_special_state(at) {
                if automaton.is_match_state(at) {
                    if self.matched(active.pattern, position, text, matched) {
                        return false;
                    }
                } else if automaton.is_dead_state(at)
                    || position >= active.needle && automaton.is_start_state(at)
                {
                    return false;
                }
            }
        }
        active.next = active.next.saturating_add(old.len() as u64).saturating_add(new.len() as u64);
        active.state = at;
        true
    }

    /// Looks for runs of few bytes, and runs their automaton over those that are long enough.
    fn run(&self, runs: &Runs, run: &mut Option<StateID>, text: &Text<'_>, matched: &mut Bits) {
        let data = text.data;
        let mut from = 0;
        let before = runs.class.trailing(text.tail, runs.class.need().saturating_sub(1));
        if run.is_some() || before > 0 {
            // What the last piece ended with goes on.
            from = runs.class.leading(data);
            let (begins, at) = match run.take() {
                Some(at) => (text.offset, Some(at)),
                None if before.saturating_add(from) >= runs.class.need() => {
                    (text.offset.saturating_sub(before as u64), None)
                }
                None => (text.offset, None),
            };
            if at.is_some() || begins < text.offset {
                *run = self.over(runs, at, begins, from, text, matched);
            }
        }
        // Each turn goes on behind a run.
        while let Some(range) = runs.class.next_run(data, from) {
            from = range.end;
            let begins = text.offset.saturating_add(range.start as u64);
            *run = self.over(runs, None, begins, from, text, matched);
        }
    }

    /// Runs the automaton over a run that lies from `begins` to the piece's byte at `end`, and over the byte behind it. Gives
    /// its state where the run may go on in the next piece.
    fn over(
        &self,
        runs: &Runs,
        at: Option<StateID>,
        begins: u64,
        end: usize,
        text: &Text<'_>,
        matched: &mut Bits,
    ) -> Option<StateID> {
        let automaton = &runs.many.automaton;
        let mut at = at.unwrap_or_else(|| {
            begin(automaton, begins.checked_sub(1).and_then(|at| text.byte(at)), Anchored::No)
        });
        let stop = text.offset.saturating_add(end as u64);
        let (old, new) = text.slices(begins, stop.saturating_add(1));
        for (position, byte) in (begins..).zip(old.iter().chain(new)) {
            at = self.step(&runs.many, at, *byte, position, text, matched);
        }
        (stop == text.end()).then_some(at)
    }

    /// Runs an automaton over a piece. A text may stay among few states that match; each is told once where its place does not
    /// matter.
    fn run_always(&self, many: &Many, running: &mut Running, text: &Text<'_>, matched: &mut Bits) {
        let mut at = running.at;
        if many.automaton.is_dead_state(at) {
            return;
        }
        let mut index = 0_usize;
        // Each turn goes on by a byte at least.
        while let Some(byte) = text.data.get(index) {
            let before = at;
            at = many.automaton.next_state(at, *byte);
            let position = text.offset.saturating_add(index as u64);
            index = index.saturating_add(1);
            if !many.automaton.is_special_state(at) {
                if at == before {
                    let stays = many.stays(at, text.data.get(index..).unwrap_or_default());
                    index = index.saturating_add(stays);
                }
                continue;
            }
            if many.automaton.is_dead_state(at) {
                break;
            }
            if let Some(told) = running.told.get_mut((at.as_usize() >> many.automaton.stride2()) % TOLD)
                && (many.checked || *told != at)
            {
                *told = at;
                self.tell(many, at, position, text, matched);
            }
        }
        running.at = at;
    }

    /// One byte, at `position`, through an automaton of many patterns.
    fn step(
        &self,
        many: &Many,
        at: StateID,
        byte: u8,
        position: u64,
        text: &Text<'_>,
        matched: &mut Bits,
    ) -> StateID {
        let at = many.automaton.next_state(at, byte);
        if many.automaton.is_special_state(at) {
            self.tell(many, at, position, text, matched);
        }
        at
    }

    /// Takes note of all patterns that match at a state; an automaton says so one byte late, so that matches end before
    /// `position`.
    fn tell(&self, many: &Many, at: StateID, position: u64, text: &Text<'_>, matched: &mut Bits) {
        if !many.automaton.is_match_state(at) {
            return;
        }
        for index in 0..many.automaton.match_len(at) {
            let pattern = many.automaton.match_pattern(at, index).as_usize();
            if let Some(local) = many.patterns.get(pattern) {
                self.matched(*local, position, text, matched);
            }
        }
    }

    /// Takes note of a match that ends before `end`, unless it is none; true when the pattern has matched.
    fn matched(&self, pattern: u16, end: u64, text: &Text<'_>, matched: &mut Bits) -> bool {
        let Some(local) = self.patterns.get(usize::from(pattern)) else { return false };
        if let Some(check) = local.check {
            let (window, count) = text.window::<WINDOW>(end);
            if !check.holds(window.get(WINDOW.saturating_sub(count)..).unwrap_or_default()) {
                return false;
            }
        }
        matched.add(local.number);
        true
    }
}

/// The state before the first byte of a search, behind `look_behind`.
pub(crate) fn begin(automaton: &Dfa, look_behind: Option<u8>, anchored: Anchored) -> StateID {
    let config = start::Config::new().anchored(anchored).look_behind(look_behind);
    // It fails for automata that quit at some bytes, or start in the other way; none of ours does.
    automaton.start_state(&config).unwrap_or_default()
}

/// Keeps the last bytes of a stream.
fn keep(tail: &mut Vec<u8>, data: &[u8], most: usize) {
    match data.len().checked_sub(most) {
        Some(start) => {
            tail.clear();
            tail.extend_from_slice(data.get(start..).unwrap_or_default());
        }
        None => {
            let whole = tail.len().saturating_add(data.len());
            if whole > most.saturating_mul(4) {
                tail.drain(..whole.saturating_sub(most).min(tail.len()));
            }
            tail.extend_from_slice(data);
        }
    }
}
