//! PE, the programs of Windows. Go's linker gives its build information no section of its own there: it stands in `.data`, at
//! a multiple of 16 bytes.

use super::{Layout, List, Loaded, MAX_TABLE, Piece, name, number};
use crate::go;
use crate::read::ReadAt;

/// The first bytes.
pub(super) const MAGIC: &[u8] = b"MZ";
/// Bytes of `.data` that are looked through.
const MAX_SEARCHED: usize = 1024 * 1024;
const ROW: usize = 40;

pub(super) fn layout(header: &[u8], read: ReadAt<'_>) -> Option<Layout> {
    let at = number(header, 60, 4, false)?;
    let coff = read(at, 64)?;
    coff.starts_with(b"PE\0\0").then_some(())?;
    let rows = number(&coff, 6, 2, false)?.min(MAX_TABLE);
    let optional = number(&coff, 20, 2, false)?;
    // The address that the program wants to be loaded at: 64 bits wide in PE32+.
    let base = match number(&coff, 24, 2, false)? {
        0x20b => number(&coff, 48, 8, false)?,
        _ => number(&coff, 52, 4, false)?,
    };
    let table =
        read(at.checked_add(24)?.checked_add(optional)?, usize::try_from(rows).ok()?.checked_mul(ROW)?)?;
    let mut layout = Layout::default();
    for row in table.chunks_exact(ROW) {
        let word = |at| number(row, at, 4, false);
        let file = Piece { at: word(20)?, length: word(16)? };
        layout.loaded.push(Loaded { address: base.checked_add(word(12)?)?, file });
        let called = name(row.get(..8)?);
        match List::of(called) {
            Some(list) => layout.lists.push((list, file)),
            None if called == b".data" => {
                layout.lists.extend(search(file, read).map(|piece| (List::Go, piece)));
            }
            None => {}
        }
    }
    Some(layout)
}

fn search(data: Piece, read: ReadAt<'_>) -> Option<Piece> {
    let length = usize::try_from(data.length).ok()?.min(MAX_SEARCHED);
    let content = read(data.at, length)?;
    let found = content.chunks(16).position(|chunk| chunk.starts_with(go::MAGIC))?;
    let skipped = u64::try_from(found).ok()?.checked_mul(16)?;
    Some(Piece { at: data.at.checked_add(skipped)?, length: data.length.checked_sub(skipped)? })
}
