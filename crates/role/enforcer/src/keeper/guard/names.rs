//! Names that come and go in folders that rules speak of, so that a file made or replaced later is kept, too.
//!
//! By inotify, which hears of folders of every file system on every kernel. What was done, and by whom, is told elsewhere.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nv_model::file::matches_component;
use nv_model::name::WorkloadId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// A place: a container, or `None` for the host.
pub(super) type Key = Option<WorkloadId>;

/// Bytes that one read takes: some hundred names.
const BUFFER: usize = 16 * 1024;

/// What a name in a folder means to a place.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    place: Key,
    /// Name, with wildcards.
    part: String,
    /// Of folders only.
    folders: bool,
}

/// Folders that are heard of. Without inotify nothing is, and every folder counts as one that could not be marked.
#[derive(Debug)]
pub(super) struct Heard {
    inotify: Option<OwnedFd>,
    wanted: Mutex<HashMap<i32, Vec<Wanted>>>,
}

impl Heard {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .inspect_err(|error| tracing::warn!(%error, "files that are made later are not kept"))
            .ok();
        Self { inotify, wanted: Mutex::default() }
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<i32, Vec<Wanted>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of names like `part` in `folder` from now on. What is there is to be looked up after that.
    pub(super) fn add(
        &self,
        place: &Key,
        folder: BorrowedFd<'_>,
        part: &str,
        folders: bool,
    ) -> io::Result<()> {
        let inotify = self.inotify.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        // Held meanwhile, so that a name that comes at once finds it wanted.
        let mut all = self.wanted();
        let watch = inotify::add_watch(inotify, format!("/proc/self/fd/{}", folder.as_raw_fd()), flags)?;
        let held = all.entry(watch).or_default();
        let wanted = Wanted { place: place.clone(), part: part.to_owned(), folders };
        if !held.contains(&wanted) {
            held.push(wanted);
        }
        Ok(())
    }

    /// A place wants nothing any more, until it is looked up anew.
    pub(super) fn forget(&self, place: &Key) {
        for held in self.wanted().values_mut() {
            held.retain(|wanted| wanted.place != *place);
        }
    }

    /// Lets folders go that nobody wants.
    pub(super) fn sweep(&self) {
        self.wanted().retain(|watch, held| {
            if held.is_empty()
                && let Some(inotify) = &self.inotify
                && let Err(error) = inotify::remove_watch(inotify, *watch)
            {
                tracing::debug!(%error, "the folder is gone");
            }
            !held.is_empty()
        });
    }

    /// Waits for names; which places want them. `None` when nothing can be heard.
    pub(super) fn wait(&self) -> Option<HashSet<Key>> {
        let inotify = self.inotify.as_ref()?;
        let mut places = HashSet::new();
        while places.is_empty() {
            poll(&mut [PollFd::new(inotify, PollFlags::IN)], None)
                .inspect_err(|error| tracing::error!(%error, "names of files are not heard of any more"))
                .ok()?;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = Reader::new(inotify, &mut buffer);
            let mut all = self.wanted();
            while let Ok(event) = reader.next() {
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    places.extend(all.values().flatten().map(|wanted| wanted.place.clone()));
                } else if event.events().contains(ReadFlags::IGNORED) {
                    all.remove(&event.wd());
                } else if let (Some(held), Some(name)) = (all.get(&event.wd()), event.file_name()) {
                    let (name, folder) = (name.to_string_lossy(), event.events().contains(ReadFlags::ISDIR));
                    let meant = |wanted: &&Wanted| {
                        (folder || !wanted.folders) && matches_component(&wanted.part, &name)
                    };
                    places.extend(held.iter().filter(meant).map(|wanted| wanted.place.clone()));
                }
            }
        }
        Some(places)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_name_that_is_made_or_replaced_is_heard_of_by_who_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs::File::open(dir.path()).unwrap();
        let heard = Heard::new();
        let pod = Some("pod".parse().unwrap());
        heard.add(&None, folder.as_fd(), "shadow*", false).unwrap();
        heard.add(&pod, folder.as_fd(), "*", true).unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        fs::write(dir.path().join("shadow-"), "x").unwrap();
        assert_eq!(heard.wait(), Some(HashSet::from([None])));
        fs::create_dir(dir.path().join("sub")).unwrap();
        assert_eq!(heard.wait(), Some(HashSet::from([pod.clone()])));
        heard.forget(&pod);
        fs::create_dir(dir.path().join("sub2")).unwrap();
        fs::rename(dir.path().join("other"), dir.path().join("shadow")).unwrap();
        assert_eq!(heard.wait(), Some(HashSet::from([None])));
        heard.forget(&None);
        heard.sweep();
        assert!(heard.wanted().is_empty());
    }
}
