use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nv_model::name::NodeId;

use crate::cgroup;

/// What is the same for all workloads of a machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// The node.
    pub node: NodeId,
    /// Its host name, which ends the names of static pods.
    pub host_name: String,
    /// Where the host's processes are shown: `/proc`, or where that is mounted in a container.
    pub proc_root: PathBuf,
    /// Where the cgroup v2 tree is mounted; `None` on a machine without one, where cgroup ids stay 0.
    pub cgroup_root: Option<PathBuf>,
}

impl Host {
    /// The machine this runs on, seen through `/proc`.
    #[must_use]
    pub fn of_this_machine(node: NodeId, host_name: String) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self { node, host_name, proc_root: "/proc".into(), cgroup_root: cgroup::mount_point(&mounts) }
    }

    /// Inode of the machine's own network namespace: that of its first process, or where that may not be looked at
    /// (it can hold more capabilities than we do) our own; 0 when neither can be told.
    #[must_use]
    pub fn network_namespace(&self) -> u64 {
        let inodes = ["1/ns/net", "self/ns/net"].into_iter().map(|path| inode(&self.proc_root.join(path)));
        inodes.into_iter().find(|inode| *inode != 0).unwrap_or(0)
    }

    /// Inode of the folder of a cgroup, which is what the kernel calls its id; 0 when there is none.
    #[must_use]
    pub fn cgroup_id(&self, path: &str) -> u64 {
        self.cgroup_root.as_ref().map_or(0, |root| inode(&root.join(path.trim_start_matches('/'))))
    }
}

pub(crate) fn inode(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.ino())
}
