use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

/// Most bytes read of a file of `/proc`.
const MAX_FILE: u64 = 4096;

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUse {
    /// CPU time of all its threads since its start, in user and kernel mode. The kernel counts hundredths of a second.
    pub cpu: Duration,
    /// Resident memory in bytes: `VmRSS` of `/proc/<pid>/status`.
    pub memory: u64,
    /// Of these, bytes that are no part of a file and of no other process: `RssAnon`.
    pub anonymous: u64,
}

impl ProcessUse {
    /// Of the process with this id, or of the caller for `None`; nothing when it has ended.
    #[must_use]
    pub fn of(pid: Option<u32>) -> Option<Self> {
        let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
        let cpu = cpu_time(&read(&format!("{folder}/stat"))?)?;
        let status = read(&format!("{folder}/status"))?;
        let (memory, anonymous) = (bytes(&status, "VmRSS:")?, bytes(&status, "RssAnon:")?);
        Some(Self { cpu, memory, anonymous })
    }
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            anonymous: self.anonymous.saturating_add(other.anonymous),
        }
    }
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Fields 14 and 15 of `/proc/<pid>/stat` (proc(5)), in `USER_HZ`, which is 100. The name before may have any character.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, kernel) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis(user.saturating_add(kernel).saturating_mul(10)))
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_uses() {
        let own = ProcessUse::of(None).unwrap();
        assert_eq!(ProcessUse::of(Some(std::process::id())).map(|found| found.memory > 0), Some(true));
        assert!(own.memory > own.anonymous && own.anonymous > 10_000);
        assert_eq!(ProcessUse::of(Some(u32::MAX)), None);
    }

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1680)));
        assert_eq!(bytes("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12_288));
        assert_eq!((cpu_time("nonsense"), bytes("", "VmRSS:")), (None, None));
    }
}
