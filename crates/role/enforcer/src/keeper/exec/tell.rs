//! The way to the agent.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nv_probe::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::super::protocol::{self, ProtocolError};

/// Bytes that may wait for the agent: some thousand events.
const BUFFER: usize = 8 * 1024 * 1024;
/// How long a program that was stopped waits for the agent; anything else does not.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What the agent is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) event: Option<Event>,
    /// How many events found no room since the last one.
    pub(crate) dropped: u64,
    /// The kernel has lost some: what runs has to be looked up.
    pub(crate) lost: bool,
}

pub(super) struct Sink {
    socket: OwnedFd,
    dropped: AtomicU64,
    lost: AtomicBool,
}

impl Sink {
    pub(super) fn new(socket: OwnedFd) -> Result<Self, String> {
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|error| format!("the socket for programs: {error}"))?;
        // Beyond the usual limit; where that is not allowed the usual size has to do.
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)
                .map_err(|error| format!("the socket for programs: {error}"))?;
        }
        Ok(Self { socket, dropped: AtomicU64::new(0), lost: AtomicBool::new(false) })
    }

    /// Tells an event, or counts it where the agent has no room for it.
    pub(super) fn event(&self, event: Event) {
        let worth_waiting = matches!(&event, Event::Exec(exec) if exec.verdict.is_violation());
        let told = Told {
            event: Some(event),
            dropped: self.dropped.swap(0, Ordering::Relaxed),
            lost: self.lost.swap(false, Ordering::Relaxed),
        };
        let mut sent = protocol::send(self.socket.as_fd(), &told, &[]);
        if worth_waiting && matches!(&sent, Err(ProtocolError::Socket(rustix::io::Errno::AGAIN))) {
            let mut room = [PollFd::new(&self.socket, PollFlags::OUT)];
            if poll(&mut room, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
                sent = protocol::send(self.socket.as_fd(), &told, &[]);
            }
        }
        match sent {
            Ok(()) | Err(ProtocolError::Closed) => {}
            Err(error) => {
                tracing::debug!(%error, "a report on a program finds the agent busy");
                self.dropped.fetch_add(told.dropped.saturating_add(1), Ordering::Relaxed);
                self.lost.fetch_or(told.lost, Ordering::Relaxed);
            }
        }
    }

    /// Counts one that was over before it could be looked at.
    pub(super) fn unseen(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The next one says that the kernel has lost some.
    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}
