//! Each protocol is known by its own beginning, and by no other's.

use nv_model::application::ApplicationId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::conversation::{flight, inspect, segments, talk, tcp, udp};
use crate::event::Field;
use crate::key::Side::{Client, Server};
use crate::protocol::{Ports, Probe, Protocol, samples};

#[test]
fn every_sample_is_told_by_its_name_on_any_port() {
    let mut seen = 0;
    for (name, port, flights) in samples::streams() {
        // Names of samples begin with the application's, but for these.
        let want = match name.split(' ').next().unwrap() {
            "TLS" | "Heartbleed" => "SSL",
            "HTTP/2" => "HTTP",
            first => first,
        };
        for port in [port, 50_001] {
            if port != 50_001 || !["Echo"].contains(&name) {
                let told = talk(port, &flights);
                let found = told.closed[0].application.and_then(ApplicationId::name).unwrap_or("nothing");
                assert!(found.eq_ignore_ascii_case(want), "{name} on port {port} is told as {found}");
                assert_eq!(told.lost, 0, "{name} on port {port}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50);
}

#[test]
fn in_the_middle_of_a_stream_weak_beginnings_count_on_their_ports_alone() {
    let key = b"\x80\x01\0\x03\x08\0\0\0\0\0\0\x0C\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0keyv";
    for (port, want) in [(11_211, Some("Memcached")), (8000, None)] {
        let all: Vec<_> = segments(&flight([(Client, key)])).into_iter().skip(3).collect();
        let packets: Vec<_> = all.iter().map(|segment| tcp(port, segment, &[])).collect();
        let told = inspect(&packets);
        assert_eq!(told.closed[0].application.and_then(ApplicationId::name), want, "port {port}");
    }
}

#[test]
fn names_topics_and_statements_are_read_and_passwords_are_not() {
    let of = |wanted: &str| {
        let (_, port, flights) = samples::streams().into_iter().find(|(name, ..)| *name == wanted).unwrap();
        talk(port, &flights)
    };
    for (name, field, want) in [
        ("MQTT", Field::ClientSoftware, vec!["gauge"]),
        ("MQTT", Field::User, vec!["ann"]),
        ("MQTT", Field::Topic, vec!["a/b/c"]),
        ("memcached", Field::Command, vec!["set", "get"]),
        ("LDAP", Field::User, vec!["cn=bob,o=xy"]),
        ("Oracle", Field::Database, vec!["orders"]),
        ("Oracle", Field::User, vec!["scott"]),
        ("MongoDB", Field::Database, vec!["shop"]),
        ("MSSQL", Field::Statement, vec!["select 1"]),
        ("Cassandra", Field::Statement, vec!["select * t"]),
        ("Kafka", Field::ClientSoftware, vec!["consumer"]),
        ("NATS", Field::Topic, vec!["orders.*", "orders.new"]),
        ("SMTP", Field::Command, vec!["EHLO", "STARTTLS"]),
        ("SMTP", Field::Sni, vec!["db.example"]),
    ] {
        assert_eq!(of(name).values(field), want, "{name}");
    }
    assert_eq!(of("AMQP").software, [2014]);
    for name in ["MQTT", "LDAP"] {
        assert!(!format!("{:?}", of(name)).contains("abcde"), "{name} tells a password");
    }
}

#[test]
fn datagrams_are_told_by_their_content() {
    let dhcp = [&[1, 1, 6, 0][..], &[0; 232], &[0x63, 0x82, 0x53, 0x63], b"\x0C\x03box\xFF"].concat();
    let quic = [&[0xC3, 0, 0, 0, 1, 8][..], &[7; 1194]].concat();
    let radius = [&[1, 9, 0, 25][..], &[3; 16], &[1, 5, b'b', b'o', b'b']].concat();
    let kerberos = b"\x6A\x13\x30\x11\xA1\x03\x02\x01\x05\xA2\x03\x02\x01\x0A\xA3\x05\x30\x03\0\0\0";
    for (port, payload, want) in [
        (67, dhcp.as_slice(), Some("DHCP")),
        (1000, &dhcp, None),
        (123, &[&[0x23][..], &[0; 47]].concat(), Some("NTP")),
        (69, b"\0\x01boot.img\0octet\0", Some("TFTP")),
        (514, b"<13>Oct 11 22:14:15 host app: text", Some("Syslog")),
        (514, b"<999>Oct 11 22:14:15", None),
        (1812, &radius, Some("Radius")),
        (88, kerberos, Some("Kerberos")),
        (443, &quic, Some("QUIC")),
        (5060, b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n", Some("SIP")),
        (1900, b"M-SEARCH * HTTP/1.1\r\n\r\n", None),
        (7, b"anything", Some("Echo")),
        (4000, b"anything", None),
    ] {
        let told = inspect(&[udp(Client, port, payload)]);
        assert_eq!(
            told.closed[0].application.and_then(ApplicationId::name),
            want,
            "port {port}: {payload:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_probe_changes_its_mind_when_more_bytes_come(
        noise in vec(any::<u8>(), 0..60),
        which in any::<prop::sample::Index>(),
        change in (any::<prop::sample::Index>(), any::<u8>()),
        cut in any::<prop::sample::Index>(),
        midstream in any::<bool>(),
    ) {
        let samples = samples::streams();
        let (_, port, flights) = &samples[which.index(samples.len())];
        let mut like = flights[0].1.clone();
        let at = change.0.index(like.len().min(30));
        like[at] = change.1;
        for bytes in [&noise, &like] {
            for protocol in Protocol::STREAM {
                for side in [Client, Server] {
                    let ports = Ports { client: 40_000, server: *port, midstream };
                    let short = protocol.probe_stream(side, &bytes[..cut.index(bytes.len() + 1)], ports);
                    let long = protocol.probe_stream(side, bytes, ports);
                    prop_assert!(short == Probe::Maybe || short == long, "{protocol:?}: {short:?}, then {long:?} on {bytes:02x?}");
                }
            }
        }
    }
}
