//! What cgroups are on the network, for connects that no interface of ours sees.

use std::os::fd::OwnedFd;

use crate::map::{Map, TableError, name};
use crate::rows::Place;

/// Writer of the cgroups' rows. Several may write: a row is whole or not there, and the last one counts.
#[derive(Debug)]
pub struct Places {
    map: Map<u64, Place>,
}

impl Places {
    /// From what the loader has handed over.
    ///
    /// # Errors
    /// When the table is missing or of another version.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        Ok(Self { map: Map::find(name::PLACES, descriptors)? })
    }
    /// Says what a cgroup (the inode of its folder in the v2 hierarchy) and all below it are, before anything runs in it.
    ///
    /// # Errors
    /// When the table is full or the kernel refuses.
    pub fn set(&self, cgroup: u64, place: Place) -> Result<(), TableError> {
        self.map.put(&cgroup, &place)
    }
    /// Forgets a cgroup. Answers whether it was known.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, cgroup: u64) -> Result<bool, TableError> {
        self.map.remove(&cgroup)
    }
}
