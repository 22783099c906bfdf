//! Signs of life: what a keeper tells the launcher that has started it, on the socket that is its standard output, and what
//! it is told there.
//!
//! Who opens a protected file, or runs a program where BPF stops none, waits for an answer. All are asked through one fanotify
//! group, which is the launcher's: it goes to each keeper and outlives it with its marks, so that nothing goes unasked between
//! two. One process at a time answers: the launcher ([`super::stand_in`]) until a keeper says that it is ready and is given
//! the word, and again when that one is stopped, hangs or ends.

use std::collections::BTreeSet;
use std::io::Seek as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nv_probe::fanotify::Asking;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::protocol::{self, ProtocolError};

/// How often a keeper says that it lives.
const BEAT: Duration = Duration::from_millis(250);
/// The same for the kernel.
const BEAT_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    /// Opens of protected files.
    Files,
    /// Programs, which the keeper alone judges.
    Programs,
    /// Programs, of which the keeper judges scripts alone.
    Scripts,
}

/// What a keeper tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sign {
    /// It lives: all of its threads that others wait for do.
    Alive,
    /// The file that comes along is the JSON of [`Places`].
    Places(Asked),
    /// What it knows by now is marked, and it can answer.
    Ready,
}

/// What a keeper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// First of all: the group comes along, where the kernel has such groups.
    Group,
    /// From now on it answers, and nobody else.
    Answer,
}

/// Containers, by the paths of their cgroups in the hierarchy, and whether each fails closed. What is below belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places(pub(super) Vec<(String, bool)>);

impl Places {
    /// Whether what is asked from this cgroup is refused when nobody can answer: the nearest place counts.
    pub(super) fn fails_closed(&self, cgroup: &str) -> bool {
        let covers = |place: &str| {
            cgroup
                .strip_prefix(place.trim_end_matches('/'))
                .is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let nearest = self.0.iter().filter(|(place, _)| covers(place)).max_by_key(|(place, _)| place.len());
        nearest.is_some_and(|(_, closed)| *closed)
    }
    /// Whether any does.
    pub(super) fn any_closed(&self) -> bool {
        self.0.iter().any(|(_, closed)| *closed)
    }
}

/// A thread that others wait for.
#[derive(Debug)]
pub(super) struct Pulse(Arc<AtomicBool>);

impl Pulse {
    /// It goes on. At least every [`BEAT`].
    pub(super) fn beat(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The keeper's end.
#[derive(Clone, Debug)]
pub(super) struct Life {
    socket: Arc<OwnedFd>,
    pulses: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
    /// What is not marked yet.
    missing: Arc<Mutex<BTreeSet<Asked>>>,
    turn: Arc<(Mutex<bool>, Condvar)>,
}

impl Life {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(socket),
            pulses: Arc::default(),
            missing: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// Takes the group, and tells through `socket` from now on.
    pub(super) fn start(socket: OwnedFd) -> Result<(Self, Option<Asking>), String> {
        let fail = |error: ProtocolError| format!("the launcher's socket: {error}");
        let (order, files) = protocol::receive::<Order>(socket.as_fd()).map_err(fail)?;
        if order != Order::Group {
            return Err(format!("{order:?} comes before the group"));
        }
        let asking = files.into_iter().next().map(Asking::from_descriptor);
        // A launcher that does not read holds nobody up.
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| format!("the launcher's socket: {errno}"))?;
        let life = Self::new(socket);
        let beats = life.clone();
        std::thread::Builder::new()
            .name("signs-of-life".to_owned())
            .spawn(move || beats.live())
            .map_err(|error| format!("a thread for signs of life: {error}"))?;
        Ok((life, asking))
    }

    fn live(&self) {
        let (mut beaten, mut alone) = (Instant::now(), false);
        self.beat();
        loop {
            if alone {
                std::thread::sleep(BEAT);
            } else if poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&BEAT_WAIT)).is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
            match protocol::receive::<Order>(self.socket.as_fd()) {
                Ok((Order::Answer, _)) => self.take_turn(),
                Err(ProtocolError::Closed) if !alone => {
                    tracing::error!("the launcher has ended: whoever is asked about is answered here alone");
                    alone = true;
                    self.take_turn();
                }
                Ok((Order::Group, _)) | Err(_) => {}
            }
            if beaten.elapsed() >= BEAT {
                beaten = Instant::now();
                self.beat();
            }
        }
    }

    fn beat(&self) {
        if self.all_beat() {
            self.say(Sign::Alive, &[]);
        }
    }

