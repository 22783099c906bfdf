//! The agent's hand on the kernel's tables.

mod counters;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zerocopy::{FromBytes, FromZeros as _, IntoBytes};

use crate::file::KernelInode;
use crate::layout;
use crate::map::{RawMap, possible_cpus};
use crate::rows::{
    cgroup_row, condition_row, exact_key, padded_path, pattern_key, profile_row, read_cgroup, read_exact,
    read_pattern, read_profile, read_rule, rule_row,
};

pub use self::counters::Counters;
pub(crate) use self::table::{Bytes, Table};
pub use crate::rows::{CgroupRow, ConditionRow, ExactKey, PatternKey, ProfileRow, Rows, RuleRow, name_hash};

/// What [`Tables::replace`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Rows that were new or changed.
    pub written: usize,
    /// Rows that were removed.
    pub removed: usize,
    /// Rows that found their table full; what they say does not hold.
    pub refused: usize,
}

/// Why a table could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A descriptor is missing.
    #[error("no descriptor of the table {table} was handed over")]
    Missing {
        /// Which table.
        table: &'static str,
    },
    /// It holds as many rows as it can.
    #[error("the table {table} is full, it holds {capacity} rows")]
    Full {
        /// Which table.
        table: &'static str,
        /// How many it holds.
        capacity: u32,
    },
    /// A path that the kernel's table cannot hold.
    #[error("path {path:?} cannot be a row of {table}: at most {max} bytes without NUL are")]
    Path {
        /// Which table.
        table: &'static str,
        /// The path.
        path: String,
        /// Longest path.
        max: usize,
    },
    /// The kernel refused.
    #[error("cannot use the table {table}")]
    Kernel {
        /// Which table.
        table: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// The tables, by the descriptors that the keeper handed over. Needs no capability.
#[derive(Debug)]
pub struct Tables {
    cgroups: Table,
    profiles: Table,
    exact: Table,
    patterns: Table,
    conditions: Table,
    callers: Table,
    features: Table,
    runtimes: Table,
    roots: Table,
    mounters: Table,
    starters: Table,
    /// `None` where the kernel keeps nothing by process.
    belongings: Option<Table>,
    counters: Table,
    cpus: usize,
    /// What [`Self::replace`] has written; `None` until it has read what an earlier run left, and after a failure.
    held: Mutex<Option<Held>>,
}

/// Rows of the tables that hold policy, as they are in the kernel. Nobody else writes them.
#[derive(Debug, Default)]
struct Held {
    conditions: Bytes,
    exact: Bytes,
    patterns: Bytes,
    profiles: Bytes,
}

impl Tables {
    /// Takes the descriptors that [`crate::Loaded::descriptors`] gave; others among them are closed.
    ///
    /// # Errors
    /// One is missing or of another shape.
    pub fn from_descriptors(descriptors: Vec<(String, OwnedFd)>) -> Result<Self, TableError> {
        let mut held: BTreeMap<String, OwnedFd> = descriptors.into_iter().collect();
        let mut take = |table: &'static str, key: usize, value: usize| {
            let fd = held.remove(table).ok_or(TableError::Missing { table })?;
            let map = RawMap::new(fd, key, value).map_err(|source| TableError::Kernel { table, source })?;
            Ok(Table { name: table, map })
        };
        let rule = size_of::<layout::RuleRow>();
        let belongings = match take("belongings", 4, size_of::<layout::Belonging>()) {
            Err(TableError::Missing { .. }) => None,
            held => Some(held?),
        };
        Ok(Self {
            belongings,
            cgroups: take("cgroups", 8, size_of::<layout::CgroupRow>())?,
            profiles: take("profiles", 4, size_of::<layout::ProfileRow>())?,
            exact: take("exact", size_of::<layout::ExactKey>(), rule)?,
            patterns: take("patterns", size_of::<layout::PatternKey>(), rule)?,
            conditions: take("conditions", 8, size_of::<layout::ConditionRow>())?,
            callers: take("callers", 4, size_of::<layout::CallerRow>())?,
            features: take("features", 4, 4)?,
            roots: take("roots", 8, 4)?,
            mounters: take("mounters", 8, 4)?,
            starters: take("starters", 8, size_of::<layout::Executable>())?,
            runtimes: take("runtimes", size_of::<layout::Executable>(), 4)?,
            counters: take("counters", 4, 8)?,
            cpus: possible_cpus().map_err(|source| TableError::Kernel { table: "counters", source })?,
            held: Mutex::new(None),
        })
    }

    /// One row is written past [`Self::replace`].
    fn forget_held(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Puts cgroup `id` under a profile. Cgroups made in it later inherit that. What is known of a container besides is in
    /// tables of its own.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused.
    pub fn set_cgroup(&self, id: u64, row: CgroupRow) -> Result<(), TableError> {
        let held = self.held_cgroup(id)?;
        let row = cgroup_row(row, held);
        if held == Some(row) {
            return Ok(());
        }
        self.cgroups.write(&id.to_ne_bytes(), row.as_bytes())
    }

    /// Tells which device holds the root file system of a container that ran before the programs did, as
    /// [`crate::cgroup::root_device`] knows it. Of others the kernel learns it from their first program, and what is known
    /// stays.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused. A cgroup without a row is no error.
    pub fn tell_root(&self, id: u64, device: u32) -> Result<(), TableError> {
        self.tell_of(id, &self.roots, device.as_bytes())
    }

    /// Tells what the process runs that has started a container from before the programs: whoever comes into the
    /// container neither by such a process nor by a runtime is a stranger there. Of others the kernel learns it from
    /// their first program, and what is known stays.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused. A cgroup without a row is no error.
    pub fn tell_starter(&self, id: u64, program: KernelInode) -> Result<(), TableError> {
        if self.held_cgroup(id)?.is_some_and(|held| held.flags & layout::CGROUP_WATCHED != 0) {
            return Ok(());
        }
        self.tell_of(id, &self.starters, executable(program).as_bytes())
    }

    /// Puts in what is known of a container, once. The kernel takes it away with the cgroup, of which nothing is to stay when
    /// that happens meanwhile.
    fn tell_of(&self, id: u64, table: &Table, value: &[u8]) -> Result<(), TableError> {
        let key = id.to_ne_bytes();
        if self.held_cgroup(id)?.is_some() && table.add(&key, value)? && self.held_cgroup(id)?.is_none() {
            table.remove(&key)?;
        }
        Ok(())
    }

    /// Tells of a program that is a runtime: what it starts in a container is of the container's family. 16 are kept.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused.
    pub fn tell_runtime(&self, program: KernelInode) -> Result<(), TableError> {
        self.runtimes.write(executable(program).as_bytes(), &1_u32.to_ne_bytes())
    }

    fn held_cgroup(&self, id: u64) -> Result<Option<layout::CgroupRow>, TableError> {
        let held =
            self.cgroups.map.read(&id.to_ne_bytes(), 1).map_err(|source| self.cgroups.error(source))?;
        Ok(held.and_then(|bytes| layout::CgroupRow::read_from_bytes(&bytes).ok()))
    }

    /// How much is known of a container besides its profile: its root, whether it has mounted something, what has started
    /// it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn known(&self, id: u64) -> Result<usize, TableError> {
        let mut known = 0_usize;
        for table in [&self.roots, &self.mounters, &self.starters] {
            let held = table.map.read(&id.to_ne_bytes(), 1).map_err(|source| table.error(source))?;
            known = known.saturating_add(usize::from(held.is_some()));
        }
        Ok(known)
    }

    /// Frees cgroup `id` from policy; false when it had none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_cgroup(&self, id: u64) -> Result<bool, TableError> {
        let key = id.to_ne_bytes();
        let held = self.cgroups.remove(&key)?;
        for table in [&self.roots, &self.mounters, &self.starters] {
            table.remove(&key)?;
        }
        Ok(held)
    }

    /// The row of one cgroup.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn cgroup(&self, id: u64) -> Result<Option<CgroupRow>, TableError> {
        Ok(self.held_cgroup(id)?.map(read_cgroup))
    }

    /// Every cgroup under policy, inherited ones included.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn cgroups(&self) -> Result<BTreeMap<u64, CgroupRow>, TableError> {
        let rows = self.cgroups.rows::<u64, layout::CgroupRow>()?;
        Ok(rows.into_iter().map(|(id, row)| (id, read_cgroup(row))).collect())
    }

    /// Says that a process that runs already is of the container whose cgroup is `cgroup`, and so what it makes from now
    /// on. The programs know it by themselves of what was started after them, and what they know stays. Nothing where the kernel keeps nothing by
    /// process ([`crate::trial::belonging`]).
    ///
    /// # Errors
    /// The process is gone, or the kernel refused.
    pub fn adopt(&self, pid: u32, cgroup: u64) -> Result<(), TableError> {
        let Some(belongings) = &self.belongings else { return Ok(()) };
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
        let descriptor = process
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| belongings.error(error.into()))?;
        let row = layout::Belonging { cgroup, ..layout::Belonging::new_zeroed() };
        belongings.add(&descriptor.as_raw_fd().to_ne_bytes(), row.as_bytes()).map(drop)
    }

    /// Sets mode and baseline of a profile: one write. Its patterns are looked for whether it has any or not;
    /// [`Self::replace`] knows better.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused.
    pub fn set_profile(&self, number: u32, row: ProfileRow) -> Result<(), TableError> {
        self.forget_held();
        self.profiles.write(&number.to_ne_bytes(), profile_row(row, true).as_bytes())
    }

    /// Sets one rule by path.
    ///
    /// # Errors
    /// [`TableError::Full`], [`TableError::Path`], or the kernel refused.
    pub fn set_exact(&self, key: &ExactKey, row: RuleRow) -> Result<(), TableError> {
        self.forget_held();
        self.exact.write(exact_key(key)?.as_bytes(), rule_row(row).as_bytes())
    }

    /// Removes one rule by path; false when there was none.
    ///
    /// # Errors
    /// [`TableError::Path`], or the kernel refused.
    pub fn remove_exact(&self, key: &ExactKey) -> Result<bool, TableError> {
        self.forget_held();
        self.exact.remove(exact_key(key)?.as_bytes())
    }

    /// Sets one rule by prefix and name.
    ///
    /// # Errors
    /// [`TableError::Full`], [`TableError::Path`], or the kernel refused.
    pub fn set_pattern(&self, key: &PatternKey, row: RuleRow) -> Result<(), TableError> {
        self.forget_held();
        self.patterns.write(pattern_key(key)?.as_bytes(), rule_row(row).as_bytes())
    }

    /// Makes profiles and rules be just `wanted`, writing only what differs: rules first, then modes, then what is
    /// gone, so that nothing allowed by both old and new rows is refused in between.
    ///
    /// # Errors
    /// A path that no row can hold (nothing is written then), or the kernel refused. A full table is no error: see
    /// [`Replaced::refused`].
    pub fn replace(&self, wanted: &Rows) -> Result<Replaced, TableError> {
        let mut exact = BTreeMap::new();
        for (key, row) in &wanted.exact {
            exact.insert(exact_key(key)?.as_bytes().to_vec(), rule_row(*row).as_bytes().to_vec());
        }
        let mut patterns = BTreeMap::new();
        for (key, row) in &wanted.patterns {
            patterns.insert(pattern_key(key)?.as_bytes().to_vec(), rule_row(*row).as_bytes().to_vec());
        }
        let mut conditions = BTreeMap::new();
        for (number, row) in &wanted.conditions {
            conditions.insert(number.to_ne_bytes().to_vec(), condition_row(row)?.as_bytes().to_vec());
        }
        let with_patterns: BTreeSet<u32> = wanted.patterns.keys().map(|key| key.profile).collect();
        let profile = |number: &u32, row: &ProfileRow| {
            profile_row(*row, with_patterns.contains(number)).as_bytes().to_vec()
        };
        let profiles: Bytes = wanted
            .profiles
            .iter()
            .map(|(number, row)| (number.to_ne_bytes().to_vec(), profile(number, row)))
            .collect();
        let mut holder = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Reading them is slow, a trie above all. What was written in part is not known: it is read the next time.
        let mut held = match holder.take() {
            Some(held) => held,
            None => Held {
                conditions: self.conditions.raw_rows()?,
                exact: self.exact.raw_rows()?,
                patterns: self.patterns.raw_rows()?,
                profiles: self.profiles.raw_rows()?,
            },
        };
        let mut done = Replaced::default();
        // Rows by path lead to conditions, which are there before them and go after them.
        self.conditions.write_new(&mut held.conditions, &conditions, &mut done)?;
        self.exact.write_new(&mut held.exact, &exact, &mut done)?;
        self.patterns.write_new(&mut held.patterns, &patterns, &mut done)?;
        self.profiles.write_new(&mut held.profiles, &profiles, &mut done)?;
        self.exact.remove_old(&mut held.exact, &exact, &mut done)?;
        self.patterns.remove_old(&mut held.patterns, &patterns, &mut done)?;
        self.profiles.remove_old(&mut held.profiles, &profiles, &mut done)?;
        self.conditions.remove_old(&mut held.conditions, &conditions, &mut done)?;
        *holder = Some(held);
        Ok(done)
    }

    /// Whether the kernel keeps what each process runs.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn keeps_callers(&self) -> Result<bool, TableError> {
        let value = self.features.map.read(&[0; 4], 1).map_err(|source| self.features.error(source))?;
        let value = value.and_then(|bytes| u32::read_from_bytes(&bytes).ok()).unwrap_or_default();
        Ok(value & layout::FEATURE_CALLERS != 0)
    }

    /// Has the kernel keep what each process runs, which rules that ask for the parent need, or not.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn keep_callers(&self, keep: bool) -> Result<(), TableError> {
        self.features.write(&[0; 4], &if keep { layout::FEATURE_CALLERS } else { 0 }.to_ne_bytes())?;
        if !keep {
            for key in self.callers.map.keys().map_err(|source| self.callers.error(source))? {
                self.callers.remove(&key)?;
            }
        }
        Ok(())
    }

    /// Says what a process runs that the kernel has not kept; what it kept itself stays. `mounts` is the inode of the
    /// process' mount namespace, `path` its executable in there.
    ///
    /// # Errors
    /// [`TableError::Full`], [`TableError::Path`], or the kernel refused.
    pub fn add_caller(&self, pid: u32, mounts: u32, path: &str) -> Result<(), TableError> {
        let row = layout::CallerRow { mounts, unknown: 0, path: padded_path("callers", path)? };
        self.callers.add(&pid.to_ne_bytes(), row.as_bytes()).map(drop)
    }

    /// Profiles and rules as the kernel holds them now, without conditions.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn rows(&self) -> Result<Rows, TableError> {
        let profiles = self.profiles.rows::<u32, layout::ProfileRow>()?;
        let exact = self.exact.rows::<layout::ExactKey, layout::RuleRow>()?;
        let patterns = self.patterns.rows::<layout::PatternKey, layout::RuleRow>()?;
        Ok(Rows {
            profiles: profiles.into_iter().map(|(number, row)| (number, read_profile(row))).collect(),
            exact: exact.into_iter().map(|(key, row)| (read_exact(&key), read_rule(row))).collect(),
            patterns: patterns.into_iter().map(|(key, row)| (read_pattern(&key), read_rule(row))).collect(),
            conditions: BTreeMap::new(),
        })
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counters(&self) -> Result<Counters, TableError> {
        counters::read(&self.counters, self.cpus)
    }
}

fn executable(program: KernelInode) -> layout::Executable {
    layout::Executable { inode: program.number, device: program.device, reserved: 0 }
}
