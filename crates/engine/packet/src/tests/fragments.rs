//! Datagrams cut by hand, and what comes out of the pieces.

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::decode::{Decoded, Packet, Transport, decode_payload};
use crate::defragment::{Defragmented, Defragmenter, MAX_DATAGRAMS, PATIENCE};
use crate::network::{Fragment, Network};

const SECOND: u64 = 1_000_000_000;

fn piece(id: u32, offset: usize, more: bool, body: &[u8]) -> Packet<'_> {
    let network = Network {
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        protocol: 17,
        hop_limit: 64,
        fragment: Some(Fragment { id, offset: u32::try_from(offset).unwrap(), more }),
        cut: false,
    };
    Packet { network, transport: Transport::Fragment, body, vlan: None, tunnels: 0 }
}

#[test]
fn pieces_in_any_order_give_the_datagram() {
    let mut datagram = vec![0xC0, 0, 0, 53, 0, 32, 0, 0];
    datagram.extend(0..24);
    let cuts = [(0, 8, true), (8, 24, true), (24, 32, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let mut defragmenter = Defragmenter::default();
        for (turn, which) in order.into_iter().enumerate() {
            let (start, end, more) = cuts[which];
            let outcome = defragmenter.push(0, &piece(7, start, more, &datagram[start..end]));
            if turn < 2 {
                assert_eq!(outcome, Defragmented::Pending, "order {order:?}");
                continue;
            }
            let Defragmented::Whole(network, body) = outcome else { panic!("{outcome:?} in {order:?}") };
            assert_eq!(body, datagram, "order {order:?}");
            let Ok(Decoded::Packet(whole)) = decode_payload(network, body, None, 0) else {
                panic!("payload")
            };
            assert!(matches!(whole.transport, Transport::Udp(udp) if udp.payload == &datagram[8..]));
        }
        assert_eq!(defragmenter.counters.whole, 1);
    }
}

#[test]
fn overlapping_pieces_are_never_joined_but_a_duplicate_is_no_overlap() {
    let mut defragmenter = Defragmenter::default();
    assert_eq!(defragmenter.push(0, &piece(1, 0, true, &[1; 16])), Defragmented::Pending);
    assert_eq!(defragmenter.push(0, &piece(1, 0, true, &[1; 16])), Defragmented::Pending, "duplicate");
    assert_eq!(defragmenter.push(0, &piece(1, 8, false, &[2; 16])), Defragmented::Overlap);
    // Nothing that still comes revives it.
    assert_eq!(defragmenter.push(0, &piece(1, 16, false, &[2; 8])), Defragmented::Pending);
    assert_eq!((defragmenter.counters.overlapping, defragmenter.counters.whole), (1, 0));
}

#[test]
fn a_duplicate_with_other_content_is_an_overlap() {
    let mut defragmenter = Defragmenter::default();
    assert_eq!(defragmenter.push(0, &piece(1, 0, true, &[1; 16])), Defragmented::Pending);
    assert_eq!(defragmenter.push(0, &piece(1, 0, true, &[9; 16])), Defragmented::Overlap);
}

#[test]
fn impossible_pieces_end_the_datagram() {
    let body = [0; 65_535];
    for (name, offset, more, length) in [
        ("beyond the largest datagram", 65_528, false, 8),
        ("middle piece of odd length", 0, true, 7),
        ("empty piece", 8, true, 0),
    ] {
        let mut defragmenter = Defragmenter::default();
        let outcome = defragmenter.push(0, &piece(1, offset, more, &body[..length]));
        assert_eq!(outcome, Defragmented::Impossible, "{name}");
    }
    let mut defragmenter = Defragmenter::default();
    defragmenter.push(0, &piece(1, 8, false, &[0; 8]));
    assert_eq!(
        defragmenter.push(0, &piece(1, 24, true, &[0; 8])),
        Defragmented::Impossible,
        "behind the end"
    );
}

#[test]
fn datagrams_beyond_the_bound_and_late_ones_make_room() {
    let mut defragmenter = Defragmenter::default();
    for id in 0..=u32::try_from(MAX_DATAGRAMS).unwrap() {
        defragmenter.push(u64::from(id), &piece(id, 0, true, &[0; 8]));
    }
    assert_eq!(defragmenter.counters.evicted, 1);
    assert_eq!(
        defragmenter.push(PATIENCE + SECOND, &piece(5, 8, false, &[0; 8])),
        Defragmented::Pending,
        "its first piece is gone"
    );
    assert_eq!(defragmenter.counters.late, u64::try_from(MAX_DATAGRAMS).unwrap());
}

proptest! {
    #[test]
    fn any_cut_in_any_order_gives_the_same_datagram(
        units in 2_usize..40,
        cuts in vec(any::<prop::sample::Index>(), 0..8),
        order in vec(any::<u32>(), 12),
    ) {
        let datagram: Vec<u8> = (0..units * 8 - 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut.index(units) * 8).collect();
        edges.extend([0, datagram.len()]);
        edges.sort_unstable();
        edges.dedup();
        let mut pieces: Vec<(u32, usize, usize)> =
            edges.windows(2).zip(&order).map(|(edge, rank)| (*rank, edge[0], edge[1])).collect();
        pieces.sort_unstable();
        let mut defragmenter = Defragmenter::default();
        let mut whole = None;
        for (_, start, end) in pieces {
            let piece = piece(3, start, end != datagram.len(), &datagram[start..end]);
            if let Defragmented::Whole(_, body) = defragmenter.push(0, &piece) {
                whole = Some(body.to_vec());
            }
        }
        prop_assert_eq!(whole, Some(datagram));
    }

    #[test]
    fn defragmentation_is_total(pieces in vec((0_u32..3, 0_usize..9000, any::<bool>(), vec(any::<u8>(), 0..40)), 0..60)) {
        let mut defragmenter = Defragmenter::default();
        for (at, (id, offset, more, body)) in pieces.iter().enumerate() {
            defragmenter.push(u64::try_from(at).unwrap() * SECOND / 3, &piece(*id, offset & !7, *more, body));
        }
    }
}
