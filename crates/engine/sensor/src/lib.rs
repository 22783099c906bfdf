//! Sensors: what of a message looks like data that must not leave (DLP) or like an attack on what it is sent to (WAF).
//!
//! ```text
//! sensors ─► [`set::SensorSet::compile`] (off the path of the packets) ─► set, swapped whole
//!                                                                          │
//! nv-dpi's pieces ─► [`matcher::Matcher`] ─► message ─► decoders ─► stream ─┴► [`matcher::Match`]
//! ```
//!
//! A message (a request, an answer, a datagram, a stream of another protocol) has a rule's patterns or has them not,
//! wherever its bytes were cut and whatever of [`decode`]'s was wrapped around them.
#![forbid(unsafe_code)]

mod armor;
mod bits;
mod body;
pub mod check;
mod class;
mod compile;
pub mod decode;
mod literal;
pub mod matcher;
mod message;
pub mod model;
mod needles;
pub mod predefined;
mod program;
pub mod rule_set;
pub mod sensor;
pub mod set;
mod span;
mod stream;
#[cfg(test)]
mod tests;
mod text;

pub use compile::PatternError;
