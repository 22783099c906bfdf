//! One record in a segment file.
//!
//! ```text
//! F5 'N' 'V' 01   length 4   CRC-32 4   sequence 8   appended 8 (ns since the epoch)   topic 1   record as JSON
//! ```
//! Numbers are big-endian; the CRC is over everything after it. The first byte never occurs in JSON, so that the
//! next whole frame can be found behind a damaged one.

use bytes::BufMut;
use nv_model::record::{Record, Topic};
use nv_model::time::Timestamp;

use super::MAX_RECORD_BYTES;
use crate::StoreError;

const MAGIC: [u8; 4] = [0xF5, b'N', b'V', 0x01];
/// Bytes before the JSON.
pub(super) const HEADER: usize = 29;
const CHECKED_FROM: usize = 12;

/// A whole frame, its checksum right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) topic: u8,
    pub(super) json: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> usize {
        self.json.len().saturating_add(HEADER)
    }
}

/// Number of a topic in files: its place in [`Topic::ALL`].
pub(super) fn topic_number(topic: Topic) -> u8 {
    let place = Topic::ALL.iter().position(|one| *one == topic);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

/// Adds the frame of `record` to `out`; on an error `out` is as it was.
pub(super) fn encode(
    record: &Record,
    sequence: u64,
    at: Timestamp,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let start = out.len();
    let refuse = |what: String| StoreError::Record { topic: record.topic().as_str(), what };
    out.put_slice(&MAGIC);
    out.put_slice(&[0; 8]);
    out.put_u64(sequence);
    out.put_i64(at.nanos());
    out.put_u8(topic_number(record.topic()));
    if let Err(error) = serde_json::to_writer(&mut *out, record) {
        out.truncate(start);
        return Err(refuse(format!("cannot be written as JSON ({error})")));
    }
    let length = out.len().saturating_sub(start).saturating_sub(HEADER);
    if length > MAX_RECORD_BYTES {
        out.truncate(start);
        return Err(refuse(format!("has {length} bytes, more than the {MAX_RECORD_BYTES} allowed")));
    }
    let crc = crc32fast::hash(out.get(start.saturating_add(CHECKED_FROM)..).unwrap_or_default());
    let head = out.get_mut(start.saturating_add(4)..).and_then(|frame| frame.first_chunk_mut::<8>());
    if let Some([l0, l1, l2, l3, c0, c1, c2, c3]) = head {
        [*l0, *l1, *l2, *l3] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [*c0, *c1, *c2, *c3] = crc.to_be_bytes();
    }
    Ok(())
}

/// The frame that `bytes` begin with, if they begin with a whole one.
pub(super) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, checked) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if *magic != MAGIC || length > MAX_RECORD_BYTES {
        return None;
    }
    let checked = checked.get(..length.checked_add(HEADER.checked_sub(CHECKED_FROM)?)?)?;
    if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (sequence, rest) = checked.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (topic, json) = rest.split_first()?;
    Some(Frame {
        sequence: u64::from_be_bytes(*sequence),
        at: Timestamp::from_nanos(i64::from_be_bytes(*at)),
        topic: *topic,
        json,
    })
}

/// Where the next frame may begin in `bytes`, at or after `from`.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|at| at.saturating_add(from))
}

#[cfg(test)]
mod tests {
    use nv_model::record::Event;
    use proptest::prelude::*;

    use super::*;

    fn event(message: &str) -> Record {
        Record::Event(Box::new(Event { message: message.to_owned(), ..Event::default() }))
    }

    #[test]
    fn a_frame_with_any_byte_cut_or_altered_is_none() {
        let mut whole = Vec::new();
        encode(&event("hello"), 7, Timestamp::from_seconds(9), &mut whole).unwrap();
        let frame = decode(&whole).unwrap();
        assert_eq!((frame.sequence, frame.at, frame.length()), (7, Timestamp::from_seconds(9), whole.len()));
        assert_eq!(serde_json::from_slice::<Record>(frame.json).unwrap(), event("hello"));
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 0x10;
            assert!(decode(&altered).is_none(), "byte {at} altered");
            assert!(decode(&whole[..at]).is_none(), "cut to {at} bytes");
        }
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_and_leaves_nothing() {
        let mut out = b"before".to_vec();
        let refused = encode(&event(&"x".repeat(MAX_RECORD_BYTES)), 1, Timestamp::NEVER, &mut out);
        assert!(matches!(refused, Err(StoreError::Record { topic: "event", .. })), "{refused:?}");
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = MAGIC.to_vec();
            framed.extend(&bytes);
            prop_assert!(decode(&bytes).is_none_or(|frame| frame.length() <= bytes.len()));
            prop_assert!(decode(&framed).is_none_or(|frame| frame.length() <= framed.len()));
        }
    }
}
