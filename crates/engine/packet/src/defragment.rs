//! Fragments back to datagrams (RFC 791 §3.2, RFC 8200 §4.5), in bounded memory.
//!
//! Fragments that overlap are never joined: no sender makes them, and whoever does wants the receiver and the
//! inspection to read two different datagrams (RFC 5722, RFC 3128). Exact duplicates are let through.

use std::net::IpAddr;

use crate::decode::Packet;
use crate::network::Network;

/// Datagrams that are waited for at once; a new one takes the place of the oldest.
pub const MAX_DATAGRAMS: usize = 256;
/// Pieces of one datagram that arrive out of order, at most.
pub const MAX_PIECES: usize = 128;
/// How long a datagram's pieces are kept from the first one on, in nanoseconds (10 s).
pub const PATIENCE: u64 = 10_000_000_000;
/// Largest payload of a datagram, in bytes.
const MAX_BYTES: usize = 65_535;

/// What a fragment led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defragmented<'a> {
    /// More pieces are needed.
    Pending,
    /// All pieces are there: read the payload with [`crate::decode::decode_payload`].
    Whole(Network, &'a [u8]),
    /// The fragment overlaps another one: the datagram is given up.
    Overlap,
    /// The fragment is not possible (beyond 65,535 bytes, a middle piece that is no multiple of 8, two ends, too
    /// many pieces, cut by the capture): the datagram is given up.
    Impossible,
}

/// How many fragments had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragmentCounters {
    /// Datagrams put together.
    pub whole: u64,
    /// Datagrams given up because pieces overlap.
    pub overlapping: u64,
    /// Datagrams given up because of an impossible piece.
    pub impossible: u64,
    /// Datagrams that were not whole in time.
    pub late: u64,
    /// Datagrams that made room for others.
    pub evicted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    since: u64,
    /// Given up: pieces that still come are swallowed, until the time is over.
    broken: bool,
    /// Header of the first piece: the one that names the payload (RFC 8200 §4.5).
    first: Option<Network>,
    /// Length, known from the last piece.
    total: Option<usize>,
    /// Sorted, not touching, not overlapping.
    pieces: Vec<(usize, usize)>,
    data: Vec<u8>,
}

/// Collects fragments. Memory: at most [`MAX_DATAGRAMS`] × 64 KiB.
#[derive(Debug, Default)]
pub struct Defragmenter {
    open: Vec<Datagram>,
    /// The datagram that was given out last, and buffers to use again.
    whole: Vec<u8>,
    spare: Vec<Datagram>,
    /// What happened so far.
    pub counters: DefragmentCounters,
}

