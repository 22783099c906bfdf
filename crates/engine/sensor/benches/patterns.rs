//! What patterns cost on one core, as ratios of CPU time to inspection without any, in one run: `cargo bench -p nv-sensor`.
//!
//! Two loads: HTTP answers of 64 KiB, made here, and, with `NV_CAPTURES=<folder of pcap files>`, real traffic, all
//! Ethernet captures of the folder at once and several times over. Three sets: 13 patterns of DLP, these and 240 words,
//! and, with `NV_RULES=<folder of the Core Rule Set>`, the set's expressions that compile, in turns for URL, header and
//! body. The runs with and without take turns, so that other work on the machine meets both.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nv_dpi::OverlapPolicy;
use nv_dpi::content::Content;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_dpi::limits::Limits;
use nv_packet::capture_file::CaptureFile;
use nv_packet::link::Link;
use nv_sensor::matcher::{self, Matcher};
use nv_sensor::predefined;
use nv_sensor::sensor::{Action, Context, Kind as SensorKind, Pattern, Rule, Sensor};
use nv_sensor::set::SensorSet;

/// Rounds of each measurement; the best counts, because other work on the machine only ever adds.
const ROUNDS: usize = 5;
const BYTES: usize = 200_000_000;
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
}

/// Takes what an engine tells, and matches it where there is a set.
struct Watcher {
    matcher: Option<Matcher>,
    matches: u64,
}

impl Sink for Watcher {
    fn event(&mut self, event: &Event<'_>) {
        if let (Kind::Closed(_), Some(matcher)) = (&event.kind, &mut self.matcher) {
            matcher.closed(event.session, event.at, &mut |_| self.matches += 1);
        }
    }
    fn content(&mut self, content: &Content<'_>) {
        if let Some(matcher) = &mut self.matcher {
            matcher.content(content, &mut |_| self.matches += 1);
        }
    }
}

fn main() {
    let mut sets = vec![("13 patterns", compile(&data()))];
    let words = [data(), words()].concat();
    sets.push(("253 patterns", compile(&words)));
    match std::env::var_os("NV_RULES").map(PathBuf::from) {
        Some(folder) => sets.push(("rule set", rule_set(&folder))),
        None => println!("rule set: not measured, NV_RULES names no folder of rules"),
    }
    println!("load, set: CPU s without, CPU s with, ratio, MB/s with, matches");
    measure("http64k", &bodies(64 * 1024, BYTES), &sets);
    match std::env::var_os("NV_CAPTURES").map(PathBuf::from) {
        Some(folder) => measure("mixed", &mixed(&folder), &sets),
        None => println!("mixed: not measured, NV_CAPTURES names no folder of captures"),
    }
}

fn measure(name: &str, load: &Load, sets: &[(&str, Arc<SensorSet>)]) {
    let (mut bare, mut spent) = (f64::MAX, vec![(f64::MAX, 0); sets.len()]);
    for _ in 0..ROUNDS {
        bare = bare.min(run(load, None).0);
        for ((_, set), best) in sets.iter().zip(&mut spent) {
            let (seconds, matches) = run(load, Some(set));
            assert!(best.1 == 0 || best.1 == matches, "the same traffic gave other matches");
            *best = (best.0.min(seconds), matches);
        }
    }
    for ((set, _), (seconds, matches)) in sets.iter().zip(&spent) {
        println!(
            "{name}, {set}: {bare:.2}, {seconds:.2}, {:.2}x, {:.0}, {matches}",
            seconds / bare,
            load.bytes.len() as f64 / 1e6 / seconds
        );
    }
}

fn run(load: &Load, set: Option<&Arc<SensorSet>>) -> (f64, u64) {
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    let matcher = set.map(|set| Matcher::new(Arc::clone(set), matcher::Limits::default()));
    let mut watcher = Watcher { matcher, matches: 0 };
    let before = cpu();
    for (at, start, length) in &load.frames {
        engine.frame(*at, Link::Ethernet, &load.bytes[*start..*start + *length], &mut watcher);
    }
    engine.finish(&mut watcher);
    (cpu() - before, watcher.matches)
}

