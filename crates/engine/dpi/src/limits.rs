//! What one engine may use. Every bound has a counter in [`crate::counters::Counters`] that says how often it was hit.

/// Bounds of one engine (one shard, one core).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows at once; beyond it the least useful one near a moving hand makes room.
    pub flows: u32,
    /// Flows whose application is being read at once; flows beyond it are counted and not identified.
    pub parsers: u32,
    /// Pages of 2 KiB for segments that came out of order, in all.
    pub pages: u32,
    /// Bytes out of order that one direction of a connection may hold.
    pub held_bytes: u32,
    /// Buffers for messages that a segment border cuts, at once.
    pub carries: u32,
    /// Senders whose rates are watched.
    pub senders: u32,
}

impl Default for Limits {
    /// 262,144 flows, 65,536 parsers, 32 MiB of segments.
    fn default() -> Self {
        Self {
            flows: 1 << 18,
            parsers: 1 << 16,
            pages: 1 << 14,
            held_bytes: 1 << 20,
            carries: 1 << 12,
            senders: 1 << 12,
        }
    }
}

/// Longest unit of a protocol (a header line, a message) that is put together, in bytes.
pub const MAX_UNIT_BYTES: usize = 32 * 1024;

/// Bytes at the start of a direction that may decide which protocol it is.
pub const MAX_PROBE_BYTES: usize = 1024;

/// Datagrams, or segments of a connection whose start was missed, that are looked at for a protocol, each way.
pub const MAX_PROBES: u8 = 16;

/// How long a hole in a stream is waited for when nobody acknowledges what lies behind it, in seconds.
pub const HOLE_SECONDS: u32 = 5;

/// How long a flow without packets is kept, in seconds.
pub mod patience {
    /// TCP, handshake not finished.
    pub const OPENING: u32 = 20;
    /// TCP, established.
    pub const ESTABLISHED: u32 = 1200;
    /// TCP, established, until the client has said anything: then it is noted as silent, and kept.
    pub const SILENT: u32 = 30;
    /// TCP, one side has said its last.
    pub const HALF_CLOSED: u32 = 90;
    /// TCP, both sides have, or one has reset.
    pub const CLOSED: u32 = 15;
    /// UDP.
    pub const UDP: u32 = 30;
    /// ICMP and ICMPv6.
    pub const ICMP: u32 = 5;
}
