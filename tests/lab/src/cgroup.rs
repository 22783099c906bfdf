//! The lab's cgroups: one folder `/nv-lab-<bridge>` in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel shows cgroup hierarchies: the v2 tree and, on hybrid machines, the v1 trees.
pub(crate) struct Hierarchies {
    /// Mount point of cgroup v2.
    pub(crate) unified: Option<PathBuf>,
    /// Mount points of the v1 hierarchies.
    pub(crate) legacy: Vec<PathBuf>,
}

impl Hierarchies {
    pub(crate) fn of_this_machine() -> Self {
        Self::from_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads `/proc/self/mountinfo` (proc(5)): the mount point is the 5th field, the type follows ` - `.
    fn from_mountinfo(text: &str) -> Self {
        let mut found = Self { unified: None, legacy: Vec::new() };
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(mount_point) = before.split(' ').nth(4) else { continue };
            match after.split(' ').next() {
                Some("cgroup2") if found.unified.is_none() => found.unified = Some(mount_point.into()),
                Some("cgroup") => found.legacy.push(mount_point.into()),
                _ => {}
            }
        }
        found
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().chain(&self.legacy).map(PathBuf::as_path)
    }
}

/// Path of `pid` in the v2 hierarchy, or in the first v1 hierarchy where there is no v2.
pub(crate) fn of_process(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified.or_else(|| text.lines().find_map(|line| line.splitn(3, ':').nth(2))).map(str::to_owned)
}

/// All processes below `root`.
pub(crate) fn processes(root: &Path) -> Vec<i32> {
    folders(root)
        .iter()
        .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// `root` and all folders below it, outer ones first; empty when it does not exist.
pub(crate) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = if root.is_dir() { vec![root.to_path_buf()] } else { Vec::new() };
    while let Some(folder) = open.pop() {
        let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(
            inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
        found.push(folder);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchy_are_found_on_a_hybrid_machine() {
        let text = "34 28 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu\n\
                    36 28 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    40 28 8:1 / / rw - ext4 /dev/vda rw\n";
        let found = Hierarchies::from_mountinfo(text);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.legacy, [PathBuf::from("/sys/fs/cgroup/cpu")]);
    }
}
