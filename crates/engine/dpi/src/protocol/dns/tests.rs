//! What is read from messages, and what is told as an attack.

use proptest::collection::vec;
use proptest::prelude::*;

use super::samples::{ANSWER, QUESTION, framed};
use crate::event::Field;
use crate::key::Side::{Client, Server};
use crate::protocol::{Ports, Probe};
use crate::tests::conversation::{Told, flight, inspect, talk, udp};
use crate::threat::Threat;

fn ask(port: u16, message: &[u8]) -> Told {
    inspect(&[udp(Client, port, message)])
}

/// A question of a type.
fn question(kind: u16) -> Vec<u8> {
    let mut message = QUESTION.to_vec();
    let at = message.len() - 4;
    message[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    message
}

#[test]
fn question_and_answer_are_one_transaction_over_udp_on_any_port_and_over_tcp() {
    for (name, told) in [
        ("port 53", inspect(&[udp(Client, 53, QUESTION), udp(Server, 53, ANSWER)])),
        ("another port", inspect(&[udp(Client, 9953, QUESTION), udp(Server, 9953, ANSWER)])),
        ("TCP", talk(53, &flight([(Client, &framed(QUESTION)), (Server, &framed(ANSWER))]))),
    ] {
        assert_eq!(told.applications, [1004], "{name}");
        let fields: Vec<_> = told
            .fields
            .iter()
            .map(|(transaction, field, value)| (*transaction, *field, value.as_str()))
            .collect();
        assert_eq!(
            fields,
            [
                (0, Field::Query, "www.example.com"),
                (0, Field::QueryType, "1"),
                (0, Field::ResponseCode, "0"),
                (0, Field::AnswerName, "web.example.com"),
                (0, Field::Answer, "192.0.2.7"),
                (0, Field::AnswerTtl, "300"),
            ],
            "{name}"
        );
    }
}

#[test]
fn an_answer_alone_names_its_question_and_its_sender_is_the_server() {
    let told = inspect(&[udp(Server, 9953, ANSWER)]);
    assert_eq!(told.values(Field::Query), ["www.example.com"]);
    assert_eq!(told.closed[0].endpoints.server.port, 9953);
}

#[test]
fn an_answer_to_another_question_or_from_who_asked_is_none_to_the_question() {
    let mut other = ANSWER.to_vec();
    other[13] ^= 1;
    for (name, side, answer) in [("another name", Server, other.as_slice()), ("its own", Client, ANSWER)] {
        let told = inspect(&[udp(Client, 53, QUESTION), udp(side, 53, answer)]);
        let of: Vec<u32> =
            told.fields.iter().filter(|held| held.1 == Field::Answer).map(|held| held.0).collect();
        assert_eq!(of, [1], "{name}: it is no answer to transaction 0");
    }
}

#[test]
fn addresses_that_a_record_of_a_service_hints_at_are_told() {
    let mut message = question(65);
    message[2] = 0x81;
    message[7] = 1;
    let hints = b"\0\x01\0\0\x01\0\x03\x02h2\0\x04\0\x08\xC0\0\x02\x07\xC0\0\x02\x08\0\x06\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
    message.extend(b"\xC0\x0C\0\x41\0\x01\0\0\0\x3C");
    message.extend(u16::try_from(hints.len()).unwrap().to_be_bytes());
    message.extend(hints);
    let told = inspect(&[udp(Client, 53, &question(65)), udp(Server, 53, &message)]);
    assert_eq!(told.values(Field::Answer), ["192.0.2.7", "192.0.2.8", "2001:db8::1"]);
    assert_eq!(told.values(Field::AnswerTtl), ["60"; 3]);
    message.truncate(message.len() - 20);
    inspect(&[udp(Client, 53, &question(65)), udp(Server, 53, &message)]);
}

#[test]
fn zone_transfers_and_null_questions_are_told() {
    for (kind, want) in [
        (1, vec![]),
        (252, vec![Threat::DnsZoneTransfer]),
        (251, vec![Threat::DnsZoneTransfer]),
        (10, vec![Threat::DnsTypeNull]),
    ] {
        assert_eq!(ask(53, &question(kind)).threats, want, "type {kind}");
    }
}

#[test]
fn pointers_in_a_circle_are_told() {
    let mut message = QUESTION[..12].to_vec();
    message.extend(b"\xC0\x0E\xC0\x0C\0\x01\0\x01");
    assert_eq!(ask(53, &message).threats, [Threat::DnsLoopPointer]);
    assert_eq!(
        inspect(&[udp(Client, 53, QUESTION), udp(Server, 53, ANSWER)]).threats,
        [],
        "a pointer back is fine"
    );
}

#[test]
fn a_message_that_leaves_most_of_itself_unread_is_told() {
    let stuffed = [QUESTION, &[0xFF; 3000]].concat();
    assert_eq!(ask(53, &stuffed).threats, [Threat::DnsStackOverflow]);
    assert_eq!(ask(53, &[QUESTION, &[0xFF; 100]].concat()).threats, []);
}

#[test]
fn other_datagrams_are_not_dns() {
    for bytes in [&b"hello, world, this is text"[..], &[0; 40], &[0xFF; 40], b""] {
        assert!(ask(4000, bytes).applications.is_empty(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_message_gives_an_answer(start in vec(any::<u8>(), 0..80), answer in any::<bool>(), changes in vec((0_usize..70, any::<u8>()), 0..6)) {
        inspect(&[udp(Client, 53, &start)]);
        let mut message = if answer { ANSWER.to_vec() } else { QUESTION.to_vec() };
        for (at, value) in changes {
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
            }
        }
        inspect(&[udp(Client, 53, &message)]);
    }

    #[test]
    fn the_stream_probe_does_not_change_its_mind(input in vec(any::<u8>(), 0..40), cut in 0_usize..40) {
        let framed = [&framed(QUESTION)[..], &input].concat();
        for bytes in [&input, &framed] {
            for side in [Client, Server] {
                let short = super::probe_stream(side, &bytes[..cut.min(bytes.len())]);
                prop_assert!(short == Probe::Maybe || short == super::probe_stream(side, bytes));
            }
        }
    }

    #[test]
    fn random_bytes_on_other_ports_are_not_dns(input in vec(any::<u8>(), 12..60)) {
        let ports = Ports { client: 40_000, server: 4000, midstream: false };
        prop_assert_eq!(super::probe_datagram(Client, &input, ports), Probe::No);
    }
}
