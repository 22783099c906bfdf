//! What the kernel saw: records of the ring as typed events, arguments redacted.

mod event;
mod record;
mod sequence;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

pub use self::event::{DeedEvent, Event, Exec, FileEvent};
use self::record::parse;
use self::sequence::Sequences;
use crate::ring::Ring;

/// Reader of the ring. One owner reads, on a thread of its own or behind an `AsyncFd`.
pub struct Events {
    ring: Ring,
    inbox: Arc<Mutex<Inbox>>,
}

/// What a reader has seen of its ring since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Records that were read.
    pub read: u64,
    /// Records that the kernel numbered and that did not come, as it shows by the next one of the same CPU. Each of them
    /// found the ring full, and is in one of the kernel's counters ([`crate::tables::Counters::dropped`]).
    pub missing: u64,
    /// Records of no known shape.
    pub malformed: u64,
}

#[derive(Default)]
struct Inbox {
    events: Vec<Event>,
    sequences: Sequences,
    read: u64,
    malformed: u64,
}

impl Inbox {
    fn take(&mut self, record: &[u8]) {
        match parse(record) {
            Some((head, event)) => {
                self.read = self.read.saturating_add(1);
                self.sequences.see(head.cpu, head.sequence);
                self.events.push(event);
            }
            None => self.malformed = self.malformed.saturating_add(1),
        }
    }
}

impl Events {
    /// Most events of one [`Events::poll`].
    pub const MAX_BATCH: usize = 1024;

    /// Takes the descriptor of a ring: among `Loaded::descriptors`, `ring` has programs and processes, `cgroup_ring`
    /// cgroups alone.
    ///
    /// # Errors
    /// It is not a ring buffer, or it cannot be mapped.
    pub fn from_descriptor(ring: OwnedFd) -> io::Result<Self> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let sink = Arc::clone(&inbox);
        let ring = Ring::new(
            ring,
            Box::new(move |record| sink.lock().unwrap_or_else(PoisonError::into_inner).take(record)),
        )?;
        Ok(Self { ring, inbox })
    }

    /// Waits for at most `timeout`, then gives what lies in the ring, at most [`Events::MAX_BATCH`]. A stopped exec and
    /// a new cgroup end the wait at once; other records wait for its end or for 64 KiB of them, so a `timeout` of
    /// 100 ms bounds their delay.
    ///
    /// # Errors
    /// The wait failed; an interrupted one does not.
    pub fn poll(&mut self, timeout: Duration) -> io::Result<Vec<Event>> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.ring, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.drain(),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what lies in the ring now, at most [`Events::MAX_BATCH`].
    ///
    /// # Errors
    /// The ring refused.
    pub fn drain(&mut self) -> io::Result<Vec<Event>> {
        self.ring.consume(Self::MAX_BATCH)?;
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut inbox.events))
    }

    /// What was read so far.
    pub fn reading(&self) -> Reading {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { read: inbox.read, missing: inbox.sequences.missing(), malformed: inbox.malformed }
    }
}

impl AsFd for Events {
    /// Readable when a record that wakes is there; call [`Events::drain`] then, and every 100 ms for the others.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Time since boot by the events' clock. `now − (since_boot() − event.at)` is the event's time of day.
#[must_use]
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
