//! Layer-7 inspection: which application talks, what it says, and which attacks it shows. Pure: packets come in with
//! their time, events go out; no I/O, no clock, no thread.
//!
//! ```text
//! frame ─► nv-packet ─► [`engine`] ─► flow (table, timer wheel) ─► stream (holes, overlaps) ─► reader (units)
//!                                                                                                 │
//!                                       [`event::Event`] ◄── parser of the protocol ◄─────────────┘
//! ```
//!
//! One [`engine::Engine`] is one shard for one core. What a flow costs is bounded ([`limits`]), what a bound drops is
//! counted ([`counters`]), and in steady state no packet allocates.
#![forbid(unsafe_code)]

mod attack;
mod connection;
pub mod content;
pub mod counters;
pub mod engine;
pub mod event;
mod flow;
pub mod key;
pub mod limits;
pub mod meter;
mod pool;
mod protocol;
mod reader;
mod segments;
mod stream;
mod table;
#[cfg(test)]
mod tests;
pub mod threat;
pub mod trial;
mod wheel;

pub use segments::OverlapPolicy;
