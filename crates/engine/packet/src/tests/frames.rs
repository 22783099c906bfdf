//! Frames written out byte by byte from the standards' drawings, and what must be read from them.

use std::net::{IpAddr, Ipv4Addr};

use crate::checksum::{sum, transport_is_valid};
use crate::decode::{Counters, Decoded, Packet, Transport, decode, ipv4_checksum_is_valid};
use crate::error::{DecodeError, Layer};
use crate::link::Link;
use crate::network::Fragment;
use crate::transport::TcpOption;
use proptest::collection::vec;
use proptest::prelude::*;

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ether_type.to_be_bytes(), payload])
}

/// 10.0.0.1 to 10.0.0.2.
pub(super) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    join(&[&[0x45, 0], &total, &[0, 7, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], payload])
}

/// fd00::1 to fd00::2.
pub(super) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut address = [0_u8; 16];
    address[0] = 0xFD;
    let (mut source, mut destination) = (address, address);
    (source[15], destination[15]) = (1, 2);
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    join(&[&[0x60, 0, 0, 0], &length, &[next, 64], &source, &destination, payload])
}

pub(super) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    join(&[&[0xC0, 0x00], &port.to_be_bytes(), &length, &[0, 0], payload])
}

/// Port 49152 to 80, sequence 1, PSH and ACK, with an MSS, a window scale and a padded end of options.
pub(super) fn tcp(payload: &[u8]) -> Vec<u8> {
    let head = [0xC0, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x70, 0x18, 0x20, 0, 0, 0, 0, 0];
    join(&[&head, &[2, 4, 0x05, 0xB4, 3, 3, 7, 0], payload])
}

fn packet(frame: &[u8]) -> Packet<'_> {
    match decode(Link::Ethernet, frame) {
        Ok(Decoded::Packet(packet)) => packet,
        other => panic!("no packet: {other:?}"),
    }
}

fn udp_payload(frame: &[u8]) -> &[u8] {
    match packet(frame).transport {
        Transport::Udp(datagram) => datagram.payload,
        other => panic!("no datagram: {other:?}"),
    }
}

#[test]
fn a_segment_gives_ports_numbers_options_and_payload() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(b"GET")));
    let packet = packet(&frame);
    assert_eq!(packet.network.source, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let Transport::Tcp(segment) = packet.transport else { panic!("{packet:?}") };
    assert_eq!((segment.source_port, segment.destination_port), (49152, 80));
    assert_eq!((segment.sequence, segment.acknowledgment, segment.flags), (1, 2, 0x18));
    assert_eq!(segment.payload, b"GET");
    assert_eq!(
        segment.options().collect::<Vec<_>>(),
        [TcpOption::MaximumSegment(1460), TcpOption::WindowScale(7)]
    );
}

#[test]
fn padding_behind_the_ip_packet_is_not_payload() {
    let frame = join(&[&ethernet(0x0800, &ipv4(17, &udp(53, b"q"))), &[0; 17]]);
    assert_eq!(udp_payload(&frame), b"q");
}

#[test]
fn tags_sessions_and_tunnels_are_looked_through() {
    let inner = ipv4(17, &udp(53, b"inner"));
    let inside = ethernet(0x0800, &inner);
    let vxlan = join(&[&[8, 0, 0, 0, 0, 0, 42, 0], &inside]);
    let geneve = join(&[&[0x01, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 4], &inside]);
    let gre = join(&[&[0x30, 0, 0x08, 0x00, 0, 0, 0, 9, 0, 0, 0, 1], &inner]);
    let pppoe = join(&[&[0x11, 0, 0, 1, 0, 35, 0x00, 0x21], &inner]);
    let compressed = join(&[&[0x11, 0, 0, 1, 0, 34, 0x21], &inner]);
    for (name, frame, vlan, tunnels) in [
        ("VLAN", ethernet(0x8100, &join(&[&[0x20, 5, 0x08, 0], &inner])), Some(5), 0),
        ("QinQ", ethernet(0x88A8, &join(&[&[0, 9, 0x81, 0, 0, 5, 0x08, 0], &inner])), Some(5), 0),
        ("PPPoE", ethernet(0x8864, &pppoe), None, 0),
        ("PPPoE, one byte of protocol", ethernet(0x8864, &compressed), None, 0),
        ("VXLAN", ethernet(0x0800, &ipv4(17, &udp(4789, &vxlan))), None, 1),
        ("Geneve", ethernet(0x86DD, &ipv6(17, &udp(6081, &geneve))), None, 1),
        ("GRE", ethernet(0x0800, &ipv4(47, &gre)), None, 1),
        ("IP in IP", ethernet(0x0800, &ipv4(4, &inner)), None, 1),
        ("IPv4 in IPv6", ethernet(0x86DD, &ipv6(4, &inner)), None, 1),
        ("IP in IP in IP", ethernet(0x0800, &ipv4(4, &ipv4(4, &inner))), None, 2),
    ] {
        let packet = packet(&frame);
        assert_eq!((packet.vlan, packet.tunnels), (vlan, tunnels), "{name}");
        assert_eq!(udp_payload(&frame), b"inner", "{name}");
    }
}

