//! Real captures, sent differently: `NV_CAPTURES=<folder> cargo bench -p nv-dpi --bench recut`.
//!
//! Every TCP segment of every capture is cut at random, its parts are shuffled and some are sent twice; what is told must
//! be what is told of the capture as it is. Then, for `NV_SECONDS` (default 20), frames with changed bytes: nothing may
//! panic, and the engine must be empty afterwards.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nv_dpi::OverlapPolicy;
use nv_dpi::content::{Content, Part};
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_dpi::key::Side;
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;
use nv_packet::link::Link;

type Frames = Vec<(u64, Link, Vec<u8>)>;

/// Numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % sides.max(1)
    }
}

fn main() {
    let Some(folder) = std::env::var_os("NV_CAPTURES").map(PathBuf::from) else {
        println!("recut: not run, NV_CAPTURES names no folder of captures");
        return;
    };
    let captures = captures(&folder);
    let (mut same, mut sessions, mut differ) = (0, 0, Vec::new());
    for (path, frames) in &captures {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let plain = told(frames);
        sessions += plain.len();
        let again = told(&frames.iter().flat_map(|frame| scatter(frame, &mut dice)).collect());
        if plain == again {
            same += 1;
        } else {
            let first = plain.iter().find(|(session, events)| again.get(*session) != Some(events));
            differ.push(format!(
                "{}: {first:?}, then {:?}",
                path.display(),
                first.and_then(|(session, _)| again.get(session))
            ));
        }
    }
    println!("recut: {same} of {} captures tell the same, {sessions} sessions", captures.len());
    for line in &differ {
        println!("  {line:.900}");
    }
    let seconds = std::env::var("NV_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    broken(&captures, Duration::from_secs(seconds));
}

/// Captures of a folder with at least one frame that is read.
fn captures(folder: &Path) -> Vec<(PathBuf, Frames)> {
    let (mut out, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut frames = Vec::new();
            // A file that is no capture, or breaks off, has the frames that it has.
            let _outcome = read_records(std::fs::File::open(&path).unwrap(), |record| {
                frames.extend(record.link.map(|link| (record.at, link, record.frame.to_vec())));
            });
            if !frames.is_empty() {
                out.push((path, frames));
            }
        }
    }
    out.sort_by(|(a, _), (b, _)| a.cmp(b));
    out
}

/// What is told: of each session its events, and of each part of what it says its bytes.
#[derive(Default)]
struct Told {
    events: BTreeMap<u64, Vec<String>>,
    said: BTreeMap<u64, BTreeMap<(bool, u32), Vec<Said>>>,
}

/// A part of a message: which, its bytes so far.
type Said = (u8, u64, DefaultHasher);

impl Sink for Told {
    fn event(&mut self, event: &Event<'_>) {
        let line = match &event.kind {
            Kind::Closed(summary) => {
                format!("{:?} {:?} {}", summary.endpoints, summary.application, summary.midstream)
            }
            Kind::Threat { threat, side, .. } => format!("{threat:?} {side:?}"),
            Kind::Conflict { .. } => return,
            other => format!("{other:?}"),
        };
        self.events.entry(event.session.0).or_default().push(line);
    }
    fn content(&mut self, content: &Content<'_>) {
        let (part, bytes) = match content.part {
            Part::Url(bytes) => (0, bytes),
            Part::Header(bytes) => (1, bytes),
            Part::Body(_, bytes) => (2, bytes),
            Part::Packet(bytes) => (3, bytes),
            Part::Datagram(bytes) => (4, bytes),
            Part::Hole => (5, &b""[..]),
            Part::End => (6, &b""[..]),
        };
        let said = self.said.entry(content.session.0).or_default();
        let parts = said.entry((content.side == Side::Client, content.transaction)).or_default();
        if parts.last().is_none_or(|(last, ..)| *last != part) {
            parts.push((part, 0, DefaultHasher::new()));
        }
        if let Some((_, length, hash)) = parts.last_mut() {
            *length += bytes.len() as u64;
            for byte in bytes {
                hash.write_u8(*byte);
            }
        }
    }
}

