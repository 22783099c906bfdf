//! What is told of what is said: messages by their parts, other streams as they are, and nothing of what is encrypted.

use super::conversation::{Told, flight, inspect, segments, talk, tcp, udp};
use crate::content::{BodyKind, Coding};
use crate::key::Side::{Client, Server};
use crate::protocol::{http2, tls};

/// Parts of a message, in words.
fn parts(told: &Told, client: bool, transaction: u32) -> Vec<(&'static str, String)> {
    let all = told.content.get(&(client, transaction)).cloned().unwrap_or_default();
    all.into_iter().map(|(name, _, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect()
}

fn words(parts: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    parts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect()
}

#[test]
fn a_message_of_http_is_told_by_its_parts_without_its_framing() {
    let told = talk(
        80,
        &flight([
            (
                Client,
                b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nq=abcGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
            ),
            (
                Server,
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end",
            ),
        ]),
    );
    let form = "Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n";
    let first = [("url", "POST /a?b HTTP/1.1\r\n"), ("header", form), ("body", "q=abc"), ("end", "")];
    assert_eq!(parts(&told, true, 0), words(&first));
    assert_eq!(told.content[&(true, 0)][2].1.kind, BodyKind::Form);
    let second = [("url", "GET /c HTTP/1.1\r\n"), ("header", "Host: x\r\n"), ("end", "")];
    assert_eq!(parts(&told, true, 1), words(&second));
    let answer = [
        ("url", "HTTP/1.1 200 OK\r\n"),
        ("header", "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("body", "abcde"),
        ("header", "X: y\r\n"),
        ("end", ""),
    ];
    assert_eq!(parts(&told, false, 0), words(&answer));
    assert_eq!(told.content[&(false, 0)][2].1.coding, Some(Coding::Gzip));
    assert_eq!(parts(&told, false, 1), words(&[("url", "HTTP/1.1 200 OK\r\n"), ("body", "to the end")]));
}

#[test]
fn data_of_http2_is_the_body_of_its_stream() {
    let (name, port, mut flights) = http2::samples::samples().remove(0);
    // Two frames of data of the first stream, the first of them padded, the second its end.
    let data = [&b"\0\0\x07\0\x08\0\0\0\x01\x03top\0\0\0"[..], b"\0\0\x06\0\x01\0\0\0\x01secret"].concat();
    flights.push((Client, data));
    let told = talk(port, &flights);
    let first = parts(&told, true, 0);
    assert_eq!(first.last(), Some(&("end", String::new())), "{name}: {first:?}");
    assert!(first.contains(&("body", "topsecret".to_owned())), "{name}: {first:?}");
    assert!(first.iter().any(|(part, text)| *part == "url" && text.contains(" /")), "{name}: {first:?}");
}

#[test]
fn other_streams_are_told_as_they_are_and_encrypted_ones_not() {
    let redis = talk(6379, &flight([(Client, b"*1\r\n$4\r\nPING\r\n"), (Server, b"+PONG\r\n")]));
    assert_eq!(parts(&redis, true, 0), words(&[("packet", "*1\r\n$4\r\nPING\r\n")]));
    assert_eq!(parts(&redis, false, 0), words(&[("packet", "+PONG\r\n")]));
    let unknown = talk(5555, &flight([(Client, b"\x01words of nobody"), (Server, b"\x02answer")]));
    assert_eq!(parts(&unknown, true, 0), words(&[("packet", "\x01words of nobody")]));
    let datagram = inspect(&[udp(Client, 5555, b"one"), udp(Client, 5555, b"two")]);
    let two = [("datagram", "one"), ("datagram", "two")];
    assert_eq!(parts(&datagram, true, 0), words(&two));
    let hello = tls::samples::client_hello();
    let secret = talk(443, &[(Client, hello), (Server, tls::samples::server_hello())]);
    assert!(secret.content.is_empty(), "{:?}", secret.content);
}

#[test]
fn a_hole_in_a_body_is_told_and_the_message_ends_where_it_says() {
    let body = [b"HTTP/1.1 200 OK\r\nContent-Length: 4200\r\n\r\n".to_vec(), vec![b'a'; 4200]].concat();
    let flights = [(Client, b"GET / HTTP/1.1\r\n\r\n".to_vec()), (Server, body)];
    let all = segments(&flights);
    let missing = all.iter().position(|segment| segment.side == Server && segment.offset > 1).unwrap();
    let packets: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != missing)
        .map(|(_, segment)| tcp(80, segment, &[]))
        .collect();
    let told = inspect(&packets);
    let names: Vec<_> = parts(&told, false, 0).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["url", "header", "body", "hole", "body", "end"]);
}
