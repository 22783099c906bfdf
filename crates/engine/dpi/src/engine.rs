//! One shard: frames in, events out. Nothing is shared with other shards; frames of one flow go to one shard.

use nv_packet::decode::{self, Decoded, Packet};
use nv_packet::defragment::{Defragmented, Defragmenter};
use nv_packet::error::DecodeError;
use nv_packet::link::Link;
use nv_packet::transport::{Icmp, Tcp, Udp};

use crate::connection::{Threats, digest, handshake, invalid_flags, narrow_window, teardown};
use crate::counters::{Counters, bump};
use crate::event::{Current, End, Event, Kind, SessionId, Sink};
use crate::flow::{Flow, Phase};
use crate::key::{Endpoint, Endpoints, Key, Side, Transport};
use crate::limits::Limits;
use crate::meter::{Meter, Meters};
use crate::reader::Moment;
use crate::segments::{OverlapPolicy, distance};
use crate::stream::Streams;
use crate::table::{Room, Table, second};
use crate::threat::Threat;

/// Largest payload of an ICMP echo that passes; no network of ours carries one that large in one piece.
const MAX_ECHO_BYTES: usize = 32_000;
/// Answers in a row that are no echo before a tunnel is told.
const FALSE_ECHOES: u32 = 3;

/// Inspection of one core's share of the packets.
#[derive(Debug)]
pub struct Engine {
    table: Table,
    streams: Streams,
    fragments: Defragmenter,
    meters: Meters,
    frames: decode::Counters,
    counters: Counters,
    /// Packet time, which never goes back.
    now: u64,
    sessions: u64,
    /// Slot of the flow of the last frame.
    current: Option<u32>,
}

/// A packet on its way.
struct Passing {
    bytes: u64,
    source: Endpoint,
    destination: Endpoint,
}

impl Engine {
    /// An engine with nothing in it. `seed` must be secret and random where packets come from strangers.
    #[must_use]
    pub fn new(limits: &Limits, policy: OverlapPolicy, seed: u64) -> Self {
        Self {
            table: Table::new(limits.flows, seed),
            streams: Streams::new(limits, policy),
            fragments: Defragmenter::default(),
            meters: Meters::new(limits.senders, seed),
            frames: decode::Counters::default(),
            counters: Counters::default(),
            now: 0,
            sessions: 0,
            current: None,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    /// What frames turned out to be.
    #[must_use]
    pub fn frames(&self) -> &decode::Counters {
        &self.frames
    }
    /// Flows at this moment.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.table.len()
    }
    /// Parsers and pages in use at this moment.
    #[must_use]
    pub fn in_use(&self) -> (usize, usize) {
        (self.streams.reader.used(), self.streams.segments.used())
    }

    /// The flow that the last frame belongs to, as it is now; `None` when it has none, or has ended it.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        self.table.get(self.current?).filter(|flow| flow.live).map(Flow::current)
    }

