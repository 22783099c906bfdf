//! Programs that carry a list of what they were built of: Go's build information and cargo-auditable, in ELF, PE and Mach-O.

mod elf;
mod macho;
mod pe;

use crate::go;
use crate::inventory::Inventory;
use crate::read::ReadAt;
use crate::rust;

/// Most sections and segments that are looked at.
const MAX_TABLE: u64 = 4096;
/// Largest section that is read, in bytes.
const MAX_SECTION: u64 = 16 * 1024 * 1024;

/// The first bytes of an ELF file.
pub const ELF_MAGIC: &[u8] = b"\x7fELF";

/// What of a program is where, whatever its format.
#[derive(Debug, Default)]
struct Layout {
    /// Numbers have their highest byte first.
    big_endian: bool,
    /// Sections with a list of what the program was built of.
    lists: Vec<(List, Piece)>,
    /// What of the file is loaded where.
    loaded: Vec<Loaded>,
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Go,
    Auditable,
}

impl List {
    /// By a section's name, which Mach-O begins with underscores.
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b".go.buildinfo" | b"__go_buildinfo" => Some(Self::Go),
            b".dep-v0" => Some(Self::Auditable),
            _ => None,
        }
    }
}

/// A part of the file, in bytes.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u64,
    length: u64,
}

/// A part of the file and the address that it is loaded at.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    address: u64,
    file: Piece,
}

/// A number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize, big_endian: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
}

/// A name of a fixed width, without the zeros behind it.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What a program was built of; nothing where it is no program or carries no list.
pub fn inspect(read: ReadAt<'_>) -> Inventory {
    let Some(header) = read(0, 64) else { return Inventory::default() };
    let layout = if header.starts_with(ELF_MAGIC) {
        elf::layout(&header, read)
    } else if header.starts_with(pe::MAGIC) {
        pe::layout(&header, read)
    } else {
        macho::layout(&header, read)
    };
    layout.map(|layout| lists(&layout, read)).unwrap_or_default()
}

fn lists(layout: &Layout, read: ReadAt<'_>) -> Inventory {
    let mut inventory = Inventory::default();
    for (list, piece) in &layout.lists {
        let length = usize::try_from(piece.length.min(MAX_SECTION)).unwrap_or_default();
        let Some(content) = read(piece.at, length) else { continue };
        let found = match list {
            List::Auditable => rust::parse_auditable(&content),
            List::Go => go::parse_build_info(&content, layout.big_endian, &mut |address, length| {
                let loaded = layout.loaded.iter().find(|loaded| {
                    address.checked_sub(loaded.address).is_some_and(|inside| inside < loaded.file.length)
                })?;
                read(loaded.file.at.checked_add(address - loaded.address)?, length)
            }),
        };
        inventory.packages.extend(found.packages);
        inventory.fault_count += found.fault_count;
        inventory.faults.extend(found.faults);
    }
    inventory
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
        elf(".go.buildinfo", &build_info())
    }

    fn build_info() -> Vec<u8> {
        let mut section = go::MAGIC.to_vec();
        section.extend([8, 2]);
        section.resize(32, 0);
        section.push(8);
        section.extend(b"go1.20.3");
        section.push(0);
        section
    }

    /// Build information from before Go 1.18: two addresses of headers of strings, all at `base` and behind.
    fn older_build_info(base: u64) -> Vec<u8> {
        let mut section = go::MAGIC.to_vec();
        section.extend([8, 0]);
        let strings = base + 32 + 32;
        for address in [base + 32, base + 48, strings, 8, strings, 0] {
            section.extend(address.to_le_bytes());
        }
        section.extend(b"go1.17.1");
        section
    }

    /// A 64-bit PE file with one section, which is loaded at `0x40_1000`.
    fn pe(name: &str, content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[..2].copy_from_slice(b"MZ");
        file[60] = 0x80;
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x86] = 1;
        file[0x94] = 0xf0;
        file[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
        file[0xb0..0xb8].copy_from_slice(&0x40_0000_u64.to_le_bytes());
        let row = 0x98 + 0xf0;
        file[row..row + name.len()].copy_from_slice(name.as_bytes());
        for (at, value) in [(12, 0x1000), (16, content.len() as u32), (20, 0x400)] {
            file[row + at..row + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        file.extend(content);
        file
    }

    /// A 64-bit Mach-O file with one section, which is loaded at `0x1000`.
    fn macho(section: &str, content: &[u8]) -> Vec<u8> {
        let at = 32 + 152_u64;
        let length = content.len() as u64;
        let mut file = [0xcf, 0xfa, 0xed, 0xfe].to_vec();
        file.resize(32, 0);
        file[16] = 1;
        file[20] = 152;
        file.extend([0x19_u32.to_le_bytes(), 152_u32.to_le_bytes()].concat());
        let text = |text: &str| {
            let mut name = text.as_bytes().to_vec();
            name.resize(16, 0);
            name
        };
        file.extend(text("__DATA"));
        for word in [0x1000, length, at, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0; 8]);
        file.extend([1_u32.to_le_bytes(), [0; 4]].concat());
        file.extend([text(section), text("__DATA")].concat());
        file.extend([0x1000_u64.to_le_bytes(), length.to_le_bytes()].concat());
        file.extend((at as u32).to_le_bytes());
        file.resize(usize::try_from(at).unwrap(), 0);
        file.extend(content);
        file
    }

    #[test]
    fn programs_of_windows_and_of_apple_tell_their_toolchain_too_old_ones_included() {
        let mut data = vec![7; 48];
        data.extend(build_info());
        let mut older = vec![7; 48];
        older.extend(older_build_info(0x40_1000 + 48));
        let mut fat = [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1].to_vec();
        fat.resize(64, 0);
        fat[19] = 64;
        fat.extend(macho("__go_buildinfo", &build_info()));
        for (case, file, want) in [
            ("PE", pe(".data", &data), "1.20.3"),
            ("PE, before 1.18", pe(".data", &older), "1.17.1"),
            ("Mach-O", macho("__go_buildinfo", &build_info()), "1.20.3"),
            ("Mach-O, before 1.18", macho("__go_buildinfo", &older_build_info(0x1000)), "1.17.1"),
            ("Mach-O for several machines", fat, "1.20.3"),
        ] {
            let found = read(&file);
            assert_eq!(found.packages.len(), 1, "{case}: {found:?}");
            assert_eq!((&*found.packages[0].name, &*found.packages[0].version), ("stdlib", want), "{case}");
        }
        assert_eq!(read(&pe(".text", &data)), Inventory::default());
        assert_eq!(read(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52]), Inventory::default(), "a class of Java");
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
            for mut file in [go_program(), pe(".data", &build_info()), macho("__go_buildinfo", &build_info())] {
                for (at, value) in &flips {
                    let at = at.index(file.len());
                    file[at] = *value;
                }
                read(&file);
            }
        }
    }
}
