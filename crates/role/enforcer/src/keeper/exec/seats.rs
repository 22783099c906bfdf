//! Which profile holds where, as the agent tells it: what tables are for the kernel's programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nv_model::mode::{Fault, Mode};
use nv_model::profile::EffectiveProfile;
use nv_probe::fanotify::Inode;
use nv_probe::tables::{CgroupRow, Tables};
use serde::{Deserialize, Serialize};

use super::super::signs::Places;

/// All of it, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seats {
    /// By the number that cgroups name them by.
    pub(crate) profiles: BTreeMap<u32, EffectiveProfile>,
    /// By the cgroup's number. One that is not among them belongs to the nearest above it that is.
    pub(crate) cgroups: BTreeMap<u64, Seat>,
    /// Number of the profile of containers that are not identified.
    pub(crate) nobody: u32,
    /// Device and inode of the executables of runtimes.
    #[serde(default)]
    pub(crate) runtimes: BTreeSet<(u64, u64)>,
}

/// Under which profile a cgroup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) profile: u32,
    /// A container, or in one.
    pub(crate) container: bool,
    /// Device of the container's root file system; 0 where it is not known.
    pub(crate) root: u32,
    /// Device and inode of the executable of what has started it; `None` where that is not known.
    #[serde(default)]
    pub(crate) starter: Option<(u64, u64)>,
}

impl Seat {
    /// Of a profile; what else there is to know of it is not.
    pub(crate) fn new(profile: u32, container: bool) -> Self {
        Self { profile, container, root: 0, starter: None }
    }
    pub(super) fn starter(&self) -> Option<Inode> {
        self.starter.map(|(device, number)| Inode { device, number })
    }
}

/// A seat that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) seat: Seat,
    /// Whose it is.
    pub(super) cgroup: u64,
    /// Somebody may still say more of the cgroup: it is new.
    pub(super) open: bool,
}

impl Seats {
    /// The seat of a cgroup, by its number and those of the ones above it, the nearest first.
    pub(super) fn find(&self, chain: &[u64]) -> Option<Found> {
        let (at, (cgroup, seat)) = chain
            .iter()
            .enumerate()
            .find_map(|(at, cgroup)| Some((at, (*cgroup, *self.cgroups.get(cgroup)?))))?;
        let open = at > 0 && (!seat.container || seat.profile == self.nobody);
        Some(Found { seat, cgroup, open })
    }
}

impl Seats {
    /// Which cgroups fail closed; nothing where none does. `root` is that of the hierarchy.
    pub(super) fn fail_closed(&self, root: &Path) -> Places {
        let closed: BTreeSet<u32> = self
            .profiles
            .iter()
            .filter(|(_, profile)| profile.mode == Mode::Protect && profile.fault == Fault::Closed)
            .map(|(number, _)| *number)
            .collect();
        if closed.is_empty() {
            return Places::default();
        }
        let there = nv_probe::cgroup::walk(root).unwrap_or_default();
        let places = there.into_iter().filter_map(|(cgroup, folder)| {
            let seat = self.cgroups.get(&cgroup)?;
            let path = folder.strip_prefix(root).ok()?.to_string_lossy().into_owned();
            Some((format!("/{path}"), seat.container && closed.contains(&seat.profile)))
        });
        Places(places.collect())
    }
}

/// The same from the kernel's own table, where every cgroup has its row from the moment it is made.
pub(super) fn in_kernel(tables: &Tables, chain: &[u64]) -> Option<Found> {
    let cgroup = *chain.first()?;
    let CgroupRow { profile, container } = tables.cgroup(cgroup).ok()??;
    Some(Found { seat: Seat::new(profile, container), cgroup, open: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_has_its_own_seat_or_that_of_the_nearest_above() {
        let seat = Seat::new;
        let seats = Seats {
            cgroups: BTreeMap::from([(1, seat(1, false)), (2, seat(9, true)), (3, seat(5, true))]),
            nobody: 9,
            ..Seats::default()
        };
        for (chain, want) in [
            (&[1][..], Some((1, false))),
            (&[4, 1], Some((1, true))),    // new on the host: perhaps a container
            (&[5, 2, 1], Some((9, true))), // new where containers are made
            (&[6, 3, 2, 1], Some((5, false))), // made by a container
            (&[7], None),
        ] {
            let found = seats.find(chain).map(|found| (found.seat.profile, found.open));
            assert_eq!(found, want, "{chain:?}");
        }
    }
}
