//! Any number of needles by three or four bytes of each (q-grams; Salmela, Tarhio and Kytöjoki, "Multipattern string
//! matching with q-grams", 2006): a table says of the bytes at a place whether they may be among those.
//!
//! Each needle gives as many pieces, one byte apart, as places are passed over: one of them lies where the next look goes.

use super::{Place, rarity};

/// Bits of a piece's hash. A table with a byte for each stays in the nearest cache.
const HASH_BITS: u32 = 15;
/// Bytes of the table.
const TABLE: usize = 1 << HASH_BITS;
/// Bits of a hash by which a piece is looked for among the pieces.
const BUCKET_BITS: u32 = 10;
/// Places between two looks, at most.
const MAX_STRIDE: usize = 8;
/// Looks before it is asked whether one of them found something.
const LOOKS: usize = 8;
/// What makes lower case of letters in four bytes; other bytes may become the same, which verifying tells apart.
const FOLD: u32 = 0x2020_2020;

/// Pieces of needles.
#[derive(Clone)]
pub(super) struct Grams {
    /// Bytes of a piece that count.
    mask: u32,
    stride: usize,
    /// 1 where the hash is a piece's.
    table: Box<[u8; TABLE]>,
    /// The pieces in the order of their hashes, and where they come from.
    pieces: Vec<(u32, Place)>,
    /// Where in `pieces` those begin whose hash begins so.
    buckets: Box<[u32]>,
}

impl std::fmt::Debug for Grams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grams")
            .field("stride", &self.stride)
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

/// A piece's place in the table.
fn hash(piece: u32) -> usize {
    usize::try_from(piece.wrapping_mul(0x9E37_79B1) >> (u32::BITS - HASH_BITS)).unwrap_or(0)
}

/// The part of the pieces where one with this hash lies.
fn bucket(hash: usize) -> usize {
    hash >> (HASH_BITS - BUCKET_BITS)
}

/// The piece that begins with `text`.
fn piece(text: &[u8], mask: u32) -> Option<u32> {
    let bytes = match text {
        [a, b, c, d, ..] => [*a, *b, *c, *d],
        [a, b, c] => [*a, *b, *c, 0],
        _ => return None,
    };
    Some((u32::from_le_bytes(bytes) | FOLD) & mask)
}

impl Grams {
    pub(super) fn new(needles: &[Vec<u8>]) -> Option<Self> {
        let shortest = needles.iter().map(Vec::len).min().filter(|shortest| *shortest >= 3)?;
        let (width, mask) = if shortest >= 5 { (4, u32::MAX) } else { (3, 0x00FF_FFFF) };
        let stride = shortest.saturating_sub(width).saturating_add(1).min(MAX_STRIDE);
        let mut pieces = Vec::new();
        for (index, needle) in (0_u16..).zip(needles) {
            // The rarest stretch of the needle that is long enough.
            let stretch = stride.saturating_add(width).saturating_sub(1);
            let worth = |stretch: &[u8]| stretch.windows(width).map(rarity).min().unwrap_or(0);
            let (at, _) =
                needle.windows(stretch).enumerate().max_by_key(|(at, stretch)| (worth(stretch), *at))?;
            for before in at..at.saturating_add(stride) {
                let piece = piece(needle.get(before..before.saturating_add(width))?, mask)?;
                pieces.push((piece, (index, u8::try_from(before).ok()?)));
            }
        }
        pieces.sort_unstable_by_key(|(piece, place)| (hash(*piece), *piece, *place));
        let behind = |part: usize| pieces.partition_point(|(piece, _)| bucket(hash(*piece)) < part);
        let buckets =
            (0..=1 << BUCKET_BITS).map(|part| u32::try_from(behind(part)).unwrap_or(u32::MAX)).collect();
        let mut table: Box<[u8; TABLE]> = vec![0; TABLE].into_boxed_slice().try_into().ok()?;
        for (piece, _) in &pieces {
            if let Some(place) = table.get_mut(hash(*piece)) {
                *place = 1;
            }
        }
        Some(Self { mask, stride, table, pieces, buckets })
    }

    pub(super) fn find(&self, data: &[u8], verify: &mut impl FnMut(usize, Place)) {
        // One loop a stride, so that the places of its looks are known when it is compiled.
        match self.stride {
            1 => self.look::<1, 11>(data, verify),
            2 => self.look::<2, 18>(data, verify),
            3 => self.look::<3, 25>(data, verify),
            4 => self.look::<4, 32>(data, verify),
            5 => self.look::<5, 39>(data, verify),
            6 => self.look::<6, 46>(data, verify),
            7 => self.look::<7, 53>(data, verify),
            _ => self.look::<8, 60>(data, verify),
        }
    }

    /// Looks at every `STRIDE`th place; `SPAN` bytes are what [`LOOKS`] looks need.
    fn look<const STRIDE: usize, const SPAN: usize>(
        &self,
        data: &[u8],
        verify: &mut impl FnMut(usize, Place),
    ) {
        let mut at = 0_usize;
        while let Some(block) = data.get(at..).and_then(<[u8]>::first_chunk::<SPAN>) {
            let mut found = 0_u32;
            for look in 0..LOOKS {
                let start = look.wrapping_mul(STRIDE);
                let Some(text) = block.get(start..).and_then(<[u8]>::first_chunk::<4>) else { continue };
                found |= u32::from(self.may_be((u32::from_le_bytes(*text) | FOLD) & self.mask)) << look;
            }
            // Each turn takes a look away.
            while found != 0 {
                let look = usize::try_from(found.trailing_zeros()).unwrap_or(LOOKS);
                self.hit(data, at.saturating_add(look.wrapping_mul(STRIDE)), verify);
                found &= found.wrapping_sub(1);
            }
            at = at.saturating_add(STRIDE.wrapping_mul(LOOKS));
        }
        while at < data.len() {
            self.hit(data, at, verify);
            at = at.saturating_add(STRIDE);
        }
    }

    fn may_be(&self, piece: u32) -> u8 {
        self.table.get(hash(piece)).copied().unwrap_or(0)
    }

    fn hit(&self, data: &[u8], at: usize, verify: &mut impl FnMut(usize, Place)) {
        let Some(piece) = data.get(at..).and_then(|text| piece(text, self.mask)) else { return };
        if self.may_be(piece) == 0 {
            return;
        }
        let part = bucket(hash(piece));
        let place = |part: usize| {
            self.buckets.get(part).and_then(|at| usize::try_from(*at).ok()).unwrap_or(self.pieces.len())
        };
        let same = self.pieces.get(place(part)..place(part.saturating_add(1))).unwrap_or_default();
        for (_, place) in same.iter().filter(|(other, _)| *other == piece) {
            verify(at, *place);
        }
    }
}
