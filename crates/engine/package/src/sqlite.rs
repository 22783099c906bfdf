//! SQLite's file format (<https://www.sqlite.org/fileformat2.html>), as far as reading whole tables needs it: the schema, a
//! table's tree, overflow pages, and committed pages of a write-ahead log.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::read::{be16, be32, index, le32, slice};

/// The first bytes of the file.
pub const MAGIC: &[u8] = b"SQLite format 3\0";

const LEAF: u8 = 0x0d;
const INTERIOR: u8 = 0x05;
/// Deepest tree that is followed; 2^32 pages need less.
const MAX_DEPTH: usize = 32;
/// Largest record, in bytes.
const MAX_RECORD: usize = 64 * 1024 * 1024;

/// Why a table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// The header names a size of pages that there is not.
    #[error("a page of {0:?} bytes")]
    Page(Option<u16>),
    /// The list of tables is damaged.
    #[error("the schema can not be read")]
    Schema,
    /// There is no table of this name.
    #[error("no table {0}")]
    NoTable(String),
    /// A table's tree is damaged; the rows before were read.
    #[error("the tree of a table points outside of the file or in a circle, after row {after}")]
    Tree {
        /// How many rows were read.
        after: usize,
    },
}

/// One column of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Column<'r> {
    kind: u64,
    bytes: &'r [u8],
}

impl<'r> Column<'r> {
    /// A text or blob; empty for what is none.
    pub fn bytes(self) -> &'r [u8] {
        if self.kind >= 12 { self.bytes } else { &[] }
    }

    /// A whole number.
    pub fn integer(self) -> Option<i64> {
        let negative = self.bytes.first().is_some_and(|first| first & 0x80 != 0);
        match self.kind {
            1..=6 => Some(
                self.bytes
                    .iter()
                    .fold(if negative { -1 } else { 0 }, |sum, byte| sum << 8 | i64::from(*byte)),
            ),
            8 => Some(0),
            9 => Some(1),
            _ => None,
        }
    }
}

/// A database, read in place.
pub struct Sqlite<'a> {
    file: File<'a>,
}

impl<'a> Sqlite<'a> {
    /// Opens a database. `wal` is the content of the write-ahead log beside it, empty where there is none.
    ///
    /// # Errors
    /// [`SqliteError::Page`].
    pub fn open(bytes: &'a [u8], wal: &'a [u8]) -> Result<Self, SqliteError> {
        let page_size = match be16(bytes, 16) {
            Some(1) => 65_536,
            Some(size) if size >= 512 && size.is_power_of_two() => usize::from(size),
            size => return Err(SqliteError::Page(size)),
        };
        let usable = page_size - bytes.get(20).map_or(0, |reserved| usize::from(*reserved));
        let newer = committed(wal, page_size);
        Ok(Self { file: File { bytes, page_size, usable, newer, visits: 0 } })
    }

    /// Visits every row of a table, with its row id and its first columns; what a row has not is empty. A column that is
    /// the table's `INTEGER PRIMARY KEY` is empty too: it is the row id.
    ///
    /// # Errors
    /// [`SqliteError`] says what is damaged; rows before that were visited.
    pub fn rows<const COUNT: usize>(
        &mut self,
        table: &str,
        visit: &mut dyn FnMut(i64, [Column<'_>; COUNT]),
    ) -> Result<(), SqliteError> {
        let mut root = None;
        let walked = self.file.visited(1, &mut |_, record| {
            let [kind, name, _, page] = columns::<4>(record);
            if kind.bytes() == b"table" && name.bytes().eq_ignore_ascii_case(table.as_bytes()) {
                root = page.integer();
            }
        });
        let Some(root) = root.and_then(|page| u32::try_from(page).ok()) else {
            return Err(walked.map_or(SqliteError::Schema, |()| SqliteError::NoTable(table.to_owned())));
        };
        let mut after = 0;
        let walked = self.file.visited(root, &mut |id, record| {
            after += 1;
            visit(id, columns::<COUNT>(record));
        });
        walked.ok_or(SqliteError::Tree { after })
    }
}

struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    usable: usize,
    /// Pages that the write-ahead log has newer.
    newer: HashMap<u32, &'a [u8]>,
    /// Pages that may still be visited: a tree has each page once.
    visits: usize,
}

impl<'a> File<'a> {
    fn page(&mut self, number: u32) -> Option<&'a [u8]> {
        self.visits = self.visits.checked_sub(1)?;
        if let Some(page) = self.newer.get(&number) {
            return Some(page);
        }
        let at = index(number.checked_sub(1)?).checked_mul(self.page_size)?;
        slice(self.bytes, at, self.page_size)
    }

    /// Visits every record below a page; none where the tree is broken.
    fn visited(&mut self, root: u32, visit: &mut dyn FnMut(i64, &[u8])) -> Option<()> {
        self.visits = (self.bytes.len() / self.page_size + self.newer.len()).saturating_mul(2);
        walk(self, root, 0, visit)
    }
}

