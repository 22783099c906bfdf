//! Process policy on the real kernel.

use std::os::fd::OwnedFd;

use crate::lab::{Bench, Container, End, marker, mechanism, trial};
use nv_model::behaviour::Stdio;
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::{Action, Verdict};
use nv_probe::tables::{CgroupRow, PatternKey, ProfileRow, RuleRow, name_hash};
use nv_probe::{Event, Events, Tables, cgroup};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

#[test]
fn the_trial_finds_what_stops_programs_here_and_says_why_not_better() {
    let found = nv_probe::trial::run(&trial(), 1);
    println!("{found:#?}");
    let best = found.process.expect("this kernel stops programs by none of the mechanisms");
    assert!((1..=3).contains(&found.tier));
    assert_eq!(found.trials.len(), 3);
    for trial in &found.trials {
        assert_eq!(trial.works, trial.reason.is_empty(), "{trial:?}");
        assert!(trial.trial_micros > 0);
    }
    let first = found.trials.iter().find(|trial| trial.works).unwrap();
    assert_eq!(first.mechanism, best);
    let whole = found.tier == 1 && nv_probe::trial::belonging().is_ok();
    assert_eq!(found.lost.is_empty(), whole, "{:?}", found.lost);
    let left = std::fs::read_dir(cgroup::unified_root().unwrap()).unwrap().flatten();
    let ours = format!("nv-trial-{}-", std::process::id());
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).count();
    assert!(left <= 1, "the trial left cgroups behind");
}

#[test]
fn discover_reports_what_ran_with_path_arguments_and_parent() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/usr/bin/tool"]));
    bench.profile(7, Mode::Discover, Baseline::Basic);
    bench.cover(&container, 7);
    let (pid, end) = container.run("/usr/bin/tool", &["/marks/a", "--token", "hunter2"]);
    assert_eq!(end, End::Code(0));
    assert!(container.marked("a"));
    let exec = bench.exec_of(pid);
    assert_eq!((exec.path.as_str(), exec.filename.as_str()), ("/usr/bin/tool", "/usr/bin/tool"));
    assert_eq!(exec.command, "/usr/bin/tool /marks/a --token ***");
    assert_eq!((exec.cgroup, exec.profile, exec.mode), (container.id, 7, Some(Mode::Discover)));
    assert_eq!((exec.verdict, exec.rule, exec.mechanism), (Verdict::Learn, None, None));
    assert_eq!((exec.parent_pid, exec.uid, exec.euid), (std::process::id(), 0, 0));
    assert_eq!(exec.name, "tool");
    assert!(!exec.drifted && !exec.runtime && !exec.truncated, "{exec:?}");
    bench.until(|event| matches!(event, Event::Exit { pid: ended, code: 0, .. } if *ended == pid));
    assert_eq!(bench.tables.counters().unwrap().learn, 1);
}

#[test]
fn a_program_on_a_socket_is_told_from_one_on_a_terminal_or_file() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.profile(7, Mode::Discover, Baseline::Basic);
    bench.cover(&container, 7);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let internet = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (local, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let (_reader, pipe) = std::io::pipe().unwrap();
    let file = std::fs::File::open("/etc/passwd").unwrap();
    for (name, input, output, want) in [
        ("a", OwnedFd::from(internet.try_clone().unwrap()), internet.into(), [Stdio::InternetSocket; 2]),
        ("b", local.into(), pipe.into(), [Stdio::OtherSocket, Stdio::Pipe]),
        ("c", file.into(), std::fs::File::create("/dev/null").unwrap().into(), [Stdio::File, Stdio::Device]),
    ] {
        let (pid, end) = container.run_on("/bin/tool", &[&format!("/marks/{name}")], input, output);
        assert_eq!(end, End::Code(0));
        assert_eq!(bench.exec_of(pid).stdio, want, "{name}");
    }
}

#[test]
fn no_unlisted_program_executes_an_instruction_in_protect() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good", "/bin/evil"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 11);
    bench.cover(&container, 1);
    let (pid, end) = container.run("/bin/good", &["/marks/good"]);
    assert_eq!(end, End::Code(0));
    let exec = bench.exec_of(pid);
    assert_eq!((exec.verdict, exec.rule), (Verdict::Allow, Some(11)));
    let (mut nanos, mut allowed) = (Vec::new(), Vec::new());
    for run in 0..300 {
        let (pid, _) = container.run("/bin/good", &["/marks/good"]);
        allowed.push(bench.exec_of(pid).decision_nanos);
        let (pid, end) = container.run("/bin/evil", &[&format!("/marks/evil{run}")]);
        assert!(end.stopped(), "run {run} ended with {end:?}");
        let exec = bench.exec_of(pid);
        assert_eq!(
            (exec.verdict, exec.mechanism, exec.path.as_str()),
            (Verdict::Deny, mechanism(), "/bin/evil")
        );
        nanos.push(exec.decision_nanos);
    }
    for (what, nanos) in [("deny", &mut nanos), ("allow", &mut allowed)] {
        nanos.sort_unstable();
        println!("decision to {what}: median {} ns, worst {} ns", nanos[150], nanos[299]);
    }
    assert_eq!(container.marks(), 1, "a stopped program left a mark");
    let counters = bench.tables.counters().unwrap();
    assert_eq!((counters.deny, counters.kill_failed, counters.dropped()), (300, 0, 0));
}