    fn take_turn(&self) {
        let (turn, changed) = &*self.turn;
        *turn.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until this process is the one that answers.
    pub(super) fn wait_for_turn(&self) {
        let (turn, changed) = &*self.turn;
        let mut held = turn.lock().unwrap_or_else(PoisonError::into_inner);
        while !*held {
            held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A further thread without whose beat there is no sign of life.
    pub(super) fn pulse(&self) -> Pulse {
        let beat = Arc::new(AtomicBool::new(true));
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&beat));
        Pulse(beat)
    }

    /// It is not ready before this is marked, too.
    pub(super) fn expect(&self, asked: Asked) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(asked);
    }

    /// Says which containers fail closed, before what is asked about is marked.
    pub(super) fn places(&self, asked: Asked, places: &Places) {
        let told = rustix::fs::memfd_create("places", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(|file| {
                let mut file = std::fs::File::from(file);
                serde_json::to_writer(std::io::BufWriter::new(&mut file), places)?;
                file.rewind()?;
                Ok(file)
            });
        match told {
            Ok(file) => self.say(Sign::Places(asked), &[file.as_fd()]),
            Err(error) => tracing::error!(%error, "the launcher is not told what fails closed"),
        }
    }

    /// What is known by now of this is marked.
    pub(super) fn placed(&self, asked: Asked) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.remove(&asked) && missing.is_empty() {
            self.say(Sign::Ready, &[]);
        }
    }

    fn all_beat(&self) -> bool {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        // Each is asked, so that one that has beaten has to beat again.
        let silent = pulses.iter().filter(|beat| !beat.swap(false, Ordering::Relaxed)).count();
        silent == 0
    }

    fn say(&self, sign: Sign, descriptors: &[BorrowedFd<'_>]) {
        match protocol::send(self.socket.as_fd(), &sign, descriptors) {
            Ok(()) => {}
            Err(error) if sign == Sign::Alive => tracing::debug!(%error, "no sign of life can be given"),
            Err(error) => tracing::error!(%error, ?sign, "the launcher cannot be told"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_place_says_whether_a_cgroup_fails_closed() {
        let places = Places(vec![
            ("/".to_owned(), false),
            ("/kubepods".to_owned(), true),
            ("/kubepods/pod1/open".to_owned(), false),
            ("/kubepods/pod2/closed".to_owned(), true),
        ]);
        for (cgroup, want) in [
            ("/", false),
            ("/system.slice/sshd.service", false),
            ("/kubepods/new", true),
            ("/kubepods-of-another", false),
            ("/kubepods/pod1/open", false),
            ("/kubepods/pod1/open/below", false),
            ("/kubepods/pod2/closed/below", true),
        ] {
            assert_eq!(places.fails_closed(cgroup), want, "{cgroup}");
        }
        assert!(places.any_closed() && !Places::default().fails_closed("/kubepods"));
    }

    #[test]
    fn a_keeper_is_ready_once_when_everything_is_marked() {
        let (ours, theirs) = protocol::pair().unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let life = Life::new(ours);
        life.expect(Asked::Files);
        life.expect(Asked::Scripts);
        life.placed(Asked::Files);
        life.placed(Asked::Files);
        assert!(protocol::receive::<Sign>(theirs.as_fd()).is_err(), "scripts are missing");
        life.placed(Asked::Scripts);
        assert_eq!(protocol::receive::<Sign>(theirs.as_fd()).unwrap().0, Sign::Ready);
        life.placed(Asked::Files);
        assert!(protocol::receive::<Sign>(theirs.as_fd()).is_err(), "it was said already");
    }

    #[test]
    fn a_keeper_answers_when_it_is_told_to_and_when_its_launcher_is_gone() {
        for ends in [false, true] {
            let (ours, theirs) = protocol::pair().unwrap();
            protocol::send(theirs.as_fd(), &Order::Group, &[]).unwrap();
            let (life, group) = Life::start(ours).unwrap();
            assert!(group.is_none(), "none came along");
            assert!(!*life.turn.0.lock().unwrap(), "nobody has said so yet");
            if ends {
                drop(theirs);
                life.wait_for_turn();
            } else {
                protocol::send(theirs.as_fd(), &Order::Answer, &[]).unwrap();
                life.wait_for_turn();
            }
        }
    }

    #[test]
    fn there_is_no_sign_of_life_while_a_thread_hangs() {
        let (ours, _theirs) = protocol::pair().unwrap();
        let life = Life::new(ours);
        assert!(life.all_beat(), "nobody waits for anything");
        let (one, other) = (life.pulse(), life.pulse());
        assert!(life.all_beat());
        one.beat();
        assert!(!life.all_beat(), "the other one hangs");
        one.beat();
        other.beat();
        assert!(life.all_beat());
    }
}
