//! Answers in the place of a keeper that has ended, until another one has marked what is to be asked about: containers that
//! fail closed are refused, others go on.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guard::who;
use super::signs::{Asked, Places};

/// How soon a stand-in ends that is not needed any more.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Most descriptors that a keeper has open: what it has read and not answered has a number below.
const MAX_DESCRIPTORS: i32 = 65_536;
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

/// A thread that answers. Dropping it ends that and lets go whoever waits.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) asked: Asked,
    over: Arc<AtomicBool>,
}

impl StandIn {
    /// For the group of a keeper that has ended. `None` where nothing fails closed: the group ends, and everybody goes on.
    pub(super) fn start(group: Group) -> Option<Self> {
        let places = std::mem::take(&mut *group.places.lock().unwrap_or_else(PoisonError::into_inner));
        if !places.any_closed() {
            return None;
        }
        let over = Arc::new(AtomicBool::new(false));
        let (asked, ends) = (group.asked, Arc::clone(&over));
        let work = move || answer(&group.asking, group.asked, &places, &ends);
        let started = std::thread::Builder::new().name("stand-in".to_owned()).spawn(work);
        if let Err(error) = &started {
            tracing::error!(%error, "nobody answers in the keeper's place, everybody goes on");
        }
        started.is_ok().then_some(Self { asked, over })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answer(asking: &Asking, asked: Asked, places: &Places, over: &AtomicBool) {
    // What the keeper was just looking at: whose these are is not known, and one of them may fail closed.
    let left = asking.settle(MAX_DESCRIPTORS, false);
    tracing::warn!(
        ?asked,
        left,
        "the keeper has ended: what fails closed is refused until there is another one"
    );
    let mut questions = Vec::new();
    while !over.load(Ordering::Relaxed) {
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
