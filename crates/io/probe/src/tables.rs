//! The agent's hand on the kernel's tables.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::Action;
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{self, CGROUP_CONTAINER, PATH_BYTES, PREFIX_BYTES, RULE_ALLOW_UPDATE, Slot};
use crate::map::{RawMap, possible_cpus};

/// Which profile holds in a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CgroupRow {
    /// Number of the profile, from 1.
    pub profile: u32,
    /// A container (or below one), whose files come from an image; false for the host's own cgroups.
    pub container: bool,
}

/// How strictly a profile holds. Writing it is the whole of a change of mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileRow {
    /// Discover, Monitor or Protect.
    pub mode: Mode,
    /// What counts where no rule speaks.
    pub baseline: Baseline,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleRow {
    /// Allow or deny.
    pub action: Action,
    /// Under zero-drift it excuses a changed file too.
    pub allow_update: bool,
    /// Place in the profile; of several rows that match, the lowest counts.
    pub order: u32,
    /// Number that events name this rule by; below `u32::MAX`.
    pub rule: u32,
}

/// A rule for one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExactKey {
    /// Number of the profile.
    pub profile: u32,
    /// Absolute path, at most 255 bytes.
    pub path: String,
}

/// A rule for every path that begins with `prefix` and whose file has the name of `name_hash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatternKey {
    /// Number of the profile.
    pub profile: u32,
    /// [`name_hash`] of the file name; 0 for any.
    pub name_hash: u64,
    /// What the path begins with, at most 244 bytes; empty for anywhere.
    pub prefix: String,
}

/// Every row but those of cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// By number.
    pub profiles: BTreeMap<u32, ProfileRow>,
    /// Rules by path.
    pub exact: BTreeMap<ExactKey, RuleRow>,
    /// Rules by prefix and name.
    pub patterns: BTreeMap<PatternKey, RuleRow>,
}

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

/// What the kernel counted since the programs were first loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are explained at their slots in `layout::Slot`")]
pub struct Counters {
    pub dropped_exec: u64,
    pub dropped_fork: u64,
    pub dropped_exit: u64,
    pub dropped_cgroup: u64,
    pub cgroups_full: u64,
    pub scratch_busy: u64,
    pub no_profile: u64,
    pub kill_failed: u64,
    pub runtime_exec: u64,
    pub open: u64,
    pub learn: u64,
    pub allow: u64,
    pub violate: u64,
    pub deny: u64,
}

