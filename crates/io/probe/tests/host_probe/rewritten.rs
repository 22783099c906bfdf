//! The agent writes a cgroup's row while the kernel finds out more of its container.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::lab::{Bench, Container, End, inode_of_this_program};
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::Verdict;
use nv_probe::tables::{CgroupRow, Tables};
use nv_probe::{Event, cgroup};

/// Profiles that say the same, so that a row changes and no verdict does; the last one is another cgroup's.
const PROFILES: [u32; 2] = [1, 3];
const OTHERS: u32 = 5;

/// Ends the writer, also when a check fails: the scope waits for it.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes rows as fast as it can: the cgroup's own, and that of one that no machine has, whose profile lets nothing run.
fn rewrite(tables: &Tables, id: u64, stop: &AtomicBool) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        for profile in PROFILES {
            tables.set_cgroup(id, CgroupRow { profile, container: true }).unwrap();
            tables.set_cgroup(u64::MAX, CgroupRow { profile: OTHERS + profile, container: true }).unwrap();
            written += 2;
        }
    }
    written
}

#[test]
fn what_is_found_of_a_new_container_stays_while_its_row_is_rewritten() {
    const RUNS: u32 = 60;
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    for profile in PROFILES {
        bench.profile(profile, Mode::Protect, Baseline::ZeroDrift);
        bench.profile(OTHERS + profile, Mode::Protect, Baseline::Basic);
    }
    bench.cover(&container, 1);
    let tables = bench.own_tables();
    let mut written = 0;
    for run in 0..RUNS {
        let name = format!("new{run}");
        std::fs::create_dir(container.cgroup.join(&name)).unwrap();
        let id = cgroup::id(&container.cgroup.join(&name)).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| rewrite(&tables, id, &stop));
            let ends = Ends(&stop);
            for nth in ["first", "second"] {
                let (pid, end) = container.run_in(&name, "/bin/good", &["/marks/family"]);
                let exec = bench.exec_of(pid);
                assert_eq!(
                    (end, exec.verdict, exec.stranger),
                    (End::Code(0), Verdict::Allow, false),
                    "the {nth} of {run}: {exec:?}"
                );
            }
            drop(ends);
            written += writer.join().unwrap();
        });
        // Who has started it is still known.
        let mark = format!("late{run}");
        let pid = container.run_orphaned(&name, "/bin/good", &[&format!("/marks/{mark}")]);
        let exec = bench.exec_of(pid);
        bench.until(|event| matches!(event, Event::Exit { pid: ended, .. } if *ended == pid));
        assert!(exec.is_against_family() && !container.marked(&mark), "run {run}: {exec:?}");
    }
    println!("{written} rows written during {} programs", 2 * RUNS);
    let counters = bench.tables.counters().unwrap();
    assert_eq!((counters.containers_full, counters.no_profile), (0, 0), "{counters:?}");
}

#[test]
fn a_stranger_stays_one_when_the_agent_takes_it_for_the_containers_own() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Discover, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    bench.tables.tell_starter(container.id, inode_of_this_program()).unwrap();
    container.write_shell("/bin/sh");
    let script = "while [ ! -e /marks/go ]; do :; done; /bin/good /marks/child; true";
    let pid = container.run_orphaned("", "/bin/sh", &["-c", script]);
    assert!(bench.exec_of(pid).stranger);
    // As it is done with what runs in a container when the runtime tells of it.
    bench.tables.adopt(pid, container.id).unwrap();
    container.write("/marks/go", Vec::new());
    let seen = bench.until(|event| matches!(event, Event::Exec(exec) if exec.path == "/bin/good"));
    let Some(Event::Exec(exec)) = seen.last() else { panic!("{seen:?}") };
    assert!(exec.stranger, "{exec:?}");
}

#[test]
fn nothing_is_known_of_a_container_any_more_when_its_cgroup_is_gone() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    let folder = container.cgroup.join("short");
    std::fs::create_dir(&folder).unwrap();
    let id = cgroup::id(&folder).unwrap();
    assert_eq!(container.run_in("short", "/bin/good", &["/marks/short"]).1, End::Code(0));
    assert_eq!(bench.tables.known(id).unwrap(), 2, "its root, and who has started it");
    while std::fs::remove_dir(&folder).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(bench.tables.known(id).unwrap(), 0);
    // What the agent says too late leaves nothing either.
    bench.tables.tell_root(id, 7).unwrap();
    bench.tables.tell_starter(id, inode_of_this_program()).unwrap();
    assert_eq!(bench.tables.known(id).unwrap(), 0);
}
