//! Where a stream is cut, in which order its parts come and which come twice changes nothing of what is told.

use proptest::collection::vec;
use proptest::prelude::*;

use nv_packet::link::Link;

use super::conversation::{Segment, Told, engine, flight, inspect, segments, talk, tcp};
use crate::OverlapPolicy;
use crate::event::{Event, Kind, Sink};
use crate::key::Side;
use crate::protocol::samples;

/// Cuts the data between two turns anew, shuffles it, and repeats some of it.
fn scatter(flights: &[(Side, Vec<u8>)], cuts: &[usize], order: &[u32], repeats: &[bool]) -> Vec<Segment> {
    let whole = segments(flights);
    let (mut cut, mut rank, mut twice) = (cuts.iter().cycle(), order.iter().cycle(), repeats.iter().cycle());
    let mut out: Vec<Segment> = Vec::new();
    let mut turn: Vec<(u32, Segment)> = Vec::new();
    for segment in whole {
        if segment.payload.is_empty() {
            turn.sort_by_key(|(rank, _)| *rank);
            out.extend(turn.drain(..).map(|(_, segment)| segment));
            out.push(segment);
            continue;
        }
        let mut rest = segment.payload.as_slice();
        let mut offset = segment.offset;
        while !rest.is_empty() {
            let (part, after) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            let piece = Segment { offset, payload: part.to_vec(), ..segment.clone() };
            if *twice.next().unwrap() {
                turn.push((*rank.next().unwrap(), piece.clone()));
            }
            turn.push((*rank.next().unwrap(), piece));
            offset += u32::try_from(part.len()).unwrap();
            rest = after;
        }
    }
    out
}

fn without_volume(mut told: Told) -> Told {
    for closed in &mut told.closed {
        (closed.client, closed.server, closed.last, closed.started) = Default::default();
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_any_order_and_any_repetition_tell_the_same(
        cuts in vec(1_usize..300, 1..40),
        order in vec(any::<u32>(), 1..40),
        repeats in vec(any::<bool>(), 1..40),
    ) {
        for (name, port, flights) in samples::streams() {
            let want = without_volume(talk(port, &flights));
            prop_assert!(!want.fields.is_empty() || !want.applications.is_empty(), "{} says nothing", name);
            let packets: Vec<_> =
                scatter(&flights, &cuts, &order, &repeats).iter().map(|segment| tcp(port, segment, &[])).collect();
            prop_assert_eq!(without_volume(inspect(&packets)), want, "{}", name);
        }
    }

    #[test]
    fn broken_streams_give_an_answer(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cuts in vec(1_usize..300, 1..10),
    ) {
        let samples = samples::streams();
        let (_, port, mut flights) = samples[which.index(samples.len())].clone();
        for (flight, at, value) in changes {
            let flight = flight.index(flights.len());
            let bytes = &mut flights[flight].1;
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let packets: Vec<_> =
            scatter(&flights, &cuts, &[0], &[false]).iter().map(|segment| tcp(port, segment, &[])).collect();
        inspect(&packets);
    }
}

#[test]
fn one_byte_at_a_time_tells_the_same() {
    for (name, port, flights) in samples::streams() {
        let want = without_volume(talk(port, &flights));
        let packets: Vec<_> =
            scatter(&flights, &[1], &[0], &[false]).iter().map(|segment| tcp(port, segment, &[])).collect();
        assert_eq!(without_volume(inspect(&packets)), want, "{name}");
    }
}

/// Events in the order in which they are told, but for volumes.
#[derive(Default)]
struct InOrder(Vec<String>);

impl Sink for InOrder {
    fn event(&mut self, event: &Event<'_>) {
        if !matches!(event.kind, Kind::Closed(_) | Kind::Settled) {
            self.0.push(format!("{:?}", event.kind));
        }
    }
}

#[test]
fn what_both_sides_said_before_the_protocol_was_known_is_told_in_one_order() {
    // A server that says nothing known, then a hello of SSL 2 whose lengths are wrong.
    let flights = flight([
        (Side::Server, &b"\x01\x01\0\0\0\0\0\0\x28\0"[..]),
        (Side::Client, b"\x80\x20\x01\x03\x01\0\x01\x74\x80\x20\x01\x03\x01\0\x02\0\x01\xF3\0\x02\0\0\x03"),
    ]);
    let whole = told_in_order(53, &flights, 100);
    assert!(whole.iter().any(|event| event.contains("SslCipherOverflow")), "{whole:?}");
    for cut in [1, 2, 5, 11] {
        assert_eq!(told_in_order(53, &flights, cut), whole, "{cut}");
    }
}

/// The events of a conversation at a port, its flights cut into pieces of so many bytes.
fn told_in_order(port: u16, flights: &[(Side, Vec<u8>)], cut: usize) -> Vec<String> {
    let (mut told, mut engine) = (InOrder::default(), engine(OverlapPolicy::First));
    for (segment, at) in scatter(flights, &[cut], &[0], &[false]).iter().zip(0..) {
        engine.frame(at, Link::Raw, &tcp(port, segment, &[]), &mut told);
    }
    engine.finish(&mut told);
    told.0
}

#[test]
fn a_side_whose_beginning_nobody_knew_is_lost_from_when_the_other_one_says_what_it_is() {
    let flights = flight([
        (Side::Client, &b"PLF\xd9 nothing that is known"[..]),
        (Side::Server, b"SIP/2.0 \0NGT"),
        (Side::Client, b"CONNECT G\r\n@& HT2.T/P0\r\n\rPsssy"),
    ]);
    let lost = |events: &[String]| events.first().is_some_and(|event| event.starts_with("Lost"));
    for cut in [1, 2, 5, 11, 100] {
        let told = told_in_order(53, &flights, cut);
        assert!(lost(&told), "{cut}: {told:?}");
    }
}

#[test]
fn a_password_that_is_a_clients_first_word_is_recognised_wherever_it_is_cut() {
    let flights =
        flight([(Side::Client, &b"AUTH secret\r\nPING\r\n"[..]), (Side::Server, b"+OK\r\n+PONG\r\n")]);
    let whole = told_in_order(6379, &flights, 100);
    assert!(whole.iter().any(|event| event.contains("Identified(ApplicationId(2002))")), "{whole:?}");
    for cut in 1..12 {
        assert_eq!(told_in_order(6379, &flights, cut), whole, "{cut}");
    }
}

#[test]
fn a_header_of_cassandra_that_is_wrong_is_lost_with_its_last_byte_wherever_it_is_cut() {
    for wrong in [&b"\x01\x01\x84\x84\x84\x20\xfa\x0b"[..], b"\x99"] {
        let flights = flight([(Side::Client, &[b"\x01\0\x9a\x05\0\0\0\0", wrong].concat()[..])]);
        let whole = told_in_order(9042, &flights, 100);
        assert!(whole.last().is_some_and(|event| event.starts_with("Lost")), "{whole:?}");
        for cut in [1, 3, 8, 9] {
            assert_eq!(told_in_order(9042, &flights, cut), whole, "{cut}");
        }
    }
}
