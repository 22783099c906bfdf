//! Throughput of one TCP stream to a pod whose packets wait for an answer, against one whose packets do not: interleaved
//! runs of iperf3, as ratios. Once the connection is clean after its first packets, once each packet is asked about, and
//! answered at once by this process: what is left is what queue, rules and connection tracking cost. Needs root and
//! iperf3. `PAIRS` and `SECONDS` set how many and how long.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nv_capture::queue::{Answer, Fate, OnFault, Queue, QueueReader};
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[path = "../tests/host_network/lab.rs"]
mod lab;

use lab::{A, B, Lab};

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

fn main() {
    let number = |name: &str, default: u32| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (pairs, seconds) = (number("PAIRS", 7), number("SECONDS", 2));
    for address in ["10.77.0.3", "fd77::3"] {
        lab::run(|lab| measure(lab, address, pairs, seconds));
    }
}

fn measure(lab: &mut Lab, address: &str, pairs: u32, seconds: u32) {
    lab.modes(Protect, Protect);
    lab.allow((A, B), Tcp, 5201);
    let mut server = lab.b.inside(|| {
        Command::new("iperf3")
            .args(["-s", "-i", "0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("iperf3 is installed")
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut ratios = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        let mut order = [How::Not, How::Clean, How::Each];
        // Each comes at each place equally often, so that a slow change of the machine's load evens out.
        order.rotate_left(usize::try_from(pair % 3).unwrap_or(0));
        let mut speeds = [0.0; 3];
        for how in order {
            let (gigabits, asked) = run(lab, address, seconds, how);
            println!("{address} {how:?}: {gigabits:6.2} Gb/s, {asked} packets asked about");
            speeds[how as usize] = gigabits;
        }
        for (at, ratios) in ratios.iter_mut().enumerate() {
            ratios.push(speeds[at + 1] / speeds[0]);
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let [clean, each] = &mut ratios;
    println!("{address} clean after {FIRST} packets / no queue: {}", spread(clean));
    println!("{address} each packet asked about / no queue:    {}", spread(each));
}

/// Gigabits a second, and how many packets were asked about.
fn run(lab: &Lab, address: &str, seconds: u32, how: How) -> (f64, u64) {
    if how == How::Not {
        return (iperf(lab, address, seconds), 0);
    }
    let queue = Arc::new(lab.b.inside(|| Queue::open_here(OnFault::Drop).unwrap()));
    let mut reader = QueueReader::new(queue.reader().unwrap());
    let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (answering, count, ended) = (Arc::clone(&queue), Arc::clone(&asked), Arc::clone(&stop));
    let thread = std::thread::spawn(move || {
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !ended.load(Ordering::Relaxed) {
            poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&wait)).unwrap();
            let mut answers = Vec::new();
            reader
                .drain(64, |queued| {
                    let clean = how == How::Clean && count.fetch_add(1, Ordering::Relaxed) >= FIRST;
                    let fate = if clean { Fate::Clean } else { Fate::Pass };
                    answers.push(Answer { queue: 0, packet: queued.packet, mark: queued.mark, fate });
                })
                .unwrap();
            if how == How::Each {
                count.fetch_add(answers.len() as u64, Ordering::Relaxed);
            }
            answering.answer(answers.into_iter()).unwrap();
        }
    });
    let gigabits = iperf(lab, address, seconds);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    Arc::into_inner(queue).unwrap().remove().unwrap();
    (gigabits, asked.load(Ordering::Relaxed))
}

fn iperf(lab: &Lab, address: &str, seconds: u32) -> f64 {
    let output = lab.a.inside(|| {
        Command::new("iperf3")
            .args(["-c", address, "-J", "-i", "0", "-t", &seconds.to_string()])
            .output()
            .unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = text.split_once("\"sum_received\":").unwrap_or_else(|| panic!("{text}"));
    let (_, rest) = rest.split_once("\"bits_per_second\":").unwrap();
    let value: f64 = rest.trim_start().split([',', '\n', '}']).next().unwrap().trim().parse().unwrap();
    value / 1e9
}

/// Median, and the quartiles around it.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    format!("{:.3} (quartiles {:.3} to {:.3}, {} runs)", at(2), at(1), at(3), values.len())
}
