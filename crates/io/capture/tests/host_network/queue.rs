//! Packets that wait for an answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nv_capture::fate::{Fate, OnFault};
use nv_capture::queue::{Answer, Queue, QueueReader};
use nv_model::mode::Mode::Discover;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{self, Frames, PATIENCE, Pod, SERVED as PORT, conversation, from_port, has, say};

/// Answers what waits at a pod, as a rule over the packet's bytes says.
struct Judge {
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Judge {
    fn start(queue: &Arc<Queue>, rule: impl Fn(&[u8]) -> Fate + Send + 'static) -> Self {
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut reader = QueueReader::new(queue.reader().unwrap());
        let (queue, count, ended) = (Arc::clone(queue), Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            while !ended.load(Ordering::Relaxed) {
                poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap();
                let mut answers = Vec::new();
                reader
                    .drain(64, |queued| {
                        let fate = rule(queued.bytes);
                        answers.push(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
                    })
                    .unwrap();
                count.fetch_add(answers.len(), Ordering::Relaxed);
                queue.answer(answers.into_iter()).unwrap();
            }
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
        self.thread.take().unwrap().join().unwrap();
    }
}

fn open(pod: &Pod, on_fault: OnFault) -> Queue {
    pod.inside(|| Queue::open_here(on_fault).unwrap())
}

#[test]
fn what_is_cut_ends_with_a_reset_at_both_ends_in_both_families_and_whoever_sent_it() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let queue = Arc::new(open(&lab.b, OnFault::Drop));
        assert!(queue.resets());
        let _judge = Judge::start(&queue, |bytes| if has(bytes, b"attack") { Fate::Cut } else { Fate::Pass });
        for server in [lab.b.v4, lab.b.v6] {
            let (mut client, mut served) = conversation(lab, server);
            say(&mut client, &mut served, b"question").unwrap();
            say(&mut served, &mut client, b"answer").unwrap();
            client.write_all(b"an attack").unwrap();
            let read = client.read(&mut [0; 16]);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{server}");
            served.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(served.read(&mut [0; 16]).is_err(), "the attack did not arrive");
            // What the other end says is refused as well.
            drop(served.write_all(b"hello?"));
            let read = served.read(&mut [0; 16]);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{server}");

            let (mut client, mut served) = conversation(lab, server);
            say(&mut client, &mut served, b"question").unwrap();
            served.write_all(b"attacked").unwrap();
            let read = served.read(&mut [0; 16]);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{server}");
            client.write_all(b"go on").unwrap();
            let read = client.read(&mut [0; 16]);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset, "{server}");
        }
    });
}

#[test]
fn a_clean_connection_is_asked_about_no_more_until_other_rules_hold() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let mut queue = open(&lab.b, OnFault::Drop);
        for server in [lab.b.v4, lab.b.v6] {
            let shared = Arc::new(queue);
            let judge =
                Judge::start(
                    &shared,
                    |bytes| {
                        if has(bytes, b"that is all") { Fate::Clean } else { Fate::Pass }
                    },
                );
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
            drop(judge);
            queue = Arc::into_inner(shared).unwrap();
            queue.renew(OnFault::Drop).unwrap();
            let shared = Arc::new(queue);
            let judge = Judge::start(&shared, |_| Fate::Pass);
            say(&mut client, &mut served, b"again").unwrap();
            assert!(judge.asked() >= 1);
            drop(judge);
            queue = Arc::into_inner(shared).unwrap();
        }
    });
}

#[test]
fn a_connection_on_the_ports_of_a_clean_one_or_one_that_was_cut_is_asked_about_anew() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let queue = Arc::new(open(&lab.b, OnFault::Drop));
            let judge = Judge::start(&queue, |bytes| {
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
fn a_mark_that_a_program_of_the_pod_sets_says_nothing() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for server in [lab.b.v4, lab.b.v6] {
            let queue = Arc::new(open(&lab.b, OnFault::Drop));
            let judge = Judge::start(&queue, |_| Fate::Pass);
            let (mut client, mut served) = conversation(lab, server);
            // What an answer "cut" is marked with, and every epoch of "clean".
            for epoch in (1..=2048).map(|epoch| (epoch << 20) | 5) {
                lab::mark(&served, epoch);
                let before = judge.asked();
                say(&mut served, &mut client, b"an answer").unwrap();
                assert!(judge.asked() > before, "{epoch:#x}");
            }
        }
    });
}

#[test]
fn a_datagram_in_fragments_waits_too() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let queue = Arc::new(open(&lab.b, OnFault::Drop));
            let (client, server) = (lab.a.bind(from, PORT), lab.b.bind(to, PORT));
            for (fate, arrives) in [(Fate::Pass, true), (Fate::Drop, false), (Fate::Pass, true)] {
                let judge = Judge::start(&queue, move |_| fate);
                assert_eq!(lab::arrives(&client, &server, 4000), arrives, "{to} {fate:?}");
                assert!(judge.asked() >= 1);
                drop(judge);
            }
        }
    });
}

