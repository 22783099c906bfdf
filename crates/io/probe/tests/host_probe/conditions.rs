//! Rules that hold only with some arguments, out of some program, as some user.

use nv_model::condition::Conditions;
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::{Action, Mechanism, Verdict};
use nv_probe::tables::{ConditionRow, ExactKey, ProfileRow, Rows, RuleRow};

use crate::lab::{Bench, Container, End, mechanism};

fn conditions(arguments: &str, parent: &str, uid: Option<u32>) -> Conditions {
    Conditions {
        arguments: (!arguments.is_empty()).then(|| arguments.parse().unwrap()),
        parent: (!parent.is_empty()).then(|| parent.parse().unwrap()),
        uid,
    }
}

/// Rows of a profile in Protect, for one program: these rules in their order, nothing else.
fn rows(path: &str, list: &[(Action, Conditions)]) -> Rows {
    let mut rows = Rows::default();
    let profile = ProfileRow { mode: Mode::Protect, baseline: Baseline::Basic, fault: Fault::Open };
    rows.profiles.insert(1, profile);
    for (at, (action, conditions)) in list.iter().enumerate().rev() {
        let next = if at + 1 < list.len() { at as u64 + 2 } else { 0 };
        let at = u32::try_from(at).unwrap();
        let rule = RuleRow {
            action: *action,
            allow_update: false,
            learned: false,
            order: at,
            rule: at,
            conditional: next,
        };
        rows.conditions.insert(u64::from(at) + 1, ConditionRow { rule, conditions: conditions.clone() });
        let key = ExactKey { profile: 1, path: path.to_owned() };
        rows.exact.insert(key, RuleRow { conditional: 1, ..rule });
    }
    rows
}

#[test]
fn arguments_are_judged_before_the_first_instruction_of_the_program() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.cover(&container, 1);
    let long = "x".repeat(5000);
    use Action::{Allow, Deny};
    for (at, (pattern, arguments, matches)) in [
        ("/marks/0 b c", vec!["b", "c"], true),
        ("/marks/1 b", vec!["b", "c"], false),
        ("/marks/2 b*", vec!["bb"], true),
        ("b*", vec!["b"], false),
        ("*c", vec!["b", "c"], true),
        ("*c", vec!["c", "b"], false),
        ("*/etc/shadow*", vec!["-r", "a/etc/shadow-"], true),
        ("* -e *", vec!["--execute", "-ee"], false),
        ("* -e *", vec!["b", "-e", "c"], true),
        ("*needle*", vec![long.as_str(), "-e"], false),
        ("*needle*", vec!["needle", long.as_str()], true),
    ]
    .into_iter()
    .enumerate()
    {
        for (action, verdict) in [(Allow, Verdict::Allow), (Deny, Verdict::Deny)] {
            // The other way for all that the condition does not hold for.
            let other = if action == Allow { Deny } else { Allow };
            let list = [(action, conditions(pattern, "", None)), (other, Conditions::default())];
            bench.tables.replace(&rows("/bin/tool", &list)).unwrap();
            let mark = format!("/marks/{at}");
            let given: Vec<&str> = std::iter::once(mark.as_str()).chain(arguments.iter().copied()).collect();
            let (pid, end) = container.run("/bin/tool", &given);
            // Of arguments beyond 4096 bytes not all is known: the denial holds, the allowance does not.
            let unknown = !matches && arguments.contains(&long.as_str());
            let holds = matches || (unknown && action == Deny);
            let runs = holds == (action == Allow);
            let what =
                format!("{action:?} {pattern} {}", given.join(" ").chars().take(40).collect::<String>());
            assert_eq!(end == End::Code(0), runs, "{what}: {end:?}");
            assert_eq!(end.stopped(), !runs, "{what}: {end:?}");
            let exec = bench.exec_of(pid);
            assert_eq!(exec.rule, Some(u32::from(!holds)), "{what}");
            assert_eq!(exec.verdict == verdict, holds, "{what}");
            if !runs {
                assert_eq!(exec.mechanism, Some(Mechanism::TracepointKill), "{what}");
            }
        }
        let unknown = !matches && arguments.contains(&long.as_str());
        assert_eq!(container.marked(&at.to_string()), !unknown, "one of both ran: {pattern}");
    }
}

#[test]
fn a_program_that_is_stopped_for_its_arguments_runs_no_instruction() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.cover(&container, 1);
    let list = [(Action::Allow, conditions("*--safe", "", None))];
    bench.tables.replace(&rows("/bin/tool", &list)).unwrap();
    for run in 0..100 {
        let (_, end) = container.run("/bin/tool", &[&format!("/marks/{run}"), "--unsafe"]);
        assert_eq!(end, End::Signal(9), "run {run}");
    }
    assert_eq!(container.marks(), 0);
    assert_eq!(container.run("/bin/tool", &["/marks/safe", "--safe"]).1, End::Code(0));
    assert_eq!(container.marks(), 1);
}

