//! Processes that leave their container, and names that a container gives to files itself.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::OnceLock;

use crate::lab::{Bench, Container, End};
use nv_model::behaviour::DeedKind;
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Action, Verdict};
use nv_probe::tables::{ExactKey, RuleRow};
use nv_probe::{Event, cgroup};
use rustix::mount::{MountFlags, mount, mount_bind};

/// What an intruder has got hold of: the host's mount namespace, and its cgroup tree.
static HOST_MOUNTS: OnceLock<File> = OnceLock::new();
static HOST_CGROUP: OnceLock<File> = OnceLock::new();

/// A program of the host, which every host has as a file of its own.
const BUSYBOX: &str = "/bin/busybox";

fn covered(programs: &[&str]) -> (Bench, Container) {
    let root = cgroup::unified_root().unwrap().join("cgroup.procs");
    HOST_MOUNTS.get_or_init(|| File::open("/proc/self/ns/mnt").unwrap());
    HOST_CGROUP.get_or_init(|| File::options().write(true).open(root).unwrap());
    let (bench, container) = (Bench::new(), Container::new(programs));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    (bench, container)
}

fn enter_the_host() -> io::Result<()> {
    let mounts = HOST_MOUNTS.get().unwrap();
    Ok(rustix::thread::move_into_link_name_space(mounts.as_fd(), None)?)
}

fn leave_the_cgroup() -> io::Result<()> {
    HOST_CGROUP.get().unwrap().write_all(b"0")
}

#[test]
fn what_a_container_runs_in_the_hosts_file_system_is_judged_and_no_listed_path_excuses_it() {
    let (mut bench, container) = covered(&["/bin/good"]);
    let (pid, end) = container.run_after(&bench, enter_the_host, BUSYBOX, &["true"]);
    assert!(end.stopped(), "{end:?}");
    let exec = bench.exec_of(pid);
    assert_eq!(
        (exec.path.ends_with("/busybox"), exec.verdict, exec.cgroup),
        (true, Verdict::Deny, container.id)
    );
    assert!(exec.host_mounts && exec.foreign && exec.drifted && !exec.runtime, "{exec:?}");
    let path = exec.path;

    bench.rule(1, &path, Action::Allow, 4);
    let (pid, end) = container.run_after(&bench, enter_the_host, BUSYBOX, &["true"]);
    assert!(end.stopped(), "the host's file passes for the container's: {end:?}");
    assert_eq!(bench.exec_of(pid).rule, Some(4));
    let excused = RuleRow {
        action: Action::Allow,
        allow_update: true,
        learned: false,
        order: 4,
        rule: 4,
        conditional: 0,
    };
    let key = ExactKey { profile: 1, path };
    bench.tables.set_exact(&key, excused).unwrap();
    assert_eq!(container.run_after(&bench, enter_the_host, BUSYBOX, &["true"]).1, End::Code(0));

    bench.profile(1, Mode::Monitor, Baseline::ZeroDrift);
    bench.tables.remove_exact(&key).unwrap();
    let (pid, end) = container.run_after(&bench, enter_the_host, BUSYBOX, &["false"]);
    assert_eq!((end, bench.exec_of(pid).verdict), (End::Code(1), Verdict::Violate));
}

#[test]
fn a_process_that_moves_to_another_cgroup_is_told_and_judged_by_its_container_and_so_are_its_children() {
    let (mut bench, container) = covered(&["/bin/good", "/bin/evil"]);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    let (pid, end) = container.run_after(&bench, leave_the_cgroup, "/bin/evil", &["/marks/evil"]);
    assert!(end.stopped() && !container.marked("evil"), "{end:?}");
    let seen =
        bench.until(|event| matches!(event, Event::Deed(did) if did.deed.kind == DeedKind::LeaveCgroup));
    let Some(Event::Deed(did)) = seen.last() else { panic!() };
    assert_eq!((did.pid, did.cgroup, did.deed.target.as_str()), (pid, container.id, "/"));
    assert_eq!(did.deed.argument, cgroup::id(&cgroup::unified_root().unwrap()).unwrap());
    let exec = bench.exec_of(pid);
    assert_eq!((exec.cgroup, exec.verdict), (container.id, Verdict::Deny));
    let (pid, end) = container.run_after(&bench, leave_the_cgroup, "/bin/good", &["/marks/good"]);
    assert_eq!((end, bench.exec_of(pid).verdict), (End::Code(0), Verdict::Allow));
    bench.until(|event| matches!(event, Event::Exit { pid: ended, cgroup, .. } if *ended == pid && *cgroup == container.id));
}

#[test]
fn a_move_within_the_container_is_its_own_business() {
    static INNER: OnceLock<File> = OnceLock::new();
    let (mut bench, container) = covered(&["/bin/good"]);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    let inner = container.cgroup.join("inner");
    std::fs::create_dir(&inner).unwrap();
    INNER.get_or_init(|| File::options().write(true).open(inner.join("cgroup.procs")).unwrap());
    let (pid, end) =
        container.run_after(&bench, || INNER.get().unwrap().write_all(b"0"), "/bin/good", &["/marks/good"]);
    assert_eq!(end, End::Code(0));
    let seen = bench.until(|event| matches!(event, Event::Exit { pid: ended, .. } if *ended == pid));
    assert!(!seen.iter().any(|event| matches!(event, Event::Deed(_))), "{seen:?}");
}

#[test]
fn a_container_that_mounts_over_a_listed_path_gains_nothing_by_it() {
    let (mut bench, container) = covered(&["/bin/good", "/bin/listed"]);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.rule(1, "/bin/listed", Action::Allow, 2);
    bench.rule(1, "/volume/tool", Action::Allow, 3);
    // What the runtime has mounted has its names from whoever made the container.
    container.act(|| Ok(mount("tmpfs", "/volume", "tmpfs", MountFlags::empty(), None)?)).unwrap();
    container.copy("/bin/good", "/volume/tool");
    let (pid, end) = container.run("/volume/tool", &["/marks/volume"]);
    assert_eq!((end, bench.exec_of(pid).foreign), (End::Code(0), false));

    container.act_own(&bench, || Ok(mount_bind("/volume/tool", "/bin/listed")?)).unwrap();
    let (pid, end) = container.run("/bin/listed", &["/marks/fake"]);
    assert!(end.stopped() && !container.marked("fake"), "{end:?}");
    let exec = bench.exec_of(pid);
    assert_eq!((exec.path.as_str(), exec.rule, exec.foreign), ("/bin/listed", Some(2), true));
    assert_eq!(container.run("/bin/good", &["/marks/good"]).1, End::Code(0), "the image's own runs on");
}

#[test]
fn where_the_kernel_keeps_nothing_by_process_programs_are_judged_by_the_cgroup_that_they_are_in() {
    let (_, container) = covered(&["/bin/good", "/bin/evil"]);
    let options = nv_probe::Options { belonging: false, behaviour: Vec::new(), ..Bench::options() };
    let mut bench = Bench::load(&options);
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    let (pid, end) = container.run("/bin/good", &["/marks/good"]);
    assert_eq!((end, bench.exec_of(pid).verdict), (End::Code(0), Verdict::Allow));
    let (pid, end) = container.run("/bin/evil", &["/marks/evil"]);
    assert!(end.stopped() && !container.marked("evil"), "{end:?}");
    assert_eq!(bench.exec_of(pid).verdict, Verdict::Deny);
    let (_, end) = container.run_after(&bench, leave_the_cgroup, "/bin/evil", &["/marks/evil"]);
    assert_eq!(end, End::Code(0), "nothing says any more whose it is");
}
