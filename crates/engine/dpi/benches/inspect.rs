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

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind};
use nv_dpi::limits::Limits;
use nv_packet::capture_file::CaptureFile;
use nv_packet::capture_stream::read_records;
use nv_packet::link::Link;

/// Rounds of each measurement; the best counts, because other work on the machine only ever adds.
const ROUNDS: usize = 5;
const MIXED_BYTES: usize = 500_000_000;
const SECOND: u64 = 1_000_000_000;

/// Frames in the order of their time, in one block of memory.
#[derive(Default)]
struct Load {
    bytes: Vec<u8>,
    frames: Vec<(u64, usize, usize)>,
}

impl Load {
    fn push(&mut self, at: u64, frame: &[u8]) {
        self.frames.push((at, self.bytes.len(), frame.len()));
        self.bytes.extend_from_slice(frame);
    }
    fn frame(&self, start: usize, length: usize) -> &[u8] {
        &self.bytes[start..start + length]
    }
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
        Some(folder) => measure("mixed", &mixed(&folder)),
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

/// 64 connections at a time that fetch JSON of `size` bytes, again and again, up to `most` bytes.
fn bodies(size: usize, most: usize) -> Load {
    let mut load = Load::default();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n");
    let body: Vec<u8> = (0..size).map(|at| b"{\"id\":12345,\"name\":\"abcdef\"},"[at % 29]).collect();
    let answer = [head.as_bytes(), &body].concat();
    let mut sequences = [(1_u32, 1_u32); 64];
    let mut now = SECOND;
    for port in 0..64_u16 {
        for (to_server, flags) in [(true, 2), (false, 0x12), (true, 0x10)] {
            now += 1000;
            let numbers = if flags & 2 != 0 { (0, u32::from(flags == 0x12)) } else { (1, 1) };
            load.push(now, &segment(port, to_server, flags, numbers, b""));
        }
    }
    let mut turn = 0_usize;
    while load.bytes.len() < most {
        turn += 1;
        for port in 0..64_u16 {
            let (client, server) = sequences[usize::from(port)];
            let request =
                format!("GET /item/{turn} HTTP/1.1\r\nHost: api.example\r\nUser-Agent: bench/1\r\n\r\n");
            load.push(now, &segment(port, true, 0x18, (client, server), request.as_bytes()));
            let client = client.wrapping_add(u32::try_from(request.len()).unwrap());
            let mut next = server;
            for part in answer.chunks(1460) {
                now += 1000;
                load.push(now, &segment(port, false, 0x10, (next, client), part));
                next = next.wrapping_add(u32::try_from(part.len()).unwrap());
            }
            load.push(now, &segment(port, true, 0x10, (client, next), b""));
            sequences[usize::from(port)] = (client, next);
        }
    }
    load
}

/// An Ethernet frame between 10.0.0.1:10000+`port` and 10.0.0.2:80.
fn segment(
    port: u16,
    to_server: bool,
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(u16::try_from(payload.len() + 40).unwrap().to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (from, to) = if to_server { (client, server) } else { (server, client) };
    let (source, destination) = if to_server { (10_000 + port, 80) } else { (80, 10_000 + port) };
    frame.extend(from);
    frame.extend(to);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledged.to_be_bytes());
    frame.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// All captures of a folder, interleaved over a minute, each as often as it takes, with other IPv4 addresses each time.
fn mixed(folder: &Path) -> Load {
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let Ok(mut capture) = CaptureFile::open(&bytes) else { continue };
            let mut first = None;
            while let Ok(Some(record)) = capture.read() {
                if record.link == Some(Link::Ethernet) && record.frame.len() <= 65_536 {
                    let start = *first.get_or_insert(record.at);
                    found.push((record.at.saturating_sub(start) % (60 * SECOND), record.frame.to_vec()));
                }
            }
        }
    }
    // A stable sort keeps the order of a flow.
    found.sort_by_key(|(at, _)| *at);
    let bytes: usize = found.iter().map(|(_, frame)| frame.len()).sum();
    let copies = MIXED_BYTES.div_ceil(bytes.max(1));
    let mut load = Load::default();
    for (at, frame) in &mut found {
        for copy in 0..copies {
            if let Some(ip) = frame.get_mut(14..34).filter(|_| copy > 0)
                && ip[0] >> 4 == 4
            {
                // The second byte of both addresses.
                ip[13] = ip[13].wrapping_add(1);
                ip[17] = ip[17].wrapping_add(1);
            }
            load.push(SECOND + *at, frame);
        }
    }
    load
}