impl Counters {
    /// Records of any kind that found the ring full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        [self.dropped_exec, self.dropped_fork, self.dropped_exit, self.dropped_cgroup]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
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

#[derive(Debug)]
struct Table {
    name: &'static str,
    map: RawMap,
}

/// The tables, by the descriptors that the keeper handed over. Needs no capability.
#[derive(Debug)]
pub struct Tables {
    cgroups: Table,
    profiles: Table,
    exact: Table,
    patterns: Table,
    counters: Table,
    cpus: usize,
}

/// FNV-1a (64 bits) of a file name, as the kernel side computes it. Never 0, which stands for any name.
#[must_use]
pub fn name_hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    if hash == 0 { 1 } else { hash }
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
        Ok(Self {
            cgroups: take("cgroups", 8, size_of::<layout::CgroupRow>())?,
            profiles: take("profiles", 4, size_of::<layout::ProfileRow>())?,
            exact: take("exact", size_of::<layout::ExactKey>(), rule)?,
            patterns: take("patterns", size_of::<layout::PatternKey>(), rule)?,
            counters: take("counters", 4, 8)?,
            cpus: possible_cpus().map_err(|source| TableError::Kernel { table: "counters", source })?,
        })
    }

    /// Puts cgroup `id` under a profile. Cgroups made in it later inherit that.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused.
    pub fn set_cgroup(&self, id: u64, row: CgroupRow) -> Result<(), TableError> {
        let flags = if row.container { CGROUP_CONTAINER } else { 0 };
        self.cgroups.write(&id.to_ne_bytes(), layout::CgroupRow { profile: row.profile, flags }.as_bytes())
    }

    /// Frees cgroup `id` from policy; false when it had none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_cgroup(&self, id: u64) -> Result<bool, TableError> {
        self.cgroups.remove(&id.to_ne_bytes())
    }

    /// Every cgroup under policy, inherited ones included.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn cgroups(&self) -> Result<BTreeMap<u64, CgroupRow>, TableError> {
        let rows = self.cgroups.rows::<u64, layout::CgroupRow>()?;
        let row = |row: layout::CgroupRow| CgroupRow {
            profile: row.profile,
            container: row.flags & CGROUP_CONTAINER != 0,
        };
        Ok(rows.into_iter().map(|(id, value)| (id, row(value))).collect())
    }

    /// Sets mode and baseline of a profile: one write.
    ///
    /// # Errors
    /// [`TableError::Full`], or the kernel refused.
    pub fn set_profile(&self, number: u32, row: ProfileRow) -> Result<(), TableError> {
        self.profiles.write(&number.to_ne_bytes(), profile_row(row).as_bytes())
    }

    /// Sets one rule by path.
    ///
    /// # Errors
    /// [`TableError::Full`], [`TableError::Path`], or the kernel refused.
    pub fn set_exact(&self, key: &ExactKey, row: RuleRow) -> Result<(), TableError> {
        self.exact.write(exact_key(key)?.as_bytes(), rule_row(row).as_bytes())
    }

    /// Removes one rule by path; false when there was none.
    ///
    /// # Errors
    /// [`TableError::Path`], or the kernel refused.
    pub fn remove_exact(&self, key: &ExactKey) -> Result<bool, TableError> {
        self.exact.remove(exact_key(key)?.as_bytes())
    }

    /// Sets one rule by prefix and name.
    ///
    /// # Errors
    /// [`TableError::Full`], [`TableError::Path`], or the kernel refused.
    pub fn set_pattern(&self, key: &PatternKey, row: RuleRow) -> Result<(), TableError> {
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
        let profiles = wanted
            .profiles
            .iter()
            .map(|(number, row)| (number.to_ne_bytes().to_vec(), profile_row(*row).as_bytes().to_vec()))
            .collect();
        let mut done = Replaced::default();
        let mut gone = Vec::new();
        for (table, wanted) in [(&self.exact, exact), (&self.patterns, patterns), (&self.profiles, profiles)]
        {
            let held = table.raw_rows()?;
            for (key, value) in wanted.iter().filter(|(key, value)| held.get(*key) != Some(*value)) {
                match table.write(key, value) {
                    Ok(()) => done.written += 1,
                    Err(TableError::Full { .. }) => done.refused += 1,
                    Err(error) => return Err(error),
                }
            }
            gone.extend(held.into_keys().filter(|key| !wanted.contains_key(key)).map(|key| (table, key)));
        }
        for (table, key) in gone {
            done.removed += usize::from(table.remove(&key)?);
        }
        Ok(done)
    }

    /// Profiles and rules as the kernel holds them now.
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
        })
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counters(&self) -> Result<Counters, TableError> {
        let mut sums = [0_u64; Slot::COUNT];
        for (slot, sum) in (0_u32..).zip(&mut sums) {
            let key = slot.to_ne_bytes();
            let values =
                self.counters.map.read(&key, self.cpus).map_err(|source| self.counters.error(source))?;
            *sum = values
                .unwrap_or_default()
                .chunks_exact(8)
                .filter_map(|bytes| u64::read_from_bytes(bytes).ok())
                .fold(0, u64::wrapping_add);
        }
        let [
            dropped_exec,
            dropped_fork,
            dropped_exit,
            dropped_cgroup,
            cgroups_full,
            scratch_busy,
            no_profile,
            rest @ ..,
        ] = sums;
        let [kill_failed, runtime_exec, open, learn, allow, violate, deny] = rest;
        Ok(Counters {
            dropped_exec,
            dropped_fork,
            dropped_exit,
            dropped_cgroup,
            cgroups_full,
            scratch_busy,
            no_profile,
            kill_failed,
            runtime_exec,
            open,
            learn,
            allow,
            violate,
            deny,
        })
    }
}

