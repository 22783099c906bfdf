//! Packets as bytes: what a frame says, layer by layer, down to the payload of TCP, UDP or ICMP. Pure: no I/O, no
//! clock, no allocation for a packet; every slice that comes out points into the frame that went in.
//!
//! ```text
//! [`capture_file`] ──record──► [`decode`] ── [`link`] ─► [`network`] ─► [`transport`] ──► Packet
//!                                  ▲                        │  ▲              │
//!                                  └── [`tunnel`] ◄─────────┘  └──────────────┘   at most MAX_LAYERS steps
//! ```
//!
//! Fragments are collected by [`defragment`], and what comes out is read on from where the first header ended.
//!
//! [`filter`] says which frames of a capture somebody wants.
//!
//! A frame that lies about itself gives a [`error::DecodeError`] that names the layer; a frame of a protocol that is
//! not ours is no error. Each outcome is counted in [`decode::Counters`].
#![forbid(unsafe_code)]

pub mod capture_file;
pub mod capture_stream;
pub mod checksum;
pub mod decode;
pub mod defragment;
pub mod error;
pub mod filter;
pub mod link;
pub mod network;
mod read;
pub mod transport;
pub mod tunnel;

#[cfg(test)]
mod tests;
