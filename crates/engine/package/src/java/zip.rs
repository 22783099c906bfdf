//! Zip archives, as far as jars need them: the central directory, stored and deflated entries (APPNOTE 4.3).

use crate::inflate::deflate;
use crate::read::{index, le16, le32, slice};

/// Most entries that are looked at.
const MAX_ENTRIES: usize = 200_000;
/// The end record is in the last bytes: 22 and a comment of at most 65,535.
const MAX_END: usize = 22 + 65_535;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// One entry of the central directory.
pub(super) struct Entry {
    /// Its path in the archive.
    pub(super) name: String,
    method: u16,
    packed: usize,
    at: usize,
}

/// The entries of an archive; none where it has no directory or a damaged one.
pub(super) fn entries(bytes: &[u8]) -> Option<Vec<Entry>> {
    let tail_at = bytes.len().saturating_sub(MAX_END);
    let tail = bytes.get(tail_at..)?;
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let end = tail.get(end..)?;
    let count = usize::from(le16(end, 10)?);
    let mut at = index(le32(end, 16)?);
    let mut found = Vec::new();
    // Archives of more than 65,535 entries say so elsewhere; the directory's own marks are enough to go on.
    while found.len() < MAX_ENTRIES {
        let Some(head) = slice(bytes, at, 46).filter(|head| head.starts_with(b"PK\x01\x02")) else { break };
        let (name, extra, comment) =
            (usize::from(le16(head, 28)?), usize::from(le16(head, 30)?), usize::from(le16(head, 32)?));
        found.push(Entry {
            name: String::from_utf8_lossy(slice(bytes, at + 46, name)?).into_owned(),
            method: le16(head, 10)?,
            packed: index(le32(head, 20)?),
            at: index(le32(head, 42)?),
        });
        at = at.checked_add(46 + name + extra + comment)?;
    }
    (found.len() >= count.min(1)).then_some(found)
}

/// The content of an entry; none where it is damaged, of another method, or larger than `cap` bytes.
pub(super) fn content(bytes: &[u8], entry: &Entry, cap: u64) -> Option<Vec<u8>> {
    let head = slice(bytes, entry.at, 30).filter(|head| head.starts_with(b"PK\x03\x04"))?;
    let start = entry.at.checked_add(30 + usize::from(le16(head, 26)?) + usize::from(le16(head, 28)?))?;
    let packed = slice(bytes, start, entry.packed)?;
    match entry.method {
        STORED => (packed.len() as u64 <= cap).then(|| packed.to_vec()),
        DEFLATED => deflate(packed, cap),
        _ => None,
    }
}
