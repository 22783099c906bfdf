//! What the kernel numbers and counts of its records, and what their reader makes of it.

use std::path::PathBuf;

use nv_probe::replay::{MAX_RECORDS, Recorded, Replay};
use nv_probe::{Event, Options, bpffs, load};

use crate::lab::{Bench, mechanism};

const RECORDED: Recorded<'static> = Recorded {
    pid: 4711,
    // No cgroup of this machine.
    cgroup: u64::MAX,
    profile: 6,
    path: "/usr/bin/ls",
    arguments: "ls\0--password=hidden\0",
};

/// A loaded bench whose ring a [`Replay`] writes to.
fn replaying<T>(name: &str, test: impl FnOnce(&mut Bench, &mut Replay) -> T) {
    let dir = PathBuf::from(bpffs::MOUNT_POINT).join(format!("nv-probe-test-{}-{name}", std::process::id()));
    let mut bench = Bench::load(&Options::new(Some(dir.clone()), mechanism()).unwrap());
    let mut replay = Replay::new(&dir, &RECORDED).unwrap();
    test(&mut bench, &mut replay);
    drop((replay, bench));
    load::unpin(&dir).unwrap();
    std::fs::remove_dir(&dir).unwrap();
}

/// How many of the replayed record are in the ring.
fn read_all(bench: &mut Bench) -> u64 {
    let mut seen = 0;
    loop {
        let events = bench.events.drain().unwrap();
        if events.is_empty() {
            return seen;
        }
        let is_ours = |event: &&Event| matches!(event, Event::Exec(exec) if exec.cgroup == RECORDED.cgroup);
        seen += events.iter().filter(is_ours).count() as u64;
    }
}

#[test]
fn a_replayed_record_reads_as_what_a_program_of_the_kernel_wrote() {
    replaying("read", |bench, replay| {
        assert_eq!(replay.put(1).unwrap(), 1);
        let exec = bench.exec_of(RECORDED.pid);
        assert_eq!(
            (exec.path.as_str(), exec.command.as_str(), exec.name.as_str()),
            ("/usr/bin/ls", "ls --password=***", "ls")
        );
        assert_eq!((exec.cgroup, exec.profile), (RECORDED.cgroup, RECORDED.profile));
    });
}

#[test]
fn what_finds_the_ring_full_shows_as_a_gap_as_wide_as_the_kernel_counts() {
    /// Twice what the ring holds.
    const RECORDS: u64 = 128 * MAX_RECORDS as u64;
    // A CPU's last number shows when its next record comes: all are of one.
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    replaying("full", |bench, replay| {
        let before = bench.tables.counters().unwrap();
        let kept: u64 =
            (0..RECORDS / u64::from(MAX_RECORDS)).map(|_| u64::from(replay.put(MAX_RECORDS).unwrap())).sum();
        assert!(kept < RECORDS, "the ring was never full");
        assert_eq!(read_all(bench), kept, "what found room is read");
        assert_eq!(replay.put(1).unwrap(), 1);
        assert_eq!(read_all(bench), 1);
        let counters = bench.tables.counters().unwrap();
        assert_eq!(counters.dropped_exec - before.dropped_exec, RECORDS - kept);
        assert!(counters.records - before.records > RECORDS, "each record has a number, room or not");
        let reading = bench.events.reading();
        assert_eq!(reading.missing, counters.dropped() - before.dropped(), "{reading:?} {counters:?}");
        assert_eq!(reading.malformed, 0);
    });
}

#[test]
fn as_long_as_the_ring_is_read_nothing_is_missing() {
    replaying("read-all", |bench, replay| {
        let put: u64 = (0..1_000)
            .map(|_| {
                let kept = replay.put(MAX_RECORDS).unwrap();
                assert_eq!(read_all(bench), u64::from(kept));
                u64::from(kept)
            })
            .sum();
        assert_eq!(put, 64_000);
        let reading = bench.events.reading();
        assert!(reading.missing == 0 && reading.read >= put, "{reading:?}");
    });
}