#[test]
fn a_datagram_to_a_tunnel_port_without_the_tunnels_header_stays_a_datagram() {
    let frame = ethernet(0x0800, &ipv4(17, &udp(4789, b"not a tunnel at all")));
    assert_eq!(udp_payload(&frame), b"not a tunnel at all");
}

#[test]
fn tunnels_beyond_the_bound_are_refused() {
    let mut inner = ipv4(17, &udp(53, b"q"));
    for _ in 0..5 {
        inner = ipv4(4, &inner);
    }
    assert_eq!(decode(Link::Ethernet, &ethernet(0x0800, &inner)), Err(DecodeError::TooDeep { limit: 4 }));
    let tags = join(&[&[0, 1, 0x81, 0].repeat(30), &[0, 1, 8, 0]]);
    assert_eq!(decode(Link::Ethernet, &ethernet(0x8100, &tags)), Err(DecodeError::TooDeep { limit: 24 }));
}

#[test]
fn extension_headers_are_walked_to_the_payload() {
    // Hop-by-hop (8 bytes), then destination options (16 bytes), then UDP.
    let body = join(&[&[60, 0, 1, 4, 0, 0, 0, 0], &[17, 1], &[0; 14], &udp(53, b"v6")]);
    assert_eq!(udp_payload(&ethernet(0x86DD, &ipv6(0, &body))), b"v6");
    let endless = [0_u8, 0, 1, 4, 0, 0, 0, 0].repeat(11);
    assert!(matches!(
        decode(Link::Ethernet, &ethernet(0x86DD, &ipv6(0, &endless))),
        Err(DecodeError::Malformed { layer: Layer::Ipv6Extension, .. })
    ));
}

#[test]
fn fragments_are_told_and_an_atomic_fragment_is_a_whole_datagram() {
    let mut first = ipv4(17, &[1; 16]);
    (first[6], first[7]) = (0x20, 0x02);
    let frame = ethernet(0x0800, &first);
    let packet4 = packet(&frame);
    assert_eq!(packet4.network.fragment, Some(Fragment { id: 7, offset: 16, more: true }));
    assert_eq!((packet4.transport, packet4.body), (Transport::Fragment, &[1_u8; 16][..]));

    let last = join(&[&[17, 0, 0, 8, 0, 0, 0, 9], &[2; 8]]);
    let frame = ethernet(0x86DD, &ipv6(44, &last));
    let fragment = packet(&frame).network.fragment;
    assert_eq!(fragment, Some(Fragment { id: 9, offset: 8, more: false }));

    let atomic = join(&[&[17, 0, 0, 0, 0, 0, 0, 9], &udp(53, b"whole")]);
    assert_eq!(udp_payload(&ethernet(0x86DD, &ipv6(44, &atomic))), b"whole");
}

#[test]
fn an_offload_frame_without_a_length_reaches_to_its_end() {
    let mut big = ipv4(6, &tcp(b""));
    (big[2], big[3]) = (0, 0);
    big.resize(20 + 28 + 100_000, b'x');
    let frame = ethernet(0x0800, &big);
    let Transport::Tcp(segment) = packet(&frame).transport else { panic!("no segment") };
    assert_eq!(segment.payload.len(), 100_000);
}

#[test]
fn a_capture_that_kept_only_a_part_is_read_and_marked() {
    let mut frame = ethernet(0x0800, &ipv4(6, &tcp(&[b'x'; 100])));
    frame.truncate(14 + 20 + 28 + 10);
    let packet = packet(&frame);
    assert!(packet.network.cut);
    assert!(matches!(packet.transport, Transport::Tcp(segment) if segment.payload.len() == 10));
}

#[test]
fn what_a_standard_forbids_is_refused_with_the_layer() {
    let mut short_header = ipv4(17, &udp(53, b"q"));
    short_header[0] = 0x44;
    let mut short_total = ipv4(17, &udp(53, b"q"));
    (short_total[2], short_total[3]) = (0, 19);
    let mut offset = tcp(b"");
    offset[12] = 0x40;
    let mut length = udp(53, b"q");
    (length[4], length[5]) = (0, 7);
    for (frame, want) in [
        (ethernet(0x0800, &short_header), Layer::Ipv4),
        (ethernet(0x0800, &short_total), Layer::Ipv4),
        (ethernet(0x0800, &ipv4(6, &offset)), Layer::Tcp),
        (ethernet(0x0800, &ipv4(17, &length)), Layer::Udp),
        (ethernet(0x0800, &ipv4(47, &[0x40, 0, 8, 0])), Layer::Gre),
    ] {
        match decode(Link::Ethernet, &frame) {
            Err(DecodeError::Malformed { layer, .. }) => assert_eq!(layer, want),
            other => panic!("{want}: {other:?}"),
        }
    }
}

