//! Compressed content (RFC 9110 §8.4.1): gzip, deflate and brotli, decompressed as it comes and within bounds.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};

/// Bytes that come out of one body at most: what is behind is not looked at, and that is told.
pub const MAX_DECODED_BYTES: u64 = 8 << 20;
/// Bytes that come out for one that goes in, once a body is larger than [`FREE_BYTES`]. Deflate makes 1,032 at most;
/// no text comes near.
const MAX_RATIO: u64 = 200;
/// Decompressed bytes to which no ratio holds: short pages of one line may be anything.
const FREE_BYTES: u64 = 1 << 20;
/// Decompressed bytes that are given out at a time.
const PIECE_BYTES: usize = 8 * 1024;
/// Longest header of a gzip member.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// deflate: zlib (RFC 1950), or without it as some servers send.
    Deflate,
    /// br (RFC 7932).
    Brotli,
}

impl Coding {
    /// By its name in a Content-Encoding or grpc-encoding, in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is(b"gzip") => Some(Self::Gzip),
            6 if is(b"x-gzip") => Some(Self::Gzip),
            7 if is(b"deflate") => Some(Self::Deflate),
            2 if is(b"br") => Some(Self::Brotli),
            _ => None,
        }
    }
}

/// Why content cannot be decompressed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It is not what its name says.
    #[error("the content is not compressed as it says; look at the sender")]
    Broken,
    /// It is larger than what is looked at.
    #[error(
        "the content is larger than {MAX_DECODED_BYTES} bytes or grows more than {MAX_RATIO} times; what is behind is not looked at"
    )]
    TooLarge,
}

/// Decompresses one body.
pub struct Content {
    kind: Kind,
    taken: u64,
    given: u64,
    failed: Option<ContentError>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("taken", &self.taken)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

enum Kind {
    Gzip(Gzip),
    /// Before its first byte, which says whether zlib is around it.
    Deflate(Option<Decompress>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
}

impl Content {
    /// A decoder at the beginning of a body.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        let kind = match coding {
            Coding::Gzip => Kind::Gzip(Gzip {
                place: Place::Fixed(0),
                flags: 0,
                header: 0,
                inflate: Decompress::new(false),
            }),
            Coding::Deflate => Kind::Deflate(None),
            Coding::Brotli => Kind::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
        };
        Self { kind, taken: 0, given: 0, failed: None }
    }

    /// Decompresses the next bytes; `give` gets what comes out, in pieces.
    ///
    /// # Errors
    /// When nothing more can be read, the same for every later call. What came out before was given.
    pub fn push(&mut self, input: &[u8], give: &mut dyn FnMut(&[u8])) -> Result<(), ContentError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.taken = self.taken.saturating_add(input.len() as u64);
        let (taken, mut given) = (self.taken, self.given);
        let mut counted = |piece: &[u8]| {
            given = given.saturating_add(piece.len() as u64);
            give(piece);
            has_room(taken, given)
        };
        let outcome = self.kind.push(input, &mut counted);
        self.given = given;
        self.failed = outcome.err();
        outcome
    }
}

/// Whether more may come out of a body.
fn has_room(taken: u64, given: u64) -> bool {
    given < FREE_BYTES.max(taken.saturating_mul(MAX_RATIO)).min(MAX_DECODED_BYTES)
}

type Give<'g> = &'g mut dyn FnMut(&[u8]) -> bool;

impl Kind {
    fn push(&mut self, input: &[u8], give: Give<'_>) -> Result<(), ContentError> {
        match self {
            Self::Gzip(gzip) => gzip.push(input, give),
            Self::Deflate(decoder) => {
                let Some(first) = input.first() else { return Ok(()) };
                // The low half of zlib's first byte is 8; raw deflate has an unused kind of block there, or a stored
                // block that no encoder writes first.
                let decoder = decoder.get_or_insert_with(|| Decompress::new(first & 0x0F == 8));
                inflate(decoder, input, give).map(|_| ())
            }
            Self::Brotli(state) => unbrotli(state, input, give),
        }
    }
}