#[test]
fn a_rule_for_a_user_holds_for_that_user_alone() {
    let (mut bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.cover(&container, 1);
    let list = [(Action::Deny, conditions("", "", Some(0))), (Action::Allow, conditions("", "", Some(33)))];
    bench.tables.replace(&rows("/bin/tool", &list)).unwrap();
    for (uid, rule, runs) in [(0, Some(0), false), (33, Some(1), true), (34, None, false)] {
        let (pid, end) = container.run_as(uid, "/bin/tool", &["/marks/x"]);
        assert_eq!((end == End::Code(0), end.stopped()), (runs, !runs), "{uid}: {end:?}");
        let exec = bench.exec_of(pid);
        assert_eq!((exec.rule, exec.uid), (rule, uid));
        if !runs {
            assert_eq!(exec.mechanism, mechanism(), "nothing has to wait for the arguments");
        }
    }
}

#[test]
fn a_rule_for_a_parent_holds_for_what_that_program_runs_also_when_it_is_orphaned() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.cover(&container, 1);
    for shell in ["/bin/busybox", "/tmp/busybox"] {
        container.write_shell(shell);
    }
    // What a shell gives to a job as its input.
    container.write("/dev/null", Vec::new());
    let mut rows = rows("/bin/tool", &[(Action::Allow, conditions("", "/bin/busybox", None))]);
    for shell in ["/bin/busybox", "/tmp/busybox"] {
        let allow = RuleRow {
            action: Action::Allow,
            allow_update: false,
            learned: false,
            order: 9,
            rule: 9,
            conditional: 0,
        };
        rows.exact.insert(ExactKey { profile: 1, path: shell.to_owned() }, allow);
    }
    bench.tables.keep_callers(true).unwrap();
    bench.tables.replace(&rows).unwrap();
    let shell = |shell: &str, script: &str| container.run(shell, &["sh", "-c", script]).1;
    assert_eq!(shell("/bin/busybox", "/bin/tool /marks/child; true"), End::Code(0));
    assert_eq!(shell("/bin/busybox", "exec /bin/tool /marks/itself"), End::Code(0));
    shell("/tmp/busybox", "/bin/tool /marks/wrong; true");
    shell("/tmp/busybox", "exec /bin/tool /marks/wrong");
    // Its parent is gone when it runs the program: what it is out of counts, not whose child it is by then.
    shell("/tmp/busybox", "(/tmp/busybox sleep 0.1; exec /bin/tool /marks/wrong) & exit 0");
    shell("/bin/busybox", "(/bin/busybox sleep 0.1; exec /bin/tool /marks/orphan) & exit 0");
    for _ in 0..100 {
        if container.marked("orphan") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(container.marked("child") && container.marked("itself") && container.marked("orphan"));
    assert!(!container.marked("wrong"));
    assert!(container.run("/bin/tool", &["/marks/outside"]).1.stopped(), "it comes from outside");
    assert_eq!(bench.tables.counters().unwrap().callers_full, 0);
}

#[test]
fn of_processes_that_ran_before_it_was_asked_for_a_told_caller_counts_and_an_unknown_one_fails_safe() {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/tool"]));
    bench.profile(1, Mode::Discover, Baseline::Basic);
    bench.cover(&container, 1);
    container.write_shell("/bin/busybox");
    let waits = |mark: &str| {
        let script = format!(
            "while ! test -e /marks/go; do /bin/busybox sleep 0.02; done; /bin/tool /marks/{mark}; true"
        );
        container.spawn("/bin/busybox", &["sh", "-c", &script])
    };
    let (mut told, mut unknown) = (waits("told"), waits("unknown"));
    bench.tables.keep_callers(true).unwrap();
    let mounts = nv_probe::cgroup::mount_namespace(Some(told.id())).unwrap();
    bench.tables.add_caller(told.id(), mounts, "/bin/busybox").unwrap();
    let mut rows = rows("/bin/tool", &[(Action::Allow, conditions("", "/bin/busybox", None))]);
    let allow = RuleRow {
        action: Action::Allow,
        allow_update: false,
        learned: false,
        order: 9,
        rule: 9,
        conditional: 0,
    };
    rows.exact.insert(ExactKey { profile: 1, path: "/bin/busybox".to_owned() }, allow);
    bench.tables.replace(&rows).unwrap();
    container.write("/marks/go", Vec::new());
    told.wait().unwrap();
    unknown.wait().unwrap();
    assert!(container.marked("told"));
    assert!(!container.marked("unknown"));
}
