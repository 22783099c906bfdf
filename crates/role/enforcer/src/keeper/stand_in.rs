//! Answers for the launcher while no keeper does: containers that fail closed are refused, others go on.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guard::who;
use super::signs::{Asked, Places};

/// How soon it rests when a keeper takes over.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Longest wait for that. It may hang on a file that the kernel cannot open.
const RESTS_WITHIN: Duration = Duration::from_millis(500);
/// Most descriptors that a keeper has open: what it has read and not answered has a number below.
pub(super) const MAX_DESCRIPTORS: i32 = 65_536;
/// Most bytes of [`Places`].
const MAX_PLACES: u64 = 64 * 1024 * 1024;

/// The group, and a thread that answers while it is told to.
#[derive(Debug)]
pub(super) struct StandIn(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asking: Asking,
    state: Mutex<State>,
    changed: Condvar,
    places: Mutex<BTreeMap<Asked, Arc<Places>>>,
    host_mounts: Option<u32>,
}

#[derive(Debug, Default)]
struct State {
    answers: bool,
    /// The thread has answered all that it has read.
    rests: bool,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StandIn {
    /// Makes the group and answers: nobody else does yet.
    ///
    /// # Errors
    /// A sentence for the log when the kernel has no such groups, or there is no thread.
    pub(super) fn start() -> Result<Self, String> {
        let asking =
            Asking::new().map_err(|error| format!("the kernel does not ask before opens: {error}"))?;
        let shared = Arc::new(Shared {
            asking,
            state: Mutex::new(State { answers: true, rests: false }),
            changed: Condvar::new(),
            places: Mutex::default(),
            host_mounts: nv_probe::cgroup::host_mount_namespace().ok(),
        });
        let works = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(move || works.run())
            .map_err(|error| format!("a thread for answers: {error}"))?;
        Ok(Self(shared))
    }

    /// The group, for a keeper.
    pub(super) fn group(&self) -> BorrowedFd<'_> {
        self.0.asking.as_fd()
    }

    /// Takes a keeper's word on who fails closed.
    ///
    /// # Errors
    /// The file is not understood; what was said before holds.
    pub(super) fn tell(&self, asked: Asked, file: OwnedFd) -> serde_json::Result<()> {
        let limited = std::io::BufReader::new(std::fs::File::from(file).take(MAX_PLACES));
        let places = serde_json::from_reader(limited)?;
        held(&self.0.places).insert(asked, Arc::new(places));
        Ok(())
    }

    /// Answers no more, when it returns: a keeper does.
    pub(super) fn rest(&self) {
        let end = Instant::now() + RESTS_WITHIN;
        let mut state = held(&self.0.state);
        state.answers = false;
        while !state.rests {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return tracing::warn!("a question is still looked at in the keeper's place");
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers from now on, and first what a keeper has read and left behind: whose these are is not known, and one of them
    /// may fail closed.
    pub(super) fn take_over(&self) {
        self.rest();
        let any_closed = held(&self.0.places).values().any(|places| places.any_closed());
        let left = self.0.asking.settle(MAX_DESCRIPTORS, !any_closed);
        tracing::warn!(left, any_closed, "what fails closed is refused until there is a keeper");
        let mut state = held(&self.0.state);
        *state = State { answers: true, rests: false };
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            {
                let mut state = held(&self.state);
                while !state.answers {
                    state.rests = true;
                    self.changed.notify_all();
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let taken = poll(&mut [PollFd::new(&self.asking, PollFlags::IN)], Some(&PATIENCE))
                .map_err(std::io::Error::from)
                .and_then(|_| self.asking.take());
            match taken {
                Ok(Some(question)) => {
                    let allow = !self.refuses(&question);
                    if let Err(error) = self.asking.answer(question.file.as_fd(), allow) {
                        tracing::debug!(%error, "whoever asked is gone");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a question cannot be read in the keeper's place");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn refuses(&self, question: &Question) -> bool {
        let closed = |asked: Asked| {
            let places = held(&self.places).get(&asked).map(Arc::clone);
            places.filter(|places| places.any_closed()).is_some_and(|places| {
                let fails = |cgroup: Option<String>| cgroup.is_some_and(|path| places.fails_closed(&path));
                fails(who::unified(question.pid)) || fails(who::cgroup(question.pid))
            })
        };
        if !question.exec {
            return closed(Asked::Files);
        }
        (closed(Asked::Programs) || closed(Asked::Scripts) && is_script(&question.file))
            && !self.is_of_host(question.pid)
    }

    /// The runtime's own programs, which it runs in a container's cgroup, are never stopped.
    fn is_of_host(&self, pid: u32) -> bool {
        let mounts = nv_probe::cgroup::mount_namespace(Some(pid)).ok();
        mounts.is_some() && mounts == self.host_mounts
    }
}

fn is_script(file: &OwnedFd) -> bool {
    let mut magic = [0_u8; 2];
    rustix::io::pread(file, &mut magic, 0).is_ok_and(|bytes| bytes == 2) && &magic == b"#!"
}
