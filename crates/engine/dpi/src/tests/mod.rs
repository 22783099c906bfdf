//! Tests on frames and streams that are written out by hand, never by the code under test.

mod content;
pub(crate) mod conversation;
mod flows;
mod recognition;
mod segmentation;
mod steady;
mod streams;
