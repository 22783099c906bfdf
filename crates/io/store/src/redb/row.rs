//! How rows are laid out: numbers are big-endian.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries` | key | created 8, modified 8, lease 8 (0 = none), value |
//! | `history` | revision, position in the commit | 0 delete, key; or 1 put, key length 2, key, row as in `entries` |
//! | `leases` | id | time to live in milliseconds |
//! | `leased` | lease, key | |
//! | `marks` | revision | wall time in nanoseconds, a few per hour, to forget history by age |
//! | `state` | name | number |

use bytes::{BufMut, Bytes};
use redb::TableDefinition;

use crate::store::{Change, Entry, LeaseId, Revision};

pub(super) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
pub(super) const HISTORY: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("history");
pub(super) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
pub(super) const LEASED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("leased");
pub(super) const MARKS: TableDefinition<'_, u64, i64> = TableDefinition::new("marks");
pub(super) const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// Layout described above.
pub(super) const FORMAT: u64 = 1;

/// When an entry came to be, and its lease: what precedes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) created: Revision,
    pub(super) modified: Revision,
    pub(super) lease: Option<LeaseId>,
}

pub(super) fn encode_entry(stamp: Stamp, value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(value.len().saturating_add(24));
    row.put_u64(stamp.created.0);
    row.put_u64(stamp.modified.0);
    row.put_u64(stamp.lease.map_or(0, |lease| lease.0));
    row.put_slice(value);
    row
}

fn damaged(what: &str, key: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} of key {key:?} is too short"))
}

fn number(row: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = row.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

pub(super) fn decode_stamp<'a>(key: &str, row: &'a [u8]) -> Result<(Stamp, &'a [u8]), redb::Error> {
    let parts = number(row).and_then(|(created, rest)| {
        let (modified, rest) = number(rest)?;
        let (lease, value) = number(rest)?;
        Some((created, modified, lease, value))
    });
    let (created, modified, lease, value) = parts.ok_or_else(|| damaged("the row", key))?;
    let stamp = Stamp {
        created: Revision(created),
        modified: Revision(modified),
        lease: (lease != 0).then_some(LeaseId(lease)),
    };
    Ok((stamp, value))
}

pub(super) fn decode_entry(key: &str, row: &[u8]) -> Result<Entry, redb::Error> {
    let (Stamp { created, modified, lease }, value) = decode_stamp(key, row)?;
    Ok(Entry { key: key.to_owned(), value: Bytes::copy_from_slice(value), created, modified, lease })
}

pub(super) fn encode_put(key: &str, row: &[u8]) -> Vec<u8> {
    let mut change = Vec::with_capacity(key.len().saturating_add(row.len()).saturating_add(3));
    change.put_u8(1);
    // A key is at most 1,024 bytes.
    change.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    change.put_slice(key.as_bytes());
    change.put_slice(row);
    change
}

pub(super) fn encode_delete(key: &str) -> Vec<u8> {
    let mut change = Vec::with_capacity(key.len().saturating_add(1));
    change.put_u8(0);
    change.put_slice(key.as_bytes());
    change
}

/// The change, or `None` when its key does not begin with `prefix`: that is found out without copying the value.
pub(super) fn decode_change(prefix: &str, row: &[u8]) -> Result<Option<Change>, redb::Error> {
    let bad = || redb::Error::Corrupted("a row of the history cannot be read".to_owned());
    let (kind, rest) = row.split_first().ok_or_else(bad)?;
    let (key, entry) = match kind {
        0 => (rest, None),
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
            let (key, row) =
                rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(bad)?;
            (key, Some(row))
        }
        _ => return Err(bad()),
    };
    if !key.starts_with(prefix.as_bytes()) {
        return Ok(None);
    }
    let key = std::str::from_utf8(key).map_err(|_utf8| bad())?;
    Ok(Some(match entry {
        Some(row) => Change::Put(decode_entry(key, row)?),
        None => Change::Delete { key: key.to_owned() },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_as_they_were_written_and_short_ones_are_refused() {
        let stamp = Stamp { created: Revision(3), modified: Revision(9), lease: Some(LeaseId(4)) };
        let row = encode_entry(stamp, b"value");
        let entry = decode_entry("k/ä", &row).unwrap();
        assert_eq!(
            (entry.created, entry.modified, entry.lease),
            (Revision(3), Revision(9), Some(LeaseId(4)))
        );
        assert_eq!(decode_change("k/", &encode_put("k/ä", &row)).unwrap(), Some(Change::Put(entry)));
        assert_eq!(decode_change("j", &encode_put("k/ä", &row)).unwrap(), None);
        let gone = Change::Delete { key: "k/ä".to_owned() };
        assert_eq!(decode_change("", &encode_delete("k/ä")).unwrap(), Some(gone));
        assert!(decode_entry("k", &row[..23]).is_err());
        let whole = encode_put("k/ä", &row);
        for short in [0, 1, 2, 4, 20] {
            assert!(decode_change("", &whole[..short]).is_err(), "cut to {short} bytes");
        }
    }
}
