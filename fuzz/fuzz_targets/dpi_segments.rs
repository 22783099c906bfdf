//! What a conversation over TCP says does not depend on how its bytes were cut, in which order they came and which came
//! twice, until a direction loses its place: a new beginning is looked for where segments begin.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use nv_dpi::OverlapPolicy;
use nv_dpi::content::{Content, Part};
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_dpi::key::Side;
use nv_dpi::limits::Limits;
use nv_packet::link::Link;

/// What is told, without times and volumes.
#[derive(Debug, Default, PartialEq)]
struct Told {
    events: Vec<String>,
    said: BTreeMap<(bool, u32), Vec<(u8, Vec<u8>)>>,
}

impl Told {
    fn until_lost(&self) -> &[String] {
        let end = self.events.iter().position(|event| event.starts_with("Lost")).unwrap_or(self.events.len());
        &self.events[..end]
    }
    fn has_lost(&self) -> bool {
        self.until_lost().len() < self.events.len()
    }
}

impl Sink for Told {
    fn event(&mut self, event: &Event<'_>) {
        match &event.kind {
            Kind::Closed(summary) => self.events.push(format!("{:?}", summary.application)),
            Kind::Settled => {}
            other => self.events.push(format!("{other:?}")),
        }
    }
    fn content(&mut self, content: &Content<'_>) {
        let (part, bytes) = match content.part {
            Part::Url(bytes) => (0, bytes),
            Part::Header(bytes) => (1, bytes),
            Part::Body(_, bytes) => (2, bytes),
            Part::Packet(bytes) | Part::Datagram(bytes) => (3, bytes),
            Part::Hole => (4, &b""[..]),
            Part::End => (5, &b""[..]),
        };
        let parts = self.said.entry((content.side == Side::Client, content.transaction)).or_default();
        match parts.last_mut() {
            Some((last, all)) if *last == part => all.extend_from_slice(bytes),
            _ => parts.push((part, bytes.to_vec())),
        }
    }
}

fn packet(port: u16, side: Side, flags: u8, sequence: u32, acknowledged: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(payload.len() + 40).expect("a segment is short").to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let ends = if side == Side::Client { [client, server] } else { [server, client] };
    let ports = if side == Side::Client { [40_000, port] } else { [port, 40_000] };
    packet.extend(ends.concat());
    packet.extend(ports.map(u16::to_be_bytes).concat());
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledged.to_be_bytes());
    packet.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// Room for one connection: tables for many would take longer to make than the conversation to read.
const LIMITS: Limits =
    Limits { flows: 4, parsers: 4, pages: 1024, held_bytes: 1 << 20, carries: 4, senders: 8 };

/// Sends turns of a conversation; `cuts` says how each is cut, moved and repeated. Without, each goes as it is.
fn tell(port: u16, turns: &[(Side, &[u8])], cuts: &[u8]) -> Told {
    let (mut told, mut engine) = (Told::default(), Engine::new(&LIMITS, OverlapPolicy::First, 1));
    let mut cuts = cuts.iter().copied().cycle();
    let mut now = 1_000_000_000;
    let mut send = |raw: &[u8], told: &mut Told| {
        now += 1_000_000;
        engine.frame(now, Link::Raw, raw, told);
    };
    let mut next = [100_u32, 900];
    let of = |side| usize::from(side == Side::Server);
    send(&packet(port, Side::Client, 2, 99, 0, b""), &mut told);
    send(&packet(port, Side::Server, 0x12, 899, 100, b""), &mut told);
    send(&packet(port, Side::Client, 0x10, 100, 900, b""), &mut told);
    for (side, bytes) in turns {
        let (mine, theirs) = (next[of(*side)], next[1 - of(*side)]);
        let mut parts: Vec<(u8, usize, &[u8])> = Vec::new();
        let (mut at, mut rest) = (0, *bytes);
        while !rest.is_empty() {
            let cut = cuts.next().map_or(rest.len(), |cut| usize::from(cut >> 1) + 1).min(rest.len());
            let (part, after) = rest.split_at(cut);
            let rank = cuts.next().unwrap_or(0);
            parts.push((rank, at, part));
            if rank & 7 == 7 {
                parts.push((rank.wrapping_mul(31), at, part));
            }
            (at, rest) = (at + cut, after);
        }
        parts.sort_by_key(|(rank, ..)| *rank);
        for (_, at, part) in parts {
            let sequence = mine + u32::try_from(at).expect("a turn is short");
            send(&packet(port, *side, 0x18, sequence, theirs, part), &mut told);
        }
        next[of(*side)] = mine + u32::try_from(bytes.len()).expect("a turn is short");
        send(
            &packet(
                port,
                if *side == Side::Client { Side::Server } else { Side::Client },
                0x10,
                theirs,
                next[of(*side)],
                b"",
            ),
            &mut told,
        );
    }
    engine.finish(&mut told);
    assert_eq!((engine.flows(), engine.in_use()), (0, (0, 0)));
    told
}

// The server's port, how many bytes say how to cut, those bytes, then turns: a byte of side and length (in 2 bytes).
fuzz_target!(|bytes: &[u8]| {
    let [port, count, rest @ ..] = bytes else { return };
    let (cuts, mut rest) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let port = [80, 443, 53, 3306, 5432, 6379, 25, 9000][usize::from(port % 8)];
    let mut turns = Vec::new();
    while let [head, after @ ..] = rest {
        let side = if head & 1 == 0 { Side::Client } else { Side::Server };
        let (part, after) = after.split_at((usize::from(head >> 1) * 2).min(after.len()));
        if !part.is_empty() {
            turns.push((side, part));
        }
        rest = after;
    }
    let (cut, whole) = (tell(port, &turns, cuts), tell(port, &turns, &[]));
    assert_eq!(cut.until_lost(), whole.until_lost());
    if !whole.has_lost() {
        assert_eq!(cut, whole);
    }
});
