//! What an engine has done, and what its bounds have cost.

/// Counts since the start of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows begun.
    pub flows: u64,
    /// Flows that made room for others.
    pub flows_evicted: u64,
    /// Packets of protocols that have no flow (not TCP, UDP or ICMP).
    pub packets_without_flow: u64,
    /// Segments with bytes that had been seen before.
    pub segments_repeated: u64,
    /// Segments that came before others that belong in front.
    pub segments_reordered: u64,
    /// Segments far outside of what the stream can be at.
    pub segments_out_of_window: u64,
    /// Bytes that came twice with different content, as events.
    pub conflicts: u64,
    /// Holes in streams that were given up, and their bytes.
    pub gaps: u64,
    /// Bytes in these holes.
    pub gap_bytes: u64,
    /// Holes given up because a direction, or all, held too many bytes.
    pub gaps_for_room: u64,
    /// Directions in which a parser lost its place, after a gap or because of what it read.
    pub parsers_lost: u64,
    /// Directions in which it found a place to go on.
    pub parsers_resumed: u64,
    /// Flows not identified because all parsers were in use.
    pub parsers_refused: u64,
    /// Messages not put together because all buffers were in use.
    pub carries_refused: u64,
    /// Units longer than [`crate::limits::MAX_UNIT_BYTES`].
    pub units_overlong: u64,
    /// Senders that made room for others in the meters.
    pub senders_evicted: u64,
}

/// Adds one.
pub(crate) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
