//! Capture files written out word by word, and what must be read from them.

use crate::capture_file::{CaptureFile, CaptureFileError, Record};
use crate::capture_stream::{CaptureStreamError, read_records};
use crate::link::Link;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

fn classic(magic: u32, order: Order) -> Vec<u8> {
    let mut file = Vec::new();
    for value in [magic, 0x0002_0004, 0, 0, 65535, 1, /* record */ 5, 250, 3, 1500] {
        file.extend(match order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
    }
    file.extend(b"abc");
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + body.len()).unwrap().to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

/// A section with one Ethernet interface of nanosecond resolution.
fn section() -> Vec<u8> {
    let header =
        block(0x0A0D_0D0A, &[0x4D, 0x3C, 0x2B, 0x1A, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let interface = block(1, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    [header, interface].concat()
}

fn records(file: &[u8]) -> Vec<Record<'_>> {
    let mut reader = CaptureFile::open(file).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.read().unwrap() {
        records.push(record);
    }
    records
}

#[test]
fn the_classic_format_is_read_in_both_orders_and_resolutions() {
    for (magic, order, at) in [
        (0xA1B2_C3D4, Order::Little, 5_000_250_000),
        (0xA1B2_C3D4, Order::Big, 5_000_250_000),
        (0xA1B2_3C4D, Order::Little, 5_000_000_250),
        (0xA1B2_3C4D, Order::Big, 5_000_000_250),
    ] {
        let file = classic(magic, order);
        let want = Record { at, link: Some(Link::Ethernet), wire_bytes: 1500, frame: b"abc" };
        assert_eq!(records(&file), [want], "{magic:#x} {order:?}");
    }
}

#[test]
fn pcapng_packets_take_link_and_clock_of_their_interface_and_other_blocks_are_passed_over() {
    let enhanced =
        block(6, &[0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 60, 0, 0, 0, b'a', b'b', b'c', 0]);
    let simple = block(3, &[2, 0, 0, 0, b'd', b'e', 0, 0]);
    let file = [section(), block(5, &[0; 8]), enhanced, simple].concat();
    let want = [
        Record { at: (1 << 32) + 2, link: Some(Link::Ethernet), wire_bytes: 60, frame: b"abc" },
        Record { at: 0, link: Some(Link::Ethernet), wire_bytes: 2, frame: b"de" },
    ];
    assert_eq!(records(&file), want);
}

#[test]
fn a_packet_of_an_interface_that_was_never_described_is_counted() {
    let stray = block(6, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let file = [section(), stray].concat();
    let mut reader = CaptureFile::open(&file).unwrap();
    assert_eq!(reader.read(), Ok(None));
    assert_eq!(reader.skipped, 1);
}

#[test]
fn a_cut_file_says_where_and_then_ends() {
    let file = classic(0xA1B2_C3D4, Order::Little);
    let mut reader = CaptureFile::open(&file[..file.len() - 1]).unwrap();
    assert_eq!(reader.read(), Err(CaptureFileError::Truncated { at: 24 }));
    assert_eq!(reader.read(), Ok(None));
}

#[test]
fn other_files_are_refused() {
    assert_eq!(
        CaptureFile::open(b"\x7fELF....").unwrap_err(),
        CaptureFileError::Magic { magic: 0x7F45_4C46 }
    );
    assert_eq!(CaptureFile::open(b"").unwrap_err(), CaptureFileError::Truncated { at: 0 });
    let bad = [section(), [1, 0, 0, 0, 4, 0, 0, 0].to_vec()].concat();
    let mut reader = CaptureFile::open(&bad).unwrap();
    assert!(matches!(reader.read(), Err(CaptureFileError::Malformed { .. })));
}

#[test]
fn a_capture_in_pieces_gives_the_same_records_as_in_one() {
    let classic =
        [classic(0xA1B2_C3D4, Order::Little), classic(0xA1B2_C3D4, Order::Little)[24..].to_vec()].concat();
    let packet = block(6, &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', 0]);
    let next_generation = [section(), packet.clone(), block(0x0BAD, &[7; 300_000]), packet].concat();
    for (name, file) in [("classic", classic), ("pcapng", next_generation)] {
        let want = records(&file);
        assert_eq!(want.len(), 2, "{name}");
        let mut seen = 0;
        read_records(file.as_slice(), |record| {
            assert_eq!(*record, want[seen], "{name}");
            seen += 1;
        })
        .unwrap();
        assert_eq!(seen, 2, "{name}");
        // Paused and taken up again behind every byte.
        for cut in 24..file.len().min(200) {
            let Ok(mut first) = CaptureFile::open(&file[..cut]) else { continue };
            let mut got = Vec::new();
            while let Ok(Some(record)) = first.read() {
                got.push(record);
            }
            let (paused, unread) = first.pause();
            let mut second = paused.resume(&file[cut - unread..]);
            while let Some(record) = second.read().unwrap() {
                got.push(record);
            }
            assert_eq!(got, want, "{name}, cut behind {cut} bytes");
        }
    }
}

#[test]
fn a_stream_that_ends_within_a_record_says_so_after_what_came_before() {
    let file = [classic(0xA1B2_C3D4, Order::Little), vec![1; 10]].concat();
    let mut seen = 0;
    let outcome = read_records(file.as_slice(), |_| seen += 1);
    let cut = CaptureFileError::Truncated { at: 43 };
    assert!(matches!(outcome, Err(CaptureStreamError::Format(error)) if error == cut), "{outcome:?}");
    assert_eq!(seen, 1);
}

proptest! {
    #[test]
    fn any_bytes_behind_a_good_start_are_read_to_an_end(which in 0..3, tail in vec(any::<u8>(), 0..400)) {
        let start = match which {
            0 => classic(0xA1B2_C3D4, Order::Little),
            1 => classic(0xA1B2_3C4D, Order::Big),
            _ => section(),
        };
        let file = [start, tail].concat();
        let mut reader = CaptureFile::open(&file).unwrap();
        let mut read = 0;
        while let Ok(Some(_)) = reader.read() {
            read += 1;
        }
        prop_assert!(read <= file.len() / 12);
        prop_assert_eq!(reader.read(), Ok(None));
    }
}
