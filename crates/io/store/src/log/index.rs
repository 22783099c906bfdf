//! Where the records of one segment are, and a summary of it.
//!
//! While a segment grows this is in memory. A sealed segment has it in a file beside it; only the summary stays in
//! memory. An index that is missing or does not fit is made again from the segment.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bytes::BufMut;
use nv_model::record::Topic;
use nv_model::time::Timestamp;

use super::frame;

const MAGIC: &[u8; 8] = b"NVINDEX1";
/// Bytes of a summary in a file, with its CRC.
const SUMMARY: usize = 84;
const SLOT: usize = 17;
/// Largest segment that is read whole.
const MAX_SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
const TOPICS: usize = Topic::ALL.len();

/// Where one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) topic: u8,
}

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Sequence that the segment's name has.
    pub(super) first: u64,
    /// Last sequence in it; `first - 1` when it has none.
    pub(super) last: u64,
    /// Records by topic.
    pub(super) counts: [u32; TOPICS],
    /// When its first and its last record were appended.
    pub(super) oldest: Timestamp,
    pub(super) newest: Timestamp,
    /// Bytes of the segment.
    pub(super) bytes: u64,
    /// Places in it that cannot be read.
    pub(super) damaged: u32,
}

impl Summary {
    pub(super) fn empty(first: u64) -> Self {
        Self { first, last: first.saturating_sub(1), ..Self::default() }
    }
    pub(super) fn records(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }
    pub(super) fn count(&self, topic: u8) -> u32 {
        self.counts.get(usize::from(topic)).copied().unwrap_or(0)
    }
    fn add(&mut self, slot: Slot, at: Timestamp) {
        if self.records() == 0 {
            self.oldest = at;
        }
        self.newest = self.newest.max(at);
        self.last = slot.sequence;
        if let Some(count) = self.counts.get_mut(usize::from(slot.topic)) {
            *count = count.saturating_add(1);
        }
        self.bytes = self.bytes.max(u64::from(slot.offset).saturating_add(u64::from(slot.length)));
    }
}

/// A segment's summary and slots, the slots in the order of their sequences.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) summary: Summary,
    pub(super) slots: Vec<Slot>,
}

impl Index {
    pub(super) fn empty(first: u64) -> Self {
        Self { summary: Summary::empty(first), slots: Vec::new() }
    }

    pub(super) fn add(&mut self, slot: Slot, at: Timestamp) {
        self.summary.add(slot, at);
        self.slots.push(slot);
    }

    /// Slots with a sequence below `before` that are of `topic`, the newest first.
    pub(super) fn newest_first(&self, topic: u8, before: Option<u64>) -> impl Iterator<Item = Slot> {
        let end = before
            .map_or(self.slots.len(), |before| self.slots.partition_point(|slot| slot.sequence < before));
        self.slots.iter().take(end).rev().filter(move |slot| slot.topic == topic).copied()
    }

    /// Slots with a sequence above `after`, the oldest first.
    pub(super) fn oldest_first(&self, after: u64) -> impl Iterator<Item = Slot> {
        let start = self.slots.partition_point(|slot| slot.sequence <= after);
        self.slots.iter().skip(start).copied()
    }

    /// Makes the index of a segment whose name has `first` from its bytes, and says where its last frame ends.
    pub(super) fn scan(first: u64, bytes: &[u8]) -> (Self, usize) {
        let mut index = Self::empty(first);
        let (mut at, mut end) = (0_usize, 0_usize);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match frame::decode(rest) {
                Some(frame) if frame.sequence > index.summary.last || frame.sequence == first && at == 0 => {
                    if at != end {
                        index.summary.damaged = index.summary.damaged.saturating_add(1);
                    }
                    let (Ok(offset), Ok(length)) = (u32::try_from(at), u32::try_from(frame.length())) else {
                        break;
                    };
                    index
                        .add(Slot { sequence: frame.sequence, offset, length, topic: frame.topic }, frame.at);
                    at = at.saturating_add(frame.length());
                    end = at;
                }
                _ => match frame::find(bytes, at.saturating_add(1)) {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
        index.summary.bytes = bytes.len() as u64;
        (index, end)
    }

    /// Reads a segment whole and makes its index.
    pub(super) fn rebuild(first: u64, segment: &Path) -> io::Result<(Self, usize)> {
        let file = File::open(segment)?;
        let length = file.metadata()?.len();
        if length > MAX_SEGMENT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has {length} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_SEGMENT_BYTES).read_to_end(&mut bytes)?;
        Ok(Self::scan(first, &bytes))
    }

    /// Writes the index file, beside its name first.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut slots = Vec::with_capacity(self.slots.len().saturating_mul(SLOT));
        for slot in &self.slots {
            slots.put_u64(slot.sequence);
            slots.put_u32(slot.offset);
            slots.put_u32(slot.length);
            slots.put_u8(slot.topic);
        }
        let summary = &self.summary;
        let mut out = Vec::with_capacity(slots.len().saturating_add(SUMMARY));
        out.put_slice(MAGIC);
        out.put_u64(summary.first);
        out.put_u64(summary.last);
        for count in summary.counts {
            out.put_u32(count);
        }
        out.put_i64(summary.oldest.nanos());
        out.put_i64(summary.newest.nanos());
        out.put_u64(summary.bytes);
        out.put_u32(summary.damaged);
        out.put_u32(crc32fast::hash(&slots));
        out.put_u32(crc32fast::hash(&out));
        out.put_slice(&slots);
        let fresh = path.with_extension("idx.new");
        fs::write(&fresh, &out)?;
        fs::rename(&fresh, path)
    }

