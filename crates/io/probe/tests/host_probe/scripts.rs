//! Programs that run others: scripts, of which the kernel runs the interpreter, and dynamic loaders. And what a refused
//! exec is told with.

use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Action, Mechanism, Verdict};
use nv_probe::Event;

use crate::lab::{Bench, Container, End, mechanism};

/// The interpreter makes the mark that the script names.
const SCRIPT: &str = "#!/bin/tool /marks/script\n";

/// A script's file is asked for before the exec alone: the tracepoint sees the interpreter.
fn judges_scripts() -> bool {
    mechanism() != Some(Mechanism::TracepointKill)
}

#[test]
fn a_stopped_exec_is_told_with_its_arguments_redacted() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/evil"]));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    let long = "x".repeat(300);
    for (given, told) in [
        (vec!["/marks/a", "--token", "hunter2"], "/bin/evil /marks/a --token ***"),
        (vec![], "/bin/evil"),
        (vec![long.as_str(), "behind"], &format!("/bin/evil {}", "x".repeat(200))),
    ] {
        let (pid, end) = container.run("/bin/evil", &given);
        assert!(end.stopped(), "{end:?}");
        let exec = bench.exec_of(pid);
        let same =
            if given.contains(&"behind") { exec.command.starts_with(told) } else { exec.command == told };
        assert!(same, "{given:?}: {:?}", exec.command);
    }
}

#[test]
fn a_script_that_a_rule_denies_does_not_run_whatever_its_interpreter_may() {
    let scripts = [("/opt/denied", SCRIPT), ("/opt/other", SCRIPT)];
    let (mut bench, container) = (Bench::new(), Container::with_scripts(&["/bin/tool"], &scripts));
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/tool", Action::Allow, 1);
    bench.rule(1, "/opt/denied", Action::Deny, 2);
    bench.cover(&container, 1);
    let (pid, end) = container.run("/opt/denied", &[]);
    assert_eq!(container.marked("script"), !judges_scripts());
    let exec = bench.exec_of(pid);
    if judges_scripts() {
        assert_eq!((end, exec.path.as_str(), exec.script), (End::Refused, "/opt/denied", true));
        assert_eq!((exec.verdict, exec.rule, exec.mechanism), (Verdict::Deny, Some(2), mechanism()));
        assert_eq!(exec.command, "/opt/denied");
    }
    let (pid, end) = container.run("/opt/other", &[]);
    assert_eq!(end, End::Code(0));
    let exec = bench.exec_of(pid);
    assert_eq!((exec.path.as_str(), exec.filename.as_str()), ("/bin/tool", "/opt/other"));
    assert!(!exec.script && container.marked("script"));
}

#[test]
fn in_monitor_a_denied_script_runs_and_is_told() {
    let (mut bench, container) =
        (Bench::new(), Container::with_scripts(&["/bin/tool"], &[("/opt/denied", SCRIPT)]));
    bench.profile(1, Mode::Monitor, Baseline::Basic);
    bench.rule(1, "/bin/tool", Action::Allow, 1);
    bench.rule(1, "/opt/denied", Action::Deny, 2);
    bench.cover(&container, 1);
    let (pid, end) = container.run("/opt/denied", &[]);
    assert_eq!(end, End::Code(0));
    let seen = bench
        .until(|event| matches!(event, Event::Exec(exec) if exec.pid == pid && exec.path == "/bin/tool"));
    let script: Vec<_> = seen
        .iter()
        .filter_map(|event| match event {
            Event::Exec(exec) if exec.script => Some((exec.path.as_str(), exec.verdict)),
            _ => None,
        })
        .collect();
    let want = [("/opt/denied", Verdict::Violate)];
    assert_eq!(script, if judges_scripts() { &want[..] } else { &[] });
}

#[test]
fn under_zero_drift_a_script_that_is_not_from_the_image_does_not_run() {
    let (mut bench, container) =
        (Bench::new(), Container::with_scripts(&["/bin/tool"], &[("/opt/image", SCRIPT)]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    container.write("/tmp/new", SCRIPT.as_bytes().to_vec());
    let (pid, end) = container.run("/tmp/new", &[]);
    assert_eq!(container.marked("script"), !judges_scripts());
    let exec = bench.exec_of(pid);
    if judges_scripts() {
        assert_eq!((end, exec.path.as_str()), (End::Refused, "/tmp/new"));
        assert!(exec.script && exec.drifted);
    }
    assert_eq!(container.run("/opt/image", &[]).1, End::Code(0));
    assert!(container.marked("script"));
}

#[test]
fn under_zero_drift_a_dynamic_loader_runs_only_where_a_rule_lists_it() {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let (mut bench, container) = (Bench::new(), Container::new(&[loader, "/sbin/ldconfig"]));
    bench.profile(1, Mode::Protect, Baseline::ZeroDrift);
    bench.cover(&container, 1);
    let (pid, end) = container.run(loader, &["/marks/loader"]);
    assert!(end.stopped() && !container.marked("loader"), "{end:?}");
    let exec = bench.exec_of(pid);
    assert_eq!((exec.path.as_str(), exec.drifted, exec.rule), (loader, false, None));
    assert_eq!(container.run("/sbin/ldconfig", &["/marks/ldconfig"]).1, End::Code(0));
    bench.rule(1, loader, Action::Allow, 1);
    assert_eq!(container.run(loader, &["/marks/loader"]).1, End::Code(0));
    assert!(container.marked("loader"));
}
