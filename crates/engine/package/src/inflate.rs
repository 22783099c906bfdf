//! Decompression with a cap: a bomb is refused when it grows beyond.

use std::io::Read as _;

/// The content of a zlib stream; none where it is damaged or larger than `cap` bytes.
pub(crate) fn zlib(bytes: &[u8], cap: u64) -> Option<Vec<u8>> {
    capped(flate2::read::ZlibDecoder::new(bytes), cap)
}

/// The content of a raw deflate stream; none where it is damaged or larger than `cap` bytes.
pub(crate) fn deflate(bytes: &[u8], cap: u64) -> Option<Vec<u8>> {
    capped(flate2::read::DeflateDecoder::new(bytes), cap)
}

/// The content of a gzip file; none where it is damaged or larger than `cap` bytes.
pub fn unzipped(bytes: &[u8], cap: u64) -> Option<Vec<u8>> {
    capped(flate2::read::MultiGzDecoder::new(bytes), cap)
}

fn capped(decoder: impl std::io::Read, cap: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    decoder.take(cap.saturating_add(1)).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= cap).then_some(content)
}
