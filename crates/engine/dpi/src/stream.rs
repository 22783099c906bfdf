//! TCP byte streams out of segments (RFC 9293 §3.4, §3.10), as a watcher between the two ends sees them.
//!
//! Bytes in order go to the reader from where they lie in the frame. What comes early is held until the hole in front
//! of it is filled, and no longer than it takes to know that it never will be: the receiver acknowledges what lies
//! behind it, time is over, or there is no more room. Then reading goes on behind the hole, and that is told.

use nv_packet::transport::Tcp;

use crate::counters::bump;
use crate::event::{Event, Kind, Sink};
use crate::flow::Flow;
use crate::key::Side;
use crate::limits::{HOLE_SECONDS, Limits};
use crate::pool::NONE;
use crate::reader::{Moment, Reader};
use crate::segments::{OverlapPolicy, Segments, distance};
use crate::table::second;

/// How far ahead of the stream a segment may be without the receiver's word for it, in bytes: the largest window
/// (RFC 7323 §2.3) is 1 GiB, but nobody is sent 16 MiB that he has not acknowledged a part of.
const WINDOW: i32 = 1 << 24;
/// Bytes held at which an acknowledged hole is not waited for any more.
const ENOUGH: u32 = 64 * 1024;

/// What streams are made with.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) segments: Segments,
    pub(crate) reader: Reader,
    buffer: Vec<u8>,
    held_bytes: u32,
}

impl Streams {
    pub(crate) fn new(limits: &Limits, policy: OverlapPolicy) -> Self {
        Self {
            segments: Segments::new(limits.pages, policy),
            reader: Reader::new(limits),
            buffer: Vec::new(),
            held_bytes: limits.held_bytes,
        }
    }

    /// Takes the payload of a segment that `side` sent.
    pub(crate) fn segment<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        segment: &Tcp<'_>,
    ) {
        let syn = segment.has(Tcp::SYN);
        let sequence = segment.sequence.wrapping_add(u32::from(syn));
        let half = flow.half_mut(side);
        if !half.started {
            (half.started, half.next) = (true, sequence);
        }
        let (mut sequence, mut data) = (sequence, segment.payload);
        // Twice at most: making room for a segment may bring the stream to where it begins.
        for attempt in 0..2 {
            let half = flow.half_mut(side);
            let ahead = distance(sequence, half.next);
            if ahead < 0 {
                let old = usize::try_from(ahead.unsigned_abs()).unwrap_or(usize::MAX);
                if !data.is_empty() {
                    bump(&mut moment.counters.segments_repeated);
                }
                let Some(new) = data.get(old..).filter(|new| !new.is_empty()) else { return };
                (sequence, data) = (half.next, new);
            }
            if data.is_empty() {
                return;
            }
            if sequence == half.next && half.held == NONE {
                half.next = sequence.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
                self.reader.stream(moment, flow, side, data);
                return;
            }
            if self.hold(moment, flow, side, sequence, data) || attempt > 0 {
                return;
            }
        }
    }

    /// Holds a segment, and reads what it makes whole. False when there was no room: something was given up, and the
    /// segment may be tried again.
    fn hold<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        sequence: u32,
        data: &[u8],
    ) -> bool {
        let now = second(moment.at);
        let other = *flow.half(side.other());
        let half = flow.half_mut(side);
        let ahead = distance(sequence, half.next);
        if ahead > WINDOW {
            // Only the receiver's acknowledgment makes it believable that so much was missed.
            if !(other.has_acknowledged && distance(other.acknowledged, sequence) >= 0) {
                bump(&mut moment.counters.segments_out_of_window);
                return true;
            }
        }
        if ahead > 0 {
            bump(&mut moment.counters.segments_reordered);
            if half.held == NONE {
                half.hole_since = now;
            }
        }
        let room = half.held_bytes.saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        let full = if room > self.held_bytes && half.held != NONE {
            true
        } else {
            let held = self.segments.hold(&mut half.held, sequence, data);
            half.held_bytes = half.held_bytes.saturating_add(held.kept);
            if let Some(sequence) = held.conflict {
                bump(&mut moment.counters.conflicts);
                let event =
                    Event { at: moment.at, session: flow.id, kind: Kind::Conflict { side, sequence } };
                moment.sink.event(&event);
            }
            held.full
        };
        if full {
            bump(&mut moment.counters.gaps_for_room);
            self.jump(moment, flow, side);
            return false;
        }
        self.drain(moment, flow, side);
        self.look_at_hole(moment, flow, side);
        true
    }

    /// Reads on behind a hole that will not be filled. `side` is the sender of what is missing.
    pub(crate) fn look_at_hole<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side) {
        let other = *flow.half(side.other());
        let half = *flow.half(side);
        let Some(first) = self.segments.first(half.held) else { return };
        let waited = second(moment.at).saturating_sub(half.hole_since);
        let acknowledged = other.has_acknowledged && distance(other.acknowledged, first) >= 0;
        if (acknowledged && (waited > 0 || half.held_bytes > ENOUGH)) || waited > HOLE_SECONDS {
            self.jump(moment, flow, side);
        }
    }

    /// Gives up the hole in front of what is held.
    fn jump<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side) {
        let half = flow.half_mut(side);
        let Some(first) = self.segments.first(half.held) else { return };
        let missing = distance(first, half.next);
        if missing > 0 {
            half.next = first;
            self.reader.gap(moment, flow, side, missing.unsigned_abs());
        }
        self.drain(moment, flow, side);
    }

    /// Reads what is held and in order.
    fn drain<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side) {
        let mut side = side;
        let mut buffer = std::mem::take(&mut self.buffer);
        // Each turn takes a page off the list.
        loop {
            let half = flow.half_mut(side);
            let Some(first) = self.segments.first(half.held) else { break };
            if distance(first, half.next) > 0 {
                half.hole_since = second(moment.at);
                break;
            }
            self.segments.take(&mut half.held, &mut buffer);
            half.held_bytes = half.held_bytes.saturating_sub(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
            let old = usize::try_from(half.next.wrapping_sub(first)).unwrap_or(usize::MAX);
            let new = buffer.get(old..).unwrap_or_default();
            half.next = half.next.wrapping_add(u32::try_from(new.len()).unwrap_or(0));
            let turned = flow.client_is_low;
            self.reader.stream(moment, flow, side, new);
            if flow.client_is_low != turned {
                // The bytes have shown that their sender is the other side.
                side = side.other();
            }
        }
        self.buffer = buffer;
    }

    /// Reads what is still held, holes or not, and gives everything back.
    pub(crate) fn end<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow) {
        // Each turn takes at least a page off a list; what is read may turn the sides.
        while let Some(side) =
            [Side::Client, Side::Server].into_iter().find(|side| flow.half(*side).held != NONE)
        {
            self.jump(moment, flow, side);
        }
        self.reader.release(moment, flow);
    }
}