/// Inflates as much of `input` as belongs to the stream; gives the bytes taken, and whether it has ended.
fn inflate(decoder: &mut Decompress, input: &[u8], give: Give<'_>) -> Result<(usize, bool), ContentError> {
    let mut piece = [0; PIECE_BYTES];
    let mut taken = 0_usize;
    // Each turn takes bytes, or gives some within the caller's bounds, or ends.
    loop {
        let rest = input.get(taken..).unwrap_or_default();
        let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(rest, &mut piece, FlushDecompress::None);
        let step = usize::try_from(decoder.total_in().saturating_sub(before_in)).unwrap_or(0);
        let made = usize::try_from(decoder.total_out().saturating_sub(before_out)).unwrap_or(0);
        taken = taken.saturating_add(step);
        if made > 0 && !give(piece.get(..made).unwrap_or_default()) {
            return Err(ContentError::TooLarge);
        }
        let Ok(status) = status else { return Err(ContentError::Broken) };
        match status {
            Status::StreamEnd => return Ok((taken, true)),
            Status::Ok | Status::BufError if step == 0 && made == 0 => return Ok((taken, false)),
            Status::Ok | Status::BufError if taken >= input.len() && made < PIECE_BYTES => {
                return Ok((taken, false));
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

fn unbrotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    give: Give<'_>,
) -> Result<(), ContentError> {
    let mut piece = [0; PIECE_BYTES];
    let (mut left, mut offset, mut total) = (input.len(), 0, 0);
    // Each turn fills a piece, within the caller's bounds, or ends.
    loop {
        let (mut room, mut made) = (PIECE_BYTES, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut offset,
            input,
            &mut room,
            &mut made,
            &mut piece,
            &mut total,
            state,
        );
        if made > 0 && !give(piece.get(..made).unwrap_or_default()) {
            return Err(ContentError::TooLarge);
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput | BrotliResult::ResultSuccess => return Ok(()),
            BrotliResult::ResultFailure => return Err(ContentError::Broken),
        }
    }
}

/// Where in a member a stream is; numbers are bytes of the part that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fixed(u8),
    ExtraLength(u8, u16),
    Extra(u16),
    Name,
    Comment,
    Checksum(u8),
    Body,
    Trailer(u8),
}

/// Members of gzip, one after the other (RFC 1952 §2.2).
struct Gzip {
    place: Place,
    flags: u8,
    header: u32,
    inflate: Decompress,
}

impl Gzip {
    fn push(&mut self, input: &[u8], give: Give<'_>) -> Result<(), ContentError> {
        let mut rest = input;
        // Each turn takes a byte, or the body's bytes.
        while let Some((byte, after)) = rest.split_first() {
            if self.place == Place::Body {
                let (taken, ended) = inflate(&mut self.inflate, rest, give)?;
                rest = rest.get(taken..).unwrap_or_default();
                if ended {
                    self.place = Place::Trailer(0);
                } else {
                    return Ok(());
                }
                continue;
            }
            self.header = self.header.saturating_add(1);
            if self.header > MAX_HEADER_BYTES {
                return Err(ContentError::Broken);
            }
            self.place = self.byte(*byte)?;
            rest = after;
        }
        Ok(())
    }

    /// The place behind one byte of a header or trailer.
    fn byte(&mut self, byte: u8) -> Result<Place, ContentError> {
        Ok(match self.place {
            Place::Fixed(at) => {
                let right = match at {
                    0 => byte == 0x1F,
                    1 => byte == 0x8B,
                    2 => byte == 8,
                    _ => true,
                };
                if !right {
                    return Err(ContentError::Broken);
                }
                if at == 3 {
                    self.flags = byte;
                }
                if at < 9 { Place::Fixed(at.saturating_add(1)) } else { self.behind(0) }
            }
            Place::ExtraLength(0, _) => Place::ExtraLength(1, u16::from(byte)),
            Place::ExtraLength(_, low) => match low | (u16::from(byte) << 8) {
                0 => self.behind(1),
                length => Place::Extra(length),
            },
            Place::Extra(1) => self.behind(1),
            Place::Extra(left) => Place::Extra(left.saturating_sub(1)),
            Place::Name if byte == 0 => self.behind(2),
            Place::Comment if byte == 0 => self.behind(3),
            Place::Checksum(0) => Place::Checksum(1),
            Place::Checksum(_) => self.behind(4),
            Place::Trailer(7) => {
                self.inflate.reset(false);
                self.header = 0;
                Place::Fixed(0)
            }
            Place::Trailer(at) => Place::Trailer(at.saturating_add(1)),
            same @ (Place::Name | Place::Comment | Place::Body) => same,
        })
    }

    /// The next part of a header that the flags announce, behind the first `part`s.
    fn behind(&self, part: u8) -> Place {
        [
            (1, 0x04, Place::ExtraLength(0, 0)),
            (2, 0x08, Place::Name),
            (3, 0x10, Place::Comment),
            (4, 0x02, Place::Checksum(0)),
        ]
        .into_iter()
        .find(|(number, flag, _)| *number > part && self.flags & flag != 0)
        .map_or(Place::Body, |(_, _, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"a text, a text, a text that is said more than once";
    /// "hello hello hello hello " as Brotli's own encoder writes it.
    const BROTLI: &[u8] = &[
        0x1b, 0x17, 0x00, 0xf8, 0x8d, 0x94, 0x6e, 0xde, 0x44, 0x55, 0x86, 0x96, 0x6c, 0x20, 0x6f, 0x31, 0x4f,
        0x1c, 0x80, 0x38,
    ];

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2, 3])
            .write(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }
    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }
    fn raw(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(coding: Coding, input: &[u8], cut: usize) -> (Vec<u8>, Result<(), ContentError>) {
        let (mut content, mut out, mut outcome) = (Content::new(coding), Vec::new(), Ok(()));
        for part in input.chunks(cut.max(1)) {
            outcome = content.push(part, &mut |piece| out.extend_from_slice(piece));
        }
        (out, outcome)
    }

    #[test]
    fn each_coding_is_read_wherever_it_is_cut() {
        let two = [gzip(TEXT), gzip(b" and more")].concat();
        let both = [TEXT, b" and more"].concat();
        for (coding, input, want) in [
            (Coding::Gzip, gzip(TEXT), TEXT),
            (Coding::Gzip, two, both.as_slice()),
            (Coding::Deflate, zlib(TEXT), TEXT),
            (Coding::Deflate, raw(TEXT), TEXT),
            (Coding::Brotli, BROTLI.to_vec(), b"hello hello hello hello "),
        ] {
            for cut in [1, 2, 7, 1000] {
                assert_eq!(decode(coding, &input, cut), (want.to_vec(), Ok(())), "{coding:?} {cut}");
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_what_came_before_was_given() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            encoder.write_all(&[b'a'; 1 << 20]).unwrap();
        }
        let (out, outcome) = decode(Coding::Gzip, &encoder.finish().unwrap(), 1460);
        assert_eq!(outcome, Err(ContentError::TooLarge));
        let most = usize::try_from(MAX_DECODED_BYTES).unwrap() + PIECE_BYTES;
        assert!(out.len() >= 1 << 20 && out.len() <= most, "{}", out.len());
    }

    #[test]
    fn what_is_not_compressed_is_told() {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
            let (_, outcome) = decode(coding, &[0xFF; 100], 1000);
            assert_eq!(outcome, Err(ContentError::Broken), "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(input in proptest::collection::vec(any::<u8>(), 0..300), cut in 1_usize..50) {
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
                let (out, _) = decode(coding, &input, cut);
                prop_assert!(out.len() <= usize::try_from(MAX_DECODED_BYTES).unwrap());
            }
        }
    }
}
