//! A conversation as frames, and what the engine tells of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nv_packet::link::Link;

use crate::OverlapPolicy;
use crate::content::{Body, Content, Part};
use crate::engine::Engine;
use crate::event::{Event, Field, Kind, Sink, Value};
use crate::key::Side;
use crate::limits::Limits;
use crate::threat::Threat;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const CLIENT_PORT: u16 = 40_000;
/// First sequence number of both sides: streams cross the end of the sequence space.
pub(crate) const START: u32 = 0xFFFF_FF00;

/// A packet that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) side: Side,
    pub(crate) flags: u8,
    /// Bytes behind [`START`] of the sender; the SYN is 0, the first byte of the stream 1.
    pub(crate) offset: u32,
    /// Acknowledged bytes behind [`START`] of the receiver.
    pub(crate) ack: u32,
    pub(crate) payload: Vec<u8>,
}

/// 10.0.0.1:40000 talks to 10.0.0.2:`port`, as raw IPv4.
pub(crate) fn tcp(port: u16, segment: &Segment, options: &[u8]) -> Vec<u8> {
    let (source, destination) = ends(segment.side, port);
    let header = 20 + options.len();
    let mut tcp = Vec::new();
    tcp.extend(source.1.to_be_bytes());
    tcp.extend(destination.1.to_be_bytes());
    tcp.extend(START.wrapping_add(segment.offset).to_be_bytes());
    tcp.extend(START.wrapping_add(segment.ack).to_be_bytes());
    tcp.extend([u8::try_from(header / 4).unwrap() << 4, segment.flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(&segment.payload);
    ipv4(6, source.0, destination.0, &tcp)
}

pub(crate) fn udp(side: Side, port: u16, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = ends(side, port);
    let mut udp = Vec::new();
    udp.extend(source.1.to_be_bytes());
    udp.extend(destination.1.to_be_bytes());
    udp.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    ipv4(17, source.0, destination.0, &udp)
}

fn ends(side: Side, port: u16) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let client = (Ipv4Addr::new(10, 0, 0, 1), CLIENT_PORT);
    let server = (Ipv4Addr::new(10, 0, 0, 2), port);
    if side == Side::Client { (client, server) } else { (server, client) }
}

pub(crate) fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// The handshake, then each flight in segments of at most 1,400 bytes, each acknowledged at its end.
pub(crate) fn segments(flights: &[(Side, Vec<u8>)]) -> Vec<Segment> {
    let mut sent = [1_u32, 1];
    let at = |side| usize::from(side == Side::Server);
    let part = |side, flags, offset, ack, payload: &[u8]| Segment {
        side,
        flags,
        offset,
        ack,
        payload: payload.to_vec(),
    };
    let mut out = vec![
        part(Side::Client, SYN, 0, 0, b""),
        part(Side::Server, SYN | ACK, 0, 1, b""),
        part(Side::Client, ACK, 1, 1, b""),
    ];
    for (side, bytes) in flights {
        for chunk in bytes.chunks(1400) {
            out.push(part(*side, ACK, sent[at(*side)], sent[1 - at(*side)], chunk));
            sent[at(*side)] += u32::try_from(chunk.len()).unwrap();
        }
        out.push(part(side.other(), ACK, sent[1 - at(*side)], sent[at(*side)], b""));
    }
    out.push(part(Side::Client, FIN | ACK, sent[0], sent[1], b""));
    out.push(part(Side::Server, FIN | ACK, sent[1], sent[0] + 1, b""));
    out
}

/// Name of a part of a message, what is said of a body, and its bytes.
pub(crate) type Piece = (&'static str, Body, Vec<u8>);

/// What an engine told, in words that do not depend on time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) applications: Vec<u32>,
    pub(crate) software: Vec<u32>,
    pub(crate) fields: Vec<(u32, Field, String)>,
    pub(crate) threats: Vec<Threat>,
    pub(crate) gaps: Vec<(Side, u32)>,
    pub(crate) conflicts: usize,
    pub(crate) lost: usize,
    pub(crate) settled: usize,
    pub(crate) closed: Vec<crate::event::Summary>,
    /// What each message says, its pieces put together, by the client's side and its number.
    pub(crate) content: BTreeMap<(bool, u32), Vec<Piece>>,
}

impl Sink for Told {
    fn event(&mut self, event: &Event<'_>) {
        Told::event(self, event);
    }
    fn content(&mut self, content: &Content<'_>) {
        let (name, about, bytes) = match content.part {
            Part::Url(bytes) => ("url", Body::default(), bytes),
            Part::Header(bytes) => ("header", Body::default(), bytes),
            Part::Body(about, bytes) => ("body", about, bytes),
            Part::Packet(bytes) => ("packet", Body::default(), bytes),
            Part::Datagram(bytes) => ("datagram", Body::default(), bytes),
            Part::Hole => ("hole", Body::default(), &b""[..]),
            Part::End => ("end", Body::default(), &b""[..]),
        };
        let parts = self.content.entry((content.side == Side::Client, content.transaction)).or_default();
        match parts.last_mut() {
            Some((last, _, all)) if *last == name && name != "datagram" => all.extend_from_slice(bytes),
            _ => parts.push((name, about, bytes.to_vec())),
        }
    }
}

impl Told {
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        match &event.kind {
            Kind::Identified(application) => self.applications.push(application.0),
            Kind::Software(application) => self.software.push(application.0),
            Kind::Field { transaction, field, value } => {
                let value = match value {
                    Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Value::Number(number) => number.to_string(),
                    Value::Address(address) => address.to_string(),
                };
                self.fields.push((*transaction, *field, value));
            }
            Kind::Threat { threat, .. } => self.threats.push(*threat),
            Kind::Gap { side, bytes } => self.gaps.push((*side, *bytes)),
            Kind::Conflict { .. } => self.conflicts += 1,
            Kind::Lost { .. } => self.lost += 1,
            Kind::Settled => self.settled += 1,
            Kind::Closed(summary) => self.closed.push(*summary),
        }
    }
    /// Values of a field, in order.
    pub(crate) fn values(&self, field: Field) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(_, other, _)| *other == field)
            .map(|(_, _, value)| value.as_str())
            .collect()
    }
}

pub(crate) fn engine(policy: OverlapPolicy) -> Engine {
    Engine::new(&Limits::default(), policy, 1)
}

/// Sends raw IPv4 packets a millisecond apart, and ends.
pub(crate) fn inspect(packets: &[Vec<u8>]) -> Told {
    let (mut told, mut engine) = (Told::default(), engine(OverlapPolicy::First));
    for (at, packet) in packets.iter().enumerate() {
        engine.frame(u64::try_from(at).unwrap() * 1_000_000, Link::Raw, packet, &mut told);
    }
    engine.finish(&mut told);
    assert_eq!(engine.flows(), 0, "nothing is left behind");
    assert_eq!(engine.in_use(), (0, 0), "nothing is left behind");
    told
}

/// Inspects a whole TCP conversation.
pub(crate) fn talk(port: u16, flights: &[(Side, Vec<u8>)]) -> Told {
    let packets: Vec<Vec<u8>> = segments(flights).iter().map(|segment| tcp(port, segment, &[])).collect();
    inspect(&packets)
}

/// Flights from text or bytes.
pub(crate) fn flight<const N: usize>(parts: [(Side, &[u8]); N]) -> Vec<(Side, Vec<u8>)> {
    parts.into_iter().map(|(side, bytes)| (side, bytes.to_vec())).collect()
}
