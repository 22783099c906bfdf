//! Which file systems and mounts fanotify asks about.
//!
//! The root of a container is an overlay that its runtime mounts on the host before it starts anything in it: a mark on the
//! file system covers it in every mount namespace. What else there is to see in a container is marked when its first
//! program is asked about, and again whenever its mounts have changed: at once when the kernel says so, and before the next
//! program that is asked about goes on.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nv_probe::fanotify::{Ask, Asking, Whole};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{Mode, OFlags};

use super::super::mounts::{Mount, Mounts, host};
use super::held;

/// How often the host's mounts are looked at when the kernel says nothing.
const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Most mount namespaces that are followed.
const MAX_NAMESPACES: usize = 8192;
/// Most changes that are taken at once.
const CHANGES: usize = 64;

struct Namespace {
    /// A process in it.
    pid: u32,
    /// Of its mounts, when they were marked last.
    hash: u64,
    /// Its `mountinfo`, by which the kernel says that they have changed. It goes with the namespace's entry: as long as it
    /// is open the mounts stay.
    _watched: Option<File>,
}

/// What is marked.
pub(super) struct Marks {
    host_mounts: u32,
    /// Devices that the host has mounted, but for containers' roots.
    hosts: Mutex<HashSet<u32>>,
    /// Devices of containers' roots.
    roots: Mutex<HashSet<u32>>,
    namespaces: Mutex<HashMap<u32, Namespace>>,
    /// Where changes are heard of; without it they are seen every second.
    changes: Option<OwnedFd>,
}

impl Marks {
    pub(super) fn new(host_mounts: u32) -> Self {
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC)
            .inspect_err(|error| tracing::warn!(%error, "new mounts of containers are seen late"));
        Self {
            host_mounts,
            hosts: Mutex::default(),
            roots: Mutex::default(),
            namespaces: Mutex::default(),
            changes: changes.ok(),
        }
    }

    /// The host's mounts have changed: every container's root is marked. No lock is held meanwhile, as what is started
    /// in it does not wait.
    fn host(&self, asking: &Asking) {
        let Ok(text) = Mounts::text(host()) else { return };
        let mounts = Mounts::parse(&text);
        let devices = |roots: bool| {
            mounts.all().filter(move |mount| is_root(mount) == roots).map(|mount| mount.device).collect()
        };
        *held(&self.roots) = devices(true);
        *held(&self.hosts) = devices(false);
        for mount in mounts.all().filter(|mount| is_root(mount)) {
            mark(asking, (host(), self.host_mounts), &mounts, mount, Whole::FileSystem);
        }
    }

    /// Marks what is seen in a mount namespace, when that is new or has changed. When it returns, what a process that runs
    /// there could see before is marked.
    pub(super) fn see(&self, asking: &Asking, namespace: u32, pid: u32) {
        if namespace == self.host_mounts {
            return;
        }
        if !held(&self.namespaces).contains_key(&namespace) {
            let watched = self.watch(namespace, pid);
            let mut namespaces = held(&self.namespaces);
            if namespaces.len() >= MAX_NAMESPACES {
                tracing::warn!(most = MAX_NAMESPACES, "there are more mount namespaces than can be followed");
                return;
            }
            namespaces.entry(namespace).or_insert(Namespace { pid, hash: 0, _watched: watched });
        }
        self.renew(asking, namespace, Some(pid), false);
    }

    /// Has the kernel tell when the mounts of a namespace change.
    fn watch(&self, namespace: u32, pid: u32) -> Option<File> {
        let watched = File::open(format!("/proc/{pid}/mountinfo")).ok()?;
        // Its number may be another process's by now.
        if !nv_probe::cgroup::mount_namespace(Some(pid)).is_ok_and(|now| now == namespace) {
            return None;
        }
        let which = epoll::EventData::new_u64(namespace.into());
        epoll::add(self.changes.as_ref()?, &watched, which, epoll::EventFlags::PRI).ok()?;
        Some(watched)
    }

    /// Marks what is seen in a mount namespace, when that has changed; as `viewer` sees it, or the process by which it is
    /// known. `told`: the kernel says that it has, which is not to be seen of a new file system in the place of another one,
    /// whose numbers it may have got.
    fn renew(&self, asking: &Asking, namespace: u32, viewer: Option<u32>, told: bool) {
        let Some((known, hash)) = held(&self.namespaces).get(&namespace).map(|known| (known.pid, known.hash))
        else {
            return;
        };
        let pid = viewer.unwrap_or(known);
        let there = nv_probe::cgroup::mount_namespace(Some(pid)).is_ok_and(|now| now == namespace);
        let Some(text) = there.then(|| Mounts::text(pid).ok()).flatten() else {
            // Whoever else is in it is seen with the next program.
            if viewer.is_none() {
                held(&self.namespaces).remove(&namespace);
            }
            return;
        };
        let now = hash_of(&text);
        if now == hash && !told {
            return;
        }
        let hosts = held(&self.hosts).clone();
        let mounts = Mounts::parse(&text);
        let of_host = hosts.union(&held(&self.roots)).copied().collect();
        for mount in mounts.with_programs(&of_host) {
            // The host's own programs are not to be asked about.
            let whole = if hosts.contains(&mount.device) { Whole::Mount } else { Whole::FileSystem };
            mark(asking, (pid, namespace), &mounts, mount, whole);
        }
        if let Some(known) = held(&self.namespaces).get_mut(&namespace) {
            known.hash = now;
        }
    }

    /// Every second: what has changed, and containers that ran before, where `is_container` says so of a process.
    pub(super) fn look_around(&self, asking: &Asking, is_container: impl Fn(u32) -> bool) {
        let known: HashSet<u32> = held(&self.namespaces).keys().copied().collect();
        for namespace in &known {
            self.renew(asking, *namespace, None, false);
        }
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids {
            let Ok(namespace) = nv_probe::cgroup::mount_namespace(Some(pid)) else { continue };
            if namespace != self.host_mounts && !known.contains(&namespace) && is_container(pid) {
                self.see(asking, namespace, pid);
            }
        }
    }
}

