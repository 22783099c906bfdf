//! What filters want, of frames written out by hand.

use proptest::prelude::*;

use super::frames::{ethernet, ipv4, ipv6, tcp, udp};
use crate::filter::{Filter, FilterError, MAX_FILTER};

const ARP: u16 = 0x0806;

fn wants(filter: &str, frame: &[u8]) -> bool {
    let parsed: Filter = filter.parse().unwrap_or_else(|error| panic!("{filter}: {error}"));
    parsed.wants(frame, u32::try_from(frame.len()).unwrap())
}

/// 10.0.0.1:49152 to 10.0.0.2:80, of 68 bytes; PSH and ACK.
fn web() -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &tcp(b"GET / ")))
}

/// fd00::1:49152 to fd00::2:53.
fn dns() -> Vec<u8> {
    ethernet(0x86DD, &ipv6(17, &udp(53, b"?")))
}

/// Who has 10.0.0.9? Tell 10.0.0.1.
fn arp() -> Vec<u8> {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend([2, 0, 0, 0, 0, 2, 10, 0, 0, 1]);
    request.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
    let mut frame = ethernet(ARP, &request);
    frame[..6].fill(0xff);
    frame
}

/// Each filter wants exactly the frames that are named behind it: w(eb), d(ns), a(rp).
#[test]
fn a_filter_wants_what_it_says() {
    let frames = [('w', web()), ('d', dns()), ('a', arp())];
    for (filter, expected) in [
        ("", "wda"),
        ("ip", "w"),
        ("ip6", "d"),
        ("arp", "a"),
        ("tcp", "w"),
        ("udp", "d"),
        ("ip or ip6", "wd"),
        ("not ip", "da"),
        ("! ip && ! arp", "d"),
        ("host 10.0.0.1", "wa"),
        ("10.0.0.1", "wa"),
        ("src host 10.0.0.1", "wa"),
        ("src 10.0.0.2", ""),
        ("dst 10.0.0.2", "w"),
        ("dst 10.0.0.9", "a"),
        ("ip host 10.0.0.1", "w"),
        ("arp host 10.0.0.1", "a"),
        ("host 10.0.0.2 or fd00::2", "wd"),
        ("src and dst net 10.0.0.0/24", "wa"),
        ("net 10", "wa"),
        ("net 10.0.0.0 mask 255.255.255.254", "wa"),
        ("dst net 10.0.0.2/31 and ip", "w"),
        ("net fd00::/16", "d"),
        ("port 80", "w"),
        ("port http or domain", "wd"),
        ("src port 80", ""),
        ("src port 49152", "wd"),
        ("src or dst port 53", "d"),
        ("tcp port 53", ""),
        ("udp dst port 53", "d"),
        ("ip6 port 53", "d"),
        ("portrange 50-90", "wd"),
        ("tcp portrange 81-90", ""),
        ("ip proto \\tcp", "w"),
        ("ip6 proto 17", "d"),
        ("proto 6", "w"),
        ("ether proto 0x86dd", "d"),
        ("ether host 02:00:00:00:00:02", "wda"),
        ("ether dst 02:00:00:00:00:01", "wd"),
        ("ether broadcast", "a"),
        ("multicast", "a"),
        ("less 60", "a"),
        ("greater 60", "wd"),
        ("len >= 68 and len <= 68", "w"),
        ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", ""),
        ("tcp[13] & tcp-push != 0", "w"),
        ("tcp[2:2] = 80", "w"),
        ("udp[4:2] == 9", "d"),
        ("ip[0] & 0xf = 5 and ip[8] > 63", "w"),
        ("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "w"),
        ("(tcp or udp) and not (port 80)", "d"),
        ("(tcp[13] & 16) = 16", "w"),
        ("tcp and port 80 or udp and port 53", "d"),
        ("vlan", ""),
        ("len / 0 = 0", ""),
    ] {
        let found: String =
            frames.iter().filter(|(_, frame)| wants(filter, frame)).map(|(name, _)| name).collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn tags_are_looked_through_and_told_apart() {
    let mut tagged = web();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x2A]);
    for (filter, wanted) in [
        ("tcp port 80", true),
        ("vlan", true),
        ("vlan 42", true),
        ("vlan 43", false),
        ("vlan 42 and udp", false),
    ] {
        assert_eq!(wants(filter, &tagged), wanted, "{filter}");
    }
}

#[test]
fn a_later_fragment_has_no_ports() {
    let mut fragment = web();
    // 8 bytes into the datagram.
    fragment[21] = 1;
    assert!(wants("tcp and host 10.0.0.2", &fragment));
    assert!(!wants("port 80", &fragment) && !wants("tcp[2:2] = 80", &fragment));
}

#[test]
fn what_is_no_filter_says_where_and_why() {
    for (text, message) in [
        ("host web-1", "\"web-1\" at 5: an address is to come here"),
        ("port 70000", "\"70000\" at 5: a port from 0 to 65535"),
        ("tcp port", "ends where an address, a port"),
        ("(tcp", "ends where ) is to come"),
        ("tcp)", "\")\" at 3: here the filter should end"),
        ("tcp udp", "\"udp\" at 4"),
        ("tcp host 10.0.0.1", "join them with and"),
        ("icmp port 8", "only tcp, udp and sctp"),
        ("frobnicate", "no test begins so"),
        ("inbound", "not supported"),
        ("tcp[0:3] = 1", "\"3\""),
        ("and", "no test begins so"),
        ("tcp; reboot", "\";\" at 3"),
        ("tcp $(id)", "\"$\" at 4"),
    ] {
        let error = text.parse::<Filter>().unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
    assert_eq!("a".repeat(MAX_FILTER + 1).parse::<Filter>(), Err(FilterError::TooLong));
    assert_eq!("(".repeat(1_000).parse::<Filter>(), Err(FilterError::TooComplex));
    assert_eq!("not ".repeat(1_000).parse::<Filter>(), Err(FilterError::TooComplex));
    let many = vec!["ip"; 600].join(" or ");
    assert_eq!(many.parse::<Filter>(), Err(FilterError::TooComplex));
}

proptest! {
    #[test]
    fn every_text_is_a_filter_or_an_error(text in "[a-z0-9 ()\\[\\]:./&|!<>=+*-]{0,80}", frame in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(filter) = text.parse::<Filter>() && !text.trim().is_empty() {
            let wanted = filter.wants(&frame, 120);
            prop_assert_eq!(format!("not ({text})").parse::<Filter>().map(|none| none.wants(&frame, 120)), Ok(!wanted));
        }
    }
}
