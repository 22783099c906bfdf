//! What a TCP stream between two pods costs whose packets wait for an answer, on a detour and in queues, against one whose
//! packets do not: interleaved transfers, as ratios of CPU a byte. Once the connection is clean after its first packets at both
//! pods: what is left is what the rules cost. Once each packet is asked about at the server's, and answered at once by this
//! process: how much one CPU can read and answer. Once it inspects each, with 13 patterns of DLP, before it answers. Needs root.
//! `ROUNDS` and `MEGABYTES` set how many and how long, `WAYS` (`detour`, `queue`) where they wait.
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

use nv_capture::detour::{DetourReader, Detours, Way};
use nv_capture::fate::{Fate, OnFault};
use nv_capture::queue::{Answer, Queue, QueueReader};
use nv_capture::{Endpoint, Share, TapInterface, Waits};
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
    let ways = std::env::var("WAYS").unwrap_or_else(|_| "detour queue".to_owned());
    lab::run(|lab| {
        for way in ways.split_whitespace() {
            let waiting: fn(&mut Lab, How) -> Answering = match way {
                "detour" => on_detour,
                "queue" => in_queues,
                other => panic!("no such way: {other}"),
            };
            for address in [lab.b.v4, lab.b.v6] {
                measure(lab, (way, waiting), address, rounds, megabytes);
            }
        }
    });
}

fn measure(
    lab: &mut Lab,
    (way, waiting): (&str, fn(&mut Lab, How) -> Answering),
    address: IpAddr,
    rounds: usize,
    megabytes: usize,
) {
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
            let (moved, answered) = run(lab, waiting, address, megabytes, how);
            runs[how as usize] = moved;
            rates[how as usize].push(answered.bytes as f64 * 8.0 / 1e9 / answered.cpu.as_secs_f64());
        }
        for how in How::ALL {
            costs[how as usize].push(runs[how as usize].cpu / runs[How::Not as usize].cpu);
            speeds[how as usize].push(runs[how as usize].gigabits / runs[How::Not as usize].gigabits);
        }
    }
    let clean = How::Clean as usize;
    println!("{way}, {address} clean / not waiting: CPU a byte {}", spread(&mut costs[clean]));
    for how in [How::Clean, How::Each, How::Inspected] {
        println!("{way}, {address} {how:?} / not waiting: speed {}", spread(&mut speeds[how as usize]));
    }
    for how in [How::Each, How::Inspected] {
        println!(
            "{way}, {address} {how:?}: Gbit in a second of the reader's CPU {}",
            spread(&mut rates[how as usize])
        );
    }
}

fn run(
    lab: &mut Lab,
    waiting: fn(&mut Lab, How) -> Answering,
    address: IpAddr,
    megabytes: usize,
    how: How,
) -> (Moved, Answered) {
    if how == How::Not {
        return (transfer(lab, address, megabytes), Answered::default());
    }
    let mut answering = waiting(lab, how);
    let moved = transfer(lab, address, megabytes);
    let answered = answering.threads.drain(..).map(Thread::end).collect::<Vec<_>>();
    for answered in answered.iter().skip(usize::from(how != How::Clean)) {
        assert!(answered.packets < 20 * FIRST, "{answered:?}: clean is asked about on");
    }
    (answering.end)(lab);
    (moved, answered[0])
}

/// Packets of both pods wait, and somebody answers: of the server's, as is measured, in the first thread.
struct Answering {
    threads: Vec<Thread>,
    /// No packet waits any more.
    end: Box<dyn FnOnce(&mut Lab)>,
}

struct Thread {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Answered>,
}