#[test]
fn many_containers_at_once_are_each_judged_by_their_own_profile() {
    let bench = Bench::new();
    let containers: Vec<Container> = (0..6).map(|_| Container::new(&["/bin/good", "/bin/evil"])).collect();
    for (profile, container) in (1..).zip(&containers) {
        bench.profile(profile, Mode::Protect, Baseline::Basic);
        bench.rule(profile, "/bin/good", Action::Allow, profile);
        bench.cover(container, profile);
    }
    std::thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| {
                for run in 0..60 {
                    assert!(container.run("/bin/evil", &["/marks/evil"]).1.stopped(), "run {run}");
                    assert_eq!(container.run("/bin/good", &["/marks/good"]).1, End::Code(0), "run {run}");
                }
            });
        }
    });
    for container in &containers {
        assert!(container.marked("good") && !container.marked("evil"));
    }
    let counters = bench.tables.counters().unwrap();
    assert_eq!((counters.deny, counters.allow, counters.dropped()), (360, 360, 0), "{counters:?}");
    assert_eq!((counters.kill_failed, counters.scratch_busy, counters.no_profile), (0, 0, 0));
}

#[test]
fn the_agents_side_works_without_any_capability() {
    let mut bench = Bench::new();
    let container = Container::new(&["/bin/good"]);
    let descriptors = || bench.loaded.as_ref().unwrap().descriptors().unwrap();
    let (for_tables, for_events) = (descriptors(), descriptors());
    let id = container.id;
    let (tables, events) = std::thread::spawn(move || {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        let tables = Tables::from_descriptors(for_tables).unwrap();
        let ring = for_events.into_iter().find(|(name, _)| name == "ring").unwrap().1;
        let events = Events::from_descriptor(ring).unwrap();
        tables
            .set_profile(
                1,
                ProfileRow { mode: Mode::Discover, baseline: Baseline::Basic, fault: Fault::Open },
            )
            .unwrap();
        tables.set_cgroup(id, CgroupRow { profile: 1, container: true }).unwrap();
        assert_eq!(tables.rows().unwrap().profiles.len(), 1);
        tables.counters().unwrap();
        (tables, events)
    })
    .join()
    .unwrap();
    (bench.tables, bench.events) = (tables, events);
    let (pid, _) = container.run("/bin/good", &["/marks/good"]);
    assert_eq!(bench.exec_of(pid).verdict, Verdict::Learn);
}

#[test]
fn a_root_of_its_own_does_not_make_another_file_the_one_that_is_listed() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good", "/jail/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.cover(&container, 1);
    assert_eq!(container.run("/bin/good", &["/marks/listed"]).1, End::Code(0));
    let (pid, end) = container.run_chrooted("/jail", "/bin/good", &["/escaped"]);
    assert!(end.stopped(), "{end:?}");
    assert_eq!(bench.exec_of(pid).path, "/jail/bin/good");
}

#[test]
fn a_process_that_a_runtime_prepares_tells_no_root_until_it_has_one_of_its_own() {
    let mut prepared =
        std::process::Command::new("unshare").args(["--mount", "sleep", "60"]).spawn().unwrap();
    let (pid, own) = (prepared.id(), cgroup::mount_namespace(None).unwrap());
    while cgroup::mount_namespace(Some(pid)).unwrap() == own {
        std::thread::yield_now();
    }
    let told = cgroup::root_device(pid);
    prepared.kill().unwrap();
    prepared.wait().unwrap();
    assert_eq!(told.unwrap(), None, "its root is the host's still");
}

