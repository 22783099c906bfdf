//! In steady state nothing is asked of the allocator, and memory does not grow with what strangers send.

use nv_packet::link::Link;

use super::conversation::{engine, segments, tcp};
use crate::OverlapPolicy;
use crate::engine::Engine;
use crate::event::Event;
use crate::key::Side;
use crate::limits::Limits;
use crate::protocol::samples;

const HOUR: u64 = 3_600_000_000_000;

/// All conversations, one after the other, some of it out of order.
fn packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    // HTTP/2 makes its tables anew for each connection.
    for (name, port, flights) in
        samples::streams().into_iter().filter(|(name, ..)| *name != "GRPC" && !name.starts_with("HTTP/2"))
    {
        let mut all = segments(&flights);
        if name == "HTTP by length" {
            all.swap(5, 6);
        }
        packets.extend(all.iter().map(|segment| tcp(port, segment, &[])));
    }
    packets
}

fn replay(engine: &mut Engine, packets: &[Vec<u8>], round: u64) {
    let mut events = 0_u64;
    for (at, packet) in packets.iter().enumerate() {
        let now = round * HOUR + u64::try_from(at).unwrap() * 1_000_000;
        engine.frame(now, Link::Raw, packet, &mut |_: &Event<'_>| events += 1);
    }
    assert!(events > 100);
}

#[test]
fn a_packet_allocates_nothing_once_the_pools_are_filled() {
    let packets = packets();
    let mut engine = engine(OverlapPolicy::First);
    for round in 1..9 {
        replay(&mut engine, &packets, round);
    }
    let measured = allocation_counter::measure(|| replay(&mut engine, &packets, 9));
    assert_eq!(measured.count_total, 0, "{} packets", packets.len());
}

#[test]
fn a_flood_of_connections_is_held_in_bounded_memory() {
    let limits = Limits { flows: 1000, parsers: 100, pages: 64, held_bytes: 4096, carries: 10, senders: 10 };
    let mut engine = Engine::new(&limits, OverlapPolicy::First, 3);
    let flood = |engine: &mut Engine, ports: std::ops::Range<u16>| {
        for port in ports {
            // A request that never ends, with a hole in it.
            for segment in segments(&[(Side::Client, b"GET /a HTTP/1.1\r\nX: y".to_vec())]).iter().take(4) {
                engine.frame(HOUR, Link::Raw, &tcp(port, segment, &[]), &mut |_: &Event<'_>| {});
            }
        }
    };
    flood(&mut engine, 1000..10_000);
    let measured = allocation_counter::measure(|| flood(&mut engine, 10_000..30_000));
    // The packets that the test itself makes are gone again; nothing stays.
    assert_eq!((measured.bytes_current, engine.flows()), (0, 1000));
    let counters = engine.counters();
    assert!(
        counters.flows_evicted > 20_000 && counters.parsers_refused > 0 && counters.carries_refused > 0,
        "{counters:?}"
    );
}
