//! Inspection on one core, as ratios of CPU time in one run: `cargo bench -p nv-dpi`.
//!
//! Two loads: HTTP answers of 64 KiB, made here, and, with `NV_CAPTURES=<folder of pcap files>`, real traffic: all
//! Ethernet captures of the folder at once, each several times with other addresses, up to 500 MB. Against a copy of the
//! same bytes, and against `ndpiReader` (Debian's libndpi-bin) where it is installed; for that one, both read the packets
//! from the same file. Each run must give the same events, or the figures mean nothing.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and stops when its data is wrong"
)]

mod load;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind};
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;
use nv_packet::link::Link;

use load::{Load, SECOND, bodies, mixed, segment};

/// Rounds of each measurement; the best counts, because other work on the machine only ever adds.
const ROUNDS: usize = 5;
const MIXED_BYTES: usize = 500_000_000;

impl Load {
    /// As a classic capture with microseconds.
    fn capture(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + self.frames.len() * 16 + 24);
        for word in [0xA1B2_C3D4_u32, 0x0002_0004, 0, 0, 262_144, 1] {
            let word = if word == 0x0002_0004 { 0x0004_0002 } else { word };
            out.extend(word.to_le_bytes());
        }
        for (at, start, length) in &self.frames {
            let length = u32::try_from(*length).unwrap();
            for word in [
                u32::try_from(at / SECOND).unwrap(),
                u32::try_from(at % SECOND / 1000).unwrap(),
                length,
                length,
            ] {
                out.extend(word.to_le_bytes());
            }
            out.extend(self.frame(*start, length as usize));
        }
        out
    }
}

fn main() {
    idle();
    println!(
        "load, Mpackets, MB, CPU s, Gbit/s, of a copy, allocations a packet in the second pass, of ndpiReader"
    );
    measure("http64k", &bodies(64 * 1024, 600_000_000));
    match std::env::var_os("NV_CAPTURES").map(PathBuf::from) {
        Some(folder) => measure("mixed", &mixed(&folder, MIXED_BYTES)),
        None => println!("mixed: not measured, NV_CAPTURES names no folder of captures"),
    }
}

/// Memory of a million flows that say nothing.
fn idle() {
    let limits = Limits { flows: 1 << 20, ..Limits::default() };
    let mut kept = None;
    let mut frame = segment(0, true, 2, (0, 0), b"");
    let measured = allocation_counter::measure(|| {
        let engine = kept.insert(Engine::new(&limits, OverlapPolicy::First, 1));
        for flow in 0..1_000_000_u32 {
            frame[27..30].copy_from_slice(&flow.to_be_bytes()[1..]);
            engine.frame(SECOND, Link::Ethernet, &frame, &mut |_: &Event<'_>| {});
        }
    });
    let flows = kept.map_or(0, |engine| engine.flows());
    println!("idle: {flows} flows, {:.0} MB", measured.bytes_current as f64 / 1e6);
}

/// CPU seconds of this process, and of its children that have ended (proc(5)).
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|f| f.parse().unwrap())
        .collect();
    ((fields[0] + fields[1]) / 100.0, (fields[2] + fields[3]) / 100.0)
}

fn best(mut run: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| run()).fold(f64::MAX, f64::min)
}

fn inspect(engine: &mut Engine, load: &Load, shift: u64) -> (u64, u64) {
    let (mut sessions, mut events) = (0, 0);
    let mut sink = |event: &Event<'_>| {
        events += 1;
        sessions += u64::from(matches!(event.kind, Kind::Closed(_)));
    };
    for (at, start, length) in &load.frames {
        engine.frame(at + shift, Link::Ethernet, load.frame(*start, *length), &mut sink);
    }
    engine.finish(&mut sink);
    (sessions, events)
}

fn measure(name: &str, load: &Load) {
    let mut told = None;
    let ours = best(|| {
        let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
        let before = cpu().0;
        let events = inspect(&mut engine, load, 0);
        let spent = cpu().0 - before;
        assert!(*told.get_or_insert(events) == events, "the same traffic gave other events");
        spent
    });
    let mut copy = vec![0_u8; 65_536];
    let floor = best(|| {
        let before = cpu().0;
        for _ in 0..10 {
            for (_, start, length) in &load.frames {
                let frame = load.frame(*start, *length);
                copy[..frame.len()].copy_from_slice(frame);
                black_box(&copy);
            }
        }
        (cpu().0 - before) / 10.0
    });
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    inspect(&mut engine, load, 0);
    let again = allocation_counter::measure(|| {
        inspect(&mut engine, load, 10_000 * SECOND);
    });
    let packets = load.frames.len() as f64;
    let anchor = ndpi(load).map_or("not installed".to_owned(), |(ndpi, ours)| {
        format!("{:.2}x ({ndpi:.2} s and {ours:.2} s, with reading the file)", ndpi / ours)
    });
    let (sessions, events) = told.unwrap();
    println!(
        "{name}: {:.2}, {:.0}, {ours:.2}, {:.1}, {:.3}, {:.4}, {anchor}; {sessions} sessions, {events} events",
        packets / 1e6,
        load.bytes.len() as f64 / 1e6,
        load.bytes.len() as f64 * 8.0 / 1e9 / ours,
        floor / ours,
        again.count_total as f64 / packets,
    );
}

/// CPU seconds of ndpiReader, and ours, on the same file; `None` where it is not installed.
fn ndpi(load: &Load) -> Option<(f64, f64)> {
    let path = std::env::temp_dir().join(format!("nv-dpi-bench-{}.pcap", std::process::id()));
    std::fs::write(&path, load.capture()).unwrap();
    let mut ran = true;
    let (mut ndpi, mut ours) = (f64::MAX, f64::MAX);
    // In turns, so that other work on the machine meets both.
    for _ in 0..ROUNDS {
        let before = cpu().1;
        let reader = Command::new("ndpiReader")
            .args(["-q", "-i"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran &= reader.is_ok();
        ndpi = ndpi.min(cpu().1 - before);
        let before = cpu().0;
        let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
        let mut events = 0_u64;
        let mut sink = |_: &Event<'_>| events += 1;
        read_records(std::fs::File::open(&path).unwrap(), |record| {
            engine.frame(record.at, Link::Ethernet, record.frame, &mut sink);
        })
        .unwrap();
        engine.finish(&mut sink);
        black_box(events);
        ours = ours.min(cpu().0 - before);
    }
    std::fs::remove_file(&path).unwrap();
    ran.then_some((ndpi, ours))
}
