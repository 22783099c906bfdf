//! A few needles by three bytes of each, in vectors of bytes (the algorithm "Teddy").

use std::collections::BTreeMap;

use aho_corasick::Span;
use aho_corasick::packed::{MatchKind, Searcher};

use super::{Place, rarity};

/// Bytes of a piece.
const PIECE: usize = 3;
/// Pieces, each in every case its letters can have.
const MAX_PIECES: usize = 64;
/// Bytes that are enough for vectors.
const ENOUGH: usize = 64;

/// Pieces of needles.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    searcher: Searcher,
    /// Where each piece comes from, by its number.
    places: Vec<Vec<Place>>,
}

impl Packed {
    pub(super) fn new(needles: &[Vec<u8>]) -> Option<Self> {
        let mut pieces: BTreeMap<Vec<u8>, Vec<Place>> = BTreeMap::new();
        for (index, needle) in (0_u16..).zip(needles) {
            let (at, piece) =
                needle.windows(PIECE).enumerate().max_by_key(|(at, piece)| (rarity(piece), *at))?;
            for piece in cases(piece) {
                pieces.entry(piece).or_default().push((index, u8::try_from(at).ok()?));
            }
            if pieces.len() > MAX_PIECES {
                return None;
            }
        }
        let mut builder = aho_corasick::packed::Config::new()
            .match_kind(MatchKind::LeftmostFirst)
            .only_teddy(true)
            .builder();
        builder.extend(pieces.keys());
        Some(Self { searcher: builder.build()?, places: pieces.into_values().collect() })
    }

    pub(super) fn find(&self, data: &[u8], verify: &mut impl FnMut(usize, Place)) {
        // A text too short for vectors would be looked at byte by byte: zeros make it longer. What they add to the last
        // places is no needle, because a needle lies within the text.
        let mut longer = [0; ENOUGH];
        let text = if data.len() < self.searcher.minimum_len().min(ENOUGH) {
            for (place, byte) in longer.iter_mut().zip(data) {
                *place = *byte;
            }
            longer.as_slice()
        } else {
            data
        };
        let mut span = Span { start: 0, end: text.len() };
        // Each turn goes on by a byte at least. No two pieces begin at the same place: all have the same length.
        while let Some(piece) = self.searcher.find_in(text, span) {
            for place in self.places.get(piece.pattern().as_usize()).map_or(&[][..], Vec::as_slice) {
                verify(piece.start(), *place);
            }
            span.start = piece.start().saturating_add(1);
        }
    }
}

/// A piece with its letters in every case.
fn cases(piece: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    for byte in piece {
        let mut cased = vec![byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
        cased.dedup();
        all = all
            .iter()
            .flat_map(|before| {
                cased.iter().map(|byte| {
                    let mut piece = before.clone();
                    piece.push(*byte);
                    piece
                })
            })
            .collect();
    }
    all
}
