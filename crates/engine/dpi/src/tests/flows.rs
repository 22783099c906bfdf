//! Flows: their beginning, their ends, their bounds.

use std::net::Ipv4Addr;

use nv_packet::link::Link;

use super::conversation::{ACK, RST, SYN, Segment, Told, inspect, ipv4, segments, tcp, udp};
use crate::OverlapPolicy;
use crate::engine::Engine;
use crate::event::{End, Event};
use crate::key::Side;
use crate::limits::{Limits, patience};
use crate::threat::Threat;

const SECOND: u64 = 1_000_000_000;

fn bare(side: Side, flags: u8, offset: u32) -> Segment {
    Segment { side, flags, offset, ack: 1, payload: Vec::new() }
}

#[test]
fn a_session_counts_both_directions_and_names_who_asked() {
    let flights = [(Side::Client, b"question".to_vec()), (Side::Server, vec![0; 3000])];
    let packets: Vec<_> = segments(&flights).iter().map(|segment| tcp(7777, segment, &[])).collect();
    let told = inspect(&packets);
    let [closed] = told.closed.as_slice() else { panic!("{told:?}") };
    assert_eq!(closed.endpoints.client.port, 40_000);
    assert_eq!(closed.endpoints.server.port, 7777);
    assert_eq!(u64::from(closed.client.packets + closed.server.packets), packets.len() as u64);
    assert_eq!(
        closed.client.bytes + closed.server.bytes,
        packets.iter().map(|p| p.len() as u64).sum::<u64>()
    );
    assert_eq!((closed.end, closed.midstream, closed.application), (End::Closed, false, None));
}

