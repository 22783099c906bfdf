//! What a TCP stream between two pods costs whose packets wait for an answer, against one whose packets do not:
//! interleaved transfers, as ratios of CPU a byte. Once the connection is clean after its first packets at both pods: what
//! is left is what the rules cost. Once each packet is asked about at the server's, and answered at once by this process:
//! how much one CPU can read and answer. Once it inspects each, with 13 patterns of DLP, before it answers. Needs root. `ROUNDS` and `MEGABYTES` set how many and how long.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nv_capture::queue::{Answer, Fate, OnFault, Queue, QueueReader};
use nv_dpi::OverlapPolicy;
use nv_dpi::content::Content;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;
use nv_packet::link::Link;
use nv_sensor::matcher::{self, Matcher};
use nv_sensor::predefined;
use nv_sensor::sensor::{Action, Context, Kind as SensorKind, Pattern, Rule, Sensor};
use nv_sensor::set::SensorSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[path = "../tests/host_network/lab.rs"]
mod lab;
mod stream;

use lab::{A, B, Lab, Pod};
use stream::{Moved, PORT, number, spread, thread_cpu, transfer};

/// Packets of a run that are asked about before its connection is clean.
const FIRST: u64 = 20;

/// How packets are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// They do not wait.
    Not,
    Clean,
    Each,
    Inspected,
}

impl How {
    const ALL: [Self; 4] = [Self::Not, Self::Clean, Self::Each, Self::Inspected];
}

/// What looks at packets before they are answered.
struct Inspection {
    engine: Engine,
    matcher: Matcher,
    matches: u64,
}

impl Inspection {
    fn new() -> Self {
        let mut sensors: Vec<Sensor> =
            predefined::sensors().into_iter().filter(|sensor| sensor.kind == SensorKind::Dlp).collect();
        let pattern = |(number, value): (u32, &str)| Rule {
            name: format!("rule.{number}"),
            id: number,
            patterns: vec![Pattern {
                value: value.to_owned(),
                absent: false,
                context: Context::Packet,
                check: None,
            }],
        };
        let secrets = ["-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----", "AKIA[0-9A-Z]{16}"];
        let more = [r"(?i)\bconfidential\b", "ghp_[0-9A-Za-z]{36}", r"(?i)password\s{0,8}[:=]\s{0,8}\S{6}"];
        let rules = (20_000..).zip(secrets.into_iter().chain(more)).map(pattern).collect();
        let (name, kind) = ("sensor.secrets".to_owned(), SensorKind::Dlp);
        sensors.push(Sensor { name, kind, action: Action::Allow, rules });
        let set = Arc::new(SensorSet::compile(&sensors).unwrap());
        assert_eq!(set.patterns(), 13);
        Self {
            engine: Engine::new(&nv_dpi::limits::Limits::default(), OverlapPolicy::First, 1),
            matcher: Matcher::new(set, matcher::Limits::default()),
            matches: 0,
        }
    }
}

struct Watcher<'w>(&'w mut Matcher, &'w mut u64);

impl Sink for Watcher<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Kind::Closed(_) = event.kind {
            self.0.closed(event.session, event.at, &mut |_| *self.1 += 1);
        }
    }
    fn content(&mut self, content: &Content<'_>) {
        self.0.content(content, &mut |_| *self.1 += 1);
    }
}

/// What the one who answers has done.
#[derive(Clone, Copy, Debug, Default)]
struct Answered {
    packets: u64,
    bytes: u64,
    cpu: Duration,
}

fn main() {
    let (rounds, megabytes) = (number("ROUNDS", 15), number("MEGABYTES", 400));
    lab::run(|lab| {
        for address in [lab.b.v4, lab.b.v6] {
            measure(lab, address, rounds, megabytes);
        }
    });
}