    /// Reads an index file whole; `None` when it is damaged.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_SEGMENT_BYTES).read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_first_chunk::<SUMMARY>()?;
        let (summary, crc) = parse_summary(head)?;
        if crc32fast::hash(rest) != crc {
            return None;
        }
        let mut slots = Vec::with_capacity(rest.len() / SLOT);
        while !rest.is_empty() {
            let sequence = u64::from_be_bytes(take(&mut rest)?);
            let offset = u32::from_be_bytes(take(&mut rest)?);
            let length = u32::from_be_bytes(take(&mut rest)?);
            let [topic] = take::<1>(&mut rest)?;
            slots.push(Slot { sequence, offset, length, topic });
        }
        Some(Self { summary, slots })
    }
}

/// Reads only the summary of an index file; `None` when it is damaged or is not of a segment of `bytes` bytes.
pub(super) fn read_summary(path: &Path, bytes: u64) -> io::Result<Option<Summary>> {
    let mut head = [0; SUMMARY];
    File::open(path)?.read_exact(&mut head)?;
    Ok(parse_summary(&head).map(|(summary, _)| summary).filter(|summary| summary.bytes == bytes))
}

fn parse_summary(head: &[u8; SUMMARY]) -> Option<(Summary, u32)> {
    let (checked, crc) = head.split_last_chunk::<4>()?;
    let mut rest = checked;
    if crc32fast::hash(checked) != u32::from_be_bytes(*crc) || take::<8>(&mut rest)? != *MAGIC {
        return None;
    }
    let first = u64::from_be_bytes(take(&mut rest)?);
    let last = u64::from_be_bytes(take(&mut rest)?);
    let mut counts = [0; TOPICS];
    for count in &mut counts {
        *count = u32::from_be_bytes(take(&mut rest)?);
    }
    let oldest = Timestamp::from_nanos(i64::from_be_bytes(take(&mut rest)?));
    let newest = Timestamp::from_nanos(i64::from_be_bytes(take(&mut rest)?));
    let bytes = u64::from_be_bytes(take(&mut rest)?);
    let damaged = u32::from_be_bytes(take(&mut rest)?);
    let slots = u32::from_be_bytes(take(&mut rest)?);
    Some((Summary { first, last, counts, oldest, newest, bytes, damaged }, slots))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use nv_model::record::{Event, Record};

    use super::*;

    fn segment(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sequence in 1..=count {
            let event = Event { message: format!("message {sequence}"), ..Event::default() };
            let at = Timestamp::from_seconds(i64::try_from(sequence).unwrap());
            frame::encode(&Record::Event(Box::new(event)), sequence, at, &mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn an_index_file_reads_back_and_a_damaged_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.idx");
        let bytes = segment(20);
        let (index, end) = Index::scan(1, &bytes);
        assert_eq!((index.slots.len(), end, index.summary.damaged), (20, bytes.len(), 0));
        index.write(&path).unwrap();
        let read = Index::read(&path).unwrap().unwrap();
        assert_eq!((read.summary, &read.slots), (index.summary, &index.slots));
        assert_eq!(read_summary(&path, bytes.len() as u64).unwrap(), Some(index.summary));
        assert_eq!(read_summary(&path, 1).unwrap(), None, "of a segment of another length");
        let whole = fs::read(&path).unwrap();
        for at in [0, 9, 40, SUMMARY - 1, SUMMARY + 3, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert!(Index::parse(&altered).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_scan_finds_what_is_whole_around_what_is_damaged() {
        let mut bytes = segment(20);
        let (index, _) = Index::scan(1, &bytes);
        let (start, end) = (index.slots[4].offset as usize, index.slots[6].offset as usize);
        bytes[start..end].fill(0);
        bytes[index.slots[10].offset as usize + 40] ^= 1;
        let torn = bytes.len() - 3;
        let (index, end) = Index::scan(1, &bytes[..torn]);
        let left: Vec<u64> = index.slots.iter().map(|slot| slot.sequence).collect();
        assert_eq!(left, [1, 2, 3, 4, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!((index.summary.damaged, index.summary.last), (2, 19));
        assert!(end < torn);
    }
}
