//! Pinned programs and tables outlive the process that loaded them.

use std::path::PathBuf;

use crate::lab::{Bench, Container, End, mechanism};
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::Action;
use nv_probe::tables::{ExactKey, PatternKey, ProfileRow, Replaced, Rows, RuleRow};
use nv_probe::{Options, bpffs, load};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(bpffs::MOUNT_POINT).join(format!("nv-probe-test-{}-{name}", std::process::id()))
}

/// The kernel lets a program go a moment after its last pin.
fn runs_soon(container: &Container) {
    for _ in 0..100 {
        if container.run("/bin/evil", &["/marks/evil"]).1 == End::Code(0) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("still enforced a second after the pins were removed");
}

#[test]
fn enforcement_survives_its_loader_and_the_next_one_takes_the_rows_over() {
    let dir = folder("survive");
    let options = Options::new(Some(dir.clone()), mechanism()).unwrap();
    let container = Container::new(&["/bin/good", "/bin/evil"]);
    let bench = Bench::load(&options);
    assert!(!bench.loaded.as_ref().unwrap().adopted());
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.cover(&container, 1);
    // To the kernel a process that ends is one whose descriptors are closed.
    drop(bench);
    assert_eq!(container.run("/bin/good", &["/marks/good"]).1, End::Code(0));
    for run in 0..20 {
        assert!(container.run("/bin/evil", &["/marks/evil"]).1.stopped(), "run {run}");
    }
    assert!(!container.marked("evil"));

    // While the next loader takes over, again and again, nothing slips through.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, reload) = (std::sync::Arc::clone(&stop), options.clone());
    let loader = std::thread::spawn(move || {
        let mut loads = 0;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(nv_probe::Loaded::load(&reload).unwrap().adopted());
            loads += 1;
        }
        loads
    });
    for run in 0..200 {
        assert!(container.run("/bin/evil", &["/marks/evil"]).1.stopped(), "run {run} during a take-over");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    println!("{} take-overs during 200 stopped execs", loader.join().unwrap());
    assert!(!container.marked("evil"));

    let mut bench = Bench::load(&options);
    assert!(bench.loaded.as_ref().unwrap().adopted());
    assert_eq!(bench.tables.rows().unwrap().exact.len(), 1);
    assert!(bench.tables.cgroups().unwrap().contains_key(&container.id));
    let (pid, end) = container.run("/bin/good", &["/marks/good"]);
    assert_eq!((end, bench.exec_of(pid).rule), (End::Code(0), Some(1)));

    bench.loaded.take().unwrap().unload().unwrap();
    assert!(!dir.join("process").exists());
    runs_soon(&container);
    std::fs::remove_dir(dir).unwrap();
}

#[test]
fn unpinning_ends_the_enforcement_of_a_dead_loader() {
    let dir = folder("unpin");
    let container = Container::new(&["/bin/evil"]);
    let bench = Bench::load(&Options::new(Some(dir.clone()), mechanism()).unwrap());
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    drop(bench);
    assert!(container.run("/bin/evil", &["/marks/evil"]).1.stopped());
    load::unpin(&dir).unwrap();
    runs_soon(&container);
    load::unpin(&dir).unwrap();
    std::fs::remove_dir(dir).unwrap();
}

#[test]
fn a_bulk_change_writes_only_what_differs_and_counts_what_found_no_room() {
    let bench = Bench::new();
    let row = |order| RuleRow {
        action: Action::Allow,
        allow_update: order % 2 == 0,
        learned: false,
        order,
        rule: order,
        conditional: 0,
    };
    let profile = ProfileRow { mode: Mode::Monitor, baseline: Baseline::ZeroDrift, fault: Fault::Closed };
    let mut rows = Rows::default();
    rows.profiles.insert(3, profile);
    for at in 0..500 {
        rows.exact.insert(ExactKey { profile: 3, path: format!("/bin/{at}") }, row(at));
        rows.patterns
            .insert(PatternKey { profile: 3, name_hash: at.into(), prefix: format!("/opt/{at}/") }, row(at));
    }
    let replaced = |written, removed| Replaced { written, removed, refused: 0 };
    assert_eq!(bench.tables.replace(&rows).unwrap(), replaced(1001, 0));
    assert_eq!(bench.tables.rows().unwrap(), rows);
    assert_eq!(bench.tables.replace(&rows).unwrap(), replaced(0, 0));
    rows.exact.remove(&ExactKey { profile: 3, path: "/bin/7".to_owned() });
    rows.exact.insert(ExactKey { profile: 3, path: "/bin/8".to_owned() }, row(1000));
    assert_eq!(bench.tables.replace(&rows).unwrap(), replaced(1, 1));
    for at in 0..16_384 {
        let key = PatternKey { profile: 4, name_hash: 0, prefix: format!("/{at}") };
        rows.patterns.insert(key, row(1));
    }
    assert_eq!(bench.tables.replace(&rows).unwrap(), Replaced { written: 15_884, removed: 0, refused: 500 });
}
