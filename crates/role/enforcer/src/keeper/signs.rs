//! Signs of life: what a keeper tells the launcher that has started it, on the socket that is its standard output.
//!
//! Who opens a protected file, or runs a program where BPF stops none, waits for the keeper's answer. So the launcher ends a
//! keeper that is stopped or that hangs, and holds a descriptor of each group that asks: where containers fail closed it
//! answers in the keeper's place until there is another one ([`super::stand_in`]).

use std::io::Seek as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nv_probe::fanotify::Asking;
use serde::{Deserialize, Serialize};

use super::protocol;

/// How often a keeper says that it lives.
const BEAT: Duration = Duration::from_millis(250);

/// What a group asks about.
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
    /// The descriptor that comes along is a group that asks it.
    Group(Asked),
    /// The file that comes along is the JSON of [`Places`].
    Places(Asked),
    /// What it knows by now is marked in its own group.
    Placed(Asked),
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
}

impl Life {
    /// Tells through `socket` from now on.
    pub(super) fn start(socket: OwnedFd) -> Result<Self, String> {
        // A launcher that does not read holds nobody up.
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| format!("the launcher's socket: {errno}"))?;
        let life = Self { socket: Arc::new(socket), pulses: Arc::default() };
        let beats = life.clone();
        std::thread::Builder::new()
            .name("signs-of-life".to_owned())
            .spawn(move || {
                loop {
                    if beats.all_beat() {
                        beats.say(Sign::Alive, &[]);
                    }
                    std::thread::sleep(BEAT);
                }
            })
            .map_err(|error| format!("a thread for signs of life: {error}"))?;
        Ok(life)
    }

    /// A further thread without whose beat there is no sign of life.
    pub(super) fn pulse(&self) -> Pulse {
        let beat = Arc::new(AtomicBool::new(true));
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&beat));
        Pulse(beat)
    }

    /// Gives the launcher a hold on a group.
    pub(super) fn group(&self, asked: Asked, asking: &Asking) -> Result<(), String> {
        let group = asking.descriptor().map_err(|error| format!("a descriptor of a group: {error}"))?;
        self.say(Sign::Group(asked), &[group.as_fd()]);
        Ok(())
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

    /// What is known by now is marked.
    pub(super) fn placed(&self, asked: Asked) {
        self.say(Sign::Placed(asked), &[]);
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
    fn there_is_no_sign_of_life_while_a_thread_hangs() {
        let (ours, _theirs) = protocol::pair().unwrap();
        let life = Life { socket: Arc::new(ours), pulses: Arc::default() };
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