fn measure(lab: &mut Lab, address: IpAddr, rounds: usize, megabytes: usize) {
    lab.modes(Protect, Protect);
    lab.allow((A, B), Tcp, PORT);
    let mut costs: [Vec<f64>; 4] = Default::default();
    let mut speeds: [Vec<f64>; 4] = Default::default();
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        let mut order = How::ALL;
        // Each comes at each place equally often, so that a slow change of the machine's load evens out.
        order.rotate_left(round % 4);
        let mut runs = [Moved { gigabits: 0.0, cpu: 0.0 }; 4];
        for how in order {
            let (moved, answered) = run(lab, address, megabytes, how);
            runs[how as usize] = moved;
            rates[how as usize].push(answered.bytes as f64 * 8.0 / 1e9 / answered.cpu.as_secs_f64());
        }
        for how in How::ALL {
            costs[how as usize].push(runs[how as usize].cpu / runs[How::Not as usize].cpu);
            speeds[how as usize].push(runs[how as usize].gigabits / runs[How::Not as usize].gigabits);
        }
    }
    let clean = How::Clean as usize;
    println!("{address} clean / no queue: CPU a byte {}", spread(&mut costs[clean]));
    for how in [How::Clean, How::Each, How::Inspected] {
        println!("{address} {how:?} / no queue: speed {}", spread(&mut speeds[how as usize]));
    }
    for how in [How::Each, How::Inspected] {
        println!(
            "{address} {how:?}: Gbit in a second of the reader's CPU {}",
            spread(&mut rates[how as usize])
        );
    }
}

fn run(lab: &Lab, address: IpAddr, megabytes: usize, how: How) -> (Moved, Answered) {
    if how == How::Not {
        return (transfer(lab, address, megabytes), Answered::default());
    }
    let (server, client) = (Waiting::start(&lab.b, how), Waiting::start(&lab.a, How::Clean));
    let moved = transfer(lab, address, megabytes);
    let (answered, passed) = (server.end(), client.end());
    assert!(how != How::Clean || answered.packets < 10 * FIRST, "{answered:?}: clean is asked about on");
    assert!(passed.packets < 10 * FIRST, "{passed:?}: clean is asked about on");
    (moved, answered)
}

/// A pod whose packets wait, and who answers.
struct Waiting {
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Answered>,
}

impl Waiting {
    fn start(pod: &Pod, how: How) -> Self {
        let queue = Arc::new(pod.inside(|| Queue::open_here(OnFault::Drop).unwrap()));
        let stop = Arc::new(AtomicBool::new(false));
        let (answering, ended) = (Arc::clone(&queue), Arc::clone(&stop));
        let thread = std::thread::spawn(move || answer(&answering, &ended, how));
        Self { queue, stop, thread }
    }
    fn end(self) -> Answered {
        self.stop.store(true, Ordering::Relaxed);
        let answered = self.thread.join().unwrap();
        Arc::into_inner(self.queue).unwrap().remove().unwrap();
        answered
    }
}

fn answer(queue: &Queue, ended: &AtomicBool, how: How) -> Answered {
    let mut reader = QueueReader::new(queue.reader().unwrap());
    let mut done = Answered::default();
    let mut inspection = Inspection::new();
    let begun = thread_cpu();
    let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !ended.load(Ordering::Relaxed) {
        poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap();
        let mut answers = Vec::new();
        reader
            .drain(64, |queued| {
                let clean = how == How::Clean && done.packets >= FIRST;
                let fate = if clean { Fate::Clean } else { Fate::Pass };
                done.packets += 1;
                if how == How::Inspected {
                    let Inspection { engine, matcher, matches } = &mut inspection;
                    engine.frame(
                        nv_capture::wall_nanos(),
                        Link::Raw,
                        queued.bytes,
                        &mut Watcher(matcher, matches),
                    );
                }
                done.bytes += queued.bytes.len() as u64;
                answers.push(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
            })
            .unwrap();
        queue.answer(answers.into_iter()).unwrap();
    }
    assert_eq!(inspection.matches, 0, "there is nothing to be found");
    done.cpu = thread_cpu() - begun;
    done
}
