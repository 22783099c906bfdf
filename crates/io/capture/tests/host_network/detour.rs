//! Packets that wait for an inspector on a way of their own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nv_capture::detour::{DetourReader, Detours, Way};
use nv_capture::fate::{Fate, OnFault};
use nv_capture::{Endpoint, Share, TapInterface, Waits};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::Tcp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{self, A, B, Frames, Lab, PATIENCE, SERVED as PORT, conversation, from_port, has, say};
use crate::vlan;

/// A detour, open until it is dropped.
struct Open {
    detours: Detours,
    interface: TapInterface,
    _way: Way,
}

impl Open {
    fn new(lab: &Lab) -> Self {
        let loaded = lab.loaded.as_ref().unwrap();
        let interface = TapInterface::make("nvway-t").unwrap();
        let way = loaded.attach_detour(interface.ifindex).unwrap();
        let detours = Detours::from_descriptors(&loaded.descriptors().unwrap()).unwrap();
        Self { detours, interface, _way: way }
    }
    fn lead(&self, time: Duration) {
        self.detours.lead_to(Share::WHOLE, self.interface.ifindex, time).unwrap();
    }
}

/// Says of what waits what becomes of it, as a rule over the packet's bytes does.
struct Judge {
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Judge {
    fn start(open: &Open, rule: impl Fn(&[u8]) -> Fate + Send + 'static) -> Self {
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut reader = DetourReader::new(open.interface.open_detour().unwrap());
        let (count, ended) = (Arc::clone(&asked), Arc::clone(&stop));
        open.lead(Duration::from_secs(60));
        let thread = std::thread::spawn(move || {
            let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            while !ended.load(Ordering::Relaxed) {
                poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap();
                let judged = reader.drain(64, |waiting| {
                    count.fetch_add(1, Ordering::Relaxed);
                    rule(waiting.bytes)
                });
                judged.unwrap();
            }
            assert_eq!(reader.lost().unwrap(), 0);
        });
        Self { asked, stop, thread: Some(thread) }
    }
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// The packets of `b` wait.
fn waits(lab: &mut Lab, fault: OnFault, judging: u32) {
    let row = Endpoint { identity: B, number: 2, waits: Waits::or(fault), judging, ..Endpoint::default() };
    lab.tables.set_endpoint(lab.b.ifindex, row).unwrap();
}

fn begin(lab: &mut Lab, fault: OnFault) -> Open {
    lab.modes(Discover, Discover);
    waits(lab, fault, 1);
    Open::new(lab)
}

#[test]
fn what_is_cut_ends_with_a_reset_at_both_ends_in_both_families_and_whoever_sent_it() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let _judge = Judge::start(&open, |bytes| if has(bytes, b"attack") { Fate::Cut } else { Fate::Pass });
        for server in [lab.b.v4, lab.b.v6] {
            for by_server in [false, true] {
                let (mut client, mut served) = conversation(lab, server);
                say(&mut client, &mut served, b"question").unwrap();
                say(&mut served, &mut client, b"answer").unwrap();
                let (from, to) =
                    if by_server { (&mut served, &mut client) } else { (&mut client, &mut served) };
                from.write_all(b"an attack").unwrap();
                for end in [from, to] {
                    let read = end.read(&mut [0; 16]);
                    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{server} {by_server}");
                }
            }
        }
    });
}

#[test]
fn whatever_waits_arrives_as_it_was_sent_also_what_a_card_is_to_cut_and_to_sum_up() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let judge = Judge::start(&open, |_| Fate::Pass);
        let text: Vec<u8> =
            (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_769) >> 24) as u8).collect();
        for server in [lab.b.v4, lab.b.v6] {
            let (mut client, mut served) = conversation(lab, server);
            for turned in [false, true] {
                let (from, to) = if turned { (&mut served, &mut client) } else { (&mut client, &mut served) };
                let mut got = vec![0; text.len()];
                std::thread::scope(|scope| {
                    scope.spawn(|| from.write_all(&text).unwrap());
                    to.read_exact(&mut got).unwrap();
                });
                assert!(got == text, "{server} {turned}");
            }
        }
        // Not by segments of 1,460 bytes: what waits is as long as it was given to the card.
        assert!(judge.asked() < 12_000_000 / 3000, "{}", judge.asked());
    });
}

