//! Tables that are full.

use nv_model::mode::{Baseline, Mode};
use nv_probe::tables::{CgroupRow, TableError};

use crate::lab::{Bench, Container};

#[test]
fn with_as_many_cgroups_as_the_table_holds_the_others_are_judged_and_one_more_is_counted() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/evil"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    // Numbers that no cgroup of this machine has.
    let mut held = 1_u64;
    let full = (0_u64..100_000).find_map(|number| {
        match bench.tables.set_cgroup(u64::MAX - number, CgroupRow { profile: 1, container: true }) {
            Ok(()) => {
                held += 1;
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(full, Some(TableError::Full { capacity: 65_536, .. })), "{full:?}");
    assert!(held > 64_000, "{held}");
    let (_, end) = container.run("/bin/evil", &["/marks/evil"]);
    assert!(end.stopped() && !container.marked("evil"), "{end:?}");

    let before = bench.tables.counters().unwrap().cgroups_full;
    std::fs::create_dir(container.cgroup.join("one-more")).unwrap();
    let counters = bench.tables.counters().unwrap();
    assert_eq!(counters.cgroups_full, before + 1, "what is not judged is counted");
    std::fs::remove_dir(container.cgroup.join("one-more")).unwrap();
}