impl Defragmenter {
    /// Takes the fragment `packet`, seen at `now` (nanoseconds, any origin, not decreasing).
    /// A packet that is no fragment gives [`Defragmented::Impossible`].
    pub fn push(&mut self, now: u64, packet: &Packet<'_>) -> Defragmented<'_> {
        let Some(fragment) = packet.network.fragment else { return Defragmented::Impossible };
        self.expire(now);
        let key = Key {
            source: packet.network.source,
            destination: packet.network.destination,
            id: fragment.id,
            // The protocol of an IPv6 fragment is that of its own header chain: the id alone tells datagrams apart.
            protocol: if packet.network.source.is_ipv4() { packet.network.protocol } else { 0 },
        };
        let index = self.slot(key, now);
        let Some(datagram) = self.open.get_mut(index) else { return Defragmented::Pending };
        if datagram.broken {
            return Defragmented::Pending;
        }
        let offset = usize::try_from(fragment.offset).unwrap_or(usize::MAX);
        let outcome = if packet.network.cut {
            Piece::Impossible
        } else {
            if offset == 0 {
                datagram.first = Some(packet.network);
            }
            datagram.insert(offset, packet.body, fragment.more)
        };
        match outcome {
            Piece::Kept => Defragmented::Pending,
            Piece::Last => {
                let mut done = self.open.swap_remove(index);
                self.counters.whole = self.counters.whole.saturating_add(1);
                let length = done.total.unwrap_or(0);
                std::mem::swap(&mut self.whole, &mut done.data);
                let network = Network { fragment: None, ..done.first.unwrap_or(packet.network) };
                self.spare.push(done);
                Defragmented::Whole(network, self.whole.get(..length).unwrap_or_default())
            }
            Piece::Overlap => {
                datagram.broken = true;
                self.counters.overlapping = self.counters.overlapping.saturating_add(1);
                Defragmented::Overlap
            }
            Piece::Impossible => {
                datagram.broken = true;
                self.counters.impossible = self.counters.impossible.saturating_add(1);
                Defragmented::Impossible
            }
        }
    }

    /// Lets go of what is too old.
    fn expire(&mut self, now: u64) {
        let mut index = 0;
        while let Some(datagram) = self.open.get(index) {
            if now.saturating_sub(datagram.since) < PATIENCE {
                index = index.saturating_add(1);
                continue;
            }
            let old = self.open.swap_remove(index);
            self.counters.late = self.counters.late.saturating_add(u64::from(!old.broken));
            self.spare.push(old);
        }
    }

    fn slot(&mut self, key: Key, now: u64) -> usize {
        if let Some(index) = self.open.iter().position(|datagram| datagram.key == key) {
            return index;
        }
        if self.open.len() >= MAX_DATAGRAMS
            && let Some(oldest) =
                (0..self.open.len()).min_by_key(|index| self.open.get(*index).map(|d| d.since))
        {
            let old = self.open.swap_remove(oldest);
            self.counters.evicted = self.counters.evicted.saturating_add(1);
            self.spare.push(old);
        }
        let mut datagram = self.spare.pop().unwrap_or(Datagram {
            key,
            since: now,
            broken: false,
            first: None,
            total: None,
            pieces: Vec::new(),
            data: Vec::new(),
        });
        (datagram.key, datagram.since, datagram.broken) = (key, now, false);
        (datagram.first, datagram.total) = (None, None);
        datagram.pieces.clear();
        datagram.data.clear();
        self.open.push(datagram);
        self.open.len().saturating_sub(1)
    }
}

enum Piece {
    Kept,
    Last,
    Overlap,
    Impossible,
}

impl Datagram {
    fn insert(&mut self, start: usize, body: &[u8], more: bool) -> Piece {
        let end = start.saturating_add(body.len());
        if end > MAX_BYTES || (more && !body.len().is_multiple_of(8)) || body.is_empty() {
            return Piece::Impossible;
        }
        let known = match (self.total, more) {
            (Some(total), false) if total != end => return Piece::Impossible,
            (Some(total), true) if end > total => return Piece::Impossible,
            (_, false) => Some(end),
            (known, true) => known,
        };
        if let Some(total) = known
            && self.pieces.last().is_some_and(|(_, last)| *last > total)
        {
            return Piece::Impossible;
        }
        let at = self.pieces.partition_point(|(_, other_end)| *other_end <= start);
        if let Some((other_start, other_end)) = self.pieces.get(at)
            && *other_start < end
        {
            let same = *other_start <= start
                && end <= *other_end
                && self.data.get(start..end).is_some_and(|old| old == body);
            return if same { Piece::Kept } else { Piece::Overlap };
        }
        if self.pieces.len() >= MAX_PIECES {
            return Piece::Impossible;
        }
        self.total = known;
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        if let Some(place) = self.data.get_mut(start..end) {
            place.copy_from_slice(body);
        }
        self.pieces.insert(at, (start, end));
        self.join(at);
        match (self.total, self.pieces.as_slice()) {
            (Some(total), [(0, end)]) if *end == total => Piece::Last,
            _ => Piece::Kept,
        }
    }

    /// Joins the piece at `at` with neighbours that it touches.
    fn join(&mut self, at: usize) {
        if let (Some((_, end)), Some((next, next_end))) =
            (self.pieces.get(at).copied(), self.pieces.get(at.saturating_add(1)).copied())
            && end == next
        {
            if let Some(piece) = self.pieces.get_mut(at) {
                piece.1 = next_end;
            }
            self.pieces.remove(at.saturating_add(1));
        }
        if let Some(before) = at.checked_sub(1)
            && let (Some((_, end)), Some((start, own_end))) =
                (self.pieces.get(before).copied(), self.pieces.get(at).copied())
            && end == start
        {
            if let Some(piece) = self.pieces.get_mut(before) {
                piece.1 = own_end;
            }
            self.pieces.remove(at);
        }
    }
}
