//! The kernel's filter before the table of files: a bit for each file and folder that has a row.

use std::collections::BTreeMap;

use zerocopy::{FromBytes as _, IntoBytes as _};

use super::KernelInode;
use crate::tables::{Table, TableError};

/// Words as they are in the kernel, those that are not 0.
#[derive(Debug)]
pub(super) struct Filter {
    table: Table,
    held: BTreeMap<u32, u64>,
}

impl Filter {
    /// Over what an earlier run has left.
    pub(super) fn new(table: Table) -> Result<Self, TableError> {
        let mut held = BTreeMap::new();
        for word in 0..table.map.capacity() {
            let bytes = table.map.read(word.as_bytes(), 1).map_err(|source| table.error(source))?;
            match bytes.and_then(|bytes| u64::read_from_bytes(&bytes).ok()) {
                Some(0) | None => {}
                Some(bits) => drop(held.insert(word, bits)),
            }
        }
        Ok(Self { table, held })
    }

    /// Sets the bits of these. To be called before they have rows.
    pub(super) fn add(&mut self, inodes: impl Iterator<Item = KernelInode>) -> Result<(), TableError> {
        let mut words = bits_of(inodes);
        for (word, bits) in &self.held {
            *words.entry(*word).or_default() |= bits;
        }
        self.write(&words)
    }

    /// Sets the bits of these alone. To be called when others have no rows any more.
    pub(super) fn keep(&mut self, inodes: impl Iterator<Item = KernelInode>) -> Result<(), TableError> {
        self.write(&bits_of(inodes))
    }

    fn write(&mut self, words: &BTreeMap<u32, u64>) -> Result<(), TableError> {
        let gone = self.held.keys().filter(|word| !words.contains_key(*word)).map(|word| (*word, 0));
        let wanted = words.iter().map(|(word, bits)| (*word, *bits));
        let changes: Vec<(u32, u64)> = gone
            .chain(wanted)
            .filter(|(word, bits)| self.held.get(word).copied().unwrap_or(0) != *bits)
            .collect();
        for (word, bits) in changes {
            self.table.write(word.as_bytes(), bits.as_bytes())?;
            if bits == 0 {
                self.held.remove(&word);
            } else {
                self.held.insert(word, bits);
            }
        }
        Ok(())
    }
}

fn bits_of(inodes: impl Iterator<Item = KernelInode>) -> BTreeMap<u32, u64> {
    let mut words: BTreeMap<u32, u64> = BTreeMap::new();
    for inode in inodes {
        let (word, bit) = place(inode);
        *words.entry(word).or_default() |= 1 << bit;
    }
    words
}

/// Word, and bit in it: `may_have_row` of `bpf/probe/file.h`.
fn place(inode: KernelInode) -> (u32, u32) {
    let hash = (inode.number ^ u64::from(inode.device) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (u32::try_from(hash >> 52).unwrap_or(0), u32::try_from(hash >> 46 & 63).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_file_system_are_spread_over_the_filter() {
        let inodes = (0..10_000).map(|number| KernelInode { device: 98 << 20 | 3, number });
        let bits: u32 = bits_of(inodes).values().map(|bits| bits.count_ones()).sum();
        assert!(bits > 9_500, "{bits} bits for 10,000 files");
    }

    #[test]
    fn a_file_has_its_place_within_the_filter() {
        for (device, number) in [(0, 0), (0, u64::MAX), (u32::MAX, 1), (1, u64::MAX)] {
            let (word, bit) = place(KernelInode { device, number });
            assert!(word < 4096 && bit < 64, "{device} {number}: {word} {bit}");
        }
    }
}
