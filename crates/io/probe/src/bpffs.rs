//! The BPF file system: what is pinned in it outlives its maker.

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
