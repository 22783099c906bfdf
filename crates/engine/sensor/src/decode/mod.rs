//! Decoders that take bytes as they come: what they give depends on the stream alone, never on where it was cut.
//!
//! Each keeps a few bytes at most (a whole window for compressed content), each is total, and what one cannot read it
//! passes on as it is, or says so.

pub mod base64;
pub mod content;
mod escape;
pub mod html;
pub mod percent;
