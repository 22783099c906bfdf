//! The graph of conversations: who talks to whom, over what, how much, and what was decided about it.
//!
//! ```text
//! ConnectionObservation ── resolver ──► [`graph::Graph`] ──► [`view`]: list and detail of conversations
//!   (each end's node reports)             │    │      └────► [`map`]: at most 500 marks with positions
//!                                         │    └───────────► checkpoint, and back after a restart
//!                                         └ bounded: entries a link, links, entries in all; drops are counted
//! ```
//!
//! Pure: no clock, no I/O. Times come with the observations.
#![forbid(unsafe_code)]

pub mod graph;
mod layout;
pub mod link;
pub mod map;
pub mod view;

#[cfg(test)]
mod testing;