/// CPU seconds of this process (proc(5)).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn compile(sensors: &[Sensor]) -> Arc<SensorSet> {
    let begin = Instant::now();
    let set = SensorSet::compile(sensors).unwrap();
    println!("{} patterns compiled in {:.0} ms", set.patterns(), begin.elapsed().as_secs_f64() * 1e3);
    Arc::new(set)
}

fn pattern(context: Context, value: &str) -> Pattern {
    Pattern { value: value.to_owned(), absent: false, context, check: None }
}

fn sensor(name: &str, patterns: Vec<Pattern>) -> Sensor {
    let rule =
        |(number, pattern)| Rule { name: format!("rule.{number}"), id: number, patterns: vec![pattern] };
    let rules = (20_000_u32..).zip(patterns).map(rule).collect();
    Sensor { name: name.to_owned(), kind: SensorKind::Dlp, action: Action::Allow, rules }
}

/// The eight numbers of the predefined sensors and five secrets.
fn data() -> Vec<Sensor> {
    let secrets = [
        "-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----",
        "AKIA[0-9A-Z]{16}",
        r"(?i)\bconfidential\b",
        r"ghp_[0-9A-Za-z]{36}",
        r"(?i)password\s{0,8}[:=]\s{0,8}\S{6}",
    ];
    let secrets = secrets.iter().map(|value| pattern(Context::Packet, value)).collect();
    let mut sensors: Vec<Sensor> =
        predefined::sensors().into_iter().filter(|sensor| sensor.kind == SensorKind::Dlp).collect();
    sensors.push(sensor("sensor.secrets", secrets));
    sensors
}

/// 240 words in any case.
fn words() -> Vec<Sensor> {
    let mut patterns = Vec::new();
    for first in ["pro", "con", "inter", "over", "under", "trans", "multi", "sub"] {
        for second in ["ject", "tract", "cess", "form", "mark", "vent"] {
            for third in ["plan", "list", "data", "code", "file"] {
                patterns.push(pattern(Context::Packet, &format!("(?i){first}{second}[ -]?{third}")));
            }
        }
    }
    vec![sensor("sensor.words", patterns)]
}

/// Expressions of a rule set that compile.
fn rule_set(folder: &Path) -> Arc<SensorSet> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut patterns = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "conf")) {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let Some(start) = line.find("\"@rx ").or_else(|| line.find("\"!@rx ")) else { continue };
            let (Some(end), Some(space)) = (line.rfind("\""), line[start..].find(' ')) else { continue };
            if end > start + space {
                patterns.push(line[start + space + 1..end].to_owned());
            }
        }
    }
    let contexts = [Context::Url, Context::Header, Context::Body];
    let (mut taken, mut refused) = (Vec::new(), std::collections::BTreeMap::<String, usize>::new());
    for (at, value) in patterns.iter().enumerate() {
        let one = pattern(contexts[at % 3], value);
        match SensorSet::compile(&[sensor("one", vec![one.clone()])]) {
            Ok(_) => taken.push(one),
            Err(errors) => {
                *refused.entry(errors[0].error.to_string().chars().take(60).collect()).or_default() += 1;
            }
        }
    }
    // Those that must run on every byte have to fit into one automaton together.
    loop {
        match SensorSet::compile(&[sensor("sensor.rules", taken.clone())]) {
            Ok(set) => {
                println!("rule set: {} of {} expressions, without {refused:?}", taken.len(), patterns.len());
                return Arc::new(set);
            }
            Err(errors) => {
                for error in errors {
                    *refused.entry(error.error.to_string().chars().take(60).collect()).or_default() += 1;
                    taken.retain(|one| Some(&one.value) != error.pattern.as_ref());
                }
            }
        }
    }
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
    let copies = BYTES.div_ceil(bytes.max(1));
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
