//! Berkeley DB's hash format, version 8 to 10: pages of entries, long values in chains of overflow pages.

use super::{FORMAT, Take};
use crate::inventory::Inventory;
use crate::read::{be16, be32, index, le16, le32, slice};

const HASH_MAGIC: u32 = 0x0006_1561;
const PAGE_HEADER: usize = 26;

const PAGE_HASH_UNSORTED: u8 = 2;
const PAGE_OVERFLOW: u8 = 7;
const PAGE_HASH: u8 = 13;

const ITEM_INLINE: u8 = 1;
const ITEM_OFF_PAGE: u8 = 3;

/// Largest value, in bytes.
const MAX_VALUE: usize = 64 * 1024 * 1024;
/// Most pages followed in the whole file for a page that it has: each value's chain is visited once.
const VISITS_PER_PAGE: usize = 2;

#[derive(Clone, Copy)]
struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    big_endian: bool,
}

impl<'a> File<'a> {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        if self.big_endian { be16(bytes, at) } else { le16(bytes, at) }
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        if self.big_endian { be32(bytes, at) } else { le32(bytes, at) }
    }

    fn page(self, number: u32) -> Option<&'a [u8]> {
        slice(self.bytes, index(number).checked_mul(self.page_size)?, self.page_size)
    }
}

/// Whether the file's first page is that of a hash.
pub(super) fn is_hash(bytes: &[u8]) -> bool {
    le32(bytes, 12) == Some(HASH_MAGIC) || be32(bytes, 12) == Some(HASH_MAGIC)
}

pub(super) fn read(bytes: &[u8], inventory: &mut Inventory, take: Take<'_>) {
    let mut file = File { bytes, page_size: 0, big_endian: be32(bytes, 12) == Some(HASH_MAGIC) };
    let size = file.u32(bytes, 20).unwrap_or(0);
    if !(512..=65_536).contains(&size) || !size.is_power_of_two() {
        inventory.fault(FORMAT, "Berkeley DB header", format!("a page of {size} bytes"));
        return;
    }
    file.page_size = index(size);
    let pages = bytes.len() / file.page_size;
    let said = file.u32(bytes, 32).map_or(0, index);
    if said >= pages {
        inventory.fault(
            FORMAT,
            "Berkeley DB header",
            format!("last page is {said}, the file ends after {pages}"),
        );
    }
    let mut visits = pages.saturating_mul(VISITS_PER_PAGE);
    for number in 0..pages {
        let Some(page) = u32::try_from(number).ok().and_then(|number| file.page(number)) else { continue };
        if !matches!(page.get(25), Some(&(PAGE_HASH | PAGE_HASH_UNSORTED))) {
            continue;
        }
        let entries = file.u16(page, 20).map_or(0, usize::from);
        // Keys and values in turn.
        for entry in (1..entries).step_by(2) {
            let place = || format!("Berkeley DB page {number}, entry {entry}");
            match value(file, page, entry, &mut visits) {
                Some(Value::Inline(blob)) if blob.len() > 16 => take(place(), blob, inventory),
                Some(Value::Inline(_)) => {}
                Some(Value::OffPage(blob)) => take(place(), &blob, inventory),
                None => {
                    inventory.fault(FORMAT, place(), "the value points outside of the file or in a circle");
                }
            }
        }
    }
}

enum Value<'a> {
    Inline(&'a [u8]),
    OffPage(Vec<u8>),
}

fn value<'a>(file: File<'a>, page: &'a [u8], entry: usize, visits: &mut usize) -> Option<Value<'a>> {
    let offset = |entry: usize| file.u16(page, PAGE_HEADER + entry * 2).map(usize::from);
    let at = offset(entry)?;
    match *page.get(at)? {
        // Items grow from the page's end, so an item ends where the one before it begins.
        ITEM_INLINE => page.get(at + 1..offset(entry - 1)?).map(Value::Inline),
        ITEM_OFF_PAGE => {
            let first = file.u32(page, at + 4)?;
            let length = index(file.u32(page, at + 8)?);
            (length <= MAX_VALUE).then_some(())?;
            overflow(file, first, length, visits).map(Value::OffPage)
        }
        _ => Some(Value::Inline(&[])),
    }
}

fn overflow(file: File<'_>, first: u32, length: usize, visits: &mut usize) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(length.min(file.bytes.len()));
    let mut next = first;
    while value.len() < length && next != 0 {
        *visits = visits.checked_sub(1)?;
        let page = file.page(next)?;
        if page.get(25) != Some(&PAGE_OVERFLOW) {
            return None;
        }
        let used = usize::from(file.u16(page, 22)?);
        value.extend_from_slice(slice(page, PAGE_HEADER, used.min(length - value.len()))?);
        next = file.u32(page, 16)?;
    }
    (value.len() == length).then_some(value)
}
