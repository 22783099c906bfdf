//! A capture of any size out of a reader, piece by piece: memory does not grow with the file.

use std::io::Read;

use crate::capture_file::{CaptureFile, CaptureFileError, PausedCapture, Record};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 18;
/// Largest record or block that is held whole, in bytes.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// Why a capture was not read to its end. What came before was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureStreamError {
    /// The reader failed.
    #[error("capture cannot be read: {0}")]
    Read(std::io::Error),
    /// The bytes are no capture, or not further.
    #[error(transparent)]
    Format(CaptureFileError),
    /// A record is larger than what is held.
    #[error("a record of the capture is larger than {MAX_RECORD_BYTES} bytes")]
    TooLarge,
}

/// Calls `each` for every record of the capture that `reader` gives.
///
/// # Errors
/// [`CaptureStreamError`], after `each` was called for what could be read.
pub fn read_records(
    mut reader: impl Read,
    mut each: impl FnMut(&Record<'_>),
) -> Result<(), CaptureStreamError> {
    let mut buffer = vec![0; PIECE_BYTES];
    let (mut held, mut paused): (usize, Option<PausedCapture>) = (0, None);
    // Each turn reads bytes, or ends.
    loop {
        let added = fill(&mut reader, buffer.get_mut(held..).unwrap_or_default())?;
        held = held.saturating_add(added);
        let bytes = buffer.get(..held).unwrap_or_default();
        let last = held < buffer.len();
        let mut capture = match paused.take() {
            Some(paused) => paused.resume(bytes),
            None => CaptureFile::open(bytes).map_err(CaptureStreamError::Format)?,
        };
        let stop = loop {
            match capture.read() {
                Ok(Some(record)) => each(&record),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        match stop {
            Some(error) if last || !matches!(error, CaptureFileError::Truncated { .. }) => {
                return Err(CaptureStreamError::Format(error));
            }
            None if last => return Ok(()),
            _ => {}
        }
        let (state, unread) = capture.pause();
        paused = Some(state);
        buffer.copy_within(held.saturating_sub(unread)..held, 0);
        held = unread;
        if held == buffer.len() {
            if held >= MAX_RECORD_BYTES {
                return Err(CaptureStreamError::TooLarge);
            }
            buffer.resize(held.saturating_mul(2), 0);
        }
    }
}

/// Reads until `place` is full or nothing is left; gives how much was read.
fn fill(reader: &mut impl Read, place: &mut [u8]) -> Result<usize, CaptureStreamError> {
    let mut filled = 0_usize;
    while let Some(rest) = place.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(bytes) => filled = filled.saturating_add(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureStreamError::Read(error)),
        }
    }
    Ok(filled)
}
