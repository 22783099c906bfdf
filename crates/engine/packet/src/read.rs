//! Reading fixed parts of a slice, with the layer named when they are missing.

use crate::error::{DecodeError, Layer};

/// The first `N` bytes and what follows them.
pub(crate) fn head<const N: usize>(layer: Layer, input: &[u8]) -> Result<(&[u8; N], &[u8]), DecodeError> {
    input.split_first_chunk::<N>().ok_or(DecodeError::Truncated { layer, needed: N, had: input.len() })
}

/// The first `length` bytes and what follows them.
pub(crate) fn split(layer: Layer, input: &[u8], length: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    input.split_at_checked(length).ok_or(DecodeError::Truncated { layer, needed: length, had: input.len() })
}

/// At most `length` bytes, and whether there were fewer.
pub(crate) fn clip(input: &[u8], length: usize) -> (&[u8], bool) {
    input.get(..length).map_or((input, true), |body| (body, false))
}