/// What is told of each session, without times, sizes and what only repetition shows.
fn told(frames: &Frames) -> BTreeMap<u64, Vec<String>> {
    let mut sink = Told::default();
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    for (at, link, frame) in frames {
        engine.frame(*at, *link, frame, &mut sink);
    }
    engine.finish(&mut sink);
    for (session, said) in sink.said {
        for (message, parts) in said {
            let parts: Vec<_> =
                parts.iter().map(|(part, length, hash)| (part, length, hash.finish())).collect();
            sink.events.entry(session).or_default().push(format!("said {message:?} {parts:?}"));
        }
    }
    sink.events
}

/// A frame as several: parts of its TCP payload in any order, some twice. Frames of other kinds stay.
fn scatter(whole: &(u64, Link, Vec<u8>), dice: &mut Dice) -> Frames {
    let (at, link, frame) = whole;
    let cut = || {
        if *link != Link::Ethernet
            || frame.get(12..14)? != [8, 0]
            || frame.get(14)? >> 4 != 4
            || *frame.get(23)? != 6
        {
            return None;
        }
        let header = usize::from(frame[14] & 15) * 4;
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let tcp = 14 + header;
        let offset = usize::from(frame.get(tcp + 12)? >> 4) * 4;
        let (start, end) = (tcp + offset, 14 + length);
        // Not fragments, not what the capture cut, and not what has a flag that ends something.
        let plain = frame[20] & 0x3F == 0 && frame[21] == 0 && frame.get(tcp + 13)? & 7 == 0;
        (plain && offset >= 20 && end <= frame.len() && start + 1 < end).then_some((tcp, start, end))
    };
    let Some((tcp, start, end)) = cut() else { return vec![whole.clone()] };
    let sequence = u32::from_be_bytes([frame[tcp + 4], frame[tcp + 5], frame[tcp + 6], frame[tcp + 7]]);
    let mut parts = Vec::new();
    let mut from = start;
    while from < end {
        let to = (from + 1 + dice.roll(400)).min(end);
        let mut part = frame[..start].to_vec();
        part.extend_from_slice(&frame[from..to]);
        let length = u16::try_from(part.len() - 14).unwrap();
        part[16..18].copy_from_slice(&length.to_be_bytes());
        let number = sequence.wrapping_add(u32::try_from(from - start).unwrap());
        part[tcp + 4..tcp + 8].copy_from_slice(&number.to_be_bytes());
        if dice.roll(8) == 0 {
            parts.push((*at, *link, part.clone()));
        }
        parts.push((*at, *link, part));
        from = to;
    }
    // The part that brings the beginning stays first where nothing else says where the stream begins.
    for index in (2..parts.len()).rev() {
        parts.swap(index, 1 + dice.roll(index));
    }
    parts
}

fn broken(captures: &[(PathBuf, Frames)], time: Duration) {
    let begin = Instant::now();
    let mut dice = Dice(0x1234_5678_9ABC_DEF1);
    let (mut frames, mut rounds) = (0_u64, 0_u64);
    while begin.elapsed() < time {
        for (path, capture) in captures {
            let mut engine = Engine::new(&Limits::default(), OverlapPolicy::Last, 1);
            let mut sink = |_: &Event<'_>| {};
            for (at, link, frame) in capture {
                let mut frame = frame.clone();
                for _ in 0..dice.roll(4) {
                    let place = dice.roll(frame.len());
                    if let Some(byte) = frame.get_mut(place) {
                        *byte = u8::try_from(dice.roll(256)).unwrap();
                    }
                }
                if dice.roll(10) == 0 {
                    frame.truncate(dice.roll(frame.len() + 1));
                }
                engine.frame(*at, *link, &frame, &mut sink);
                frames += 1;
            }
            engine.finish(&mut sink);
            let left = (engine.flows(), engine.in_use());
            assert!(left == (0, (0, 0)), "{left:?} left behind by {}", path.display());
        }
        rounds += 1;
    }
    println!("broken frames: {frames} in {rounds} rounds, no panic, nothing left behind");
}