#[test]
fn datagrams_that_are_sent_as_one_arrive_one_by_one() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let judge = Judge::start(&open, |_| Fate::Pass);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let (client, server): (UdpSocket, UdpSocket) = (lab.a.bind(from, PORT), lab.b.bind(to, PORT));
            lab::send_in_pieces_of(&client, 1000);
            let text: Vec<u8> = (0..10_000_u32).map(|number| (number / 1000) as u8).collect();
            client.send_to(&text, (to, PORT)).unwrap();
            for piece in text.chunks(1000) {
                let mut got = [0; 2000];
                let length = server.recv(&mut got).unwrap();
                assert!(got[..length] == *piece, "{to}: {length}");
            }
        }
        assert!(judge.asked() >= 2);
    });
}

#[test]
fn a_tagged_frame_waits_and_comes_back_with_its_tags() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let (from, to) = (Frames::at(&lab.a), Frames::at(&lab.b));
        for tags in [&[(0x8100, 100)][..], &[(0x88a8, 7), (0x8100, 100)]] {
            for six in [false, true] {
                for fate in [Fate::Pass, Fate::Drop] {
                    let judge = Judge::start(&open, move |_| fate);
                    from.send(&vlan::frame(lab, &from, &to, tags, 9001, six));
                    // Without them it would be of another connection, and go no further.
                    assert_eq!(to.sees(b"end!"), fate == Fate::Pass, "{tags:?} {six}");
                    assert_eq!(judge.asked(), 1);
                }
            }
        }
    });
}

#[test]
fn a_clean_connection_waits_no_more_until_other_rules_hold() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let judge =
            Judge::start(&open, |bytes| if has(bytes, b"that is all") { Fate::Clean } else { Fate::Pass });
        for (judging, server) in [(2, lab.b.v4), (3, lab.b.v6)] {
            let (mut client, mut served) = conversation(lab, server);
            say(&mut client, &mut served, b"question").unwrap();
            say(&mut client, &mut served, b"that is all").unwrap();
            let before = judge.asked();
            assert!(before >= 4, "{before}");
            for _ in 0..50 {
                say(&mut client, &mut served, &[b'x'; 20_000]).unwrap();
                say(&mut served, &mut client, &[b'y'; 20_000]).unwrap();
            }
            // The acknowledgement of the packet that was clean may have been on its way.
            assert!(judge.asked() <= before + 1, "{} after {before}", judge.asked());
            // What changes elsewhere is no reason to wait again.
            lab.tables.bump_generation().unwrap();
            say(&mut client, &mut served, b"again").unwrap();
            assert!(judge.asked() <= before + 1, "{} after {before}", judge.asked());
            waits(lab, OnFault::Drop, judging);
            say(&mut client, &mut served, b"again").unwrap();
            assert!(judge.asked() > before + 1);
        }
    });
}

#[test]
fn a_connection_on_the_ports_of_a_clean_one_or_one_that_was_cut_waits_anew() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let judge = Judge::start(&open, |bytes| {
                if has(bytes, b"that is all") {
                    Fate::Clean
                } else if has(bytes, b"attack") {
                    Fate::Cut
                } else {
                    Fate::Pass
                }
            });
            let listener = lab.b.listen(to, PORT);
            let connect = || {
                let client = from_port(&lab.a, from, (to, PORT).into());
                let (served, _) = listener.accept().unwrap();
                served.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                (client, served)
            };
            let (mut client, mut served) = connect();
            say(&mut client, &mut served, b"that is all").unwrap();
            say(&mut client, &mut served, b"an attack that nobody is asked about").unwrap();
            drop((client, served));
            let (mut client, mut served) = connect();
            client.write_all(b"an attack").unwrap();
            assert!(served.read(&mut [0; 16]).is_err(), "{to}: it is asked about");
            drop((client, served));
            let (mut client, mut served) = connect();
            say(&mut client, &mut served, b"question").unwrap();
            say(&mut served, &mut client, b"answer").unwrap();
            drop((client, served, judge));
        }
    });
}

