//! A change of policy under traffic.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nv_capture::{FlowChange, ModeRow, RuleAction};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Lab};

/// Sends numbered datagrams as fast as they are received until told to stop; answers with how many were sent and received.
fn flood(lab: &mut Lab, port: u16, during: impl FnOnce(&mut Lab)) -> (u64, u64) {
    let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, port));
    from.connect(to.local_addr().unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // The receiver's buffer is not what is tested.
                if sent - received.load(Ordering::Relaxed) > 64 {
                    std::thread::yield_now();
                    continue;
                }
                from.send(&sent.to_be_bytes()).unwrap();
                sent += 1;
            }
            sent
        });
        let receiver = scope.spawn(|| {
            let mut number = [0; 8];
            while to.recv(&mut number).is_ok() {
                let next = received.fetch_add(1, Ordering::Relaxed);
                if u64::from_be_bytes(number) != next {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{next} is missing, {} came", u64::from_be_bytes(number));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        during(lab);
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        receiver.join().unwrap();
        (sent, received.load(Ordering::Relaxed))
    })
}

#[test]
fn a_switch_to_protect_loses_no_packet_of_an_allowed_flow() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        lab.rule((A, B), Udp, 9001, 16, RuleAction::Learned, 10_001);
        let (sent, received) = flood(lab, 9001, |lab| {
            for _ in 0..20 {
                for mode in [Protect, Discover, Protect] {
                    let start = Instant::now();
                    lab.tables.set_mode(A, ModeRow::new(Some(mode), false)).unwrap();
                    lab.tables.set_mode(B, ModeRow::new(Some(mode), false)).unwrap();
                    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
                }
            }
        });
        assert!(sent > 1000, "{sent}");
        assert_eq!(sent, received);
        let told = lab.flow_events();
        assert!(told.iter().any(|event| event.change == FlowChange::Verdict { previous: Verdict::Learn }));
    });
}

#[test]
fn new_rules_for_the_same_ports_lose_no_packet_of_an_allowed_flow() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.rule((A, B), Udp, 9001, 16, RuleAction::Allow, 1);
        let (sent, received) = flood(lab, 9001, |lab| {
            for round in 0..50_u32 {
                // The port is covered by one prefix, then by another, never by none.
                let bits = u8::try_from(4 + round % 12).unwrap();
                lab.rows.rules.clear();
                lab.rule((A, B), Udp, 9001, bits, RuleAction::Allow, round);
            }
        });
        assert_eq!(sent, received);
    });
}

#[test]
fn a_tcp_stream_goes_on_byte_for_byte_while_modes_change() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        lab.rule((A, B), Tcp, 80, 16, RuleAction::Learned, 10_001);
        let listener = lab.b.listen(lab.b.v6, 80);
        let mut client = lab.a.connect(lab.b.v6, 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let total = 64 * 1024 * 1024;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let block: Vec<u8> = (0..=250).cycle().take(251 * 256).collect();
                let mut left = total;
                while left > 0 {
                    let part = left.min(block.len());
                    client.write_all(&block[..part]).unwrap();
                    left -= part;
                }
            });
            let reader = scope.spawn(move || {
                let mut expected = (0..=250_u8).cycle();
                let mut buffer = vec![0; 256 * 1024];
                let mut received = 0;
                while received < total {
                    let length = server.read(&mut buffer).unwrap();
                    assert!(length > 0);
                    assert!(buffer[..length].iter().all(|byte| Some(*byte) == expected.next()));
                    received += length;
                }
            });
            while !reader.is_finished() {
                lab.modes(Protect, Protect);
                std::thread::sleep(Duration::from_millis(2));
                lab.modes(Discover, Discover);
            }
        });
        assert_eq!(lab.counters.read().unwrap().denied_packets, 0);
    });
}

#[test]
fn a_switch_to_protect_stops_a_running_flow_that_no_rule_allows() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001));
        assert!(lab::arrives(&from, &to, 1));
        assert!(lab::arrives(&to, &from, 1), "and its answers");
        drop(lab.flow_events());
        lab.modes(Protect, Protect);
        assert!(!lab::arrives(&from, &to, 1));
        assert!(!lab::arrives(&to, &from, 1));
        let told: Vec<_> =
            lab.flow_events().iter().map(|event| (event.change, event.ends.ingress, event.verdict)).collect();
        let previous = FlowChange::Verdict { previous: Verdict::Learn };
        assert_eq!(told, [(previous, false, Verdict::Deny), (previous, true, Verdict::Deny)]);
    });
}
