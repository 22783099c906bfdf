//! The first bytes of a stream: which protocol it is, and what is kept until that is known.

use super::{Moment, Reader, ports, tell, tell_lost};
use crate::content::Part;
use crate::counters::bump;
use crate::event::Sink;
use crate::flow::{Flow, Reading};
use crate::key::Side;
use crate::limits::{MAX_PROBE_BYTES, MAX_PROBES, MAX_UNIT_BYTES};
use crate::pool::NONE;
use crate::protocol::{Ports, Probe, Protocol};

impl Reader {
    /// Finds out which protocol a stream is from its first bytes. A protocol is taken when it says yes and all before
    /// it in the order say no, so that the answer does not depend on how many bytes came at once.
    pub(super) fn probe_stream<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        data: &[u8],
    ) {
        if data.is_empty() {
            return;
        }
        let held = flow.half(side).carry;
        let mut joined = std::mem::take(&mut self.prefix);
        let carried = self.carries.get(held).map_or(0, Vec::len);
        let prefix = if carried == 0 {
            data
        } else {
            joined.clear();
            joined.extend_from_slice(self.carries.get(held).map_or(&[], Vec::as_slice));
            joined.extend_from_slice(data.get(..MAX_UNIT_BYTES.min(data.len())).unwrap_or(data));
            joined.as_slice()
        };
        let window = prefix.get(..MAX_PROBE_BYTES.min(prefix.len())).unwrap_or(prefix);
        let ports = ports(flow, flow.midstream);
        let turned = Ports { client: ports.server, server: ports.client, ..ports };
        let may_turn = flow.midstream && flow.parser == NONE;
        let whole = window.len() == MAX_PROBE_BYTES;
        let mut found = None;
        let (mut maybe, mut left) = (false, *flow.may_be(side));
        for protocol in Protocol::STREAM.iter().copied() {
            if !left.has(protocol) {
                continue;
            }
            let answer = match protocol.probe_stream(side, window, ports) {
                Probe::Yes => Some(false),
                Probe::No | Probe::Maybe
                    if may_turn && protocol.probe_stream(side.other(), window, turned) == Probe::Yes =>
                {
                    Some(true)
                }
                Probe::Maybe if !whole => {
                    maybe = true;
                    continue;
                }
                Probe::No | Probe::Maybe => None,
            };
            match answer {
                // One before it in the order may still be it.
                Some(_) if maybe => break,
                Some(turn) => {
                    found = Some((protocol, turn));
                    break;
                }
                None => left.remove(protocol),
            }
        }
        *flow.may_be(side) = left;
        match found {
            Some((protocol, turn)) => {
                let mut side = side;
                if turn {
                    flow.turn();
                    side = side.other();
                }
                if self.identify(moment, flow, side, protocol) {
                    self.begin(moment, flow, side, data);
                }
            }
            None if maybe => {
                if !self.carry_on(moment, flow, side, data) {
                    tell(moment, flow, side, 0, Part::Packet(data));
                    // What comes next is a beginning in the middle.
                    flow.midstream = true;
                    *flow.may_be(side) = crate::protocol::ProtocolSet::ALL;
                    tell_lost(moment, flow, side);
                }
            }
            None => {
                self.tell_kept(moment, flow, side);
                tell(moment, flow, side, 0, Part::Packet(data));
                self.drop_carry(flow, side);
                let midstream = flow.midstream;
                let half = flow.half_mut(side);
                half.tries = half.tries.saturating_add(1);
                if midstream && half.tries < MAX_PROBES {
                    *flow.may_be(side) = crate::protocol::ProtocolSet::ALL;
                } else {
                    half.reading = Reading::Done;
                }
            }
        }
        joined.clear();
        self.prefix = joined;
    }

    /// Keeps bytes of which nobody can say yet what they are; false when there is no buffer for them.
    pub(super) fn carry_on<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        data: &[u8],
    ) -> bool {
        let half = flow.half_mut(side);
        if half.carry == NONE {
            match self.carries.reuse(Vec::new) {
                Some(index) => {
                    half.carry = index;
                    if let Some(carry) = self.carries.get_mut(index) {
                        carry.clear();
                    }
                }
                None => {
                    bump(&mut moment.counters.carries_refused);
                    return false;
                }
            }
        }
        if let Some(carry) = self.carries.get_mut(half.carry) {
            carry.extend_from_slice(data);
        }
        true
    }

    /// Gives a new parser what was kept of both directions: the other's first, which came before `data` wherever `data` was
    /// cut.
    fn begin<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side, data: &[u8]) {
        for each in [Side::Client, Side::Server] {
            let half = flow.half_mut(each);
            // Its beginning was not kept: that of another message is looked for, where segments begin.
            if matches!(half.reading, Reading::Done) && half.packets > 0 && each != side {
                half.reading = Reading::Seeking;
                tell_lost(moment, flow, each);
            } else {
                half.reading = Reading::Parsing;
            }
        }
        for each in [side.other(), side] {
            let half = flow.half_mut(each);
            let index = std::mem::replace(&mut half.carry, NONE);
            half.wanted = 0;
            let rest = if each == side { data } else { &[] };
            match self.carries.get_mut(index).map(std::mem::take) {
                // In one piece: what a parser makes of a beginning may not depend on where it was cut.
                Some(mut kept) => {
                    kept.extend_from_slice(rest);
                    self.stream(moment, flow, each, &kept);
                    kept.clear();
                    if let Some(place) = self.carries.get_mut(index) {
                        *place = kept;
                    }
                    self.carries.free(index);
                }
                None => self.stream(moment, flow, each, rest),
            }
        }
    }
}
