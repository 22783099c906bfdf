//! Any bytes go through every protocol's parser.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_dpi::content::Content;
use nv_dpi::event::{Event, Sink};
use nv_dpi::key::Side;
use nv_dpi::trial;

struct Nobody;

impl Sink for Nobody {
    fn event(&mut self, _: &Event<'_>) {}
    fn content(&mut self, _: &Content<'_>) {}
}

// The protocol's number, then pieces: a byte whose lowest bit is the side and whose others are the length (in 2 bytes).
fuzz_target!(|bytes: &[u8]| {
    let Some((protocol, mut rest)) = bytes.split_first() else { return };
    let mut pieces = Vec::new();
    while let [head, after @ ..] = rest {
        let side = if head & 1 == 0 { Side::Client } else { Side::Server };
        let (piece, after) = after.split_at((usize::from(head >> 1) * 2).min(after.len()));
        pieces.push((side, piece));
        rest = after;
    }
    trial::read(usize::from(*protocol) % trial::protocols(), &pieces, &mut Nobody);
});
