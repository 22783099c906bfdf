//! Answers in the place of a keeper that has ended, until another one has marked what is to be asked about: containers that
//! fail closed are refused, others go on.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guard::who;
use super::signs::{Asked, Places};

/// How soon a stand-in ends that is not needed any more.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Most descriptors that a keeper has open: what it has read and not answered has a number below.
const MAX_DESCRIPTORS: i32 = 65_536;
/// How long a keeper that is ended may yet read a question, which nobody will answer then.
const DYING: Duration = Duration::from_millis(500);
/// Most bytes of [`Places`].
const MAX_PLACES: u64 = 64 * 1024 * 1024;

/// A group of a keeper that lives.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) asked: Asked,
    asking: Asking,
    places: Arc<Mutex<Places>>,
}

impl Group {
    pub(super) fn new(asked: Asked, group: OwnedFd) -> Self {
        Self { asked, asking: Asking::from_descriptor(group), places: Arc::default() }
    }

    /// Takes the keeper's word on who fails closed.
    ///
    /// # Errors
    /// The file is not understood; what was said before holds.
    pub(super) fn tell(&self, file: OwnedFd) -> serde_json::Result<()> {
        let limited = std::io::BufReader::new(std::fs::File::from(file).take(MAX_PLACES));
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = serde_json::from_reader(limited)?;
        Ok(())
    }
}

/// Ends groups, each on a thread of its own, and waits for that.
///
/// The kernel ends a group when nobody waits any more who came by a mark of it, also if that one waits for the answer of
/// another group (`fsnotify_prepare_user_wait` of Linux holds the marks of all). Ended one after the other, or by a process
/// that holds several and dies, the first one would wait for the second for ever.
pub(super) fn end_all(groups: Vec<Group>) {
    let ends: Vec<_> = groups
        .into_iter()
        .map(|group| std::thread::Builder::new().name("group-end".to_owned()).spawn(move || drop(group)))
        .collect();
    for end in ends {
        match end {
            Ok(thread) => drop(thread.join()),
            Err(error) => tracing::error!(%error, "a group is ended without a thread of its own"),
        }
    }
}

/// A thread that answers. Dropping it ends that and lets go whoever waits.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) asked: Asked,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl StandIn {
    /// For the group of a keeper that has ended, or soon will have: it is not to be the last one that holds it
    /// ([`end_all`]). `None` when there is no thread: the group ends, and everybody goes on.
    pub(super) fn start(group: Group) -> Option<Self> {
        let places = std::mem::take(&mut *group.places.lock().unwrap_or_else(PoisonError::into_inner));
        let over = Arc::new(AtomicBool::new(false));
        let (asked, ends) = (group.asked, Arc::clone(&over));
        let work = move || answer(&group.asking, group.asked, &places, &ends);
        let started = std::thread::Builder::new().name("stand-in".to_owned()).spawn(work);
        match started {
            Ok(thread) => Some(Self { asked, over, thread }),
            Err(error) => {
                tracing::error!(%error, "nobody answers in the keeper's place, everybody goes on");
                None
            }
        }
    }

    /// Ends all of them, and waits for that.
    pub(super) fn end_all(stand_ins: &[Self]) {
        stand_ins.iter().for_each(|one| one.over.store(true, Ordering::Relaxed));
        while !stand_ins.iter().all(|one| one.thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answer(asking: &Asking, asked: Asked, places: &Places, over: &AtomicBool) {
    // What the keeper was just looking at: whose these are is not known, and one of them may fail closed.
    let any_closed = places.any_closed();
    let left = asking.settle(MAX_DESCRIPTORS, !any_closed);
    tracing::warn!(
        ?asked,
        left,
        any_closed,
        "the keeper has ended: what fails closed is refused until there is another one"
    );
    let mut questions = Vec::new();
    let mut dying = Some(Instant::now());
    while !over.load(Ordering::Relaxed) {
        if dying.take_if(|since| since.elapsed() > DYING).is_some() {
            asking.settle(MAX_DESCRIPTORS, !any_closed);
        }
        let read = poll(&mut [PollFd::new(asking, PollFlags::IN)], Some(&PATIENCE))
            .map_err(std::io::Error::from)
            .and_then(|_| asking.read(&mut questions));
        if let Err(error) = read {
            tracing::warn!(%error, "questions cannot be read in the keeper's place");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for question in questions.drain(..) {
            if let Err(error) =
                asking.answer(std::os::fd::AsFd::as_fd(&question.file), !refuses(asked, places, &question))
            {
                tracing::debug!(%error, "whoever asked is gone");
            }
        }
    }
}

fn refuses(asked: Asked, places: &Places, question: &Question) -> bool {
    if asked == Asked::Scripts && !is_script(&question.file) {
        return false;
    }
    let closed = |cgroup: Option<String>| cgroup.is_some_and(|cgroup| places.fails_closed(&cgroup));
    closed(who::unified(question.pid)) || closed(who::cgroup(question.pid))
}

fn is_script(file: &OwnedFd) -> bool {
    let mut magic = [0_u8; 2];
    rustix::io::pread(file, &mut magic, 0).is_ok_and(|bytes| bytes == 2) && &magic == b"#!"
}
