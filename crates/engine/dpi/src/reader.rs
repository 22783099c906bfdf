//! From the bytes of a direction, as they come, to whole units for a parser.
//!
//! A parser sees every unit (a header line, a record, a message) as one slice, whether it came in one segment, in a
//! hundred, or with three others in one: what it sees depends on the stream alone, never on where it was cut. A unit
//! within one segment is read where it lies; only a unit across a border is copied, into a buffer that is used again.

mod beginning;
mod units;

use crate::content::{Content, Part};
use crate::counters::{Counters, bump};
use crate::event::{Event, Kind, Sink};
use crate::flow::{Flow, Reading};
use crate::key::Side;
use crate::limits::{Limits, MAX_PROBES, MAX_UNIT_BYTES};
use crate::pool::{NONE, Pool};
use crate::protocol::{Context, Parser, Ports, Probe, Protocol, Step, Telling};

/// The parsers of an engine, and the units that they wait for.
#[derive(Debug)]
pub(crate) struct Reader {
    parsers: Pool<Parser>,
    carries: Pool<Vec<u8>>,
    scratch: Vec<u8>,
    /// First bytes of a stream that is being probed.
    prefix: Vec<u8>,
}

/// What reading needs of the packet at hand.
pub(crate) struct Moment<'m, S: Sink> {
    pub(crate) at: u64,
    pub(crate) sink: &'m mut S,
    pub(crate) counters: &'m mut Counters,
}

fn tell_lost<S: Sink>(moment: &mut Moment<'_, S>, flow: &Flow, side: Side) {
    bump(&mut moment.counters.parsers_lost);
    let event = Event { at: moment.at, session: flow.id, kind: Kind::Lost { side } };
    moment.sink.event(&event);
}

fn tell<S: Sink>(moment: &mut Moment<'_, S>, flow: &Flow, side: Side, transaction: u32, part: Part<'_>) {
    let (at, session, endpoints) = (moment.at, flow.id, flow.endpoints());
    moment.sink.content(&Content { at, session, endpoints, side, transaction, part });
}

fn ports(flow: &Flow, midstream: bool) -> Ports {
    Ports { client: flow.client_port(), server: flow.server_port(), midstream }
}

