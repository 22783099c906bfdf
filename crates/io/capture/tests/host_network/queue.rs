//! Packets that wait for an answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nv_capture::queue::{Answer, Fate, OnFault, Queue, QueueReader};
use nv_model::mode::Mode::Discover;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{self, Lab, PATIENCE, Pod};

const PORT: u16 = 8080;

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

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// A connection from `a` to `b`.
fn conversation(lab: &Lab, server: IpAddr) -> (TcpStream, TcpStream) {
    let listener: TcpListener = lab.b.listen(server, PORT);
    let client = lab.a.connect(server, PORT).unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    (client, server)
}

fn say(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    from.write_all(text)?;
    to.read_exact(&mut vec![0; text.len()])
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
