//! The BPF file system: what is pinned in it outlives its maker.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, statfs};
use rustix::mount::{MountFlags, mount};

use crate::layout::ABI;

/// Where the BPF file system belongs.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (uapi/linux/magic.h).
const MAGIC: u64 = 0xcafe_4a11;

/// Where the product pins when no other folder is named; the last part is the version of the layout.
#[must_use]
pub fn default_pin_dir() -> PathBuf {
    Path::new(MOUNT_POINT).join("neuvector").join(format!("v{ABI}"))
}

/// Whether `path`, or its nearest parent that exists, is on a BPF file system.
#[must_use]
pub fn holds(path: &Path) -> bool {
    path.ancestors()
        .find_map(|path| statfs(path).ok())
        .is_some_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic & 0xffff_ffff == MAGIC))
}

/// Most folders and pins of earlier versions that are looked at.
const MAX_PINS: usize = 65_536;

/// Removes what other versions have pinned in `dir`: every folder `v…` of it but `keep`. Programs go before their
/// tables, as rows that vanish one by one would be judged by. Answers the names of the folders that are gone.
///
/// # Errors
/// A folder cannot be read or a pin not be removed.
pub fn retire(dir: &Path, keep: &str) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == keep || !name.starts_with('v') || !entry.file_type()?.is_dir() {
            continue;
        }
        let (mut folders, mut pins) = (vec![entry.path()], Vec::new());
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if folders.len().saturating_add(pins.len()) >= MAX_PINS {
                    return Err(io::Error::other(format!("{} has too many pins", dir.display())));
                }
                if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { pins.push(entry.path()) }
            }
        }
        let is_link = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let in_links = path.components().any(|part| part.as_os_str() == "links");
            in_links || name.starts_with("link_") || name.starts_with("new_")
        };
        let (links, tables): (Vec<_>, Vec<_>) = pins.into_iter().partition(is_link);
        for pin in links.iter().chain(&tables) {
            fs::remove_file(pin)?;
        }
        for folder in folders.iter().rev() {
            fs::remove_dir(folder)?;
        }
        gone.push(name);
    }
    Ok(gone)
}

/// Makes sure that `dir` can hold pins: mounts the BPF file system at [`MOUNT_POINT`] when `dir` is to lie below it
/// and nothing is mounted there.
///
/// # Errors
/// The mount failed (no root, or a read-only `/sys`), or `dir` is elsewhere on another file system.
pub fn ensure(dir: &Path) -> io::Result<()> {
    if holds(dir) {
        return Ok(());
    }
    if !dir.starts_with(MOUNT_POINT) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} is not on a BPF file system; mount one there or name a folder below {MOUNT_POINT}",
                dir.display()
            ),
        ));
    }
    // Two processes that mount at once would hide each other's pins: the folder below the mount is the lock.
    let folder = open(MOUNT_POINT, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&folder, FlockOperation::LockExclusive)?;
    if holds(dir) {
        return Ok(());
    }
    mount("bpf", MOUNT_POINT, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    tracing::info!(path = MOUNT_POINT, "mounted the BPF file system");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_other_versions_nothing_stays() {
        let dir = std::env::temp_dir().join(format!("nv-retire-{}", std::process::id()));
        for folder in ["v1/process", "v1/network/links", "v2-now/process", "other"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
            fs::write(dir.join(folder).join("pin"), "").unwrap();
        }
        assert_eq!(retire(&dir, "v2-now").unwrap(), ["v1"]);
        assert!(!dir.join("v1").exists() && dir.join("v2-now/process/pin").exists());
        assert!(dir.join("other/pin").exists(), "what is not named as a version is not ours");
        fs::remove_dir_all(dir).unwrap();
    }
}
