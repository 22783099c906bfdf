//! The client's first packet of RFC 9001 §A.2, and what must be read from it.

use crate::event::Field;
use crate::key::Side::Client;
use crate::tests::conversation::{inspect, udp};

/// Header and encrypted hello; the padding behind it says nothing.
const PACKET: &str = "\
    c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c\
    0bab7df5976d27cd449f63300099f3991c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c\
    8eb7539ec4d4905fed1bee1fc8aafba17c750e2c7ace01e6005f80fcb7df621230c83711b39343fa028cea7f7fb5ff89\
    eac2308249a02252155e2347b63d58c5457afd84d05dfffdb20392844ae812154682e9cf012f9021a6f0be17ddd0c208\
    4dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec4e15daf8500a6ef69ec4e3feb6b1d98e\
    610ac8b7ec3faf6ad760b7bad1db4ba3485e8a94dc250ae3fdb41e";

fn packet() -> Vec<u8> {
    let mut bytes: Vec<u8> = PACKET
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    bytes.resize(1200, 0);
    bytes
}

#[test]
fn the_hello_in_the_first_packet_names_the_server() {
    let told = inspect(&[udp(Client, 443, &packet())]);
    assert_eq!(told.applications, [3001]);
    assert_eq!(told.values(Field::Sni), ["example.com"]);
    assert_eq!(told.values(Field::AlpnOffered), ["alpn"]);
    assert_eq!(told.values(Field::Version), ["1"]);
    assert!(told.values(Field::Ja4)[0].starts_with("q13d0211an"), "{told:?}");
}

#[test]
fn a_packet_that_was_changed_tells_no_name_and_breaks_nothing() {
    for at in (0..1200).step_by(7) {
        let mut bytes = packet();
        bytes[at] ^= 0x55;
        inspect(&[udp(Client, 443, &bytes), udp(Client, 443, &bytes[..at])]);
    }
}
