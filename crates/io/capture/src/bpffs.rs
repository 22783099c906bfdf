//! Where programs and tables outlive the process that loaded them: folders of a BPF file system.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// Where a BPF file system belongs.
const USUAL: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const MAGIC: u64 = 0xcafe_4a11;

/// Makes a folder of a BPF file system. Mounts one at `/sys/fs/bpf` when the folder is to be there and nothing is.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.starts_with(USUAL) && !is_bpffs(Path::new(USUAL))? {
        mount("bpf", USUAL, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    }
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    if !is_bpffs(existing)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not in a BPF file system; mount one there (type bpf)", existing.display()),
        ));
    }
    fs::create_dir_all(folder)
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let kind = statfs(path)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == MAGIC))
}

/// Removes a pin or an empty folder of pins; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let result = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Names in a folder that are UTF-8; ours all are.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(name) = entry?.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The root of the cgroup v2 hierarchy, from the mounts of this process.
pub(crate) fn cgroup_root() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    Ok(parse_cgroup_root(&String::from_utf8_lossy(&mounts)))
}

/// `id parent device root mountpoint options … - type source options`: the mount point of the whole `cgroup2`.
fn parse_cgroup_root(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        if back.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/").then(|| PathBuf::from(OsStr::new(point)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_cgroup_v2_is_found_beside_a_v1_tree() {
        let mounts = "25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      26 25 0:23 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n\
                      30 25 0:29 /a /mnt/part rw - cgroup2 none rw\n\
                      36 25 0:33 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(parse_cgroup_root(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(parse_cgroup_root(""), None);
    }
}