/// Visits every record of a table's tree; none where the tree is broken.
fn walk(file: &mut File<'_>, number: u32, depth: usize, visit: &mut dyn FnMut(i64, &[u8])) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    let page = file.page(number)?;
    let start = if number == 1 { 100 } else { 0 };
    let kind = *page.get(start)?;
    let cells = usize::from(be16(page, start + 3)?);
    let pointers = start + if kind == INTERIOR { 12 } else { 8 };
    for cell in 0..cells {
        let at = usize::from(be16(page, pointers + cell * 2)?);
        match kind {
            INTERIOR => walk(file, be32(page, at)?, depth + 1, visit)?,
            LEAF => {
                let (id, record) = record(file, page, at)?;
                visit(id, &record);
            }
            _ => return None,
        }
    }
    match kind {
        INTERIOR => walk(file, be32(page, start + 8)?, depth + 1, visit),
        LEAF => Some(()),
        _ => None,
    }
}

/// The row id and payload of a leaf's cell, with what of it is on overflow pages (§1.6).
fn record<'a>(file: &mut File<'a>, page: &'a [u8], at: usize) -> Option<(i64, Cow<'a, [u8]>)> {
    let (length, used) = varint(page.get(at..)?)?;
    let at = at + used;
    let (id, used) = varint(page.get(at..)?)?;
    let id = id.cast_signed();
    let at = at + used;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_RECORD)?;
    let most = file.usable - 35;
    if length <= most {
        return Some((id, slice(page, at, length)?.into()));
    }
    let least = (file.usable - 12) * 32 / 255 - 23;
    let kept = least + (length - least) % (file.usable - 4);
    let local = if kept <= most { kept } else { least };
    let mut whole = Vec::with_capacity(length.min(file.bytes.len()));
    whole.extend_from_slice(slice(page, at, local)?);
    let mut next = be32(page, at + local)?;
    while whole.len() < length {
        let page = file.page(next)?;
        next = be32(page, 0)?;
        let rest = (length - whole.len()).min(file.usable - 4);
        whole.extend_from_slice(slice(page, 4, rest)?);
    }
    Some((id, whole.into()))
}

/// The first columns of a record (§2.1); what is missing or points outside is empty.
fn columns<const COUNT: usize>(record: &[u8]) -> [Column<'_>; COUNT] {
    let mut found = [Column::default(); COUNT];
    let Some((header, used)) = varint(record) else { return found };
    let header = usize::try_from(header).unwrap_or(usize::MAX);
    let (mut at, mut body) = (used, header);
    for column in &mut found {
        let Some((kind, used)) = record.get(at..header).and_then(varint) else { break };
        at += used;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).unwrap_or(0),
            5 => 6,
            6 | 7 => 8,
            10 | 11 => break,
            kind => usize::try_from((kind - 12) / 2).unwrap_or(usize::MAX),
        };
        let Some(bytes) = slice(record, body, length) else { break };
        *column = Column { kind, bytes };
        body += length;
    }
    found
}

/// A number in 1 to 9 bytes, seven bits each, the ninth with eight.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// The newest committed page of each number in a write-ahead log (§4). A frame counts while salts and the running
/// checksum agree.
fn committed(wal: &[u8], page_size: usize) -> HashMap<u32, &[u8]> {
    let mut pages = HashMap::new();
    let Some(head) = wal.get(..32) else { return pages };
    let big_endian = match be32(head, 0) {
        Some(0x377f_0682) => false,
        Some(0x377f_0683) => true,
        _ => return pages,
    };
    if be32(head, 8).map(index) != Some(page_size) {
        return pages;
    }
    let salt = head.get(16..24);
    let mut sum = checksum(head.get(..24).unwrap_or_default(), (0, 0), big_endian);
    let mut pending = Vec::new();
    let mut at = 32;
    while let Some(frame) = slice(wal, at, 24 + page_size) {
        let (Some(page), Some(number), Some(size)) = (frame.get(24..), be32(frame, 0), be32(frame, 4)) else {
            break;
        };
        sum = checksum(frame.get(..8).unwrap_or_default(), sum, big_endian);
        sum = checksum(page, sum, big_endian);
        if frame.get(8..16) != salt || (be32(frame, 16), be32(frame, 20)) != (Some(sum.0), Some(sum.1)) {
            break;
        }
        pending.push((number, page));
        if size != 0 {
            pages.extend(pending.drain(..));
        }
        at += 24 + page_size;
    }
    pages
}

fn checksum(bytes: &[u8], mut sum: (u32, u32), big_endian: bool) -> (u32, u32) {
    let word = |at| if big_endian { be32(bytes, at) } else { le32(bytes, at) };
    for at in (0..bytes.len()).step_by(8) {
        sum.0 = sum.0.wrapping_add(word(at).unwrap_or(0)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(word(at + 4).unwrap_or(0)).wrapping_add(sum.0);
    }
    sum
}