#[test]
fn datagrams_wait_each_and_in_fragments_and_none_passes_when_they_are_cut() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let (client, server): (UdpSocket, UdpSocket) = (lab.a.bind(from, PORT), lab.b.bind(to, PORT));
            for (fate, arrives) in
                [(Fate::Pass, true), (Fate::Drop, false), (Fate::Pass, true), (Fate::Cut, false)]
            {
                let judge = Judge::start(&open, move |_| fate);
                assert_eq!(lab::arrives(&client, &server, 4000), arrives, "{to} {fate:?}");
                assert!(judge.asked() >= 1);
                drop(judge);
            }
            let judge = Judge::start(&open, |_| Fate::Pass);
            assert!(!lab::arrives(&client, &server, 40), "{to}: what is cut stays so");
            assert_eq!(judge.asked(), 0);
        }
        assert!(lab.counters.read().unwrap().cut_packets >= 4);
    });
}

#[test]
fn where_nobody_inspects_packets_pass_or_do_not_as_their_pod_fails_and_what_is_denied_is_never_asked_about() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        for server in [lab.b.v4, lab.b.v6] {
            let _listener = lab.b.listen(server, PORT);
            waits(lab, OnFault::Drop, 1);
            assert!(lab.a.connect(server, PORT).is_err(), "nobody has ever inspected");
            waits(lab, OnFault::Pass, 1);
            assert!(lab.a.connect(server, PORT).is_ok());
            open.lead(Duration::from_millis(50));
            std::thread::sleep(Duration::from_millis(80));
            assert!(lab.a.connect(server, PORT).is_ok(), "who inspects has to say so again");
            open.lead(Duration::from_secs(60));
            assert!(lab.a.connect(server, PORT).is_err(), "it waits, and nobody reads");
            open.detours.stop(Share::WHOLE).unwrap();
            assert!(lab.a.connect(server, PORT).is_ok());
        }
        assert!(lab.counters.read().unwrap().waited_for_nobody > 0);
        lab.modes(Protect, Protect);
        let judge = Judge::start(&open, |_| Fate::Pass);
        assert!(lab.a.connect(lab.b.v4, PORT).is_err());
        assert_eq!(judge.asked(), 0);
        lab.allow((A, B), Tcp, PORT);
        assert!(lab.b.listen(lab.b.v4, PORT).local_addr().is_ok());
    });
}

#[test]
fn who_waits_no_more_goes_on_and_nothing_stays_behind() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let judge = Judge::start(&open, |_| Fate::Pass);
        let (mut client, mut served) = conversation(lab, lab.b.v4);
        say(&mut client, &mut served, b"question").unwrap();
        assert!(judge.asked() >= 3);
        drop(judge);
        let row = Endpoint { identity: B, number: 2, ..Endpoint::default() };
        lab.tables.set_endpoint(lab.b.ifindex, row).unwrap();
        say(&mut client, &mut served, b"another").unwrap();
        open.interface.remove().unwrap();
        std::thread::sleep(PATIENCE);
        say(&mut served, &mut client, b"and its answer").unwrap();
    });
}

#[test]
fn what_waits_does_not_come_back_into_a_connection_that_is_denied_by_then() {
    lab::run(|lab| {
        let open = begin(lab, OnFault::Drop);
        let mut reader = DetourReader::new(open.interface.open_detour().unwrap());
        open.lead(Duration::from_secs(60));
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let (client, server): (UdpSocket, UdpSocket) = (lab.a.bind(from, PORT), lab.b.bind(to, PORT));
            lab.modes(Discover, Discover);
            client.send_to(b"early", (to, PORT)).unwrap();
            let before = lab.counters.read().unwrap();
            let mut waited = 0;
            while waited == 0 {
                poll(&mut [PollFd::new(&reader, PollFlags::IN)], None).unwrap();
                let judged = reader.drain(1, |_waiting| {
                    // Meanwhile nothing is allowed any more, as the next one shows.
                    lab.modes(Protect, Protect);
                    client.send_to(b"late", (to, PORT)).unwrap();
                    Fate::Pass
                });
                waited = judged.unwrap();
            }
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(server.recv(&mut [0; 16]).is_err(), "{to}");
            let after = lab.counters.read().unwrap();
            assert_eq!(after.not_come_back - before.not_come_back, 1, "{to}");
        }
    });
}
