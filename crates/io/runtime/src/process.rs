//! Facts about a container's first process, from `/proc`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use nv_model::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// `/proc` counts in hundredths of a second (`USER_HZ`) on every architecture that containers run on.
const NANOS_PER_TICK: i64 = 10_000_000;
/// Longest `stat` file that is read.
const STAT_BYTES: u64 = 64 * 1024;

/// When a process started, to the hundredth of a second; never when there is none.
pub(crate) fn started(proc_root: &Path, pid: u32) -> Timestamp {
    let mut stat = String::new();
    let read = File::open(proc_root.join(pid.to_string()).join("stat"))
        .and_then(|file| file.take(STAT_BYTES).read_to_string(&mut stat));
    match (read, start_ticks(&stat)) {
        (Ok(_), Some(ticks)) => {
            let nanos = ticks.saturating_mul(NANOS_PER_TICK);
            Timestamp::from_nanos(boot().saturating_add(nanos))
        }
        _ => Timestamp::NEVER,
    }
}

/// When the machine started, in nanoseconds since 1970. (`btime` of `/proc/stat` has whole seconds only.)
fn boot() -> i64 {
    let nanos = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
    };
    nanos(ClockId::Realtime).saturating_sub(nanos(ClockId::Boottime))
}

/// The 22nd field of `/proc/<pid>/stat` (proc(5)): ticks after boot. The 2nd, the name, may have blanks and brackets.
fn start_ticks(stat: &str) -> Option<i64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// First process of a container, for runtimes that do not tell: of those in its cgroup, the one that is 1 in its own
/// pid namespace, or the lowest.
pub(crate) fn first_in(proc_root: &Path, cgroup: &Path) -> u32 {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    pids.sort_unstable();
    let is_first = |pid: &&u32| {
        let status = fs::read_to_string(proc_root.join(pid.to_string()).join("status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
    };
    pids.iter().find(is_first).or_else(|| pids.first()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read_whatever_its_name() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("7")).unwrap();
        let fields = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0";
        fs::write(root.path().join("7/stat"), format!("7 (a) b) {fields}\n")).unwrap();
        assert_eq!(start_ticks(&format!("7 (a) b) {fields}")), Some(12_345));
        let since_boot = started(root.path(), 7).nanos() - boot();
        assert!((since_boot - 123_450_000_000).abs() < 1_000_000_000, "{since_boot}");
        assert_eq!(started(root.path(), 8), Timestamp::NEVER);
    }

    #[test]
    fn the_first_process_of_a_cgroup_is_the_one_that_is_1_inside() {
        let root = tempfile::tempdir().unwrap();
        for (pid, inside) in [(30, "30\t12"), (40, "40\t1")] {
            fs::create_dir(root.path().join(pid.to_string())).unwrap();
            fs::write(root.path().join(format!("{pid}/status")), format!("Name:\tx\nNSpid:\t{inside}\n"))
                .unwrap();
        }
        let cgroup = root.path().join("cgroup");
        fs::create_dir(&cgroup).unwrap();
        for (procs, want) in [("40\n30\n", 40), ("30\n", 30), ("", 0)] {
            fs::write(cgroup.join("cgroup.procs"), procs).unwrap();
            assert_eq!(first_in(root.path(), &cgroup), want, "{procs:?}");
        }
    }
}
