//! What patterns cost on one core, as ratios of CPU time to inspection without any, in one run: `cargo bench -p nv-sensor`.
//!
//! Two loads: HTTP answers of 64 KiB, made here, and, with `NV_CAPTURES=<folder of pcap files>`, real traffic, all
//! Ethernet captures of the folder at once and several times over. Three sets: 13 patterns of DLP, these and 240 words,
//! and, with `NV_RULES=<folder of the Core Rule Set>`, the set's expressions that compile, in turns for URL, header and
//! body. The runs with and without take turns, so that other work on the machine meets both. `NV_ONLY=mixed` measures
//! one load, `NV_ONLY="13 patterns"` one set, `NV_ONLY="mixed,13 patterns"` one set on one load; `NV_ROUNDS` says how
//! often, and `NV_BYTES` how many bytes.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench prints, and stops when its data is wrong"
)]

#[path = "../../dpi/benches/load/mod.rs"]
mod load;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nv_dpi::OverlapPolicy;
use nv_dpi::content::{Content, Part};
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_dpi::limits::Limits;
use nv_packet::link::Link;
use nv_sensor::matcher::{self, Matcher};
use nv_sensor::predefined;
use nv_sensor::sensor::{Action, Context, Kind as SensorKind, Pattern, Rule, Sensor};
use nv_sensor::set::SensorSet;

use load::{Load, bodies, mixed};

/// Rounds of each measurement; the best counts, because other work on the machine only ever adds.
const ROUNDS: usize = 5;
/// The loads by their names.
const LOADS: [&str; 2] = ["http64k", "mixed"];
/// The sets by their names.
const SETS: [&str; 3] = ["13 patterns", "253 patterns", "rule set"];
const BYTES: usize = 200_000_000;

/// Takes what an engine tells, and matches it where there is a set.
struct Watcher {
    matcher: Option<Matcher>,
    matches: u64,
    /// Pieces and bytes of URLs, headers, bodies and everything else.
    told: [(u64, usize); 4],
}

impl Sink for Watcher {
    fn event(&mut self, event: &Event<'_>) {
        if let (Kind::Closed(_), Some(matcher)) = (&event.kind, &mut self.matcher) {
            matcher.closed(event.session, event.at, &mut |_| self.matches += 1);
        }
    }
    fn content(&mut self, content: &Content<'_>) {
        if let Some(matcher) = &mut self.matcher {
            return matcher.content(content, &mut |_| self.matches += 1);
        }
        let (at, bytes) = match content.part {
            Part::Url(bytes) => (0, bytes),
            Part::Header(bytes) => (1, bytes),
            Part::Body(_, bytes) => (2, bytes),
            Part::Packet(bytes) | Part::Datagram(bytes) => (3, bytes),
            Part::Hole | Part::End => return,
        };
        let told = &mut self.told[at];
        *told = (told.0 + 1, told.1 + bytes.len());
    }
}

fn main() {
    let only = std::env::var("NV_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').collect();
    let wanted = |name: &str, of: &[&str]| only.contains(&name) || !of.iter().any(|one| only.contains(one));
    let [data, words] = [data(), [data(), words()].concat()];
    let mut sets = Vec::new();
    for (name, sensors) in SETS.iter().zip([&data, &words]).filter(|(name, _)| wanted(name, &SETS)) {
        sets.push((*name, compile(sensors)));
    }
    match std::env::var_os("NV_RULES").map(PathBuf::from) {
        Some(folder) if wanted(SETS[2], &SETS) => sets.push((SETS[2], rule_set(&folder))),
        _ => println!("rule set: not measured, NV_RULES names no folder of rules, or NV_ONLY another set"),
    }
    let bytes = number("NV_BYTES").unwrap_or(BYTES);
    let [first, second] = LOADS.map(|load| wanted(load, &LOADS));
    println!(
        "load, set: CPU s without, CPU s with, ratio of these, median ratio of pairs, MB/s with, matches"
    );
    if first {
        measure("http64k", &bodies(64 * 1024, bytes), &sets);
    }
    match std::env::var_os("NV_CAPTURES").map(PathBuf::from).filter(|_| second) {
        Some(folder) => measure("mixed", &mixed(&folder, bytes), &sets),
        None => println!("mixed: not measured, NV_CAPTURES names no folder of captures"),
    }
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

fn measure(name: &str, load: &Load, sets: &[(&str, Arc<SensorSet>)]) {
    let (mut bare, mut spent) = (f64::MAX, vec![(f64::MAX, 0, Vec::new()); sets.len()]);
    let mut told = Default::default();
    for _ in 0..number("NV_ROUNDS").unwrap_or(ROUNDS) {
        let without = run(load, None);
        bare = bare.min(without.seconds);
        told = without.told;
        for ((_, set), best) in sets.iter().zip(&mut spent) {
            let Ran { seconds, matches, .. } = run(load, Some(set));
            assert!(best.1 == 0 || best.1 == matches, "the same traffic gave other matches");
            (best.0, best.1) = (best.0.min(seconds), matches);
            best.2.push(seconds / without.seconds);
        }
    }
    let mut copy = vec![0; load.bytes.len()];
    let copied = (0..ROUNDS).map(|_| {
        let before = cpu();
        copy.copy_from_slice(std::hint::black_box(&load.bytes));
        std::hint::black_box(&copy);
        cpu() - before
    });
    let copied = copied.fold(f64::MAX, f64::min);
    let [url, header, body, packet] =
        told.map(|(pieces, bytes): (u64, usize)| format!("{pieces} pieces, {:.1} MB", bytes as f64 / 1e6));
    println!(
        "{name}, {} frames: URLs {url}; headers {header}; bodies {body}; other {packet}",
        load.frames.len()
    );
    println!("{name}, copying it: {copied:.3}, {:.0} MB/s", load.bytes.len() as f64 / 1e6 / copied);
    for ((set, _), (seconds, matches, pairs)) in sets.iter().zip(&mut spent) {
        pairs.sort_by(f64::total_cmp);
        println!(
            "{name}, {set}: {bare:.3}, {seconds:.3}, {:.2}x, {:.2}x, {:.0}, {matches}",
            *seconds / bare,
            pairs[pairs.len() / 2],
            load.bytes.len() as f64 / 1e6 / *seconds
        );
    }
}

/// What a run took and found.
struct Ran {
    seconds: f64,
    matches: u64,
    told: [(u64, usize); 4],
}

fn run(load: &Load, set: Option<&Arc<SensorSet>>) -> Ran {
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    let matcher = set.map(|set| Matcher::new(Arc::clone(set), matcher::Limits::default()));
    let mut watcher = Watcher { matcher, matches: 0, told: Default::default() };
    let before = cpu();
    for (at, start, length) in &load.frames {
        engine.frame(*at, Link::Ethernet, load.frame(*start, *length), &mut watcher);
    }
    engine.finish(&mut watcher);
    Ran { seconds: cpu() - before, matches: watcher.matches, told: watcher.told }
}

/// CPU seconds of this thread, by the scheduler's own clock (proc(5)), which it brings up to date when a thread yields: a
/// tick is too long for one round.
fn cpu() -> f64 {
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
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
