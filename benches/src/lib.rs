//! The promised numbers; they are in `benches/`.

/// Resident bytes of a process and of all that it has started, a page that several of them have counted once for all
/// (`Pss` of `/proc/PID/smaps_rollup`, Linux 4.14): they are one binary, and a container's limit counts it once too.
pub fn resident(pid: u32) -> u64 {
    let mut all = nv_product::descendants(pid);
    all.push(pid);
    all.into_iter().map(resident_alone).sum()
}

/// The same of one process alone.
pub fn resident_alone(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
