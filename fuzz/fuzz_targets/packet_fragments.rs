//! Pieces of datagrams in any order: what is put together is what was cut, and overlapping pieces are never joined.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use nv_packet::decode::{Decoded, decode};
use nv_packet::defragment::{Defragmented, Defragmenter};
use nv_packet::link::Link;

/// A fragment of IPv4 (RFC 791) or IPv6 (RFC 8200 §4.5).
fn fragment(version6: bool, id: u8, offset: u16, more: bool, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a piece is short");
    let place = offset << 3 | u16::from(more);
    let mut packet = Vec::new();
    if version6 {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((length + 8).to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([0xFD; 32]);
        packet.extend([17, 0]);
        packet.extend(place.to_be_bytes());
        packet.extend([0, 0, 0, id]);
    } else {
        packet.extend([0x45, 0]);
        packet.extend((length + 20).to_be_bytes());
        packet.extend([0, id]);
        packet.extend((u16::from(more) << 13 | offset).to_be_bytes());
        packet.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    }
    packet.extend(body);
    packet
}

// Pieces: a byte of flags and id, the place (in 8 bytes), the length, the time that has passed, a byte that it is made of.
fuzz_target!(|bytes: &[u8]| {
    let mut defragmenter = Defragmenter::default();
    let mut sent: BTreeMap<(bool, u32), Vec<(usize, Vec<u8>)>> = BTreeMap::new();
    let mut now = 0;
    for piece in bytes.chunks_exact(5) {
        let [flags, place, length, time, fill] = *piece else { continue };
        let (version6, more, id) = (flags & 1 != 0, flags & 2 != 0, flags >> 4);
        let length = if more { usize::from(length % 32) * 8 } else { usize::from(length) };
        let body: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
        let raw = fragment(version6, id, u16::from(place), more, &body);
        now += u64::from(time) * 50_000_000;
        let Ok(Decoded::Packet(packet)) = decode(Link::Raw, &raw) else { continue };
        if packet.network.fragment.is_none() {
            continue;
        }
        sent.entry((version6, u32::from(id))).or_default().push((usize::from(place) * 8, body));
        if let Defragmented::Whole(network, whole) = defragmenter.push(now, &packet) {
            let version6 = network.source.is_ipv6();
            // Each byte of it is one that a piece had there.
            let pieces = sent.get(&(version6, u32::from(id))).expect("it was sent");
            for (at, byte) in whole.iter().enumerate() {
                let from_piece = |(start, body): &(usize, Vec<u8>)| {
                    at.checked_sub(*start).and_then(|at| body.get(at)) == Some(byte)
                };
                assert!(pieces.iter().any(from_piece), "byte {at} was never sent");
            }
        }
    }
});
