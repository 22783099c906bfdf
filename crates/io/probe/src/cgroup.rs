//! The cgroup v2 tree: where it is mounted, and the ids that the kernel knows its folders by.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Most folders that [`walk`] looks at; the table in the kernel holds as many.
pub const MAX_CGROUPS: usize = 65_536;

/// Where the v2 tree is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hosts that run v1 beside it.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read, or no v2 tree is mounted.
pub fn unified_root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    find_root(&mounts).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup v2 tree is mounted; mount one at /sys/fs/cgroup/unified",
        )
    })
}

/// The mount point of type `cgroup2` whose root is the whole tree (proc(5), mountinfo).
fn find_root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && after.split(' ').next() == Some("cgroup2")).then(|| PathBuf::from(point))
    })
}

/// The id of the cgroup at `path` in the file system: its inode.
///
/// # Errors
/// The folder cannot be looked at.
pub fn id(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|found| found.ino())
}

/// Every cgroup at and below `root`, with its id, parents before children. Folders that vanish meanwhile are left out,
/// and so are those beyond [`MAX_CGROUPS`].
///
/// # Errors
/// `root` itself cannot be read.
pub fn walk(root: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = vec![(id(root)?, root.to_path_buf())];
    let mut next = 0;
    while let Some((_, folder)) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if found.len() >= MAX_CGROUPS {
                return Ok(found);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(id) = id(&entry.path())
            {
                found.push((id, entry.path()));
            }
        }
    }
    Ok(found)
}

/// Inode of the mount namespace of process `pid`, or of the caller for `None`.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub fn mount_namespace(pid: Option<u32>) -> io::Result<u32> {
    let path = pid.map_or_else(|| "/proc/self/ns/mnt".to_owned(), |pid| format!("/proc/{pid}/ns/mnt"));
    let inode = fs::metadata(path)?.ino();
    u32::try_from(inode).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Inode of the host's mount namespace: that of process 1, or the caller's own where that may not be looked at.
///
/// # Errors
/// `/proc` cannot be read.
pub fn host_mount_namespace() -> io::Result<u32> {
    mount_namespace(Some(1)).or_else(|_| mount_namespace(None))
}

/// Device of a container's root file system, as the kernel's super blocks number them, by a process in it; `None` for
/// one in the host's mount namespace, and for one whose root is still the host's: a runtime enters the container's mount
/// namespace before its root, and what it is there is not the container's.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub fn root_device(pid: u32) -> io::Result<Option<u32>> {
    if mount_namespace(Some(pid))? == host_mount_namespace()? {
        return Ok(None);
    }
    let device = fs::metadata(format!("/proc/{pid}/root"))?.dev();
    // Where process 1 may not be looked at, this one is on the host's root.
    let host = fs::metadata("/proc/1/root").or_else(|_| fs::metadata("/"))?.dev();
    Ok((device != host).then(|| rustix::fs::major(device) << 20 | rustix::fs::minor(device) & 0xF_FFFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_tree_is_found_alone_and_beside_v1() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_root(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let pure = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_root(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        let part = "31 23 0:28 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_root(part), None);
    }
}
