//! A table in the kernel with typed keys and rows.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::sys::{self, Batch, MapShape};

/// Names of the tables, as [`descriptors`](crate::Loaded::descriptors) hands them out.
pub(crate) mod name {
    pub(crate) const ENDPOINTS: &str = "endpoints";
    pub(crate) const PLACES: &str = "places";
    pub(crate) const ADDRESSES: &str = "addresses";
    pub(crate) const MODES: &str = "modes";
    pub(crate) const SERVICE_RANGES: &str = "service_ranges";
    pub(crate) const RULES: &str = "rules";
    pub(crate) const SETTINGS: &str = "settings";
    pub(crate) const FLOWS: &str = "flows";
    pub(crate) const COUNTERS: &str = "counters";
    pub(crate) const EVENTS: &str = "events";
    pub(crate) const TAPS: &str = "taps";
    pub(crate) const DETOURS: &str = "detours";
    pub(crate) const INSPECTED: &str = "inspected";
    /// Those that the agent works with; the others are the kernel side's own.
    pub(crate) const HANDED_OUT: [&str; 13] = [
        ENDPOINTS,
        PLACES,
        ADDRESSES,
        MODES,
        RULES,
        SETTINGS,
        FLOWS,
        COUNTERS,
        EVENTS,
        TAPS,
        DETOURS,
        INSPECTED,
        SERVICE_RANGES,
    ];
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The loader has handed out no such table.
    #[error("no descriptor of the table {table} was handed over")]
    Missing {
        /// The table.
        table: &'static str,
    },
    /// The descriptor is of another table, or of another version of it.
    #[error(
        "table {table} has keys of {key} and rows of {value} bytes; loader and agent are of different versions"
    )]
    Shape {
        /// The table.
        table: &'static str,
        /// Its keys' length.
        key: u32,
        /// Its rows' length.
        value: u32,
    },
    /// More rows than it can hold. Nothing was written.
    #[error("{rows} rows do not fit into the table {table}, which holds {capacity}")]
    Capacity {
        /// The table.
        table: &'static str,
        /// How many were asked for.
        rows: usize,
        /// How many it holds.
        capacity: u32,
    },
    /// The kernel has refused.
    #[error("the kernel refused to {act} the table {table}")]
    Kernel {
        /// The table.
        table: &'static str,
        /// What was tried.
        act: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// A key or a row: plain bytes.
pub(crate) trait Plain: IntoBytes + FromBytes + Immutable + Copy {}
impl<T: IntoBytes + FromBytes + Immutable + Copy> Plain for T {}

/// One table.
pub(crate) struct Map<K, V> {
    table: &'static str,
    fd: OwnedFd,
    capacity: u32,
    rows: PhantomData<fn(K) -> V>,
}

impl<K, V> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("table", &self.table).field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Takes the named table out of what the loader has handed over (the descriptor is duplicated).
    pub(crate) fn find(table: &'static str, descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        let (fd, shape) = find(table, descriptors)?;
        let fits = |bytes: u32, size: usize| usize::try_from(bytes).is_ok_and(|bytes| bytes == size);
        // The kernel reads and writes as much as the table says, so that this check carries every later call.
        if !fits(shape.key, size_of::<K>()) || !fits(shape.value, size_of::<V>()) {
            return Err(TableError::Shape { table, key: shape.key, value: shape.value });
        }
        Ok(Self { table, fd, capacity: shape.entries, rows: PhantomData })
    }
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }
    pub(crate) fn check_capacity(&self, rows: usize) -> Result<(), TableError> {
        if u32::try_from(rows).is_ok_and(|rows| rows <= self.capacity) {
            return Ok(());
        }
        Err(TableError::Capacity { table: self.table, rows, capacity: self.capacity })
    }
    pub(crate) fn put(&self, key: &K, row: &V) -> Result<(), TableError> {
        sys::update(self.fd.as_fd(), key, row).map_err(self.failed("write"))
    }
    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, TableError> {
        let mut row = V::new_zeroed();
        let found = sys::lookup(self.fd.as_fd(), key, row.as_mut_bytes()).map_err(self.failed("read"))?;
        Ok(found.then_some(row))
    }
    /// Removes a row and answers with its last state.
    pub(crate) fn take(&self, key: &K) -> Result<Option<V>, TableError> {
        let mut row = V::new_zeroed();
        let found =
            sys::take(self.fd.as_fd(), key, row.as_mut_bytes()).map_err(self.failed("delete from"))?;
        Ok(found.then_some(row))
    }
    pub(crate) fn remove(&self, key: &K) -> Result<bool, TableError> {
        sys::delete(self.fd.as_fd(), key).map_err(self.failed("delete from"))
    }
    /// Every row. Nobody else writes while this goes on.
    pub(crate) fn all(&self) -> Result<Vec<(K, V)>, TableError> {
        let mut rows = Vec::new();
        let mut last: Option<K> = None;
        for _ in 0..self.capacity {
            let mut key = K::new_zeroed();
            if !sys::next_key(self.fd.as_fd(), last.as_ref(), &mut key).map_err(self.failed("read"))? {
                break;
            }
            if let Some(row) = self.get(&key)? {
                rows.push((key, row));
            }
            last = Some(key);
        }
        Ok(rows)
    }
    pub(crate) fn batch(
        &self,
        begin: bool,
        cursor: &mut u64,
        keys: &mut [K],
        rows: &mut [V],
    ) -> Result<Batch, TableError> {
        sys::lookup_batch(self.fd.as_fd(), begin, cursor, keys, rows).map_err(self.failed("read"))
    }
    fn failed(&self, act: &'static str) -> impl FnOnce(io::Error) -> TableError + use<K, V> {
        let table = self.table;
        move |source| TableError::Kernel { table, act, source }
    }
}

/// The named table's descriptor, duplicated, and what the kernel says of it.
pub(crate) fn find(
    table: &'static str,
    descriptors: &[(String, OwnedFd)],
) -> Result<(OwnedFd, MapShape), TableError> {
    let (_, fd) = descriptors.iter().find(|(name, _)| name == table).ok_or(TableError::Missing { table })?;
    let act = |act| move |source| TableError::Kernel { table, act, source };
    let fd = fd.try_clone().map_err(act("duplicate"))?;
    let shape = sys::map_shape(fd.as_fd()).map_err(act("describe"))?;
    Ok((fd, shape))
}
