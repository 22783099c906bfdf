//! ndb (rpm's `lib/backend/ndb/rpmpkg.c`): pages of slots, each of which points to a blob.

use super::{FORMAT, Take};
use crate::inventory::Inventory;
use crate::read::{index, le32, slice};

/// The first bytes of the file.
pub(super) const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";

const PAGE: usize = 4096;
const SLOT: usize = 16;
/// The first slots are in the header's place.
const HEADER: usize = 32;
/// Blobs begin at multiples of this.
const BLOCK: usize = 16;
const MAX_PAGES: u32 = 2048;

pub(super) fn read(bytes: &[u8], inventory: &mut Inventory, take: Take<'_>) {
    let pages = match le32(bytes, 12) {
        Some(pages @ 1..=MAX_PAGES) => index(pages),
        pages => {
            inventory.fault(
                FORMAT,
                "ndb header",
                format!("{pages:?} pages of slots, 1 to {MAX_PAGES} are possible"),
            );
            return;
        }
    };
    let end = (pages * PAGE).min(bytes.len());
    let slots = bytes.get(HEADER..end).unwrap_or_default();
    for (number, slot) in slots.as_chunks::<SLOT>().0.iter().enumerate() {
        let place = || format!("ndb slot {}", number + HEADER / SLOT);
        if !slot.starts_with(SLOT_MAGIC) {
            inventory.fault(FORMAT, place(), "no slot");
            continue;
        }
        let (Some(package), Some(block)) = (le32(slot, 4), le32(slot, 8)) else { continue };
        if package == 0 {
            continue;
        }
        match blob(bytes, index(block).saturating_mul(BLOCK), package) {
            Some(blob) => take(place(), blob, inventory),
            None => {
                inventory.fault(FORMAT, place(), format!("no blob of package {package} at block {block}"));
            }
        }
    }
}

fn blob(bytes: &[u8], at: usize, package: u32) -> Option<&[u8]> {
    let head = slice(bytes, at, 16)?;
    if !head.starts_with(BLOB_MAGIC) || le32(head, 4)? != package {
        return None;
    }
    slice(bytes, at.checked_add(16)?, index(le32(head, 12)?))
}
