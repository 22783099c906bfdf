//! Any frames go through inspection, and it holds nothing of them when it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Sink};
use nv_dpi::limits::Limits;
use nv_packet::link::Link;

struct Nobody;

impl Sink for Nobody {
    fn event(&mut self, _: &Event<'_>) {}
}

// Frames, each behind a byte of its length (in 8 bytes) and one of the time that has passed.
fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { flows: 64, parsers: 16, pages: 16, held_bytes: 16 << 10, carries: 8, senders: 64 };
    let mut engine = Engine::new(&limits, OverlapPolicy::First, 1);
    let (mut rest, mut now) = (bytes, 1_000_000_000);
    while let [length, time, after @ ..] = rest {
        let (frame, after) = after.split_at((usize::from(*length) * 8).min(after.len()));
        now += u64::from(*time) * 100_000_000;
        engine.frame(now, Link::Ethernet, frame, &mut Nobody);
        rest = after;
    }
    engine.finish(&mut Nobody);
    let (parsers, pages) = engine.in_use();
    assert_eq!((parsers, pages), (0, 0));
});
