//! ELF: sections by their names, segments that are loaded.

use super::{Layout, List, Loaded, MAX_SECTION, MAX_TABLE, Piece, name, number};
use crate::read::{ReadAt, index};

struct Elf<'a> {
    read: ReadAt<'a>,
    wide: bool,
    big_endian: bool,
}

impl Elf<'_> {
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        number(bytes, at, size, self.big_endian)
    }

    /// A number of the machine's word size, at one place in 32-bit files and another in 64-bit ones.
    fn word(&self, bytes: &[u8], narrow: usize, wide: usize) -> Option<u64> {
        if self.wide { self.number(bytes, wide, 8) } else { self.number(bytes, narrow, 4) }
    }

    /// A table of the header: where it begins, the size of a row, how many rows.
    fn table(&mut self, start: u64, row: u64, rows: u64, least: usize) -> Option<Vec<Vec<u8>>> {
        let row = usize::try_from(row).ok().filter(|row| (least..=256).contains(row))?;
        let rows = usize::try_from(rows.min(MAX_TABLE)).ok()?;
        let bytes = (self.read)(start, row.checked_mul(rows)?)?;
        Some(bytes.chunks_exact(row).map(<[u8]>::to_vec).collect())
    }
}

pub(super) fn layout(header: &[u8], read: ReadAt<'_>) -> Option<Layout> {
    let mut elf = Elf { read, wide: header.get(4)? == &2, big_endian: header.get(5)? == &2 };
    let start = elf.word(header, 32, 40)?;
    let (row, rows, names) = if elf.wide { (58, 60, 62) } else { (46, 48, 50) };
    let row = elf.number(header, row, 2)?;
    let rows = elf.number(header, rows, 2)?;
    let names = index(u32::try_from(elf.number(header, names, 2)?).ok()?);
    let sections = elf.table(start, row, rows, if elf.wide { 64 } else { 40 })?;
    let place = |elf: &Elf<'_>, section: &[u8]| {
        Some(Piece { at: elf.word(section, 16, 24)?, length: elf.word(section, 20, 32)? })
    };
    let known = place(&elf, sections.get(names)?)?;
    let names = (elf.read)(known.at, usize::try_from(known.length.min(MAX_SECTION)).ok()?)?;
    let mut layout = Layout { big_endian: elf.big_endian, ..Layout::default() };
    for section in &sections {
        let called = usize::try_from(elf.number(section, 0, 4)?).ok().and_then(|at| names.get(at..));
        if let Some(list) = called.and_then(|called| List::of(name(called))) {
            layout.lists.push((list, place(&elf, section)?));
        }
    }
    if !layout.lists.is_empty() {
        layout.loaded = segments(&mut elf, header).unwrap_or_default();
    }
    Some(layout)
}

fn segments(elf: &mut Elf<'_>, header: &[u8]) -> Option<Vec<Loaded>> {
    let start = elf.word(header, 28, 32)?;
    let (row, rows) = if elf.wide { (54, 56) } else { (42, 44) };
    let (row, rows) = (elf.number(header, row, 2)?, elf.number(header, rows, 2)?);
    let table = elf.table(start, row, rows, if elf.wide { 56 } else { 32 })?;
    let loaded = table.iter().filter(|segment| elf.number(segment, 0, 4) == Some(1));
    loaded
        .map(|segment| {
            let file = Piece { at: elf.word(segment, 4, 8)?, length: elf.word(segment, 16, 32)? };
            Some(Loaded { address: elf.word(segment, 8, 16)?, file })
        })
        .collect()
}
