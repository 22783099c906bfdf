//! Meters of an engine, as an inspector tells them.

use std::cmp::Reverse;
use std::net::IpAddr;

use nv_dpi::engine::Engine;
use nv_dpi::meter::Meter;
use nv_model::question::{MAX_METERS, MeterEntry};

use super::Told;

/// Meters of one word: they fit into a packet of the socket.
pub(super) const PIECE: usize = 64;

/// The words that answer a question: those nearest to their limit first.
pub(super) fn words(engine: &Engine, ask: u64) -> Vec<Told> {
    let mut meters: Vec<Meter> = engine.meters().collect();
    // In thousandths of the limit.
    let near = |meter: &Meter| u64::from(meter.count) * 1000 / u64::from(meter.upper.max(1));
    meters.sort_by_key(|meter| (Reverse(near(meter)), meter.target, meter.peer));
    meters.truncate(MAX_METERS);
    let mut words: Vec<Told> = meters
        .chunks(PIECE)
        .map(|piece| Told::Meters { ask, meters: piece.iter().map(entry).collect(), more: true })
        .collect();
    match words.last_mut() {
        Some(Told::Meters { more, .. }) => *more = false,
        _ => words.push(Told::Meters { ask, meters: Vec::new(), more: false }),
    }
    words
}

/// Whose the target is, and whether anything is stopped there, the agent knows.
fn entry(meter: &Meter) -> (IpAddr, MeterEntry) {
    let Meter { kind, target, peer, count, span_count, span, upper, lower, idle } = *meter;
    let entry =
        MeterEntry { kind, workload: None, peer, count, span_count, span, upper, lower, idle, tap: true };
    (target, entry)
}
