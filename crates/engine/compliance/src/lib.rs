//! Benchmarks: their items, and whether what was found keeps to them.
#![forbid(unsafe_code)]

mod image;
mod item;

pub use image::{ImageUnderTest, judge_image};
pub use item::{Item, Judged, Level};
