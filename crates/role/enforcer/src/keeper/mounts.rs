//! Mounts of a process's mount namespace, as `mountinfo` tells them (proc(5)).

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::OnceLock;

/// Most bytes of `mountinfo` that are read: some 20,000 mounts.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// File systems that hold no programs.
const WITHOUT_PROGRAMS: [&str; 13] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "pstore",
    "binfmt_misc",
    "nsfs",
];

/// A process in the host's mount namespace: process 1, or this one where that may not be looked at.
pub(super) fn host() -> u32 {
    static HOST: OnceLock<u32> = OnceLock::new();
    let found = || if nv_probe::cgroup::mount_namespace(Some(1)).is_ok() { 1 } else { std::process::id() };
    *HOST.get_or_init(found)
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Device of its super block.
    pub(super) device: u32,
    /// What of its file system is mounted.
    pub(super) root: String,
    /// Where.
    pub(super) point: String,
    /// Kind of file system.
    pub(super) kind: String,
    /// Where an overlay keeps what is new or changed; on the host.
    pub(super) upper: Option<String>,
    /// Programs may be run from it.
    pub(super) runs: bool,
}

/// All of them by their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts(HashMap<u64, Mount>);

impl Mounts {
    /// What `mountinfo` of a process says, for [`Self::parse`].
    pub(super) fn text(pid: u32) -> io::Result<String> {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(format!("/proc/{pid}/mountinfo"))?.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self::parse(&Self::text(pid)?))
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(line).collect())
    }

    /// The one that a file was opened on; `None` for one of another namespace.
    pub(super) fn on(&self, file: BorrowedFd<'_>) -> Option<&Mount> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let number = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        self.0.get(&number.trim().parse().ok()?)
    }

    /// Whether a process of a container may serve what is open, as [`Self::with_programs`] has it; also where its mount is not
    /// among these any more.
    pub(super) fn is_served(&self, file: BorrowedFd<'_>, hosts: &HashSet<u32>) -> bool {
        let Some(mount) = self.on(file) else { return true };
        self.served(hosts).any(|point| lies_in(&mount.point, point))
    }

    fn served(&self, hosts: &HashSet<u32>) -> impl Iterator<Item = &str> {
        let served = |mount: &&Mount| mount.may_be_served() && !hosts.contains(&mount.device);
        self.all().filter(served).map(|mount| mount.point.as_str())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Mount> {
        self.0.values()
    }

    /// Those whose file system can hold programs, and that can be asked about: the kernel opens a file for whoever reads a
    /// question about it, and one that a process of a container serves (FUSE, or an overlay over it) may let him wait for
    /// ever, even when he is killed. What the host has mounted, by its devices, is served by the host.
    pub(super) fn with_programs(&self, hosts: &HashSet<u32>) -> impl Iterator<Item = &Mount> {
        let served: Vec<&str> = self.served(hosts).collect();
        self.all()
            .filter(|mount| mount.runs && !WITHOUT_PROGRAMS.contains(&mount.kind.as_str()))
            .filter(move |mount| !served.iter().any(|point| lies_in(&mount.point, point)))
    }
}

impl Mount {
    /// Whether who opens a file of it may have to wait for a process.
    fn may_be_served(&self) -> bool {
        self.kind == "overlay"
            || self.kind == "fuse"
            || self.kind == "fuseblk"
            || self.kind.starts_with("fuse.")
    }
}

/// Whether a path is a folder or lies in it.
fn lies_in(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &str) -> Option<(u64, Mount)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    let number = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let (root, point, options) = (words.next()?, words.next()?, words.next()?);
    let mut system = system.split(' ');
    let kind = system.next()?.to_owned();
    let upper =
        system.nth(1).and_then(|options| options.split(',').find_map(|one| one.strip_prefix("upperdir=")));
    let mount = Mount {
        device: major << 20 | minor & 0xF_FFFF,
        root: plain(root),
        point: plain(point),
        upper: upper.filter(|_| kind == "overlay").map(plain),
        kind,
        runs: !options.split(',').any(|option| option == "noexec"),
    };
    Some((number, mount))
}

/// Without the kernel's escapes (`\040` for a space).
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) = (first, tail) {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_device_place_and_layers() {
        let text = "36 35 0:45 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/var/lib/x\\040y/fs,workdir=/w\n\
                    37 36 8:1 /srv/data /mnt/my\\134dir rw,noexec master:1 shared:2 - ext4 /dev/sda1 rw\n\
                    38 36 0:5 / /proc rw - proc proc rw\nnonsense\n";
        let mounts = Mounts::parse(text);
        let root = mounts.0.get(&36).unwrap();
        assert_eq!(
            (root.device, root.point.as_str(), root.upper.as_deref()),
            (45, "/", Some("/var/lib/x y/fs"))
        );
        let data = mounts.0.get(&37).unwrap();
        assert_eq!(
            (data.device, data.root.as_str(), data.point.as_str()),
            (8 << 20 | 1, "/srv/data", "/mnt/my\\dir")
        );
        assert!(!data.runs && data.upper.is_none());
        let points: Vec<&str> =
            mounts.with_programs(&HashSet::from([45])).map(|mount| mount.point.as_str()).collect();
        assert_eq!((points, mounts.0.len()), (vec!["/"], 3));
    }

    #[test]
    fn what_a_container_may_serve_itself_and_what_lies_below_is_not_asked_about() {
        let text = "1 0 0:45 / / rw - overlay overlay rw\n2 1 0:50 / /tmp rw - tmpfs t rw\n\
                    3 1 0:51 / /mnt rw - fuse.sshfs s rw\n4 3 0:52 / /mnt/below rw - tmpfs t rw\n\
                    5 1 0:53 / /mnt2 rw - overlay o rw\n6 1 0:54 / /volume rw - fuse f rw\n";
        let mounts = Mounts::parse(text);
        let mut points: Vec<&str> =
            mounts.with_programs(&HashSet::from([45, 54])).map(|mount| mount.point.as_str()).collect();
        points.sort_unstable();
        assert_eq!(points, ["/", "/tmp", "/volume"], "the host has mounted the root and the volume");
    }

    #[test]
    fn the_mount_of_an_open_file_is_found() {
        let mounts = Mounts::of(std::process::id()).unwrap();
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(mounts.on(std::os::fd::AsFd::as_fd(&file)).unwrap().kind, "proc");
    }
}
