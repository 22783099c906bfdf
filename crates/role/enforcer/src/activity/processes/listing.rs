//! An answer to who runs: the table's facts, and what `/proc` says at this moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nv_model::behaviour::Stdio;
use nv_model::question::ProcessEntry;
use nv_model::time::Timestamp;

use super::{Past, Process, Program, last_part};

/// Most processes of one answer.
const MAX_LISTED: usize = 4096;
/// Most cgroups below a workload's own that are looked into for processes that no record told of.
const MAX_BELOW: usize = 256;

/// What an answer is made of; it is made apart from the agent, as it reads `/proc`.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Those that the table knows.
    pub(crate) living: Vec<(u32, Process)>,
    /// What ended.
    pub(crate) past: Vec<Past>,
    /// The workload's folder in the cgroup tree, to find processes whose records were lost.
    pub(crate) folder: Option<PathBuf>,
    /// Where the cgroup tree is mounted.
    pub(crate) cgroup_root: Option<PathBuf>,
    /// Wall time of the boot.
    pub(crate) boot: Timestamp,
    /// Hashes of executables, by path.
    pub(crate) hashes: HashMap<String, String>,
}

/// Makes the answer. Blocks on `/proc`.
pub(crate) fn list(listing: Listing) -> Vec<ProcessEntry> {
    let Listing { mut living, past, folder, cgroup_root, boot, hashes } = listing;
    if let Some(folder) = folder {
        let mut cgroups = HashMap::new();
        for pid in members(&folder) {
            if living.iter().all(|(known, _)| *known != pid)
                && let Some(process) = look_up(pid, cgroup_root.as_deref(), &mut cgroups)
            {
                living.push((pid, process));
            }
        }
    }
    living.truncate(MAX_LISTED);
    let mut users = HashMap::new();
    let mut entries: Vec<ProcessEntry> = Vec::new();
    for (pid, process) in living {
        // Its end is not told yet, or the record of it was lost.
        let Some(stat) = Stat::of(pid) else { continue };
        let user =
            users.entry(process.uid).or_insert_with(|| crate::identity::users::name_of(pid, process.uid));
        entries.push(ProcessEntry {
            parent: stat.parent,
            process_group: stat.process_group,
            session: stat.session,
            state: stat.state.to_owned(),
            user: user.clone(),
            ..entry(pid, &process, boot)
        });
    }
    entries.extend(past.into_iter().map(|past| ProcessEntry {
        user: users.get(&past.process.uid).cloned().unwrap_or_default(),
        ended: Some(boot.after(past.ended)),
        exit: past.exit,
        ..entry(past.pid, &past.process, boot)
    }));
    for entry in &mut entries {
        entry.sha256 = hashes.get(&entry.path).cloned().unwrap_or_default();
    }
    entries.sort_by_key(|entry| (entry.started, entry.pid));
    entries
}

fn entry(pid: u32, process: &Process, boot: Timestamp) -> ProcessEntry {
    ProcessEntry {
        pid,
        parent: process.parent,
        name: process.program.name.clone(),
        path: process.program.path.clone(),
        command: process.program.command.clone(),
        uid: process.uid,
        euid: process.euid,
        started: boot.after(process.started),
        verdict: process.verdict,
        ..ProcessEntry::default()
    }
}

/// Processes of a cgroup and those below it.
fn members(folder: &Path) -> Vec<u32> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let text = crate::node::read_small(folder.join("cgroup.procs"));
        found.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(below.map(|entry| entry.path()).take(MAX_BELOW.saturating_sub(folders.len())));
        if found.len() >= MAX_LISTED {
            break;
        }
    }
    found
}

/// What `/proc` says of a process that no record told of; `None` for the kernel's own and one that is gone.
pub(super) fn look_up(
    pid: u32,
    cgroup_root: Option<&Path>,
    cgroups: &mut HashMap<String, u64>,
) -> Option<Process> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let stat = Stat::of(pid)?;
    let status = crate::node::read_small(format!("/proc/{pid}/status"));
    let (uid, euid) = users_of(&status).unwrap_or_default();
    let arguments = crate::node::read_small(format!("/proc/{pid}/cmdline"));
    let folder = crate::node::read_small(format!("/proc/{pid}/cgroup"));
    let folder = folder.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
    let cgroup = match (cgroups.get(&folder), cgroup_root) {
        (Some(id), _) => *id,
        (None, Some(root)) => {
            let id = nv_probe::cgroup::id(&root.join(folder.trim_start_matches('/'))).unwrap_or(0);
            cgroups.insert(folder, id);
            id
        }
        (None, None) => 0,
    };
    Some(Process {
        parent: stat.parent,
        program: Arc::new(Program {
            name: last_part(&path),
            path,
            command: nv_probe::redact::command(arguments.as_bytes(), false),
        }),
        uid,
        euid,
        cgroup,
        origin: cgroup,
        started: stat.started,
        verdict: None,
        executed: true,
        stdio: [Stdio::Unknown; 2],
    })
}

/// Real and effective user of `/proc/<pid>/status`.
fn users_of(status: &str) -> Option<(u32, u32)> {
    let mut ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace();
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}

/// The parent of a process; `None` when there is no such process.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.parent)
}

/// Some of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: &'static str,
    parent: u32,
    process_group: u32,
    session: u32,
    /// Since boot.
    started: Duration,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Self::parse(&crate::node::read_small(format!("/proc/{pid}/stat")), ticks)
    }

    /// The name, in parentheses, may have any character; the fields are counted behind it (proc_pid_stat(5)).
    fn parse(stat: &str, ticks_per_second: u64) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let small = |at: usize| u32::try_from(number(at)?).ok();
        let ticks = number(19)?;
        Some(Self {
            state: match *fields.first()? {
                "R" => "Running",
                "S" | "I" => "Sleeping",
                "D" => "Waiting",
                "T" | "t" => "Stopped",
                "Z" => "Zombie",
                "X" | "x" => return None,
                _ => "",
            },
            parent: small(1)?,
            process_group: small(2)?,
            session: small(3)?,
            started: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_any_character() {
        let stat = "7 (a) b (c)) S 42 8 9 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0 250 1 1";
        let want = Stat {
            state: "Sleeping",
            parent: 42,
            process_group: 8,
            session: 9,
            started: Duration::from_millis(2500),
        };
        assert_eq!(Stat::parse(stat, 100), Some(want));
        assert_eq!(Stat::parse("nonsense", 100), None);
        assert_eq!(Stat::parse("7 (a) S 42", 100), None);
    }

    #[test]
    fn users_are_read_from_the_status() {
        assert_eq!(users_of("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\n"), Some((1000, 0)));
        assert_eq!(users_of("Uid:\t1000\n"), None);
    }

    #[test]
    fn this_process_is_found_in_proc_with_its_parent_and_start() {
        let pid = std::process::id();
        let process = look_up(pid, None, &mut HashMap::new()).unwrap();
        assert_eq!(process.parent, std::os::unix::process::parent_id());
        assert!(!process.program.path.is_empty() && process.started > Duration::ZERO);
        let listing = Listing {
            living: vec![(pid, process)],
            past: Vec::new(),
            folder: None,
            cgroup_root: None,
            boot: Timestamp::from_nanos(0),
            hashes: HashMap::new(),
        };
        let listed = list(listing);
        assert_eq!(listed.len(), 1);
        assert!(listed[0].pid == pid && listed[0].started > Timestamp::NEVER, "{listed:?}");
    }
}
