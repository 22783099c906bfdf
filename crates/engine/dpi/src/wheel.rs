//! A hierarchical timer wheel (Varghese and Lauck, 1987) whose lists run through the flows themselves: no allocation,
//! and putting in or taking out is a few writes.

use crate::flow::Flow;
use crate::pool::NONE;

/// Slots of one level, as a power of two.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 3;
/// Furthest that a flow can be put ahead, in seconds; later ones come around earlier and are put in again.
const HORIZON: u32 = 1 << (BITS * 3);

/// Seconds in level 0, 64 of them in level 1, 4,096 in level 2.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: [u32; SLOTS * LEVELS],
    /// Second up to which all flows have come out.
    now: u32,
    /// Flows in it.
    count: usize,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { heads: [NONE; SLOTS * LEVELS], now: 0, count: 0 }
    }
    /// Puts a flow where it comes out at second `deadline`, or at the next turn when that is past.
    pub(crate) fn insert(&mut self, flows: &mut [Flow], slot: u32, deadline: u32) {
        if self.count == 0 {
            // Nobody waits: the wheel may stand anywhere before.
            self.now = self.now.max(deadline.saturating_sub(HORIZON));
        }
        let ahead = deadline.saturating_sub(self.now).clamp(1, HORIZON - 1);
        let due = self.now.saturating_add(ahead);
        let level = if ahead < 1 << BITS {
            0
        } else if ahead < 1 << (BITS * 2) {
            1
        } else {
            2
        };
        let place = (due >> (BITS * level)) & ((1 << BITS) - 1);
        let bucket = level.saturating_mul(1 << BITS).saturating_add(place);
        let Some(head) = usize::try_from(bucket).ok().and_then(|bucket| self.heads.get_mut(bucket)) else {
            return;
        };
        let next = std::mem::replace(head, slot);
        if let Some(flow) = at(flows, next) {
            flow.timer_previous = slot;
        }
        if let Some(flow) = at(flows, slot) {
            (flow.timer_next, flow.timer_previous) = (next, NONE);
            flow.timer_slot = u16::try_from(bucket).unwrap_or(u16::MAX);
        }
        self.count = self.count.saturating_add(1);
    }
    /// Takes a flow out.
    pub(crate) fn remove(&mut self, flows: &mut [Flow], slot: u32) {
        let Some(flow) = at(flows, slot) else { return };
        let (next, previous, bucket) = (flow.timer_next, flow.timer_previous, flow.timer_slot);
        if bucket == u16::MAX {
            return;
        }
        (flow.timer_next, flow.timer_previous, flow.timer_slot) = (NONE, NONE, u16::MAX);
        if let Some(flow) = at(flows, next) {
            flow.timer_previous = previous;
        }
        if let Some(flow) = at(flows, previous) {
            flow.timer_next = next;
        } else if let Some(head) = self.heads.get_mut(usize::from(bucket)) {
            *head = next;
        }
        self.count = self.count.saturating_sub(1);
    }
    /// Takes out a flow that is due at `now`. Flows of higher levels come out when their slot does; the caller puts
    /// those in again that are not due. A jump of the clock beyond the horizon empties the wheel once.
    pub(crate) fn pop(&mut self, flows: &mut [Flow], now: u32) -> Option<u32> {
        if self.count == 0 {
            self.now = self.now.max(now);
            return None;
        }
        loop {
            for level in 0..LEVELS {
                let shift = BITS.saturating_mul(u32::try_from(level).unwrap_or(0));
                // A higher level's slot is emptied when its first second has come.
                if self.now.trailing_zeros() < shift && level > 0 {
                    break;
                }
                let place = usize::try_from(self.now >> shift).unwrap_or(0) & (SLOTS - 1);
                let bucket = level.saturating_mul(SLOTS).saturating_add(place);
                let slot = self.heads.get(bucket).copied().unwrap_or(NONE);
                if slot != NONE {
                    self.remove(flows, slot);
                    return Some(slot);
                }
            }
            if self.now >= now {
                return None;
            }
            self.now = if now.saturating_sub(self.now) > HORIZON {
                now.saturating_sub(HORIZON)
            } else {
                self.now.saturating_add(1)
            };
        }
    }
}

fn at(flows: &mut [Flow], slot: u32) -> Option<&mut Flow> {
    if slot == NONE { None } else { flows.get_mut(usize::try_from(slot).ok()?) }
}