#[test]
fn every_link_type_leads_to_the_packet() {
    let inner = ipv4(17, &udp(53, b"q"));
    for (link, header) in [
        (Link::Raw, vec![]),
        (Link::Loopback, vec![2, 0, 0, 0]),
        (Link::Loopback, vec![0, 0, 0, 2]),
        (Link::Cooked, vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00]),
        (Link::Cooked2, [&[0x08, 0x00][..], &[0; 18]].concat()),
    ] {
        let frame = join(&[&header, &inner]);
        assert!(matches!(decode(link, &frame), Ok(Decoded::Packet(_))), "{link:?}");
    }
}

#[test]
fn outcomes_are_counted() {
    let mut counters = Counters::default();
    let good = ethernet(0x0800, &ipv4(4, &ipv4(17, &udp(53, b"q"))));
    assert!(counters.decode(Link::Ethernet, &good).is_ok());
    assert_eq!(counters.decode(Link::Ethernet, &ethernet(0x0806, &[0; 28])), Ok(Decoded::NotIp(0x0806)));
    assert!(counters.decode(Link::Ethernet, &good[..30]).is_err());
    let want = Counters {
        frames: 3,
        bytes: (good.len() + 42 + 30) as u64,
        packets: 1,
        tunnelled: 1,
        not_ip: 1,
        truncated: 1,
        ..Counters::default()
    };
    assert_eq!(counters, want);
}

#[test]
fn checksums_agree_with_the_example_of_rfc_1071_and_notice_a_flipped_bit() {
    assert_eq!(sum(&[&[0x00, 0x01, 0xF2, 0x03], &[0xF4, 0xF5, 0xF6, 0xF7]]), 0xDDF2);
    // A published IPv4 header whose checksum is 0xB861.
    let mut header =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xB8, 0x61, 0xC0, 0xA8, 0, 1, 0xC0, 0xA8, 0, 0xC7];
    assert_eq!(ipv4_checksum_is_valid(&header), Ok(true));
    header[15] ^= 1;
    assert_eq!(ipv4_checksum_is_valid(&header), Ok(false));

    // 10.0.0.1 to 10.0.0.2, UDP 1 to 2, no payload: words 0a00 0001 0a00 0002 0011 0008 0001 0002 0008 add to 1427.
    let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let datagram = [0, 1, 0, 2, 0, 8, 0xEB, 0xD8];
    assert!(transport_is_valid(a, b, 17, &datagram));
    assert!(!transport_is_valid(a, b, 6, &datagram));
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![
        Just(Link::Ethernet),
        Just(Link::Loopback),
        Just(Link::Raw),
        Just(Link::Cooked),
        Just(Link::Cooked2)
    ]
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(link in link(), frame in vec(any::<u8>(), 0..256)) {
        let _answer = decode(link, &frame);
    }

    #[test]
    fn a_real_frame_with_bytes_changed_or_cut_gives_an_answer(
        changes in vec((0_usize..200, any::<u8>()), 0..6),
        keep in 0_usize..200,
    ) {
        let vxlan = join(&[&[8, 0, 0, 0, 0, 0, 42, 0], &ethernet(0x86DD, &ipv6(6, &tcp(b"GET / HTTP/1.1")))]);
        let mut frame = ethernet(0x0800, &ipv4(17, &udp(4789, &vxlan)));
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(keep);
        if let Ok(Decoded::Packet(packet)) = decode(Link::Ethernet, &frame) {
            prop_assert!(packet.body.len() <= frame.len());
            prop_assert!(packet.tunnels <= 4);
        }
    }

    #[test]
    fn any_option_bytes_end(options in vec(any::<u8>(), 0..40)) {
        let padded = options.len().div_ceil(4) * 4;
        let offset = u8::try_from(5 + padded / 4).unwrap() << 4;
        let mut segment = vec![0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, offset, 2, 0, 0, 0, 0, 0, 0];
        segment.extend(&options);
        segment.resize(20 + padded, 0);
        let frame = ethernet(0x0800, &ipv4(6, &segment));
        let Transport::Tcp(segment) = packet(&frame).transport else { panic!("no segment") };
        prop_assert!(segment.options().count() <= 20);
    }
}