impl Reader {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            parsers: Pool::new(limits.parsers),
            carries: Pool::new(limits.carries),
            scratch: Vec::with_capacity(MAX_UNIT_BYTES),
            prefix: Vec::new(),
        }
    }

    /// Takes the next bytes of a stream.
    pub(crate) fn stream<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        data: &[u8],
    ) {
        match flow.half(side).reading {
            Reading::Done => self.tell_bytes(moment, flow, side, data),
            Reading::Probing => self.probe_stream(moment, flow, side, data),
            Reading::Parsing => self.parse(moment, flow, side, data),
            Reading::Seeking => {
                let protocol = self.parsers.get(flow.parser).map(Parser::protocol);
                let ports = ports(flow, true);
                if protocol.is_some_and(|protocol| protocol.probe_stream(side, data, ports) == Probe::Yes) {
                    flow.half_mut(side).reading = Reading::Parsing;
                    bump(&mut moment.counters.parsers_resumed);
                    self.parse(moment, flow, side, data);
                } else {
                    self.tell_bytes(moment, flow, side, data);
                }
            }
        }
    }

    /// What the parser of a flow tells.
    fn telling(&self, flow: &Flow) -> Telling {
        self.parsers.get(flow.parser).map_or(Telling::Nothing, Parser::telling)
    }

    /// Tells bytes of a stream as they are, unless nobody can read them.
    fn tell_bytes<S: Sink>(&self, moment: &mut Moment<'_, S>, flow: &Flow, side: Side, data: &[u8]) {
        if !data.is_empty() && self.telling(flow) != Telling::Encrypted {
            tell(moment, flow, side, 0, Part::Packet(data));
        }
    }

    /// Tells bytes that were kept, and of which nothing will come any more.
    fn tell_kept<S: Sink>(&self, moment: &mut Moment<'_, S>, flow: &Flow, side: Side) {
        let half = flow.half(side);
        if let Some(kept) = self.carries.get(half.carry)
            && (half.reading == Reading::Probing || self.telling(flow) == Telling::Nothing)
        {
            self.tell_bytes(moment, flow, side, kept);
        }
    }

    /// Tells bytes of a body, and its end where there is no more.
    fn tell_body<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side, data: &[u8]) {
        let Some(body) = self.parsers.get(flow.parser).map(|parser| parser.body(side)) else { return };
        if !data.is_empty() {
            tell(moment, flow, side, body.transaction, Part::Body(body.about, data));
        }
        let half = flow.half_mut(side);
        if half.skip == 0 {
            half.in_body = false;
            if body.last {
                tell(moment, flow, side, body.transaction, Part::End);
            }
        }
    }

    /// Notes that `bytes` of a stream will not be seen.
    pub(crate) fn gap<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        bytes: u32,
    ) {
        bump(&mut moment.counters.gaps);
        moment.counters.gap_bytes = moment.counters.gap_bytes.saturating_add(u64::from(bytes));
        let event = Event { at: moment.at, session: flow.id, kind: Kind::Gap { side, bytes } };
        moment.sink.event(&event);
        let half = flow.half_mut(side);
        if half.carry == NONE && half.skip >= u64::from(bytes) {
            if half.skip != u64::MAX {
                half.skip = half.skip.saturating_sub(u64::from(bytes));
            }
            if half.in_body {
                let transaction =
                    self.parsers.get(flow.parser).map_or(0, |parser| parser.body(side).transaction);
                tell(moment, flow, side, transaction, Part::Hole);
                self.tell_body(moment, flow, side, &[]);
            }
            return;
        }
        (half.skip, half.in_body) = (0, false);
        if self.telling(flow) == Telling::Nothing {
            self.tell_kept(moment, flow, side);
            tell(moment, flow, side, 0, Part::Hole);
            self.drop_carry(flow, side);
        }
        match flow.half(side).reading {
            Reading::Done | Reading::Seeking => {}
            Reading::Probing => {
                // What comes next is a beginning in the middle.
                flow.midstream = true;
                *flow.may_be(side) = crate::protocol::ProtocolSet::ALL;
                self.drop_carry(flow, side);
            }
            Reading::Parsing => self.lost(moment, flow, side),
        }
    }

    /// Takes a datagram.
    pub(crate) fn datagram<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        data: &[u8],
    ) {
        let low = flow.client_is_low;
        self.read_datagram(moment, flow, side, data);
        let side = if flow.client_is_low == low { side } else { side.other() };
        if self.telling(flow) != Telling::Encrypted && !data.is_empty() {
            tell(moment, flow, side, 0, Part::Datagram(data));
        }
    }

    fn read_datagram<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        data: &[u8],
    ) {
        if data.is_empty() || flow.half(side).reading == Reading::Done {
            return;
        }
        let mut side = side;
        if flow.parser == NONE {
            let ports = ports(flow, flow.midstream);
            let turned = Ports { client: ports.server, server: ports.client, ..ports };
            let alone = flow.half(side.other()).packets == 0;
            let found = Protocol::DATAGRAM.iter().find_map(|protocol| {
                if protocol.probe_datagram(side, data, ports) == Probe::Yes {
                    return Some((*protocol, false));
                }
                (alone && protocol.probe_datagram(side.other(), data, turned) == Probe::Yes)
                    .then_some((*protocol, true))
            });
            let Some((protocol, turn)) = found else {
                let half = flow.half_mut(side);
                half.tries = half.tries.saturating_add(1);
                if half.tries >= MAX_PROBES {
                    half.reading = Reading::Done;
                }
                return;
            };
            if turn {
                flow.turn();
                side = side.other();
            }
            if !self.identify(moment, flow, side, protocol) {
                return;
            }
            for side in [Side::Client, Side::Server] {
                flow.half_mut(side).reading = Reading::Parsing;
            }
        }
        let step = self.ask(moment, flow, side, |parser, context| parser.datagram(context, data));
        if step == Step::Done {
            flow.half_mut(side).reading = Reading::Done;
        }
    }

    /// Gives back what a flow holds, and tells what was kept.
    pub(crate) fn release<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow) {
        self.tell_kept(moment, flow, Side::Client);
        self.tell_kept(moment, flow, Side::Server);
        self.drop_carry(flow, Side::Client);
        self.drop_carry(flow, Side::Server);
        if flow.parser != NONE {
            self.parsers.free(flow.parser);
            flow.parser = NONE;
        }
    }

    /// Parsers in use.
    pub(crate) fn used(&self) -> usize {
        self.parsers.used()
    }

    fn drop_carry(&mut self, flow: &mut Flow, side: Side) {
        let half = flow.half_mut(side);
        if half.carry != NONE {
            if let Some(carry) = self.carries.get_mut(half.carry) {
                carry.shrink_to(MAX_UNIT_BYTES);
            }
            self.carries.free(half.carry);
            (half.carry, half.wanted) = (NONE, 0);
        }
    }

    /// Takes a flow for a protocol's, whatever its bytes will be.
    pub(crate) fn assume<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        protocol: Protocol,
    ) {
        if self.identify(moment, flow, Side::Client, protocol) {
            (flow.client.reading, flow.server.reading) = (Reading::Parsing, Reading::Parsing);
        }
    }

    /// Gives the flow its parser.
    fn identify<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        protocol: Protocol,
    ) -> bool {
        let Some(index) = self.parsers.put(Parser::new(protocol)) else {
            bump(&mut moment.counters.parsers_refused);
            flow.half_mut(side).reading = Reading::Done;
            tell_lost(moment, flow, side);
            return false;
        };
        flow.parser = index;
        if let Some(application) = protocol.application() {
            flow.application = application.0;
            let event = Event { at: moment.at, session: flow.id, kind: Kind::Identified(application) };
            moment.sink.event(&event);
        }
        true
    }

    fn lost<S: Sink>(&mut self, moment: &mut Moment<'_, S>, flow: &mut Flow, side: Side) {
        self.drop_carry(flow, side);
        let half = flow.half_mut(side);
        (half.reading, half.skip, half.in_body) = (Reading::Seeking, 0, false);
        if let Some(parser) = self.parsers.get(flow.parser)
            && parser.telling() == Telling::Messages
        {
            let transaction = parser.transaction(side);
            tell(moment, flow, side, transaction, Part::Hole);
            tell(moment, flow, side, transaction, Part::End);
        }
        if let Some(parser) = self.parsers.get_mut(flow.parser) {
            parser.lost(side);
        }
        tell_lost(moment, flow, side);
    }

    fn step<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        unit: &[u8],
    ) -> Step {
        self.ask(moment, flow, side, |parser, context| parser.step(context, unit))
    }

    /// Asks a flow's parser, which tells what it finds as this flow's and this side's.
    fn ask<S: Sink>(
        &mut self,
        moment: &mut Moment<'_, S>,
        flow: &mut Flow,
        side: Side,
        question: impl FnOnce(&mut Parser, &mut Context<'_>) -> Step,
    ) -> Step {
        let (endpoints, id) = (flow.endpoints(), flow.id);
        let Some(parser) = self.parsers.get_mut(flow.parser) else { return Step::Done };
        let mut context = Context {
            at: moment.at,
            session: id,
            endpoints,
            side,
            application: &mut flow.application,
            scratch: &mut self.scratch,
            sink: moment.sink,
        };
        question(parser, &mut context)
    }
}
