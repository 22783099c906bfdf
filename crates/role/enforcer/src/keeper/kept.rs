//! The launcher's hand on a keeper that it has started.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::launcher::{KEEPER, spawn};
use super::protocol::{self, ProtocolError};
use super::signs::{Asked, Sign};
use super::stand_in::{Group, end_all};

/// A keeper that has given no sign of life for so long hangs. On a busy machine one may come late.
const SILENCE: Duration = Duration::from_secs(3);
/// How long one may take to end that has nobody to work for any more.
const FAREWELL: Duration = Duration::from_secs(3);
/// Most packets that are read of one keeper at a time.
const MOST: usize = 64;

#[derive(Debug)]
pub(super) struct Kept {
    child: Child,
    told: OwnedFd,
    /// Of the last sign of life; `None` before the first, as it tries the kernel then.
    heard: Option<Instant>,
    groups: Vec<Group>,
    killed: bool,
}

impl Kept {
    /// Starts one on its end of the agent's socket pair.
    pub(super) fn start(from_tier: u8, socket: OwnedFd) -> Result<Self, String> {
        let (told, tells) = protocol::pair().map_err(|error| error.to_string())?;
        rustix::io::ioctl_fionbio(&told, true).map_err(|error| error.to_string())?;
        let child = spawn(KEEPER, Some(from_tier), socket, Some(tells)).map_err(|error| error.to_string())?;
        Ok(Self { child, told, heard: None, groups: Vec::new(), killed: false })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// The socket that it tells through.
    pub(super) fn told(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Takes what it has told; of which groups it has placed everything.
    pub(super) fn listen(&mut self) -> Vec<Asked> {
        let mut placed = Vec::new();
        for _ in 0..MOST {
            let (sign, file) = match protocol::receive::<Sign>(self.told.as_fd()) {
                Ok((sign, files)) => (sign, files.into_iter().next()),
                Err(ProtocolError::Closed | ProtocolError::Socket(Errno::AGAIN)) => break,
                Err(error) => {
                    tracing::warn!(%error, "a keeper's sign is not understood");
                    continue;
                }
            };
            self.heard = Some(Instant::now());
            match (sign, file) {
                (Sign::Placed(asked), _) => placed.push(asked),
                (Sign::Group(asked), Some(group)) => self.groups.push(Group::new(asked, group)),
                (Sign::Places(asked), Some(file)) => {
                    if let Some(group) = self.groups.iter().find(|group| group.asked == asked)
                        && let Err(error) = group.tell(file)
                    {
                        tracing::error!(%error, "what fails closed is not understood");
                    }
                }
                (Sign::Alive | Sign::Group(_) | Sign::Places(_), _) => {}
            }
        }
        placed
    }

    /// Ends it when it is stopped or hangs. The groups that asked it, when nobody answers them any more.
    pub(super) fn look_after(&mut self) -> Vec<Group> {
        let silent = self.heard.is_some_and(|heard| heard.elapsed() > SILENCE);
        if !self.killed && (silent || self.is_stopped()) {
            tracing::error!(keeper = self.pid(), silent, "the keeper is stopped, or hangs, and is ended");
            match self.child.kill() {
                Ok(()) => self.killed = true,
                Err(error) => {
                    tracing::error!(%error, "the keeper cannot be ended: whoever it is asked about waits");
                }
            }
        }
        match self.child.try_wait() {
            // Its end may be a while away, and nobody is to wait for it.
            Ok(None) if !self.killed => Vec::new(),
            // The agent has let it go.
            Ok(Some(status)) if status.success() => {
                end_all(std::mem::take(&mut self.groups));
                Vec::new()
            }
            Ok(_) | Err(_) => std::mem::take(&mut self.groups),
        }
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, or brings it about.
    pub(super) fn end(mut self) -> std::io::Result<()> {
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > FAREWELL {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        end_all(self.groups);
        Ok(())
    }

    /// By SIGSTOP, or a debugger.
    fn is_stopped(&self) -> bool {
        let stat = crate::node::read_small(format!("/proc/{}/stat", self.pid()));
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        matches!(state, Some('T' | 't'))
    }
}
