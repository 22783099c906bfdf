//! Zip archives, as far as jars need them: the central directory, stored and deflated entries (APPNOTE 4.3). Only the
//! directory and the wanted entries are read.

use crate::inflate::deflate;
use crate::read::{ReadAt, index, le16, le32, slice};

/// Most entries that are looked at.
const MAX_ENTRIES: usize = 200_000;
/// The end record is in the last bytes: 22 and a comment of at most 65,535.
const MAX_END: u64 = 22 + 65_535;
/// Largest central directory, in bytes.
const MAX_DIRECTORY: usize = 64 * 1024 * 1024;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// One entry of the central directory.
pub struct Entry {
    /// Its path in the archive.
    pub name: String,
    method: u16,
    packed: usize,
    at: u64,
}

/// The wanted entries of an archive of `size` bytes; none where it has no directory or a damaged one.
pub fn entries(size: u64, read: ReadAt<'_>, wants: &dyn Fn(&str) -> bool) -> Option<Vec<Entry>> {
    let tail_at = size.saturating_sub(MAX_END);
    let tail = read(tail_at, usize::try_from(size - tail_at).ok()?)?;
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let end = tail.get(end..)?;
    let count = usize::from(le16(end, 10)?);
    let (length, start) = (index(le32(end, 12)?), u64::from(le32(end, 16)?));
    if length > MAX_DIRECTORY {
        return None;
    }
    let directory = read(start, length)?;
    let mut at = 0;
    let (mut seen, mut found) = (0, Vec::new());
    // Archives of more than 65,535 entries say so elsewhere; the directory's own marks are enough to go on.
    while seen < MAX_ENTRIES {
        let Some(head) = slice(&directory, at, 46).filter(|head| head.starts_with(b"PK\x01\x02")) else {
            break;
        };
        let (name, extra, comment) =
            (usize::from(le16(head, 28)?), usize::from(le16(head, 30)?), usize::from(le16(head, 32)?));
        let path = String::from_utf8_lossy(slice(&directory, at + 46, name)?);
        if wants(&path) {
            found.push(Entry {
                name: path.into_owned(),
                method: le16(head, 10)?,
                packed: index(le32(head, 20)?),
                at: u64::from(le32(head, 42)?),
            });
        }
        seen += 1;
        at = at.checked_add(46 + name + extra + comment)?;
    }
    (seen >= count.min(1)).then_some(found)
}

/// The content of an entry; none where it is damaged, of another method, or larger than `cap` bytes.
pub fn content(read: ReadAt<'_>, entry: &Entry, cap: u64) -> Option<Vec<u8>> {
    let head = read(entry.at, 30).filter(|head| head.starts_with(b"PK\x03\x04"))?;
    let start = entry.at.checked_add(30 + u64::from(le16(&head, 26)?) + u64::from(le16(&head, 28)?))?;
    if entry.packed as u64 > cap {
        return None;
    }
    let packed = read(start, entry.packed)?;
    match entry.method {
        STORED => Some(packed),
        DEFLATED => deflate(&packed, cap),
        _ => None,
    }
}
