//! What the kernel's programs count.

use zerocopy::FromBytes as _;

use super::{Table, TableError};
use crate::layout::Slot;

/// Declares the counters once, in the order of their slots.
macro_rules! counters {
    ($($name:ident)+) => {
        /// What the kernel counted since the programs were first loaded.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are explained at their slots in `layout::Slot`")]
        pub struct Counters {
            $(pub $name: u64,)+
        }

        impl Counters {
            /// Each with the name that operators see.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((concat!("process.", stringify!($name)), self.$name)),+].into_iter()
            }
        }

        impl From<[u64; Slot::COUNT]> for Counters {
            fn from([$($name),+]: [u64; Slot::COUNT]) -> Self {
                Self { $($name),+ }
            }
        }
    };
}

counters! {
    dropped_exec
    dropped_fork
    dropped_exit
    dropped_cgroup
    cgroups_full
    scratch_busy
    no_profile
    kill_failed
    runtime_exec
    open
    learn
    allow
    violate
    deny
    dropped_file
    callers_full
    dropped_deed
    limited_deed
    limited_exec
    limited_fork
    limited_exit
    limited_file
    records
    cgroup_records
    containers_full
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
    Ok(sums.into())
}
