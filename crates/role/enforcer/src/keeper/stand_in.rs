//! Answers for the launcher while no keeper does: containers that fail closed are refused, others go on.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::crew::{Crew, Member};
use super::guard::who;
use super::signs::{Asked, Places};

/// Threads.
const ANSWERERS: usize = 2;
/// How soon it rests when a keeper takes over.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Longest wait for that. It may hang on a file that the kernel cannot open.
const RESTS_WITHIN: Duration = Duration::from_millis(500);
/// Most descriptors that a keeper has open: what it has read and not answered has a number below.
pub(super) const MAX_DESCRIPTORS: i32 = 65_536;
/// Most bytes of [`Places`].
const MAX_PLACES: u64 = 64 * 1024 * 1024;

/// The group, and threads that answer while they are told to.
#[derive(Debug)]
pub(super) struct StandIn {
    shared: Arc<Shared>,
    crew: Crew,
    hangs: bool,
}

#[derive(Debug)]
struct Shared {
    asking: Asking,
    answers: Mutex<bool>,
    changed: Condvar,
    places: Mutex<BTreeMap<Asked, Arc<Places>>>,
    host_mounts: Option<u32>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StandIn {
    /// Makes the group and answers: nobody else does yet.
    ///
    /// # Errors
    /// A sentence for the log when the kernel has no such groups.
    pub(super) fn start() -> Result<Self, String> {
        let asking =
            Asking::new().map_err(|error| format!("the kernel does not ask before opens: {error}"))?;
        let shared = Arc::new(Shared {
            asking,
            answers: Mutex::new(true),
            changed: Condvar::new(),
            places: Mutex::default(),
            host_mounts: nv_probe::cgroup::host_mount_namespace().ok(),
        });
        let mut stand_in = Self { shared, crew: Crew::default(), hangs: false };
        stand_in.tend();
        Ok(stand_in)
    }

    /// To be called now and then: has another thread in the place of one that hangs.
    pub(super) fn tend(&mut self) {
        let shared = &self.shared;
        let works = self.crew.tend(ANSWERERS, |me| {
            let shared = Arc::clone(shared);
            std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || shared.run(&me)).map(drop)
        });
        let said = std::mem::replace(&mut self.hangs, !works);
        if !works && !said {
            tracing::error!("nobody answers in the keeper's place: every thread hangs");
        }
    }

    /// The group, for a keeper.
    pub(super) fn group(&self) -> BorrowedFd<'_> {
        self.shared.asking.as_fd()
    }

    /// Takes a keeper's word on who fails closed. Whether anybody does, where that is new.
    ///
    /// # Errors
    /// The file is not understood; what was said before holds.
    pub(super) fn tell(&self, asked: Asked, file: OwnedFd) -> serde_json::Result<Option<bool>> {
        let limited = std::io::BufReader::new(std::fs::File::from(file).take(MAX_PLACES));
        let places: Places = serde_json::from_reader(limited)?;
        let any_closed = places.any_closed();
        let before = held(&self.shared.places).insert(asked, Arc::new(places));
        Ok((before.is_some_and(|before| before.any_closed()) != any_closed).then_some(any_closed))
    }

    /// Answers no more, when it returns: a keeper does.
    pub(super) fn rest(&self) {
        *held(&self.shared.answers) = false;
        let begin = Instant::now();
        while self.crew.is_busy() && begin.elapsed() < RESTS_WITHIN {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Answers from now on, and first what a keeper has read and left behind: whose these are is not known, and one of them
    /// may fail closed.
    pub(super) fn take_over(&self) {
        self.rest();
        let any_closed = held(&self.shared.places).values().any(|places| places.any_closed());
        let left = self.shared.asking.settle(MAX_DESCRIPTORS, !any_closed);
        tracing::warn!(left, any_closed, "what fails closed is refused until there is a keeper");
        *held(&self.shared.answers) = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self, me: &Member) {
        while !me.is_replaced() {
            let ready = poll(&mut [PollFd::new(&self.asking, PollFlags::IN)], Some(&PATIENCE));
            {
                let mut answers = held(&self.answers);
                while !*answers {
                    answers = self.changed.wait(answers).unwrap_or_else(PoisonError::into_inner);
                }
                // From here on it is waited for.
                me.begins();
            }
            match ready.map_err(std::io::Error::from).and_then(|_| self.asking.take()) {
                Ok(Some(question)) => {
                    let allow = !self.refuses(&question);
                    if let Err(error) = self.asking.answer(question, allow) {
                        tracing::debug!(%error, "whoever asked is gone");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a question cannot be read in the keeper's place");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            me.rests();
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
