//! CPU and memory of workloads and of the node, from cgroup files and `/proc`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::node::Usage;

use crate::node::read_small;

/// Where the kernel shows cgroup counters: one v2 tree, or v1 controllers beside each other.
#[derive(Clone, Debug)]
enum Hierarchy {
    V2(PathBuf),
    V1 { cpu: PathBuf, memory: PathBuf },
}

/// Turns growing counters into shares of a CPU.
#[derive(Debug)]
pub(crate) struct UsageMeter {
    hierarchy: Hierarchy,
    last: BTreeMap<Option<WorkloadId>, (Duration, Duration)>,
}

impl UsageMeter {
    /// Looks where the counters are.
    pub(crate) fn new() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchy = if root.join("cgroup.controllers").exists() {
            Hierarchy::V2(root.to_owned())
        } else {
            Hierarchy::V1 { cpu: root.join("cpuacct"), memory: root.join("memory") }
        };
        Self { hierarchy, last: BTreeMap::new() }
    }

    /// Usage of the cgroup at `cgroup` (`/kubepods/…`) since the last call for this workload; `None` while the
    /// cgroup has no counters.
    pub(crate) fn workload(&mut self, id: &WorkloadId, cgroup: &str, now: Duration) -> Option<Usage> {
        let below = cgroup.trim_start_matches('/');
        let (cpu, memory) = match &self.hierarchy {
            Hierarchy::V2(root) => (
                v2_cpu_time(&read_small(root.join(below).join("cpu.stat")))?,
                read_small(root.join(below).join("memory.current")),
            ),
            Hierarchy::V1 { cpu, memory } => (
                Duration::from_nanos(read_small(cpu.join(below).join("cpuacct.usage")).trim().parse().ok()?),
                read_small(memory.join(below).join("memory.usage_in_bytes")),
            ),
        };
        let share = self.share(Some(id.clone()), cpu, now);
        Some(Usage { cpu: share, memory: memory.trim().parse().unwrap_or(0), ..Usage::default() })
    }

    /// Usage of the whole node since the last call.
    pub(crate) fn node(&mut self, now: Duration) -> Usage {
        let busy = busy_time(&read_small("/proc/stat"));
        let memory = used_memory(&read_small("/proc/meminfo"));
        Usage { cpu: self.share(None, busy, now), memory, ..Usage::default() }
    }

    /// Forgets a workload.
    pub(crate) fn forget(&mut self, id: &WorkloadId) {
        self.last.remove(&Some(id.clone()));
    }

    fn share(&mut self, key: Option<WorkloadId>, used: Duration, now: Duration) -> f64 {
        let before = self.last.insert(key, (used, now));
        let Some((used_before, then)) = before else { return 0.0 };
        let passed = now.saturating_sub(then).as_secs_f64();
        if passed <= 0.0 { 0.0 } else { used.saturating_sub(used_before).as_secs_f64() / passed }
    }
}

fn v2_cpu_time(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(micros.trim().parse().ok()?))
}

/// Time that CPUs were not idle. The kernel counts in hundredths of a second (`USER_HZ`, fixed at 100).
fn busy_time(stat: &str) -> Duration {
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let idle = fields.iter().skip(3).take(2).sum::<u64>();
    let busy = fields.iter().sum::<u64>().saturating_sub(idle);
    Duration::from_millis(busy.saturating_mul(10))
}

fn used_memory(meminfo: &str) -> u64 {
    let field = |name: &str| -> u64 {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0)
    };
    field("MemTotal:").saturating_sub(field("MemAvailable:")).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_shares_of_a_cpu() {
        let mut meter = UsageMeter::new();
        let id: WorkloadId = "w".parse().unwrap();
        let key = || Some(id.clone());
        assert!(meter.share(key(), Duration::from_secs(10), Duration::from_secs(100)).abs() < 1e-9);
        let share = meter.share(key(), Duration::from_secs(11), Duration::from_secs(102));
        assert!((share - 0.5).abs() < 1e-9, "{share}");
    }

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(v2_cpu_time("usage_usec 1500000\nuser_usec 1\n"), Some(Duration::from_millis(1500)));
        assert_eq!(busy_time("cpu  10 0 5 1000 50 0 1 0 0 0\n"), Duration::from_millis(160));
        assert_eq!(used_memory("MemTotal: 100 kB\nMemAvailable: 40 kB\n"), 60 * 1024);
    }
}
