//! What a TCP stream between two pods costs whose packets wait for an answer, against one whose packets do not:
//! interleaved transfers, as ratios of CPU a byte. Once the connection is clean after its first packets at both pods: what
//! is left is what the rules cost. Once each packet is asked about at the server's, and answered at once by this process:
//! how much one CPU can read and answer. Needs root. `ROUNDS` and `MEGABYTES` set how many and how long.
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
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;
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
    let (mut costs, mut speeds) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut rates = Vec::new();
    for round in 0..rounds {
        let mut order = [How::Not, How::Clean, How::Each];
        // Each comes at each place equally often, so that a slow change of the machine's load evens out.
        order.rotate_left(round % 3);
        let mut runs = [Moved { gigabits: 0.0, cpu: 0.0 }; 3];
        for how in order {
            let (moved, answered) = run(lab, address, megabytes, how);
            runs[how as usize] = moved;
            if how == How::Each {
                rates.push(answered.bytes as f64 * 8.0 / 1e9 / answered.cpu.as_secs_f64());
            }
        }
        for (at, (costs, speeds)) in costs.iter_mut().zip(&mut speeds).enumerate() {
            costs.push(runs[at + 1].cpu / runs[0].cpu);
            speeds.push(runs[at + 1].gigabits / runs[0].gigabits);
        }
    }
    for (at, what) in ["clean after the first packets", "each packet asked about"].iter().enumerate() {
        println!("{address} {what} / no queue: CPU a byte {}", spread(&mut costs[at]));
        println!("{address} {what} / no queue: speed      {}", spread(&mut speeds[at]));
    }
    println!("{address} Gbit read and answered in a second of CPU: {}", spread(&mut rates));
}

fn run(lab: &Lab, address: IpAddr, megabytes: usize, how: How) -> (Moved, Answered) {
    if how == How::Not {
        return (transfer(lab, address, megabytes), Answered::default());
    }
    let (server, client) = (Waiting::start(&lab.b, how), Waiting::start(&lab.a, How::Clean));
    let moved = transfer(lab, address, megabytes);
    let (answered, passed) = (server.end(), client.end());
    assert!(how == How::Each || answered.packets < 10 * FIRST, "{answered:?}: clean is asked about on");
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
    let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !ended.load(Ordering::Relaxed) {
        poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap();
        let mut answers = Vec::new();
        reader
            .drain(64, |queued| {
                let clean = how == How::Clean && done.packets >= FIRST;
                let fate = if clean { Fate::Clean } else { Fate::Pass };
                done.packets += 1;
                done.bytes += queued.bytes.len() as u64;
                answers.push(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
            })
            .unwrap();
        queue.answer(answers.into_iter()).unwrap();
    }
    done.cpu = thread_cpu();
    done
}
