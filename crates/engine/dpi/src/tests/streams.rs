//! Streams with holes, repetitions and contradictions.

use nv_packet::link::Link;

use super::conversation::{ACK, Segment, Told, engine, inspect, segments, talk, tcp};
use crate::OverlapPolicy;
use crate::event::{Event, Field};
use crate::key::Side;

const SECOND: u64 = 1_000_000_000;
const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: one.example\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn two_requests() -> Vec<(Side, Vec<u8>)> {
    vec![
        (Side::Client, REQUEST.to_vec()),
        (Side::Server, ANSWER.to_vec()),
        (Side::Client, b"GET /b HTTP/1.1\r\nHost: two.example\r\n\r\n".to_vec()),
        (Side::Server, ANSWER.to_vec()),
    ]
}

fn play(segments: &[Segment], policy: OverlapPolicy, step: u64) -> (Told, crate::counters::Counters) {
    let (mut told, mut engine) = (Told::default(), engine(policy));
    for (at, segment) in segments.iter().enumerate() {
        let now = u64::try_from(at).unwrap() * step;
        engine.frame(now, Link::Raw, &tcp(80, segment, &[]), &mut |event: &Event<'_>| told.event(event));
    }
    engine.finish(&mut |event: &Event<'_>| told.event(event));
    (told, *engine.counters())
}

#[test]
fn a_missing_segment_is_told_and_inspection_goes_on_behind_it() {
    let mut all = segments(&two_requests());
    // The first answer is missing, though the client acknowledges it.
    let missing = all.iter().position(|segment| segment.payload == ANSWER).unwrap();
    all.remove(missing);
    let (told, counters) = play(&all, OverlapPolicy::First, SECOND);
    assert_eq!(told.gaps, [(Side::Server, u32::try_from(ANSWER.len()).unwrap())]);
    assert_eq!(told.values(Field::Uri), ["/a", "/b"]);
    assert_eq!(told.values(Field::Status), ["200"], "the second answer is read");
    assert_eq!(counters.gap_bytes, ANSWER.len() as u64);
}

#[test]
fn a_hole_in_a_body_costs_nothing() {
    let body = vec![b'x'; 5000];
    let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".as_slice(), &body].concat();
    let mut flights = two_requests();
    flights[1].1 = answer;
    let mut all = segments(&flights);
    let middle =
        all.iter().position(|s| s.side == Side::Server && s.payload.len() == 1400 && s.offset > 1).unwrap();
    all.remove(middle);
    let (told, counters) = play(&all, OverlapPolicy::First, SECOND);
    assert_eq!((told.gaps.len(), told.lost, counters.parsers_lost), (1, 0, 0));
    assert_eq!(told.values(Field::Status), ["200", "200"]);
}

#[test]
fn an_acknowledgment_of_bytes_never_seen_does_not_switch_inspection_off() {
    let mut all = segments(&two_requests());
    let liar = Segment { side: Side::Server, flags: ACK, offset: 1, ack: 900_000, payload: Vec::new() };
    all.insert(3, liar);
    let (told, _) = play(&all, OverlapPolicy::First, 1_000_000);
    assert_eq!(told.values(Field::Uri), ["/a", "/b"]);
    assert_eq!(told.values(Field::Status), ["200", "200"]);
}

#[test]
fn bytes_sent_twice_with_different_content_are_told_and_the_policy_picks_the_copy() {
    for (policy, want) in [(OverlapPolicy::First, "/good"), (OverlapPolicy::Last, "/evil")] {
        let mut all = segments(&[(Side::Client, b"GET /good HTTP/1.1\r\n\r\n".to_vec())]);
        let data = all.iter().position(|segment| !segment.payload.is_empty()).unwrap();
        let whole = all.remove(data);
        let part = |from: usize, payload: &[u8]| Segment {
            offset: whole.offset + u32::try_from(from).unwrap(),
            payload: payload.to_vec(),
            ..whole.clone()
        };
        // The end first, then the disputed middle twice, then the beginning.
        for (at, segment) in
            [part(9, b" HTTP/1.1\r\n\r\n"), part(5, b"good"), part(5, b"evil"), part(0, b"GET /")]
                .into_iter()
                .enumerate()
        {
            all.insert(data + at, segment);
        }
        let (told, counters) = play(&all, policy, 1_000_000);
        assert_eq!(told.values(Field::Uri), [want], "{policy:?}");
        assert_eq!((told.conflicts, counters.conflicts), (1, 1), "{policy:?}");
    }
}

#[test]
fn a_connection_whose_start_was_missed_is_read_from_either_direction() {
    for (name, first) in [("client first", Side::Client), ("server first", Side::Server)] {
        let mut flights = two_requests();
        if first == Side::Server {
            flights.remove(0);
        }
        let all: Vec<_> = segments(&flights).into_iter().skip(3).collect();
        let packets: Vec<_> = all.iter().map(|segment| tcp(80, segment, &[])).collect();
        let told = inspect(&packets);
        assert_eq!(told.applications, [1001], "{name}");
        assert!(told.closed[0].midstream, "{name}");
        assert_eq!(told.closed[0].endpoints.server.port, 80, "{name}");
        assert_eq!(told.values(Field::Status).len(), 2, "{name}");
    }
}

#[test]
fn the_bytes_say_who_is_the_server_when_the_ports_do_not() {
    let all: Vec<_> = segments(&two_requests()).into_iter().skip(3).collect();
    let packets: Vec<_> = all.iter().map(|segment| tcp(50_000, segment, &[])).collect();
    let told = inspect(&packets);
    assert_eq!(told.closed[0].endpoints.server.port, 50_000);
    assert_eq!(told.values(Field::Host), ["one.example", "two.example"]);
}

#[test]
fn held_bytes_are_bounded_and_the_hole_is_given_up_for_room() {
    let mut all = segments(&[(Side::Client, vec![b'x'; 3_000_000])]);
    all.remove(3);
    let (told, counters) = play(&all, OverlapPolicy::First, 1_000);
    assert_eq!(told.gaps, [(Side::Client, 1400)]);
    assert_eq!(counters.gaps_for_room, 1);
}

#[test]
fn a_conversation_in_no_known_protocol_stays_unknown() {
    let told = talk(9000, &[(Side::Client, vec![0xEE; 4000]), (Side::Server, vec![0xDD; 4000])]);
    assert_eq!((told.applications.len(), told.closed[0].application), (0, None));
}

#[test]
fn nothing_is_left_behind_when_the_last_bytes_show_who_is_the_client() {
    // Mid-stream, the client on the lower port; its bytes come behind a hole that only the end gives up.
    let request = |offset: u32, payload: &[u8]| Segment {
        side: Side::Server,
        flags: ACK,
        offset,
        ack: 1,
        payload: payload.to_vec(),
    };
    let all = [request(1, b"noise"), request(100, REQUEST), request(9000, b"more"), request(20_000, b"more")];
    let packets: Vec<_> = all.iter().map(|segment| tcp(80, segment, &[])).collect();
    let told = inspect(&packets);
    assert_eq!(told.values(Field::Uri), ["/a"]);
    assert_eq!(told.closed[0].endpoints.client.port, 80);
}