impl Thread {
    fn start(answer: impl FnOnce(&AtomicBool) -> Answered + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || answer(&ended)) }
    }
    fn end(self) -> Answered {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn in_queues(lab: &mut Lab, how: How) -> Answering {
    let open = |pod: &Pod| Arc::new(pod.inside(|| Queue::open_here(OnFault::Drop).unwrap()));
    let queues = [(open(&lab.b), how), (open(&lab.a), How::Clean)];
    let threads = queues.iter().map(|(queue, how)| {
        let (queue, how) = (Arc::clone(queue), *how);
        Thread::start(move |ended| answer_queue(&queue, ended, how))
    });
    Answering {
        threads: threads.collect(),
        end: Box::new(move |_lab| {
            for (queue, _) in queues {
                Arc::into_inner(queue).unwrap().remove().unwrap();
            }
        }),
    }
}

fn on_detour(lab: &mut Lab, how: How) -> Answering {
    let loaded = lab.loaded.as_ref().unwrap();
    let interface = TapInterface::make("nvway-b").unwrap();
    let way: Way = loaded.attach_detour(interface.ifindex).unwrap();
    let detours = Detours::from_descriptors(&loaded.descriptors().unwrap()).unwrap();
    detours.lead_to(Share::WHOLE, interface.ifindex, Duration::from_secs(600)).unwrap();
    let rows = [(lab.a.ifindex, A, 1), (lab.b.ifindex, B, 2)];
    for (ifindex, identity, number) in rows {
        let waits = Waits::or(OnFault::Drop);
        lab.tables
            .set_endpoint(ifindex, Endpoint { identity, number, waits, ..Endpoint::default() })
            .unwrap();
    }
    // Of a connection between two pods of the node one end is inspected, and at the other it is clean.
    let (socket, inspected) = (interface.open_detour().unwrap(), lab.b.ifindex);
    let thread =
        Thread::start(move |ended| answer_detour(DetourReader::new(socket), ended, (inspected, how)));
    Answering {
        threads: vec![thread],
        end: Box::new(move |lab| {
            for (ifindex, identity, number) in rows {
                lab.tables
                    .set_endpoint(ifindex, Endpoint { identity, number, ..Endpoint::default() })
                    .unwrap();
            }
            drop(way);
            interface.remove().unwrap();
        }),
    }
}

const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What becomes of a packet, once it is looked at as is measured.
fn judge(bytes: &[u8], how: How, done: &mut Answered, inspection: &mut Inspection) -> Fate {
    let clean = how == How::Clean && done.packets >= FIRST;
    done.packets += 1;
    done.bytes += bytes.len() as u64;
    if how == How::Inspected {
        let Inspection { engine, matcher, matches } = inspection;
        engine.frame(nv_capture::wall_nanos(), Link::Raw, bytes, &mut Watcher(matcher, matches));
    }
    if clean { Fate::Clean } else { Fate::Pass }
}

fn answer_queue(queue: &Queue, ended: &AtomicBool, how: How) -> Answered {
    let mut reader = QueueReader::new(queue.reader().unwrap());
    let (mut done, mut inspection) = (Answered::default(), Inspection::new());
    let begun = thread_cpu();
    while !ended.load(Ordering::Relaxed) {
        poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&WAIT)).unwrap();
        let mut answers = Vec::new();
        let drained = reader.drain(64, |queued| {
            let fate = judge(queued.bytes, how, &mut done, &mut inspection);
            answers.push(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
        });
        drained.unwrap();
        queue.answer(answers.into_iter()).unwrap();
    }
    assert_eq!(inspection.matches, 0, "there is nothing to be found");
    done.cpu = thread_cpu() - begun;
    done
}

fn answer_detour(mut reader: DetourReader, ended: &AtomicBool, (inspected, how): (u32, How)) -> Answered {
    let (mut done, mut inspection) = (Answered::default(), Inspection::new());
    let begun = thread_cpu();
    while !ended.load(Ordering::Relaxed) {
        poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&WAIT)).unwrap();
        let drained = reader.drain(64, |waiting| match waiting.ifindex == inspected {
            true => judge(waiting.bytes, how, &mut done, &mut inspection),
            false => Fate::Clean,
        });
        drained.unwrap();
    }
    assert_eq!((inspection.matches, reader.lost().unwrap()), (0, 0), "there is nothing to be found");
    done.cpu = thread_cpu() - begun;
    done
}