#[test]
fn a_container_from_before_the_programs_is_judged_by_the_root_that_is_told_of_it() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    let root = cgroup::root_device(container.pid()).unwrap().expect("it is in the host's mount namespace");
    assert_eq!(cgroup::root_device(std::process::id()).unwrap(), None, "the host has no image");
    bench.tables.tell_root(container.id, root).unwrap();
    assert_eq!(container.run("/bin/good", &["/marks/own"]).1, End::Code(0), "the root told is the kernel's");

    // What is known stays, whatever is told later and whichever profile comes.
    bench.tables.tell_root(container.id, root ^ 1).unwrap();
    bench.cover(&container, 1);
    assert_eq!(container.run("/bin/good", &["/marks/still"]).1, End::Code(0));

    let other = Container::new(&["/bin/good"]);
    bench.cover(&other, 1);
    bench.tables.tell_root(other.id, root).unwrap();
    assert!(
        other.run("/bin/good", &["/marks/x"]).1.stopped(),
        "a file of another root passes for the image's"
    );
}

#[test]
fn zero_drift_runs_the_image_and_nothing_that_came_later() {
    let image = ["/bin/good", "/bin/replaced", "/bin/modified", "/bin/excused", "/bin/denied"];
    let (mut bench, container) = (Bench::new(), Container::new(&image));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.rule(1, "/bin/denied", Action::Deny, 5);
    bench.rule(1, "/tmp/listed", Action::Allow, 6);
    let excused = RuleRow {
        action: Action::Allow,
        allow_update: true,
        learned: false,
        order: 9,
        rule: 9,
        conditional: 0,
    };
    let everything =
        |name: &str| PatternKey { profile: 1, name_hash: name_hash(name), prefix: "/bin/".to_owned() };
    bench.tables.set_pattern(&everything("excused"), excused).unwrap();
    container.copy("/bin/good", "/tmp/copied");
    container.copy("/bin/good", "/tmp/listed");
    container.copy("/bin/good", "/bin/replaced");
    container.modify("/bin/modified");
    container.modify("/bin/excused");
    container.mount_volume("/volume", "/volume/mounted".trim_start_matches("/volume"));
    bench.cover(&container, 1);
    for (path, runs, drifted, rule) in [
        ("/bin/good", true, false, None),
        ("/tmp/copied", false, true, None),
        ("/tmp/listed", false, true, Some(6)),
        ("/bin/replaced", false, true, None),
        ("/bin/modified", false, true, None),
        ("/bin/excused", true, true, Some(9)),
        ("/bin/denied", false, false, Some(5)),
        ("/volume/mounted", false, true, None),
    ] {
        let name = path.rsplit('/').next().unwrap();
        let (pid, end) = container.run(path, &[&format!("/marks/{name}")]);
        assert_eq!(end == End::Code(0), runs, "{path} ended with {end:?}");
        assert_eq!(end.stopped(), !runs, "{path} ended with {end:?}");
        assert_eq!(container.marked(name), runs, "{path}");
        let exec = bench.exec_of(pid);
        assert_eq!((exec.path.as_str(), exec.drifted, exec.rule), (path, drifted, rule), "{exec:?}");
        assert_eq!(exec.other_mount, path.starts_with("/volume"));
    }
    let (pid, end) = container.run_memfd(&marker(), &["/marks/memfd"]);
    assert!(end.stopped(), "{end:?}");
    assert!(!container.marked("memfd"));
    let exec = bench.exec_of(pid);
    assert!(exec.fileless && exec.drifted, "{exec:?}");
    assert_eq!(exec.path, "/memfd:hidden");
}

