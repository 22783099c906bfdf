//! Who sent a process into a container, which the zero-drift baseline asks for.

use crate::lab::{Bench, Container, End, inode_of_this_program};
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Action, Verdict};
use nv_probe::Event;
use nv_probe::events::Exec;
use nv_probe::file::KernelInode;
use nv_probe::tables::{CgroupRow, ExactKey, RuleRow};

/// A container under zero-drift that these tests have started, as far as the programs are told.
fn covered(programs: &[&str], mode: Mode) -> (Bench, Container) {
    let (bench, container) = (Bench::new(), Container::new(programs));
    bench.profile(1, mode, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    bench.tables.tell_starter(container.id, inode_of_this_program()).unwrap();
    (bench, container)
}

/// What a stranger's exec came to, once it has ended.
fn told(bench: &mut Bench, pid: u32) -> Exec {
    let exec = bench.exec_of(pid);
    bench.until(|event| matches!(event, Event::Exit { pid: ended, .. } if *ended == pid));
    exec
}

#[test]
fn under_zero_drift_the_images_programs_run_for_the_containers_family_alone() {
    let (mut bench, container) = covered(&["/bin/good"], Mode::Protect);
    let (pid, end) = container.run("/bin/good", &["/marks/family"]);
    let exec = bench.exec_of(pid);
    assert_eq!((end, exec.verdict, exec.stranger), (End::Code(0), Verdict::Allow, false));

    let pid = container.run_orphaned("", "/bin/good", &["/marks/stranger"]);
    let exec = told(&mut bench, pid);
    assert_eq!((exec.verdict, exec.stranger, exec.rule, exec.drifted), (Verdict::Deny, true, None, false));
    assert!(exec.is_against_family() && !container.marked("stranger"), "{exec:?}");

    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 3);
    let pid = container.run_orphaned("", "/bin/good", &["/marks/basic"]);
    let exec = told(&mut bench, pid);
    assert_eq!(
        (exec.verdict, exec.is_against_family()),
        (Verdict::Allow, false),
        "basic asks for paths alone"
    );
    assert!(container.marked("basic"));
}

#[test]
fn a_rule_that_somebody_wrote_lets_a_stranger_in_and_a_learned_one_does_not() {
    let (mut bench, container) = covered(&["/bin/good"], Mode::Protect);
    let rule = |learned| RuleRow {
        action: Action::Allow,
        allow_update: false,
        learned,
        order: 5,
        rule: 5,
        conditional: 0,
    };
    let key = ExactKey { profile: 1, path: "/bin/good".to_owned() };
    bench.tables.set_exact(&key, rule(true)).unwrap();
    let pid = container.run_orphaned("", "/bin/good", &["/marks/learned"]);
    let exec = told(&mut bench, pid);
    assert!(exec.is_against_family() && !container.marked("learned"), "{exec:?}");
    bench.tables.set_exact(&key, rule(false)).unwrap();
    let pid = container.run_orphaned("", "/bin/good", &["/marks/written"]);
    let exec = told(&mut bench, pid);
    assert_eq!((exec.verdict, exec.stranger, exec.rule), (Verdict::Allow, true, Some(5)));
    assert!(container.marked("written"));
}

#[test]
fn what_a_stranger_starts_is_strange_too_and_in_discover_it_is_told_and_not_learned() {
    let (mut bench, container) = covered(&["/bin/good"], Mode::Discover);
    container.write_shell("/bin/sh");
    container.run_orphaned("", "/bin/sh", &["-c", "/bin/good /marks/child; true"]);
    let is_child = |event: &Event| matches!(event, Event::Exec(exec) if exec.path == "/bin/good");
    let seen = bench.until(is_child);
    let Some(Event::Exec(exec)) = seen.last() else { panic!("{seen:?}") };
    assert_eq!((exec.verdict, exec.stranger), (Verdict::Violate, true), "{exec:?}");
}

#[test]
fn whoever_runs_the_first_program_of_a_new_container_is_its_starter_and_a_runtime_is_of_every_family() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    // Who started this one is not known, so nobody is a stranger in it.
    let pid = container.run_orphaned("", "/bin/good", &["/marks/unknown"]);
    assert_eq!(told(&mut bench, pid).verdict, Verdict::Allow);

    std::fs::create_dir(container.cgroup.join("new")).unwrap();
    let (pid, end) = container.run_in("new", "/bin/good", &["/marks/first"]);
    assert_eq!((end, bench.exec_of(pid).verdict), (End::Code(0), Verdict::Allow));
    let pid = container.run_orphaned("new", "/bin/good", &["/marks/late"]);
    assert!(told(&mut bench, pid).is_against_family() && !container.marked("late"));

    let other = Container::new(&["/bin/good"]);
    bench.cover(&other, 1);
    let own = inode_of_this_program();
    bench.tables.tell_starter(other.id, KernelInode { number: own.number + 1, ..own }).unwrap();
    let (pid, end) = other.run("/bin/good", &["/marks/by"]);
    assert!(end.stopped() && bench.exec_of(pid).is_against_family(), "{end:?}");
    bench.tables.tell_runtime(own).unwrap();
    assert_eq!(other.run("/bin/good", &["/marks/by"]).1, End::Code(0));
}

#[test]
fn whoever_runs_the_first_program_has_started_a_container_also_before_it_is_told_to_be_one() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.tables.set_cgroup(container.id, CgroupRow { profile: 1, container: false }).unwrap();
    let new = container.cgroup.join("new");
    std::fs::create_dir(&new).unwrap();
    let (_, end) = container.run_in("new", "/bin/good", &["/marks/first"]);
    assert_eq!(end, End::Code(0));
    bench
        .tables
        .set_cgroup(nv_probe::cgroup::id(&new).unwrap(), CgroupRow { profile: 1, container: true })
        .unwrap();
    let pid = container.run_orphaned("new", "/bin/good", &["/marks/late"]);
    assert!(told(&mut bench, pid).is_against_family() && !container.marked("late"));
    let (_, end) = container.run_in("new", "/bin/good", &["/marks/own"]);
    assert_eq!(end, End::Code(0), "what has started the container is of its family");
}