/// Keeps the marks of containers' roots as they come and go. On a thread of its own.
pub(super) fn keep(asking: &Asking, marks: &Marks) {
    let watched = match File::open(format!("/proc/{}/mountinfo", host())) {
        Ok(watched) => watched,
        Err(error) => {
            return tracing::error!(%error, "the host's mounts cannot be watched: programs of new containers are judged late");
        }
    };
    loop {
        marks.host(asking);
        // The kernel says by it that the mounts have changed since.
        let mut changed = [PollFd::new(&watched, PollFlags::PRI)];
        if let Err(error) = poll(&mut changed, Some(&SECOND)) {
            tracing::warn!(%error, "waiting for mounts");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Marks what containers mount, as the kernel tells of it. On a thread of its own.
pub(super) fn follow(asking: &Asking, marks: &Marks) {
    let Some(changes) = &marks.changes else { return };
    let mut changed: Vec<epoll::Event> = Vec::with_capacity(CHANGES);
    loop {
        changed.clear();
        if let Err(error) = epoll::wait(changes, spare_capacity(&mut changed), None) {
            tracing::debug!(%error, "waiting for mounts of containers");
        }
        let begin = Instant::now();
        let namespaces = changed.iter().map(|event| event.data.u64());
        for namespace in namespaces.filter_map(|namespace| u32::try_from(namespace).ok()) {
            marks.renew(asking, namespace, None, true);
        }
        // Who mounts again and again has half of this thread's time.
        std::thread::sleep(begin.elapsed());
    }
}

/// Whether a mount of the host is a container's root.
fn is_root(mount: &Mount) -> bool {
    mount.kind == "overlay" && mount.point != "/"
}

/// Marks a mount that a process sees in a mount namespace.
fn mark(asking: &Asking, (pid, namespace): (u32, u32), mounts: &Mounts, mount: &Mount, whole: Whole) {
    let opened: Result<OwnedFd, _> = rustix::fs::open(
        format!("/proc/{pid}/root{}", mount.point),
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    );
    // Its number may be another process's by now, whose root is another one.
    if !nv_probe::cgroup::mount_namespace(Some(pid)).is_ok_and(|now| now == namespace) {
        return;
    }
    // It may be gone by now, and what is opened is the folder that it was on: with its file system marked, the kernel asks
    // about the files of every container's layers, as files of no container.
    if opened.as_ref().is_ok_and(|opened| mounts.on(opened.as_fd()) != Some(mount)) {
        return;
    }
    let done = opened
        .map_err(std::io::Error::from)
        .and_then(|opened| asking.add_whole(Ask::Exec, opened.as_fd(), whole));
    if let Err(error) = done {
        tracing::debug!(%error, point = mount.point, kind = mount.kind, "a mount is not asked about");
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
