//! The launcher's hand on a keeper that it has started.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::launcher::{KEEPER, spawn};
use super::protocol::{self, ProtocolError};
use super::signs::{Order, Sign};
use super::stand_in::StandIn;

/// A keeper that has given no sign of life for so long hangs. On a busy machine one may come late.
const SILENCE: Duration = Duration::from_secs(3);
/// How long one may take to end that has nobody to work for any more.
const FAREWELL: Duration = Duration::from_secs(3);
/// Most threads of one that are looked at; with more it is waited for its end.
const MAX_THREADS: usize = 1024;
/// Most packets that are read of one keeper at a time.
const MOST: usize = 64;

/// How far a keeper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It marks what is to be asked about.
    Starts,
    /// It could answer.
    Ready,
    /// It answers.
    Answers,
    /// It has been ended and may not be gone yet: what it reads until then nobody answers.
    Killed,
    /// None of its threads is there any more.
    Gone,
}

#[derive(Debug)]
pub(super) struct Kept {
    child: Child,
    told: OwnedFd,
    /// Of the last sign of life; `None` before the first, as it tries the kernel then.
    heard: Option<Instant>,
    pub(super) stage: Stage,
}

impl Kept {
    /// Starts one on its end of the agent's socket pair, and gives it the group.
    pub(super) fn start(
        from_tier: u8,
        socket: OwnedFd,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Self, String> {
        let (told, tells) = protocol::pair().map_err(|error| error.to_string())?;
        rustix::io::ioctl_fionbio(&told, true).map_err(|error| error.to_string())?;
        let group: Vec<BorrowedFd<'_>> = group.into_iter().collect();
        protocol::send(told.as_fd(), &Order::Group, &group).map_err(|error| error.to_string())?;
        let child = spawn(KEEPER, Some(from_tier), socket, Some(tells)).map_err(|error| error.to_string())?;
        Ok(Self { child, told, heard: None, stage: Stage::Starts })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// The socket that it tells through.
    pub(super) fn told(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Takes what it has told.
    pub(super) fn listen(&mut self, stand_in: Option<&StandIn>) {
        for _ in 0..MOST {
            let (sign, file) = match protocol::receive::<Sign>(self.told.as_fd()) {
                Ok((sign, files)) => (sign, files.into_iter().next()),
                Err(ProtocolError::Socket(Errno::AGAIN)) => break,
                // It is closed when the last of its threads ends.
                Err(ProtocolError::Closed) => {
                    self.stage = Stage::Gone;
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "a keeper's sign is not understood");
                    continue;
                }
            };
            self.heard = Some(Instant::now());
            match (sign, file, stand_in) {
                (Sign::Places(asked), Some(file), Some(stand_in)) => match stand_in.tell(asked, file) {
                    Ok(Some(any_closed)) => tracing::info!(?asked, any_closed, "who fails closed is known"),
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "what fails closed is not understood"),
                },
                (Sign::Ready, ..) if self.stage == Stage::Starts => self.stage = Stage::Ready,
                (Sign::Alive | Sign::Places(_) | Sign::Ready, ..) => {}
            }
        }
    }

    /// Ends it when it is stopped or hangs.
    pub(super) fn look_after(&mut self) {
        if matches!(self.stage, Stage::Killed | Stage::Gone) {
            return;
        }
        let silent = self.heard.is_some_and(|heard| heard.elapsed() > SILENCE);
        if !silent && !self.is_stopped() {
            return;
        }
        tracing::error!(keeper = self.pid(), silent, "the keeper is stopped, or hangs, and is ended");
        match self.child.kill() {
            Ok(()) => self.stage = Stage::Killed,
            Err(error) => {
                tracing::error!(%error, "the keeper cannot be ended: whoever it is asked about waits");
            }
        }
    }

    /// Gives it the word. Nobody else may answer.
    pub(super) fn order(&mut self) {
        match protocol::send(self.told.as_fd(), &Order::Answer, &[]) {
            Ok(()) => self.stage = Stage::Answers,
            // Its end is seen next.
            Err(error) => tracing::warn!(%error, "a keeper cannot be told to answer"),
        }
    }

    /// Whether it answers no question, and will not until it is told to.
    ///
    /// One that was ended is waited for until each of its threads is gone or hangs in the kernel, and no longer: a thread that
    /// runs yet may take one more question on its way out, which is answered for it when it is gone, and not beside a keeper
    /// that answers. One that hangs takes none: it takes one at a time ([`nv_probe::fanotify::Asking::take`]) and ends before
    /// its next step outside of the kernel, whenever that lets it go.
    pub(super) fn is_quiet(&self) -> bool {
        match self.stage {
            Stage::Starts | Stage::Ready | Stage::Gone => true,
            Stage::Answers => false,
            Stage::Killed => takes_no_more(self.pid()),
        }
    }

    pub(super) fn has_ended(&mut self) -> bool {
        let ended = !matches!(self.child.try_wait(), Ok(None));
        if ended {
            self.stage = Stage::Gone;
        }
        ended
    }

    /// Waits for its end, or brings it about.
    pub(super) fn end(mut self) -> std::io::Result<()> {
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > FAREWELL || self.is_stopped() {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// By SIGSTOP, or a debugger.
    fn is_stopped(&self) -> bool {
        let stat = format!("/proc/{}/stat", self.pid());
        matches!(state(Path::new(&stat)), Some('T' | 't'))
    }
}

/// Whether each thread of a process that was killed has ended or hangs in the kernel, deaf to signals (`D`). False when that
/// cannot be seen.
fn takes_no_more(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut threads = threads.take(MAX_THREADS.saturating_add(1));
    let mut seen = 0_usize;
    let all = threads.all(|thread| {
        seen = seen.saturating_add(1);
        // One that ends meanwhile has no state any more.
        thread.is_ok_and(|thread| matches!(state(&thread.path().join("stat")), None | Some('D' | 'Z' | 'X')))
    });
    all && (1..=MAX_THREADS).contains(&seen)
}

/// State of a process or thread, as proc_pid_stat(5) tells it.
fn state(stat: &Path) -> Option<char> {
    let stat = crate::node::read_small(stat);
    stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_takes_more_while_a_thread_of_it_runs_and_none_when_it_is_a_zombie() {
        assert!(!takes_no_more(std::process::id()), "this thread runs");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        child.kill().unwrap();
        let begin = Instant::now();
        while !takes_no_more(child.id()) {
            assert!(begin.elapsed() < Duration::from_secs(10), "it was killed, and nobody has waited for it");
        }
        child.wait().unwrap();
        assert!(!takes_no_more(child.id()), "of one that is not there nothing can be seen");
    }
}
