//! Units one after the other, each given to the parser whole.

use super::{Moment, Reader};
use crate::counters::bump;
use crate::event::Sink;
use crate::flow::{Flow, Reading};
use crate::key::Side;
use crate::limits::MAX_UNIT_BYTES;
use crate::pool::NONE;
use crate::protocol::{Parser, Step, Telling};

impl Reader {
    /// Feeds the parser unit by unit.
    pub(super) fn parse<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        mut data: &[u8],
    ) {
        // Each turn takes bytes of `data`, or of what was carried, or ends.
        loop {
            let half = flow.half_mut(side);
            let skipped = usize::try_from(half.skip).unwrap_or(usize::MAX).min(data.len());
            if half.carry == NONE && skipped > 0 {
                if half.skip != u64::MAX {
                    half.skip = half.skip.saturating_sub(skipped as u64);
                }
                let (passed, rest) = data.split_at_checked(skipped).unwrap_or((data, &[]));
                if half.in_body {
                    self.tell_body(moment, flow, side, passed);
                } else if self.telling(flow) == Telling::Nothing {
                    self.tell_bytes(moment, flow, side, passed);
                }
                data = rest;
            }
            let half = flow.half_mut(side);
            if data.is_empty() || half.reading != Reading::Parsing {
                return;
            }
            let (index, wanted) = (half.carry, half.wanted);
            let mut carry = self.carries.get_mut(index).map(std::mem::take).unwrap_or_default();
            let old = carry.len();
            let added = if index == NONE {
                0
            } else {
                let added = data.len().min(MAX_UNIT_BYTES.saturating_sub(old));
                carry.extend_from_slice(data.get(..added).unwrap_or_default());
                added
            };
            let unit = if index == NONE {
                data.get(..MAX_UNIT_BYTES.min(data.len())).unwrap_or_default()
            } else {
                carry.as_slice()
            };
            let waits = usize::try_from(wanted).unwrap_or(usize::MAX) > unit.len();
            let step = if waits && unit.len() < MAX_UNIT_BYTES {
                Step::More(usize::try_from(wanted).unwrap_or(usize::MAX))
            } else {
                self.step(moment, flow, side, unit)
            };
            let length = unit.len();
            // As of before a switch: what it leads to tells for itself.
            let told = self.telling(flow);
            let half = flow.half_mut(side);
            let (taken, switch) = match step {
                Step::Took(taken) if taken > 0 => (taken.min(length), None),
                Step::Skip(bytes) if bytes > 0 => {
                    let now = usize::try_from(bytes).unwrap_or(usize::MAX).min(length);
                    half.skip = if bytes == u64::MAX { bytes } else { bytes.saturating_sub(now as u64) };
                    (now, None)
                }
                Step::Body(before, bytes) if before <= length && before as u64 | bytes > 0 => {
                    let here = unit.get(before..).unwrap_or_default();
                    let now = usize::try_from(bytes).unwrap_or(usize::MAX).min(here.len());
                    half.skip = if bytes == u64::MAX { bytes } else { bytes.saturating_sub(now as u64) };
                    half.in_body = true;
                    self.tell_body(moment, flow, side, here.get(..now).unwrap_or_default());
                    (before.saturating_add(now), None)
                }
                Step::Become(taken, protocol) => (taken.min(length), Some(protocol)),
                Step::More(wanted) if length < MAX_UNIT_BYTES && wanted <= MAX_UNIT_BYTES => {
                    half.wanted = u32::try_from(wanted.max(length.saturating_add(1))).unwrap_or(0);
                    if index == NONE {
                        if !self.carry_on(moment, flow, side, data) {
                            self.lost(moment, flow, side);
                        }
                        return;
                    }
                    if let Some(place) = self.carries.get_mut(index) {
                        *place = carry;
                    }
                    data = data.get(added..).unwrap_or_default();
                    continue;
                }
                Step::Done => {
                    half.reading = Reading::Done;
                    self.tell_bytes(moment, flow, side, &carry);
                    self.tell_bytes(moment, flow, side, data.get(added..).unwrap_or_default());
                    if let Some(place) = self.carries.get_mut(index) {
                        *place = carry;
                    }
                    self.drop_carry(flow, side);
                    return;
                }
                Step::More(_) | Step::Took(_) | Step::Skip(_) | Step::Body(..) | Step::Reject => {
                    if matches!(step, Step::More(_)) {
                        bump(&mut moment.counters.units_overlong);
                    }
                    self.lost(moment, flow, side);
                    self.tell_bytes(moment, flow, side, &carry);
                    self.tell_bytes(moment, flow, side, data.get(added..).unwrap_or_default());
                    carry.clear();
                    if let Some(place) = self.carries.get_mut(index) {
                        *place = carry;
                    }
                    return;
                }
            };
            flow.half_mut(side).wanted = 0;
            if told == Telling::Nothing {
                let unit = if index == NONE { data } else { carry.as_slice() };
                self.tell_bytes(moment, flow, side, unit.get(..taken).unwrap_or_default());
            }
            if index == NONE {
                data = data.get(taken..).unwrap_or_default();
            } else if taken >= old {
                data = data.get(taken.saturating_sub(old)..).unwrap_or_default();
                if let Some(place) = self.carries.get_mut(index) {
                    *place = carry;
                }
                self.drop_carry(flow, side);
            } else {
                // A unit ended within what was carried: the rest of it goes on from there.
                carry.truncate(old);
                carry.drain(..taken);
                if let Some(place) = self.carries.get_mut(index) {
                    *place = carry;
                }
            }
            if let (Some(protocol), Some(parser)) = (switch, self.parsers.get_mut(flow.parser)) {
                *parser = Parser::new(protocol);
                let other = side.other();
                self.drop_carry(flow, other);
                let half = flow.half_mut(other);
                (half.reading, half.skip, half.in_body) = (Reading::Parsing, 0, false);
            }
        }
    }
}
