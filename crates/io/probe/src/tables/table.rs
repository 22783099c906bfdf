//! One table, and what differs in it.

use std::collections::BTreeMap;
use std::io;

use zerocopy::FromBytes;

use super::{Replaced, TableError};
use crate::map::RawMap;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) map: RawMap,
}

/// Bytes of keys, each with those of its value.
pub(crate) type Bytes = BTreeMap<Vec<u8>, Vec<u8>>;

impl Table {
    /// Writes what is not there as wanted; what is there and not wanted is given back.
    pub(crate) fn write_differing(
        &self,
        wanted: &Bytes,
        done: &mut Replaced,
    ) -> Result<Vec<Vec<u8>>, TableError> {
        let held = self.raw_rows()?;
        for (key, value) in wanted.iter().filter(|(key, value)| held.get(*key) != Some(*value)) {
            match self.write(key, value) {
                Ok(()) => done.written += 1,
                Err(TableError::Full { .. }) => done.refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(held.into_keys().filter(|key| !wanted.contains_key(key)).collect())
    }

    /// Writes what `held` has not as wanted, and notes it there.
    pub(super) fn write_new(
        &self,
        held: &mut Bytes,
        wanted: &Bytes,
        done: &mut Replaced,
    ) -> Result<(), TableError> {
        for (key, value) in wanted {
            if held.get(key) == Some(value) {
                continue;
            }
            match self.write(key, value) {
                Ok(()) => {
                    held.insert(key.clone(), value.clone());
                    done.written += 1;
                }
                Err(TableError::Full { .. }) => done.refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what is not wanted, and notes it in `held`.
    pub(super) fn remove_old(
        &self,
        held: &mut Bytes,
        wanted: &Bytes,
        done: &mut Replaced,
    ) -> Result<(), TableError> {
        let old: Vec<Vec<u8>> = held.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in old {
            done.removed += usize::from(self.remove(&key)?);
            held.remove(&key);
        }
        Ok(())
    }

    pub(crate) fn error(&self, source: io::Error) -> TableError {
        // A full hash says E2BIG, a full trie ENOSPC.
        match source.raw_os_error() {
            Some(7 | 28) => TableError::Full { table: self.name, capacity: self.map.capacity() },
            _ => TableError::Kernel { table: self.name, source },
        }
    }
    pub(crate) fn write(&self, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        self.map.write(key, value).map_err(|source| self.error(source))
    }
    /// False when there is a row, which stays.
    pub(crate) fn add(&self, key: &[u8], value: &[u8]) -> Result<bool, TableError> {
        self.map.add(key, value).map_err(|source| self.error(source))
    }
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool, TableError> {
        self.map.remove(key).map_err(|source| self.error(source))
    }
    pub(super) fn raw_rows(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, TableError> {
        let mut rows = BTreeMap::new();
        for key in self.map.keys().map_err(|source| self.error(source))? {
            if let Some(value) = self.map.read(&key, 1).map_err(|source| self.error(source))? {
                rows.insert(key, value);
            }
        }
        Ok(rows)
    }
    pub(super) fn rows<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, TableError> {
        Ok(self
            .raw_rows()?
            .into_iter()
            .filter_map(|(key, value)| {
                Some((K::read_from_bytes(&key).ok()?, V::read_from_bytes(&value).ok()?))
            })
            .collect())
    }
}