#[test]
fn a_session_ends_when_nothing_came_for_as_long_as_its_state_allows() {
    let syn = bare(Side::Client, SYN, 0);
    let open = [syn.clone(), bare(Side::Server, SYN | ACK, 0), bare(Side::Client, ACK, 1)];
    let reset = [&open[..], &[bare(Side::Client, RST, 1)]].concat();
    for (name, segments, seconds) in [
        ("opening", &[syn][..], patience::OPENING),
        ("open", &open, patience::ESTABLISHED),
        ("reset", &reset, patience::CLOSED),
    ] {
        let mut engine = super::conversation::engine(OverlapPolicy::First);
        for segment in segments {
            engine.frame(100 * SECOND, Link::Raw, &tcp(80, segment, &[]), &mut |_: &Event<'_>| {});
        }
        let end = 100 + u64::from(seconds);
        engine.advance((end - 1) * SECOND, &mut |_: &Event<'_>| {});
        assert_eq!(engine.flows(), 1, "{name}: one second before");
        engine.advance(end * SECOND, &mut |_: &Event<'_>| {});
        assert_eq!(engine.flows(), 0, "{name}: when the time is over");
    }
}

#[test]
fn packets_keep_a_session_alive() {
    let mut engine = super::conversation::engine(OverlapPolicy::First);
    for at in 0..100 {
        engine.frame(at * 20 * SECOND, Link::Raw, &udp(Side::Client, 9999, b"x"), &mut |_: &Event<'_>| {});
        assert_eq!((engine.flows(), engine.counters().flows), (1, 1), "turn {at}");
    }
}

#[test]
fn a_full_table_lets_go_of_unanswered_connections_before_open_ones() {
    let limits = Limits { flows: 8, ..Limits::default() };
    let mut engine = Engine::new(&limits, OverlapPolicy::First, 7);
    let mut told = Told::default();
    let open = [bare(Side::Client, SYN, 0), bare(Side::Server, SYN | ACK, 0), bare(Side::Client, ACK, 1)];
    for segment in &open {
        engine.frame(SECOND, Link::Raw, &tcp(80, segment, &[]), &mut |event: &Event<'_>| told.event(event));
    }
    for port in 1000..1500 {
        let syn = tcp(port, &bare(Side::Client, SYN, 0), &[]);
        engine.frame(2 * SECOND, Link::Raw, &syn, &mut |event: &Event<'_>| told.event(event));
        assert!(engine.flows() <= 8);
    }
    assert_eq!(engine.counters().flows_evicted, 501 - 8);
    assert_eq!(told.closed.len(), 501 - 8);
    assert!(told.closed.iter().all(|closed| closed.endpoints.server.port != 80), "the open one stayed");
}

#[test]
fn a_new_connection_with_the_same_ports_is_a_new_session() {
    let old = segments(&[(Side::Client, b"one".to_vec())]);
    let mut new = old.clone();
    for segment in &mut new {
        segment.offset += 5_000_000;
        segment.ack += 5_000_000;
    }
    let packets: Vec<_> = old.iter().chain(&new).map(|segment| tcp(80, segment, &[])).collect();
    assert_eq!(inspect(&packets).closed.len(), 2);
}

#[test]
fn a_guessed_reset_does_not_end_a_session() {
    let mut all = segments(&[(Side::Client, b"x".to_vec())]);
    all.truncate(4);
    all.push(Segment { ack: 0, ..bare(Side::Server, RST, 0x4000_0000) });
    let packets: Vec<_> = all.iter().map(|segment| tcp(80, segment, &[])).collect();
    assert_eq!(inspect(&packets).closed[0].end, End::Finished);
}

#[test]
fn attacks_on_the_transport_are_told_once_a_session() {
    let sack = [2, 4, 0, 48, 4, 2, 0, 0];
    let data = Segment { payload: b"x".to_vec(), ..bare(Side::Client, SYN, 0) };
    let fast_open = [34, 2, 0, 0];
    for (name, packets, want) in [
        (
            "SYN and FIN",
            vec![tcp(80, &bare(Side::Client, SYN | 1, 0), &[]); 2],
            vec![Threat::InvalidPacketFormat],
        ),
        ("no flag", vec![tcp(80, &bare(Side::Client, 0, 0), &[]); 2], vec![Threat::InvalidPacketFormat]),
        (
            "small segments",
            vec![tcp(80, &bare(Side::Client, SYN, 0), &sack); 2],
            vec![Threat::TcpSackSmallMss],
        ),
        ("data on the SYN", vec![tcp(80, &data, &[]); 2], vec![Threat::SynWithData]),
        ("TCP Fast Open", vec![tcp(80, &data, &fast_open); 2], vec![]),
        (
            "split handshake",
            vec![tcp(80, &bare(Side::Client, SYN, 0), &[]), tcp(80, &bare(Side::Server, SYN, 0), &[])],
            vec![Threat::SplitHandshake],
        ),
        ("plain", vec![tcp(80, &bare(Side::Client, SYN, 0), &[2, 4, 5, 0xB4]); 2], vec![]),
    ] {
        assert_eq!(inspect(&packets).threats, want, "{name}");
    }
}

#[test]
fn echoes_that_are_none_are_told_after_three_and_large_ones_at_once() {
    let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let echo = |kind: u8, sequence: u8, payload: &[u8]| {
        ([&[kind, 0, 0, 0, 0, 9, 0, sequence], payload].concat(), kind == 8)
    };
    let packet = |(message, asks): (Vec<u8>, bool)| {
        let (from, to) = if asks { (a, b) } else { (b, a) };
        ipv4(1, from, to, &message)
    };
    let pairs = |payload: &[u8], count: u8| -> Vec<Vec<u8>> {
        (0..count).flat_map(|at| [packet(echo(8, at, b"abc")), packet(echo(0, at, payload))]).collect()
    };
    assert_eq!(inspect(&pairs(b"abc", 9)).threats, []);
    assert_eq!(inspect(&pairs(b"xyz", 2)).threats, []);
    assert_eq!(inspect(&pairs(b"xyz", 9)).threats, [Threat::IcmpTunneling]);
    assert_eq!(inspect(&[packet(echo(8, 0, &[0; 32_001]))]).threats, [Threat::PingDeath]);
}

#[test]
fn a_flood_of_connections_and_a_scan_of_ports_are_told() {
    let mut engine = super::conversation::engine(OverlapPolicy::First);
    let mut told = Told::default();
    for turn in 0..5000_u16 {
        let syn = tcp(10_000 + turn, &bare(Side::Client, SYN, 0), &[]);
        engine.frame(SECOND, Link::Raw, &syn, &mut |event: &Event<'_>| told.event(event));
    }
    assert_eq!(told.threats, [Threat::SessionLimit, Threat::SynFlood]);
    engine.finish(&mut |event: &Event<'_>| told.event(event));
    assert_eq!(told.threats[2..], [Threat::PortScan]);
}

#[test]
fn clients_that_open_connections_and_say_nothing_are_told_and_those_that_speak_are_not() {
    for (speaks, want) in [(false, vec![Threat::NoClientData]), (true, vec![])] {
        let mut engine = super::conversation::engine(OverlapPolicy::First);
        let mut told = Told::default();
        for port in 100..130 {
            let flights = [(Side::Client, b"hello there".to_vec())];
            for segment in segments(&flights).iter().take(if speaks { 4 } else { 3 }) {
                let packet = tcp(port, segment, &[]);
                engine.frame(100 * SECOND, Link::Raw, &packet, &mut |event: &Event<'_>| told.event(event));
            }
        }
        engine.advance(129 * SECOND, &mut |event: &Event<'_>| told.event(event));
        assert_eq!(told.threats, [], "too early");
        engine.advance(131 * SECOND, &mut |event: &Event<'_>| told.event(event));
        assert_eq!((told.threats, engine.flows()), (want, 30), "they stay, speaking: {speaks}");
        engine.advance((101 + u64::from(patience::ESTABLISHED)) * SECOND, &mut |_: &Event<'_>| {});
        assert_eq!(engine.flows(), 0, "until their time is over");
    }
}

#[test]
fn it_is_told_once_that_nothing_more_is_read_of_a_flow_and_never_while_something_may_come() {
    let noise = |byte: u8, length: usize| vec![byte; length];
    let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for (name, flights, settled) in [
        ("of no protocol", vec![(Side::Client, noise(0xfe, 2000)), (Side::Server, noise(0xfd, 2000))], 1),
        ("of no protocol, the server silent", vec![(Side::Client, noise(0xfe, 100_000))], 1),
        ("of no protocol, and the server may still answer", vec![(Side::Client, noise(0xfe, 2000))], 0),
        ("of a protocol whose requests go on", vec![(Side::Client, http)], 0),
    ] {
        assert_eq!(super::conversation::talk(9, &flights).settled, settled, "{name}");
    }
}

#[test]
fn the_flow_of_the_last_frame_is_known_until_it_is_over() {
    let mut engine = super::conversation::engine(OverlapPolicy::First);
    assert_eq!(engine.current(), None);
    engine.frame(SECOND, Link::Raw, &tcp(80, &bare(Side::Client, SYN, 0), &[]), &mut |_: &Event<'_>| {});
    let current = engine.current().unwrap();
    assert_eq!((current.endpoints.server.port, current.application), (80, None));
    engine.finish(&mut |_: &Event<'_>| {});
    assert_eq!(engine.current(), None);
}

#[test]
fn a_settled_flow_ends_with_a_reset_from_wherever_its_stream_has_come_to() {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let flights = [(Side::Client, vec![0xfe; 2000]), (Side::Server, vec![0xfd; 2000])];
    let mut all = segments(&flights);
    // Without the FINs; millions of bytes were not brought.
    all.truncate(all.len() - 2);
    all.push(bare(Side::Server, RST, 900_000_000));
    packets.extend(all.iter().map(|segment| tcp(9, segment, &[])));
    let told = inspect(&packets);
    assert_eq!((told.closed[0].end, told.settled), (End::Closed, 1));
}

#[test]
fn a_client_that_shuts_its_window_before_it_has_read_anything_is_told_and_one_that_stops_reading_is_not() {
    // The window of a segment lies 14 bytes behind the beginning of its header.
    let with = |mut packet: Vec<u8>, window: u16| {
        packet[34..36].copy_from_slice(&window.to_be_bytes());
        packet
    };
    let scale = [3, 3, 7, 0];
    for (windows, seconds, sent, want) in [
        (&[500_u16, 0, 0][..], 9, 0_usize, vec![Threat::TcpSmallWindow]),
        (&[500, 0, 0], 7, 0, vec![]),
        (&[500, 0, 400], 9, 0, vec![]),
        (&[500, 0, 0], 9, 200_000, vec![]),
    ] {
        let mut engine = super::conversation::engine(OverlapPolicy::First);
        let mut told = Told::default();
        let flights =
            [(Side::Client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()), (Side::Server, vec![b'x'; sent])];
        let mut say = |packet: &[u8], at: u64| {
            engine.frame(at * SECOND, Link::Raw, packet, &mut |event: &Event<'_>| told.event(event));
        };
        let segments = segments(&flights);
        for segment in segments.iter().filter(|segment| segment.flags & 1 == 0) {
            let options = if segment.flags & SYN != 0 { &scale[..] } else { &[] };
            say(&with(tcp(80, segment, options), 60_000), 100);
        }
        for (at, window) in windows.iter().enumerate() {
            let last = bare(Side::Client, ACK, 60);
            say(&with(tcp(80, &last, &[]), *window), 100 + if at == 2 { seconds } else { 0 });
        }
        assert_eq!(told.threats, want, "{windows:?} {seconds} s, {sent} bytes sent");
    }
}