#[test]
fn of_exact_path_and_patterns_the_first_rule_in_order_decides() {
    let (mut bench, container) =
        (Bench::new(), Container::new(&["/opt/a/x", "/opt/a/y", "/opt/b/x", "/srv/x"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    let pattern = |name: u64, prefix: &str, action, order| {
        let key = PatternKey { profile: 1, name_hash: name, prefix: prefix.to_owned() };
        bench
            .tables
            .set_pattern(
                &key,
                RuleRow { action, allow_update: false, learned: false, order, rule: order, conditional: 0 },
            )
            .unwrap();
    };
    pattern(0, "/opt/a/", Action::Deny, 3);
    pattern(0, "/opt/", Action::Allow, 4);
    pattern(name_hash("x"), "", Action::Allow, 2);
    bench.rule(1, "/srv/x", Action::Deny, 1);
    for (path, rule, verdict) in [
        ("/opt/a/x", 2, Verdict::Allow),
        ("/opt/a/y", 3, Verdict::Deny),
        ("/opt/b/x", 2, Verdict::Allow),
        ("/srv/x", 1, Verdict::Deny),
    ] {
        let (pid, _) = container.run(path, &["/marks/m"]);
        let exec = bench.exec_of(pid);
        assert_eq!((exec.rule, exec.verdict), (Some(rule), verdict), "{path}");
    }
}

#[test]
fn a_change_of_mode_is_one_write() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/new"]));
    bench.cover(&container, 1);
    for (mode, verdict, runs) in [
        (Mode::Discover, Verdict::Learn, true),
        (Mode::Monitor, Verdict::Violate, true),
        (Mode::Protect, Verdict::Deny, false),
        (Mode::Discover, Verdict::Learn, true),
    ] {
        bench.profile(1, mode, Baseline::Basic);
        let (pid, end) = container.run("/bin/new", &["/marks/new"]);
        assert_eq!((end == End::Code(0), end.stopped()), (runs, !runs), "{mode:?}: {end:?}");
        let exec = bench.exec_of(pid);
        assert_eq!((exec.verdict, exec.mode), (verdict, Some(mode)));
    }
    bench.rule(1, "/bin/new", Action::Deny, 3);
    let (pid, end) = container.run("/bin/new", &["/marks/new"]);
    assert_eq!((end, bench.exec_of(pid).verdict), (End::Code(0), Verdict::Violate));
}

#[test]
fn a_cgroup_made_below_inherits_and_its_first_program_is_judged() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good", "/bin/evil"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.cover(&container, 1);
    for run in 0..50 {
        let name = format!("child{run}");
        let child = container.cgroup.join(&name);
        std::fs::create_dir(&child).unwrap();
        let (_, end) = container.run_in(&name, "/bin/evil", &["/marks/evil"]);
        assert!(end.stopped(), "run {run}: {end:?}");
    }
    assert!(!container.marked("evil"));
    let id = cgroup::id(&container.cgroup.join("child0")).unwrap();
    let seen = bench.until(|event| matches!(event, Event::CgroupMade { id: made, .. } if *made == id));
    let Some(Event::CgroupMade { parent, path, profile, .. }) = seen.last() else { panic!() };
    let name = container.cgroup.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        (*parent, path.as_str(), *profile),
        (container.id, format!("/{name}/child0").as_str(), Some(1))
    );
    assert_eq!(bench.tables.cgroups().unwrap()[&id], CgroupRow { profile: 1, container: true });
    while std::fs::remove_dir(container.cgroup.join("child0")).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    bench.until(|event| matches!(event, Event::CgroupGone { id: gone, .. } if *gone == id));
    assert!(!bench.tables.cgroups().unwrap().contains_key(&id), "the row of a removed cgroup stayed");
}

#[test]
fn the_runtimes_own_exec_in_a_containers_cgroup_is_told_apart() {
    let (mut bench, container) = (Bench::new(), Container::new(&[]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    let procs = container.cgroup.join("cgroup.procs");
    let script = format!("echo 0 > {}; exec /bin/true", procs.display());
    let status = std::process::Command::new("/bin/sh").args(["-c", &script]).status().unwrap();
    assert!(status.success(), "{status}");
    let seen = bench.until(|event| matches!(event, Event::Exec(exec) if exec.runtime));
    let Some(Event::Exec(exec)) = seen.last() else { panic!() };
    assert!(exec.host_mounts);
    assert_eq!((exec.verdict, exec.name.as_str()), (Verdict::Open, "true"));
}

#[test]
fn a_file_of_a_detached_mount_does_not_pass_for_the_one_that_is_listed() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.cover(&container, 1);
    let (pid, end) = container.run_detached("/bin/good", &["/marks/fake"]);
    assert!(end.stopped(), "{end:?}");
    assert!(!container.marked("fake"));
    let exec = bench.exec_of(pid);
    assert!(exec.truncated && exec.other_mount, "{exec:?}");
    assert_eq!(container.run("/bin/good", &["/marks/good"]).1, End::Code(0));
}

#[test]
fn a_path_that_is_too_long_is_not_listed() {
    let deep = format!("/{}/x", vec!["d".repeat(30); 9].join("/"));
    let many = format!("/{}/x", vec!["d"; 80].join("/"));
    let (mut bench, container) = (Bench::new(), Container::new(&[&deep, &many]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    for path in [&deep, &many] {
        let (pid, end) = container.run(path, &["/marks/x"]);
        assert!(end.stopped());
        assert!(bench.exec_of(pid).truncated);
    }
    let anywhere = PatternKey { profile: 1, name_hash: name_hash("x"), prefix: String::new() };
    let allow = RuleRow {
        action: Action::Allow,
        allow_update: false,
        learned: false,
        order: 1,
        rule: 1,
        conditional: 0,
    };
    bench.tables.set_pattern(&anywhere, allow).unwrap();
    for path in [&deep, &many] {
        assert_eq!(container.run(path, &["/marks/x"]).1, End::Code(0));
    }
}
