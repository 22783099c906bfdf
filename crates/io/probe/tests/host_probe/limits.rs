//! Tables and rings that are full.

use std::time::Instant;

use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::Action;
use nv_probe::Event;
use nv_probe::tables::{CgroupRow, ExactKey, RuleRow, TableError};

use crate::lab::{Bench, Container, End};

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

#[test]
fn among_ten_thousand_rules_each_program_is_judged_by_its_own_and_one_too_many_is_refused() {
    let container = Container::new(&["/bin/first", "/bin/last", "/bin/denied", "/bin/evil"]);
    let bench = Bench::new();
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.cover(&container, 1);
    bench.rule(1, "/bin/first", Action::Allow, 1);
    for rule in 2..10_000 {
        bench.rule(1, &format!("/opt/of-others/{rule}"), Action::Allow, rule);
    }
    bench.rule(1, "/bin/denied", Action::Deny, 10_000);
    bench.rule(1, "/bin/last", Action::Allow, 10_001);
    let judged = |when: &str| {
        for allowed in ["first", "last"] {
            let (_, end) = container.run(&format!("/bin/{allowed}"), &[&format!("/marks/{allowed}")]);
            assert_eq!(end, End::Code(0), "{allowed} {when}");
        }
        for stopped in ["denied", "evil"] {
            let (_, end) = container.run(&format!("/bin/{stopped}"), &[&format!("/marks/{stopped}")]);
            assert!(end.stopped() && !container.marked(stopped), "{stopped} {when}: {end:?}");
        }
    };
    judged("among ten thousand");

    let row = |rule| RuleRow {
        action: Action::Allow,
        allow_update: false,
        learned: false,
        order: rule,
        rule,
        conditional: 0,
    };
    let full = (0..100_000_u32).find_map(|rule| {
        let key = ExactKey { profile: 2, path: format!("/opt/too-many/{rule}") };
        bench.tables.set_exact(&key, row(rule)).err()
    });
    assert!(matches!(full, Some(TableError::Full { .. })), "{full:?}");
    judged("in a full table");
}

#[test]
fn while_nobody_reads_every_program_is_judged_and_told_or_counted() {
    /// More than the ring holds.
    const RUNS: usize = 1_500;
    let mut bench = Bench::new();
    let containers: Vec<Container> = (0..4).map(|_| Container::new(&["/bin/good", "/bin/evil"])).collect();
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    containers.iter().for_each(|container| bench.cover(container, 1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| {
                for run in 0..RUNS {
                    if run % 2 == 0 {
                        assert_eq!(container.run("/bin/good", &["/marks/good"]).1, End::Code(0));
                    } else {
                        assert!(container.run("/bin/evil", &["/marks/evil"]).1.stopped(), "run {run}");
                    }
                }
            });
        }
    });
    let storm = start.elapsed();
    assert!(containers.iter().all(|container| !container.marked("evil")), "a full ring let a program run");

    let (start, mut told, mut records) = (Instant::now(), 0, 0);
    loop {
        let events = bench.events.drain().unwrap();
        if events.is_empty() {
            break;
        }
        records += events.len();
        told += events.iter().filter(|event| matches!(event, Event::Exec(_))).count();
    }
    let reading = start.elapsed();
    let counters = bench.tables.counters().unwrap();
    let lost = usize::try_from(counters.dropped_exec).unwrap();
    println!(
        "{} execs in {storm:?}: {told} told, {lost} counted; {records} records read in {reading:?}",
        4 * RUNS
    );
    assert!(lost > 0, "the ring was never full");
    assert_eq!(told + lost, 4 * RUNS, "{counters:?}");
    assert_eq!(usize::try_from(counters.allow + counters.deny).unwrap(), 4 * RUNS, "{counters:?}");

    let [container, ..] = containers.as_slice() else { panic!() };
    let (pid, _) = container.run("/bin/good", &["/marks/good"]);
    assert_eq!(bench.exec_of(pid).path, "/bin/good", "a ring that was read takes records again");
}

#[test]
fn a_flood_of_one_container_is_told_up_to_its_limit_and_counted_and_takes_nothing_from_another() {
    const MOST: u32 = 5;
    let (loud, quiet) = (Container::new(&["/bin/good", "/bin/evil"]), Container::new(&["/bin/good"]));
    let mut bench = Bench::load(&nv_probe::Options { records_per_second: MOST, ..Bench::options() });
    bench.profile(1, Mode::Protect, Baseline::Basic);
    bench.rule(1, "/bin/good", Action::Allow, 1);
    bench.cover(&loud, 1);
    bench.cover(&quiet, 1);
    let start = Instant::now();
    let runs = 60_usize;
    for _ in 0..runs {
        assert_eq!(loud.run("/bin/good", &["/marks/good"]).1, End::Code(0), "verdicts have no limit");
    }
    let (denied, end) = loud.run("/bin/evil", &["/marks/evil"]);
    assert!(end.stopped(), "{end:?}");
    let (other, _) = quiet.run("/bin/good", &["/marks/good"]);
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    let (mut told, mut seen) = (0, Vec::new());
    while let batch = bench.events.drain().unwrap()
        && !batch.is_empty()
    {
        for event in batch {
            if let Event::Exec(exec) = event {
                told += usize::from(exec.cgroup == loud.id && exec.path == "/bin/good");
                seen.push(exec.pid);
            }
        }
    }
    let counters = bench.tables.counters().unwrap();
    assert!(told <= seconds * MOST as usize, "{told} were told in {seconds} s");
    assert_eq!(told as u64 + counters.limited_exec, runs as u64, "what is not told is counted: {counters:?}");
    assert!(counters.limited_exit > 0, "{counters:?}");
    assert!(seen.contains(&denied), "what is allowed crowds out what is stopped");
    assert!(seen.contains(&other), "one container takes another's records");
}
