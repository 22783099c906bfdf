//! What the processes run that live already, told to the kernel when a rule begins to ask what runs a program.

use std::os::unix::fs::MetadataExt as _;

use nv_probe::tables::{TableError, Tables};

/// Most rounds over all processes: one that was forked during a round may have its parent's program too late.
const ROUNDS: usize = 3;

/// Has the kernel keep callers from now on, and says what runs already. Whoever is missed has a caller that is not
/// known, by which a denial holds and an allowance does not.
pub(crate) fn keep(tables: &Tables) -> Result<(), TableError> {
    if tables.keeps_callers()? {
        return Ok(());
    }
    tables.keep_callers(true)?;
    let mut told = 0;
    for _ in 0..ROUNDS {
        let found = running();
        let before = std::mem::replace(&mut told, found.len());
        for (pid, mounts, path) in found {
            match tables.add_caller(pid, mounts, &path) {
                Ok(()) | Err(TableError::Path { .. }) => {}
                Err(TableError::Full { capacity, .. }) => {
                    tracing::warn!(capacity, "not all processes fit into the table of what runs programs");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if told == before {
            break;
        }
    }
    tracing::debug!(processes = told, "rules ask what runs a program; told what runs already");
    Ok(())
}

/// Processes with the inode of their mount namespace and their executable in it.
fn running() -> Vec<(u32, u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let mounts = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?.ino();
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let path = path.to_str()?.to_owned();
        // A file that is gone has no path to go by.
        let gone = path.ends_with(" (deleted)");
        (!gone).then_some((pid, u32::try_from(mounts).ok()?, path))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_with_its_executable_and_mount_namespace() {
        let (_, mounts, path) = running().into_iter().find(|(pid, ..)| *pid == std::process::id()).unwrap();
        assert_eq!(path, std::env::current_exe().unwrap().to_str().unwrap());
        assert_eq!(u64::from(mounts), std::fs::metadata("/proc/self/ns/mnt").unwrap().ino());
    }
}
