//! New cgroups by inotify, for kernels whose BPF programs cannot tell: the file system of cgroups tells of folders that are
//! made and removed as any other does.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nv_probe::Event;
use nv_probe::events::since_boot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Bytes that one read takes: some hundred folders.
const BUFFER: usize = 16 * 1024;

/// A folder that is watched.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    id: u64,
}

/// Every cgroup below a root, as far as there are no more than [`nv_probe::cgroup::MAX_CGROUPS`].
#[derive(Debug)]
pub(crate) struct CgroupWatch {
    inotify: OwnedFd,
    root: PathBuf,
    folders: HashMap<i32, Folder>,
    by_path: HashMap<PathBuf, u64>,
}

impl CgroupWatch {
    /// Watches what is there; only what comes and goes later is told.
    ///
    /// # Errors
    /// inotify is not to be had, or the root cannot be watched.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watch =
            Self { inotify, root: root.to_owned(), folders: HashMap::new(), by_path: HashMap::new() };
        if watch.add(root).is_none() {
            return Err(io::Error::other("its root cannot be watched"));
        }
        watch.look_below(root, &mut Vec::new());
        Ok(watch)
    }

    /// Waits for `patience` at most; cgroups that were made, parents first, and removed.
    ///
    /// # Errors
    /// inotify cannot be read any more.
    pub(crate) fn poll(&mut self, patience: Duration) -> io::Result<Vec<Event>> {
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&patience))?;
        let mut changes = Vec::new();
        let mut buffer = [std::mem::MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(change) => {
                    let name = change.file_name().map(|name| name.to_string_lossy().into_owned());
                    changes.push((change.wd(), change.events(), name));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut events = Vec::new();
        for (number, what, name) in changes {
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                tracing::warn!("news of cgroups were lost; all of them are looked at");
                let root = self.root.clone();
                self.look_below(&root, &mut events);
            } else if what.contains(ReadFlags::IGNORED) {
                if let Some(folder) = self.folders.remove(&number) {
                    self.by_path.remove(&folder.path);
                    events.push(Event::CgroupGone {
                        at: since_boot(),
                        id: folder.id,
                        path: self.named(&folder.path),
                    });
                }
            } else if what.contains(ReadFlags::CREATE | ReadFlags::ISDIR)
                && let (Some(folder), Some(name)) = (self.folders.get(&number), name)
            {
                let path = folder.path.join(name);
                self.made(&path, &mut events);
            }
        }
        Ok(events)
    }

    fn made(&mut self, path: &Path, events: &mut Vec<Event>) {
        if let Some(event) = self.add(path) {
            events.push(event);
            // What was made in it before it was watched.
            self.look_below(path, events);
        }
    }

    fn look_below(&mut self, folder: &Path, events: &mut Vec<Event>) {
        for (_, path) in nv_probe::cgroup::walk(folder).unwrap_or_default().into_iter().skip(1) {
            events.extend(self.add(&path));
        }
    }

    /// Watches a folder; `None` when it is gone, or watched already.
    fn add(&mut self, path: &Path) -> Option<Event> {
        let id = nv_probe::cgroup::id(path).ok()?;
        if self.by_path.get(path) == Some(&id) || self.folders.len() >= nv_probe::cgroup::MAX_CGROUPS {
            return None;
        }
        let flags = WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DELETE_SELF;
        let number = inotify::add_watch(&self.inotify, path, flags).ok()?;
        self.folders.insert(number, Folder { path: path.to_owned(), id });
        self.by_path.insert(path.to_owned(), id);
        let parent = path.parent().and_then(|parent| self.by_path.get(parent)).copied().unwrap_or(0);
        Some(Event::CgroupMade { at: since_boot(), id, parent, path: self.named(path), profile: None })
    }

    /// As the kernel names it: without where the tree is mounted.
    fn named(&self, path: &Path) -> String {
        format!("/{}", path.strip_prefix(&self.root).unwrap_or(path).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders of any file system are told alike.
    #[test]
    fn folders_are_told_when_they_are_made_and_removed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("old")).unwrap();
        let mut watch = CgroupWatch::new(root.path()).unwrap();
        std::fs::create_dir_all(root.path().join("old/pod/container")).unwrap();
        let made: Vec<(String, u64, u64)> = watch
            .poll(Duration::ZERO)
            .unwrap()
            .into_iter()
            .map(|event| match event {
                Event::CgroupMade { id, parent, path, .. } => (path, id, parent),
                other => panic!("{other:?}"),
            })
            .collect();
        let [(pod, pod_id, _), (container, _, parent)] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!((pod.as_str(), container.as_str(), *parent), ("/old/pod", "/old/pod/container", *pod_id));
        std::fs::remove_dir(root.path().join("old/pod/container")).unwrap();
        let gone = watch.poll(Duration::ZERO).unwrap();
        assert!(
            matches!(gone.as_slice(), [Event::CgroupGone { path, .. }] if path == "/old/pod/container"),
            "{gone:?}"
        );
    }
}
