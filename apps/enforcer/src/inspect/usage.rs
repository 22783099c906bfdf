//! What this process has used so far (proc(5)).

use anyhow::{Context as _, Result};

/// CPU time and memory.
pub(crate) struct Usage {
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Highest resident memory, in bytes.
    pub(crate) peak_bytes: u64,
}

/// Asks the kernel.
pub(crate) fn now() -> Result<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // The name in brackets may hold spaces; user and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).context("/proc/self/stat has no name")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage { cpu_seconds: ticks as f64 / per_second as f64, peak_bytes: kib.saturating_mul(1024) })
}