    /// Whether nothing more is read of it ([`Kind::Settled`] was told).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.current.and_then(|slot| self.table.get(slot)).is_some_and(|flow| flow.live && flow.settled)
    }

    /// Whether its beginning was not seen.
    #[must_use]
    pub fn is_midstream(&self) -> bool {
        self.current.and_then(|slot| self.table.get(slot)).is_some_and(|flow| flow.live && flow.midstream)
    }

    /// What is counted over many flows at this moment, in no order.
    pub fn meters(&self) -> impl Iterator<Item = Meter> + '_ {
        self.meters.all(second(self.now))
    }

    /// Takes a frame that was captured at `at` (nanoseconds since 1970).
    pub fn frame<S: Sink>(&mut self, at: u64, link: Link, frame: &[u8], sink: &mut S) {
        self.advance(at, sink);
        self.current = None;
        let bytes = frame.len() as u64;
        match self.frames.decode(link, frame) {
            Ok(Decoded::Packet(packet)) => self.packet(&packet, bytes, sink),
            Ok(Decoded::NotIp(_)) | Err(DecodeError::Truncated { .. }) => {}
            Err(_) => self.threat(sink, None, Side::Client, Threat::InvalidPacketFormat),
        }
    }

    /// Lets packet time go on to `at`, and flows end whose time is over.
    pub fn advance<S: Sink>(&mut self, at: u64, sink: &mut S) {
        let before = second(self.now);
        self.now = self.now.max(at);
        if second(self.now) == before {
            return;
        }
        while let Some(slot) = self.table.expired(second(self.now)) {
            if self.note_silence(slot, sink) {
                continue;
            }
            let closed = self.table.get(slot).is_some_and(|flow| flow.phase == Phase::Closed);
            self.close(slot, if closed { End::Closed } else { End::TimedOut }, sink);
        }
    }

    /// Notes a client that has opened a connection and said nothing; the flow stays. False for any other flow.
    fn note_silence<S: Sink>(&mut self, slot: u32, sink: &mut S) -> bool {
        let Some(flow) = self.table.get_mut(slot).filter(|flow| flow.is_silent() && !flow.noted) else {
            return false;
        };
        flow.noted = true;
        let (session, ends) = (flow.id, flow.endpoints());
        self.table.hurry(slot);
        if self.meters.silent(ends.server, second(self.now), &mut self.counters.senders_evicted) {
            let kind =
                Kind::Threat { threat: Threat::NoClientData, endpoints: Some(ends), side: Side::Client };
            sink.event(&Event { at: self.now, session, kind });
        }
        true
    }

    /// Ends all flows.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) {
        self.table.rewind();
        while let Some(slot) = self.table.any() {
            let closed = self.table.get(slot).is_some_and(|flow| flow.phase == Phase::Closed);
            self.close(slot, if closed { End::Closed } else { End::Finished }, sink);
        }
    }

    fn packet<S: Sink>(&mut self, packet: &Packet<'_>, bytes: u64, sink: &mut S) {
        let passing = |source_port, destination_port| Passing {
            bytes,
            source: Endpoint { address: packet.network.source, port: source_port },
            destination: Endpoint { address: packet.network.destination, port: destination_port },
        };
        match packet.transport {
            decode::Transport::Tcp(segment) => {
                self.tcp(&passing(segment.source_port, segment.destination_port), &segment, sink);
            }
            decode::Transport::Udp(datagram) => {
                self.udp(&passing(datagram.source_port, datagram.destination_port), &datagram, sink);
            }
            decode::Transport::Icmp(message) | decode::Transport::Icmpv6(message) => {
                let port = match (message.kind, message.rest) {
                    (0 | 8 | 128 | 129, [i0, i1, ..]) => u16::from_be_bytes([i0, i1]),
                    _ => 0,
                };
                self.icmp(&passing(port, port), &message, sink);
            }
            decode::Transport::Fragment => self.fragment(packet, bytes, sink),
            decode::Transport::Other => bump(&mut self.counters.packets_without_flow),
        }
    }

    fn fragment<S: Sink>(&mut self, packet: &Packet<'_>, bytes: u64, sink: &mut S) {
        let mut fragments = std::mem::take(&mut self.fragments);
        match fragments.push(self.now, packet) {
            Defragmented::Pending => {}
            Defragmented::Whole(network, body) => {
                match decode::decode_payload(network, body, packet.vlan, packet.tunnels) {
                    Ok(Decoded::Packet(whole)) => self.packet(&whole, bytes, sink),
                    Ok(Decoded::NotIp(_)) | Err(DecodeError::Truncated { .. }) => {}
                    Err(_) => self.threat(sink, None, Side::Client, Threat::InvalidPacketFormat),
                }
            }
            Defragmented::Overlap => {
                let endpoints = Endpoints {
                    transport: match packet.network.protocol {
                        6 => Transport::Tcp,
                        17 => Transport::Udp,
                        _ => Transport::Icmp,
                    },
                    client: Endpoint { address: packet.network.source, port: 0 },
                    server: Endpoint { address: packet.network.destination, port: 0 },
                };
                self.threat(sink, Some(endpoints), Side::Client, Threat::FragmentTeardrop);
            }
            Defragmented::Impossible => {
                // A fragment that the capture cut short says nothing about its sender.
                if !packet.network.cut {
                    self.threat(sink, None, Side::Client, Threat::InvalidPacketFormat);
                }
            }
        }
        self.fragments = fragments;
    }

    /// The flow of a packet and who sent it; made when there is none. `client` tells who asks, when it is new.
    fn flow<S: Sink>(
        &mut self,
        transport: Transport,
        passing: &Passing,
        sender_asks: bool,
        sink: &mut S,
    ) -> Option<(u32, Side)> {
        let (key, low) = Key::new(transport, passing.source, passing.destination);
        let slot = match self.table.find(&key) {
            Some(slot) => slot,
            None => {
                if let Room::Evict(slot) = self.table.room() {
                    bump(&mut self.counters.flows_evicted);
                    self.close(slot, End::Evicted, sink);
                }
                bump(&mut self.counters.flows);
                self.sessions = self.sessions.saturating_add(1);
                let flow = Flow::new(key, low == sender_asks, SessionId(self.sessions), self.now);
                let (ends, now) = (flow.endpoints(), second(self.now));
                if self.meters.opened(&ends, now, &mut self.counters.senders_evicted) {
                    self.threat(sink, Some(ends), Side::Client, Threat::SessionLimit);
                }
                self.table.insert(flow)?
            }
        };
        let flow = self.table.get_mut(slot)?;
        let side = flow.side(low);
        flow.last = self.now;
        let half = flow.half_mut(side);
        half.packets = half.packets.saturating_add(1);
        half.bytes = half.bytes.saturating_add(passing.bytes);
        self.current = Some(slot);
        Some((slot, side))
    }

    /// Tells, once, that nothing more is read of a flow.
    fn look_whether_read<S: Sink>(&mut self, slot: u32, sink: &mut S) {
        let Some(flow) = self.table.get_mut(slot).filter(|flow| !flow.settled && flow.is_read()) else {
            return;
        };
        flow.settled = true;
        sink.event(&Event { at: self.now, session: flow.id, kind: Kind::Settled });
    }

    fn close<S: Sink>(&mut self, slot: u32, end: End, sink: &mut S) {
        let Some(flow) = self.table.get_mut(slot) else { return };
        let mut moment = Moment { at: self.now, sink, counters: &mut self.counters };
        self.streams.end(&mut moment, flow);
        let (session, summary) = (flow.id, flow.summary(end));
        // Nobody was there, or refused: at most a SYN, its repetition and a reset.
        let unanswered = summary.endpoints.transport == Transport::Tcp
            && !flow.midstream
            && summary.application.is_none()
            && summary.server.packets <= 1
            && summary.client.packets <= 4;
        self.table.remove(slot);
        let evicted = &mut self.counters.senders_evicted;
        if self.meters.closed(&summary.endpoints, unanswered, second(self.now), evicted) {
            self.threat(sink, Some(summary.endpoints), Side::Client, Threat::PortScan);
        }
        sink.event(&Event { at: self.now, session, kind: Kind::Closed(summary) });
    }

    fn tcp<S: Sink>(&mut self, passing: &Passing, segment: &Tcp<'_>, sink: &mut S) {
        let (syn, ack) = (segment.has(Tcp::SYN), segment.has(Tcp::ACK));
        let asks = syn && !ack && !segment.has(Tcp::RST);
        if asks {
            self.replace(passing, segment, sink);
        }
        let flood = asks
            && self.meters.syn(passing.destination, second(self.now), &mut self.counters.senders_evicted);
        // Without a handshake the lower port is taken for the server's; the bytes may tell better.
        let sender_asks = match (syn, ack) {
            (true, asks) => !asks,
            (false, _) => passing.source.port >= passing.destination.port,
        };
        let Some((slot, side)) = self.flow(Transport::Tcp, passing, sender_asks, sink) else { return };
        let Some(flow) = self.table.get_mut(slot) else { return };
        let phase = flow.phase;
        let first = flow.client.packets.saturating_add(flow.server.packets) == 1;
        if first && !syn {
            (flow.midstream, flow.phase) = (true, Phase::Open);
        }
        let mut threats = Threats::default();
        if flood {
            threats.add(Threat::SynFlood);
        }
        invalid_flags(segment, &mut threats);
        handshake(flow, side, segment, &mut threats);
        narrow_window(flow, side, segment, second(self.now), &mut threats);
        let mut moment = Moment { at: self.now, sink, counters: &mut self.counters };
        let before = flow.client_is_low;
        self.streams.segment(&mut moment, flow, side, segment);
        // Its bytes may have shown that the sender is the other side.
        let side = if flow.client_is_low == before { side } else { side.other() };
        if ack {
            let half = flow.half_mut(side);
            if !half.has_acknowledged || distance(segment.acknowledgment, half.acknowledged) > 0 {
                (half.has_acknowledged, half.acknowledged) = (true, segment.acknowledgment);
                self.streams.look_at_hole(&mut moment, flow, side.other());
            }
        }
        teardown(flow, side, segment);
        let (endpoints, session, ended) = (flow.endpoints(), flow.id, flow.phase);
        threats.once(&mut flow.told, |threat| {
            let kind = Kind::Threat { threat, endpoints: Some(endpoints), side };
            sink.event(&Event { at: self.now, session, kind });
        });
        if ended != phase {
            self.table.hurry(slot);
        }
        self.look_whether_read(slot, sink);
    }

    /// Ends a flow whose ports a new connection takes.
    fn replace<S: Sink>(&mut self, passing: &Passing, segment: &Tcp<'_>, sink: &mut S) {
        let (key, low) = Key::new(Transport::Tcp, passing.source, passing.destination);
        let Some(slot) = self.table.find(&key) else { return };
        let Some(flow) = self.table.get(slot) else { return };
        let half = flow.half(flow.side(low));
        let repeated = half.started && half.next == segment.sequence.wrapping_add(1);
        // The answering SYN of a split handshake comes from the other side, which has not begun.
        let over = match flow.phase {
            Phase::Closed | Phase::HalfClosed => true,
            Phase::Open => half.started,
            Phase::Opening => half.started && flow.half(flow.side(low).other()).started,
        };
        if over && !repeated {
            let end = if flow.phase == Phase::Closed { End::Closed } else { End::Replaced };
            self.close(slot, end, sink);
        }
    }

    fn udp<S: Sink>(&mut self, passing: &Passing, datagram: &Udp<'_>, sink: &mut S) {
        // An answer from a well-known port may come first in a capture.
        let sender_asks = !(passing.source.port < 1024 && passing.destination.port >= 1024);
        let Some((slot, side)) = self.flow(Transport::Udp, passing, sender_asks, sink) else { return };
        let Some(flow) = self.table.get_mut(slot) else { return };
        flow.phase = Phase::Open;
        let mut moment = Moment { at: self.now, sink, counters: &mut self.counters };
        self.streams.reader.datagram(&mut moment, flow, side, datagram.payload);
        self.look_whether_read(slot, sink);
    }

    fn icmp<S: Sink>(&mut self, passing: &Passing, message: &Icmp<'_>, sink: &mut S) {
        let request = matches!(message.kind, 8 | 128);
        let reply = matches!(message.kind, 0 | 129);
        let flood = request
            && self.meters.echo(passing.destination, second(self.now), &mut self.counters.senders_evicted);
        let Some((slot, side)) = self.flow(Transport::Icmp, passing, !reply, sink) else { return };
        let Some(flow) = self.table.get_mut(slot) else { return };
        flow.phase = Phase::Open;
        let mut threats = Threats::default();
        if flood {
            threats.add(Threat::IcmpFlood);
        }
        if (request || reply) && message.payload.len() > MAX_ECHO_BYTES {
            threats.add(Threat::PingDeath);
        }
        if request {
            // A digest of the last request stands in `next`, its sequence number in `acknowledged`.
            let half = flow.half_mut(side);
            (half.next, half.started) = (digest(message.payload), true);
            half.acknowledged = u32::from_be_bytes(message.rest);
        } else if reply {
            let asked = *flow.half(side.other());
            let half = flow.half_mut(side);
            if asked.started && asked.acknowledged == u32::from_be_bytes(message.rest) {
                let echo = asked.next == digest(message.payload);
                half.next = if echo { 0 } else { half.next.saturating_add(1) };
                if half.next >= FALSE_ECHOES {
                    threats.add(Threat::IcmpTunneling);
                }
            }
        }
        let (endpoints, session) = (flow.endpoints(), flow.id);
        threats.once(&mut flow.told, |threat| {
            let kind = Kind::Threat { threat, endpoints: Some(endpoints), side };
            sink.event(&Event { at: self.now, session, kind });
        });
    }

    fn threat<S: Sink>(&self, sink: &mut S, endpoints: Option<Endpoints>, side: Side, threat: Threat) {
        let kind = Kind::Threat { threat, endpoints, side };
        sink.event(&Event { at: self.now, session: SessionId(0), kind });
    }
}