#[test]
fn a_fragment_waits_whose_own_header_does_not_say_what_it_is_of() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let server = lab.b.bind(lab.b.v6, PORT);
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let queue = Arc::new(open(&lab.b, OnFault::Drop));
        for (text, arrives) in [(b"a question", true), (b"an attack!", false)] {
            let judge =
                Judge::start(&queue, |bytes| if has(bytes, b"attack") { Fate::Drop } else { Fate::Pass });
            let (IpAddr::V6(from), IpAddr::V6(to)) = (lab.a.v6, lab.b.v6) else { panic!("IPv6") };
            // Options without meaning, then UDP: both stand in the first fragment alone.
            let mut datagram = vec![17, 0, 1, 4, 0, 0, 0, 0];
            let udp = [40_000, PORT, 8 + 8 + 10, 0].map(u16::to_be_bytes).concat();
            datagram.extend([&udp[..], b"filler, ", text].concat());
            let sum = checksum(&[&from.octets(), &to.octets(), &[0, 17, 0, 26], &datagram[8..]]);
            datagram[14..16].copy_from_slice(&sum);
            for (at, piece, more) in [(0, &datagram[..24], 1), (24, &datagram[24..], 0)] {
                let length = u8::try_from(piece.len() + 8).unwrap();
                let mut frame =
                    [&b.mac[..], &a.mac, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 44, 64]].concat();
                frame.extend([&from.octets()[..], &to.octets(), &[60, 0, 0, at | more, 0, 0, 0, 9]].concat());
                frame.extend(piece);
                a.send(&frame);
            }
            assert_eq!(server.recv(&mut [0; 64]).is_ok(), arrives);
            assert!(judge.asked() >= 1);
        }
    });
}

/// The checksum of the internet over parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.concat();
    let sum: u32 = words.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}

#[test]
fn where_nobody_reads_packets_pass_or_do_not_as_the_fault_says() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for server in [lab.b.v4, lab.b.v6] {
            let _listener = lab.b.listen(server, PORT);
            let mut queue = open(&lab.b, OnFault::Drop);
            assert!(lab.a.connect(server, PORT).is_err(), "it waits");
            queue.answer_all().unwrap();
            queue.renew(OnFault::Pass).unwrap();
            drop(queue);
            assert!(lab.a.connect(server, PORT).is_ok(), "the rules are still there, and nobody reads");
            drop(open(&lab.b, OnFault::Drop));
            assert!(lab.a.connect(server, PORT).is_err());
            open(&lab.b, OnFault::Drop).remove().unwrap();
            assert!(lab.a.connect(server, PORT).is_ok());
        }
    });
}

#[test]
fn what_waits_too_long_goes_as_the_fault_says() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let _listener = lab.b.listen(lab.b.v4, PORT);
        let queue = open(&lab.b, OnFault::Pass);
        let late = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| lab.a.connect(lab.b.v4, PORT));
            while !connecting.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
                queue.answer_all().unwrap();
            }
            connecting.join().unwrap()
        });
        assert!(late.is_ok());
    });
}

#[test]
fn the_loopback_is_not_asked_about() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let _queue = open(&lab.b, OnFault::Drop);
        let here: IpAddr = [127, 0, 0, 1].into();
        let _listener = lab.b.listen(here, PORT);
        assert!(lab.b.connect(here, PORT).is_ok());
    });
}

#[test]
fn a_new_queue_takes_the_place_of_one_that_a_process_has_left_and_nothing_stays_behind_it() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let left = open(&lab.b, OnFault::Drop);
        let queue = Arc::new(open(&lab.b, OnFault::Drop));
        let judge = Judge::start(&queue, |_| Fate::Pass);
        let (mut client, mut served) = conversation(lab, lab.b.v4);
        say(&mut client, &mut served, b"question").unwrap();
        assert!(judge.asked() >= 3, "packets come to the new one");
        drop((judge, left));
        Arc::into_inner(queue).unwrap().remove().unwrap();
        say(&mut client, &mut served, b"another").unwrap();
        let thread = || u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        assert!(
            !lab.b.inside(|| nv_capture::queue::clear(thread())).unwrap(),
            "no rules are left to take away"
        );
    });
}

#[test]
fn a_queue_that_was_paused_asks_again_and_only_about_what_comes_then() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for (on_fault, passes) in [(OnFault::Pass, true), (OnFault::Drop, false)] {
            let mut queue = open(&lab.b, on_fault);
            let _listener = lab.b.listen(lab.b.v4, PORT);
            // Left by a reader that has died: it is read by nobody.
            assert!(lab.a.connect(lab.b.v4, PORT).is_err());
            queue.pause().unwrap();
            assert_eq!(lab.a.connect(lab.b.v4, PORT).is_ok(), passes, "{on_fault:?}");
            queue.resume().unwrap();
            let queue = Arc::new(queue);
            let judge = Judge::start(&queue, |_| Fate::Pass);
            assert!(lab.a.connect(lab.b.v4, PORT).is_ok());
            assert!(judge.asked() >= 2);
        }
    });
}

#[test]
fn what_waits_is_lost_neither_when_other_rules_come_nor_when_the_queue_ends() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for (from, to) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let client = lab.a.inside(|| UdpSocket::bind((from, PORT)).unwrap());
            let server = lab.b.inside(|| UdpSocket::bind((to, PORT)).unwrap());
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut queue = open(&lab.b, OnFault::Drop);
            let mut reader = QueueReader::new(queue.reader().unwrap());
            let mut waits = |text: &[u8]| {
                client.send_to(text, (to, PORT)).unwrap();
                let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
                assert_eq!(poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap(), 1);
                let mut answer = None;
                reader
                    .drain(1, |queued| {
                        let fate = Fate::Pass;
                        answer = Some(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
                    })
                    .unwrap();
                answer.unwrap()
            };
            let arrives = |text: &[u8]| {
                let mut buffer = [0; 64];
                let length = server.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], text, "{to}");
            };
            let answer = waits(b"under the rules before");
            queue.renew(OnFault::Drop).unwrap();
            queue.answer(std::iter::once(answer)).unwrap();
            arrives(b"under the rules before");
            waits(b"as the last one");
            queue.remove().unwrap();
            arrives(b"as the last one");
        }
    });
}
