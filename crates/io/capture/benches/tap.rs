//! How many copies of a TCP stream between two pods find no room: the stream goes as fast as the veths do, and one thread
//! reads every frame of it, headers and payload. The ring holds some 20 ms of it: what is dropped on a machine with other work
//! to do says how long that kept the reader from its CPU. Needs root. `ROUNDS` and `MEGABYTES` set how many and how long.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nv_capture::{Frames, Share, Tap, TapInterface};
use nv_model::mode::Mode::Discover;

#[path = "../tests/host_network/lab.rs"]
mod lab;
mod stream;

use lab::Lab;
use stream::{number, spread, thread_cpu, transfer};

/// What one reader has read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    frames: u64,
    bytes: u64,
    dropped: u64,
    cpu: Duration,
}

fn main() {
    let (rounds, megabytes) = (number("ROUNDS", 9), number("MEGABYTES", 1000));
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for address in [lab.b.v4, lab.b.v6] {
            measure(lab, address, rounds, megabytes);
        }
    });
}

fn measure(lab: &Lab, address: IpAddr, rounds: usize, megabytes: usize) {
    let (mut speeds, mut rates, mut all) = (Vec::new(), Vec::new(), Read::default());
    for _ in 0..rounds {
        let (speed, read) = run(lab, address, megabytes);
        speeds.push(speed);
        rates.push(read.bytes as f64 * 8.0 / 1e9 / read.cpu.as_secs_f64());
        all.frames += read.frames;
        all.dropped += read.dropped;
    }
    println!("{address} Gb/s of the stream: {}", spread(&mut speeds));
    println!("{address} Gbit read in a second of CPU: {}", spread(&mut rates));
    println!("{address} frames read {}, dropped {}", all.frames, all.dropped);
}

fn run(lab: &Lab, address: IpAddr, megabytes: usize) -> (f64, Read) {
    let descriptors = lab.loaded.as_ref().unwrap().descriptors().unwrap();
    let tap = Tap::from_descriptors(&descriptors).unwrap();
    let interface = TapInterface::make("nvtap-b").unwrap();
    let frames = Frames::map(interface.open(Share::WHOLE).unwrap(), Share::WHOLE).unwrap();
    tap.copy_to(Share::WHOLE, interface.ifindex, Duration::from_secs(600)).unwrap();
    let stop = AtomicBool::new(false);
    let (moved, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(frames, &stop));
        let moved = transfer(lab, address, megabytes);
        stop.store(true, Ordering::Relaxed);
        (moved, reading.join().unwrap())
    });
    tap.stop(Share::WHOLE).unwrap();
    interface.remove().unwrap();
    // A frame is of at most 64 KiB with its headers.
    assert!(
        read.bytes + read.dropped * 66_000 > megabytes as u64 * 1_000_000,
        "{read:?}: not all was copied"
    );
    (moved.gigabits, read)
}

fn read(mut frames: Frames, stop: &AtomicBool) -> Read {
    // As urgent as inspectors are. On Linux it is the thread's own.
    rustix::process::setpriority_process(None, -(i32::try_from(number("URGENCY", 10)).unwrap())).unwrap();
    let mut done = Read::default();
    loop {
        let ends = stop.load(Ordering::Relaxed);
        let came = frames.wait(Duration::from_millis(50)).unwrap();
        frames.drain(|_, frame| {
            done.frames += 1;
            done.bytes += frame.len() as u64;
            // As inspection does, at least, with what it passes over.
            black_box(frame.iter().step_by(64).fold(0_u8, |sum, byte| sum ^ byte));
        });
        if ends && !came {
            break;
        }
    }
    done.dropped = frames.dropped().unwrap();
    done.cpu = thread_cpu();
    done
}
