//! Resets of TCP connections (RFC 9293 §3.10.7), made of the segment with which one is cut.

use std::net::IpAddr;

use nv_packet::checksum::sum;
use nv_packet::network::Network;
use nv_packet::transport::Tcp;

const TCP: u8 = 6;
const HOPS: u8 = 64;
/// Bytes of a TCP header without options.
const HEADER: u16 = 20;

/// Two packets from their IP headers on: for whom the segment was meant, in its sender's name, and the other way round. `None`
/// for a segment that is a reset itself, and between addresses of two families.
pub(crate) fn both(network: &Network, segment: &Tcp<'_>) -> [Option<Vec<u8>>; 2] {
    if segment.has(Tcp::RST) {
        return [None, None];
    }
    let has_ack = segment.has(Tcp::ACK);
    // It has the number that its receiver expects next, unless something before it was lost.
    let on = Reset {
        ends: (network.source, network.destination),
        ports: (segment.source_port, segment.destination_port),
        sequence: segment.sequence,
        acknowledgment: has_ack.then_some(segment.acknowledgment),
    };
    let length = u32::try_from(segment.payload.len()).unwrap_or(0);
    let numbered = u32::from(segment.has(Tcp::SYN)).wrapping_add(u32::from(segment.has(Tcp::FIN)));
    let behind = segment.sequence.wrapping_add(length).wrapping_add(numbered);
    let back = Reset {
        ends: (network.destination, network.source),
        ports: (segment.destination_port, segment.source_port),
        sequence: if has_ack { segment.acknowledgment } else { 0 },
        acknowledgment: (!has_ack).then_some(behind),
    };
    [on.packet(), back.packet()]
}

struct Reset {
    ends: (IpAddr, IpAddr),
    ports: (u16, u16),
    sequence: u32,
    acknowledgment: Option<u32>,
}

impl Reset {
    fn packet(&self) -> Option<Vec<u8>> {
        let mut segment = Vec::with_capacity(usize::from(HEADER));
        segment.extend(self.ports.0.to_be_bytes());
        segment.extend(self.ports.1.to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledgment.unwrap_or(0).to_be_bytes());
        let flags = Tcp::RST | if self.acknowledgment.is_some() { Tcp::ACK } else { 0 };
        // Its own length in words, flags, no window, checksum, no urgent pointer.
        segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        let pseudo = [0, TCP, 0, 20];
        let mut packet = Vec::with_capacity(60);
        let total = match self.ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let length = HEADER.saturating_mul(2).to_be_bytes();
                // Version and length, no class; not to be cut into fragments.
                let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, HOPS, TCP, 0, 0];
                header.extend([source, destination].concat());
                let total = sum(&[&header]);
                put(&mut header, 10, !total);
                packet.extend(header);
                sum(&[&source[..], &destination[..], &pseudo[..], &segment[..]])
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                packet.extend([0x60, 0, 0, 0, 0, 20, TCP, HOPS]);
                packet.extend([source, destination].concat());
                sum(&[&source[..], &destination[..], &pseudo[..], &segment[..]])
            }
            _ => return None,
        };
        put(&mut segment, 16, !total);
        packet.extend(segment);
        Some(packet)
    }
}

fn put(bytes: &mut [u8], at: usize, number: u16) {
    for (into, from) in bytes.iter_mut().skip(at).zip(number.to_be_bytes()) {
        *into = from;
    }
}

#[cfg(test)]
mod tests {
    use nv_packet::checksum::transport_is_valid;
    use nv_packet::decode::{Decoded, Packet, Transport, decode, ipv4_checksum_is_valid};
    use nv_packet::link::Link;

    use super::*;

    fn segment(flags: u8, payload: &[u8]) -> Tcp<'_> {
        Tcp {
            source_port: 40_000,
            destination_port: 80,
            sequence: u32::MAX - 1,
            acknowledgment: 77,
            flags,
            window: 9,
            options: &[],
            payload,
        }
    }

    fn network(source: &str, destination: &str) -> Network {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Network { source, destination, protocol: TCP, hop_limit: 1, fragment: None, cut: false }
    }

    fn decoded(bytes: &[u8]) -> (Packet<'_>, Tcp<'_>) {
        let Ok(Decoded::Packet(packet)) = decode(Link::Raw, bytes) else { panic!("{bytes:?}") };
        let Transport::Tcp(segment) = packet.transport else { panic!("{packet:?}") };
        (packet, segment)
    }

    #[test]
    fn both_ends_are_told_in_one_anothers_names_with_the_numbers_that_they_expect() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let ends = network(source, destination);
            for (flags, want) in [
                (Tcp::ACK, [(Tcp::RST | Tcp::ACK, u32::MAX - 1, 77), (Tcp::RST, 77, 0)]),
                // Nothing is known of the other end's numbers yet; the SYN is one of its sender's.
                (Tcp::SYN, [(Tcp::RST, u32::MAX - 1, 0), (Tcp::RST | Tcp::ACK, 0, 3)]),
            ] {
                let packets = both(&ends, &segment(flags, b"four")).map(Option::unwrap);
                for (packet, (turned, want)) in packets.iter().zip([false, true].into_iter().zip(want)) {
                    let (packet, told) = decoded(packet);
                    assert_eq!((told.flags, told.sequence, told.acknowledgment), want);
                    let (from, to) = if turned { (destination, source) } else { (source, destination) };
                    assert_eq!(packet.network.source, from.parse::<IpAddr>().unwrap());
                    assert_eq!(packet.network.destination, to.parse::<IpAddr>().unwrap());
                    assert_eq!(told.source_port == 80, turned);
                    let (source, destination) = (packet.network.source, packet.network.destination);
                    assert!(transport_is_valid(source, destination, TCP, packet.body));
                }
                if source.contains('.') {
                    assert!(packets.iter().all(|packet| ipv4_checksum_is_valid(packet).unwrap()));
                }
            }
            assert_eq!(both(&ends, &segment(Tcp::RST, b"")), [None, None]);
        }
    }
}
