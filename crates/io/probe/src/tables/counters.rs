//! What the kernel's programs count.

use zerocopy::FromBytes as _;

use super::{Table, TableError};
use crate::layout::Slot;

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
    pub dropped_file: u64,
    pub callers_full: u64,
    pub dropped_deed: u64,
    pub limited_deed: u64,
    pub limited_exec: u64,
    pub limited_fork: u64,
    pub limited_exit: u64,
    pub limited_file: u64,
    pub records: u64,
    pub cgroup_records: u64,
}

impl Counters {
    /// Records of any kind that found the ring full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        [
            self.dropped_exec,
            self.dropped_fork,
            self.dropped_exit,
            self.dropped_cgroup,
            self.dropped_file,
            self.dropped_deed,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// Of a table with a value a CPU.
pub(super) fn read(table: &Table, cpus: usize) -> Result<Counters, TableError> {
    let mut sums = [0_u64; Slot::COUNT];
    for (slot, sum) in (0_u32..).zip(&mut sums) {
        let key = slot.to_ne_bytes();
        let values = table.map.read(&key, cpus).map_err(|source| table.error(source))?;
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
    let [
        kill_failed,
        runtime_exec,
        open,
        learn,
        allow,
        violate,
        deny,
        dropped_file,
        callers_full,
        dropped_deed,
        limited_deed,
        limited_exec,
        limited_fork,
        limited_exit,
        limited_file,
        records,
        cgroup_records,
    ] = rest;
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
        dropped_file,
        callers_full,
        dropped_deed,
        limited_deed,
        limited_exec,
        limited_fork,
        limited_exit,
        limited_file,
        records,
        cgroup_records,
    })
}
