//! Mach-O, the programs of Apple's systems; of a file for several machines the first.

use super::{Layout, List, Loaded, MAX_SECTION, MAX_TABLE, Piece, name, number};
use crate::read::ReadAt;

/// `LC_SEGMENT` and `LC_SEGMENT_64`.
const SEGMENT: u64 = 1;
const SEGMENT_64: u64 = 0x19;
/// Most machines of one file; a class file of Java begins with the same bytes and has a larger number there.
const MAX_MACHINES: u64 = 30;

pub(super) fn layout(header: &[u8], read: ReadAt<'_>) -> Option<Layout> {
    if header.starts_with(&[0xca, 0xfe, 0xba, 0xbe]) {
        let machines = number(header, 4, 4, true)?;
        (1..=MAX_MACHINES).contains(&machines).then_some(())?;
        let at = number(header, 16, 4, true)?;
        let header = read(at, 64)?;
        return one(&header, at, read);
    }
    one(header, 0, read)
}

/// `start` is where the machine's part begins.
fn one(header: &[u8], start: u64, read: ReadAt<'_>) -> Option<Layout> {
    let (wide, big_endian) = match header.get(..4)? {
        [0xcf, 0xfa, 0xed, 0xfe] => (true, false),
        [0xce, 0xfa, 0xed, 0xfe] => (false, false),
        [0xfe, 0xed, 0xfa, 0xcf] => (true, true),
        [0xfe, 0xed, 0xfa, 0xce] => (false, true),
        _ => return None,
    };
    let number = |bytes: &[u8], at, size| number(bytes, at, size, big_endian);
    let count = number(header, 16, 4)?.min(MAX_TABLE);
    let length = usize::try_from(number(header, 20, 4)?.min(MAX_SECTION)).ok()?;
    let commands = read(start.checked_add(if wide { 32 } else { 28 })?, length)?;
    let mut rest = commands.as_slice();
    let mut layout = Layout { big_endian, ..Layout::default() };
    for _command in 0..count {
        let size = usize::try_from(number(rest, 4, 4)?).ok().filter(|size| *size >= 8)?;
        let (command, behind) = rest.split_at_checked(size)?;
        rest = behind;
        let kind = number(command, 0, 4)?;
        if kind != if wide { SEGMENT_64 } else { SEGMENT } {
            continue;
        }
        // Widths and places of the two shapes: address and file of the segment, its sections.
        let word = if wide { 8 } else { 4 };
        let (row, first) = if wide { (80, 72) } else { (68, 56) };
        let file = Piece {
            at: start.checked_add(number(command, 24 + 2 * word, word)?)?,
            length: number(command, 24 + 3 * word, word)?,
        };
        layout.loaded.push(Loaded { address: number(command, 24, word)?, file });
        for section in command.get(first..)?.chunks_exact(row) {
            let Some(list) = List::of(name(section.get(..16)?)) else { continue };
            let at = start.checked_add(number(section, 32 + 2 * word, 4)?)?;
            layout.lists.push((list, Piece { at, length: number(section, 32 + word, word)? }));
        }
    }
    Some(layout)
}