impl Table {
    fn error(&self, source: io::Error) -> TableError {
        // A full hash says E2BIG, a full trie ENOSPC.
        match source.raw_os_error() {
            Some(7 | 28) => TableError::Full { table: self.name, capacity: self.map.capacity() },
            _ => TableError::Kernel { table: self.name, source },
        }
    }
    fn write(&self, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        self.map.write(key, value).map_err(|source| self.error(source))
    }
    fn remove(&self, key: &[u8]) -> Result<bool, TableError> {
        self.map.remove(key).map_err(|source| self.error(source))
    }
    fn raw_rows(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, TableError> {
        let mut rows = BTreeMap::new();
        for key in self.map.keys().map_err(|source| self.error(source))? {
            if let Some(value) = self.map.read(&key, 1).map_err(|source| self.error(source))? {
                rows.insert(key, value);
            }
        }
        Ok(rows)
    }
    fn rows<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, TableError> {
        Ok(self
            .raw_rows()?
            .into_iter()
            .filter_map(|(key, value)| {
                Some((K::read_from_bytes(&key).ok()?, V::read_from_bytes(&value).ok()?))
            })
            .collect())
    }
}

fn profile_row(row: ProfileRow) -> layout::ProfileRow {
    let mode = match row.mode {
        Mode::Discover => 1,
        Mode::Monitor => 2,
        Mode::Protect => 3,
    };
    let baseline = match row.baseline {
        Baseline::Basic => 0,
        Baseline::ZeroDrift => 1,
    };
    layout::ProfileRow { mode, baseline, flags: 0 }
}

fn read_profile(row: layout::ProfileRow) -> ProfileRow {
    let mode = match row.mode {
        3 => Mode::Protect,
        2 => Mode::Monitor,
        _ => Mode::Discover,
    };
    ProfileRow { mode, baseline: if row.baseline == 1 { Baseline::ZeroDrift } else { Baseline::Basic } }
}

fn rule_row(row: RuleRow) -> layout::RuleRow {
    let action = match row.action {
        Action::Allow => 1,
        Action::Deny => 2,
    };
    let flags = if row.allow_update { RULE_ALLOW_UPDATE } else { 0 };
    layout::RuleRow { action, flags, reserved: 0, order: row.order, rule: row.rule }
}

fn read_rule(row: layout::RuleRow) -> RuleRow {
    RuleRow {
        action: if row.action == 2 { Action::Deny } else { Action::Allow },
        allow_update: row.flags & RULE_ALLOW_UPDATE != 0,
        order: row.order,
        rule: row.rule,
    }
}

/// `path` padded with NUL to `N` bytes, of which at most `max` may be used.
fn padded<const N: usize>(table: &'static str, path: &str, max: usize) -> Result<[u8; N], TableError> {
    let mut bytes = [0_u8; N];
    let fits = path.len() <= max && !path.bytes().any(|byte| byte == 0);
    match bytes.get_mut(..path.len()) {
        Some(head) if fits => head.copy_from_slice(path.as_bytes()),
        _ => return Err(TableError::Path { table, path: path.to_owned(), max }),
    }
    Ok(bytes)
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn exact_key(key: &ExactKey) -> Result<layout::ExactKey, TableError> {
    Ok(layout::ExactKey { profile: key.profile, path: padded("exact", &key.path, PATH_BYTES - 1)? })
}

fn read_exact(key: &layout::ExactKey) -> ExactKey {
    ExactKey { profile: key.profile, path: until_nul(&key.path) }
}

fn pattern_key(key: &PatternKey) -> Result<layout::PatternKey, TableError> {
    let path = padded("patterns", &key.prefix, PREFIX_BYTES)?;
    let name_hash = [key.name_hash as u32, (key.name_hash >> 32) as u32];
    // At most 96 + 8 × 244 bits.
    let prefixlen = 96_u32.saturating_add(8_u32.saturating_mul(key.prefix.len() as u32));
    Ok(layout::PatternKey { prefixlen, profile: key.profile, name_hash, path })
}

fn read_pattern(key: &layout::PatternKey) -> PatternKey {
    let [low, high] = key.name_hash;
    let bytes = key.prefixlen.saturating_sub(96) as usize / 8;
    let prefix = String::from_utf8_lossy(key.path.get(..bytes).unwrap_or_default()).into_owned();
    PatternKey { profile: key.profile, name_hash: u64::from(high) << 32 | u64::from(low), prefix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_hash_is_fnv_1a_with_its_published_values() {
        for (name, want) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(name_hash(name), want, "{name}");
        }
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused_and_not_cut() {
        let exact = |path: String| exact_key(&ExactKey { profile: 1, path });
        assert!(exact("a".repeat(255)).is_ok());
        assert!(matches!(exact("a".repeat(256)), Err(TableError::Path { max: 255, .. })));
        assert!(exact("/a\0b".to_owned()).is_err());
        let pattern = |prefix: String| pattern_key(&PatternKey { profile: 1, name_hash: 0, prefix });
        assert_eq!(pattern("a".repeat(244)).unwrap().prefixlen, 8 * (4 + 8 + 244));
        assert!(pattern("a".repeat(245)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(profile in any::<u32>(), name_hash in any::<u64>(), prefix in "[a-z/]{0,244}") {
            let key = PatternKey { profile, name_hash, prefix };
            prop_assert_eq!(read_pattern(&pattern_key(&key).unwrap()), key.clone());
            let key = ExactKey { profile, path: key.prefix };
            prop_assert_eq!(read_exact(&exact_key(&key).unwrap()), key);
        }
    }
}
