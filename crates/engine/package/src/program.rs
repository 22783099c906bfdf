//! Programs that carry a list of what they were built of: Go's build information and cargo-auditable, in ELF.

use crate::go;
use crate::inventory::Inventory;
use crate::read::{ReadAt, index};
use crate::rust;

/// Most sections and segments that are looked at.
const MAX_TABLE: u64 = 4096;
/// Largest section that is read, in bytes.
const MAX_SECTION: u64 = 16 * 1024 * 1024;

/// The first bytes of an ELF file.
pub const ELF_MAGIC: &[u8] = b"\x7fELF";

struct Elf<'a> {
    read: ReadAt<'a>,
    wide: bool,
    big_endian: bool,
}

impl Elf<'_> {
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + size)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
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

/// What a program was built of; nothing where it is no ELF file or carries no list.
pub fn inspect(read: ReadAt<'_>) -> Inventory {
    inspect_elf(read).unwrap_or_default()
}

fn inspect_elf(read: ReadAt<'_>) -> Option<Inventory> {
    let header = read(0, 64)?;
    header.starts_with(ELF_MAGIC).then_some(())?;
    let mut elf = Elf { read, wide: header.get(4)? == &2, big_endian: header.get(5)? == &2 };
    let start = elf.word(&header, 32, 40)?;
    let (row, rows, names) = if elf.wide { (58, 60, 62) } else { (46, 48, 50) };
    let row = elf.number(&header, row, 2)?;
    let rows = elf.number(&header, rows, 2)?;
    let names = index(u32::try_from(elf.number(&header, names, 2)?).ok()?);
    let sections = elf.table(start, row, rows, if elf.wide { 64 } else { 40 })?;
    let place =
        |elf: &Elf<'_>, section: &[u8]| Some((elf.word(section, 16, 24)?, elf.word(section, 20, 32)?));
    let (at, length) = place(&elf, sections.get(names)?)?;
    let names = (elf.read)(at, usize::try_from(length.min(MAX_SECTION)).ok()?)?;
    let mut inventory = Inventory::default();
    for section in &sections {
        let name = usize::try_from(elf.number(section, 0, 4)?).ok().and_then(|at| names.get(at..));
        let wanted = name.and_then(|name| name.split(|byte| *byte == 0).next());
        if !matches!(wanted, Some(b".go.buildinfo" | b".dep-v0")) {
            continue;
        }
        let (at, length) = place(&elf, section)?;
        let content = (elf.read)(at, usize::try_from(length.min(MAX_SECTION)).ok()?)?;
        let found = if wanted == Some(b".dep-v0") {
            rust::parse_auditable(&content)
        } else {
            let segments = segments(&mut elf, &header).unwrap_or_default();
            let big_endian = elf.big_endian;
            go::parse_build_info(&content, big_endian, &mut |address, length| {
                let (start, offset, _) =
                    segments.iter().find(|(start, _, size)| address >= *start && address - start < *size)?;
                (elf.read)(offset.checked_add(address - start)?, length)
            })
        };
        inventory.packages.extend(found.packages);
        inventory.fault_count += found.fault_count;
        inventory.faults.extend(found.faults);
    }
    Some(inventory)
}

/// What of the file is loaded where: address, offset, size.
fn segments(elf: &mut Elf<'_>, header: &[u8]) -> Option<Vec<(u64, u64, u64)>> {
    let start = elf.word(header, 28, 32)?;
    let (row, rows) = if elf.wide { (54, 56) } else { (42, 44) };
    let (row, rows) = (elf.number(header, row, 2)?, elf.number(header, rows, 2)?);
    let table = elf.table(start, row, rows, if elf.wide { 56 } else { 32 })?;
    let loaded = table.iter().filter(|segment| elf.number(segment, 0, 4) == Some(1));
    loaded
        .map(|segment| {
            Some((elf.word(segment, 8, 16)?, elf.word(segment, 4, 8)?, elf.word(segment, 16, 32)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A 64-bit ELF file with one named section.
    fn elf(name: &str, content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names = [b"\0", name.as_bytes(), b"\0"].concat();
        let names_at = file.len() as u64;
        file.extend(&names);
        let content_at = file.len() as u64;
        file.extend(content);
        let table = file.len() as u64;
        for (name, at, length) in [(1_u32, content_at, content.len()), (0, names_at, names.len())] {
            let mut row = vec![0; 64];
            row[..4].copy_from_slice(&name.to_le_bytes());
            row[24..32].copy_from_slice(&at.to_le_bytes());
            row[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(row);
        }
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&2_u16.to_le_bytes());
        file[62..64].copy_from_slice(&1_u16.to_le_bytes());
        file
    }

    fn read(file: &[u8]) -> Inventory {
        inspect(&mut crate::read::read_slice(file))
    }

    fn go_program() -> Vec<u8> {
        let mut section = go::MAGIC.to_vec();
        section.extend([8, 2]);
        section.resize(32, 0);
        section.push(8);
        section.extend(b"go1.20.3");
        section.push(0);
        elf(".go.buildinfo", &section)
    }

    #[test]
    fn a_go_program_tells_its_toolchain() {
        let found = read(&go_program());
        assert_eq!((found.packages.len(), &*found.packages[0].version), (1, "1.20.3"));
        assert_eq!(read(b"#!/bin/sh\n"), Inventory::default());
        assert_eq!(read(&elf(".text", b"x")), Inventory::default());
    }

    proptest! {
        #[test]
        fn a_damaged_program_gives_packages_or_nothing(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        ) {
            let mut file = go_program();
            for (at, value) in flips {
                let at = at.index(file.len());
                file[at] = value;
            }
            read(&file);
        }
    }
}
