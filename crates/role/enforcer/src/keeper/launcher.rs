//! The launcher: starts keepers for an agent that has given its own privileges away.
//!
//! It is started first of all, while the process still has them, and does one thing: for each packet with a socket in it
//! it starts a keeper, or an inspector, on that socket. It takes no path and no argument from the agent, no number but that
//! of an inspector's share, and ends with it. There is one inspector of a share and one reader of files at a time: a new one
//! ends the one before, which may hang. A keeper that gives no sign of life is ended ([`super::kept`]), and what fails closed is refused until there is another one
//! ([`super::stand_in`]).
//!
//! Whoever waits for an answer waits by one fanotify group, which is made here. So the end of keeper and launcher at one
//! moment ends the group, and with it every wait; of several groups each could wait for another one's answers.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nv_capture::{MAX_SHARES, Share};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::handle::KeeperError;
use super::kept::{Kept, Stage};
use super::protocol::{self, ProtocolError};
use super::stand_in::StandIn;

/// Name of the hidden subcommand that is a keeper.
pub(crate) const KEEPER: &str = "keeper";
/// Name of the hidden subcommand that is a launcher.
pub(crate) const LAUNCHER: &str = "launcher";
/// Name of the hidden subcommand that is an inspector.
pub(crate) const INSPECTOR: &str = "inspector";
/// Name of the hidden subcommand that reads files of containers.
pub(crate) const READER: &str = "reader";
/// How often ended inspectors are looked for.
const REAP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How often keepers are looked after.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What is to be started.
#[derive(Debug, Serialize, Deserialize)]
struct Wish {
    what: String,
    /// Which of several, from 0 on.
    number: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Started {
    Running { pid: u32 },
    Failed { reason: String },
}

/// This binary, also when its file was replaced meanwhile.
fn own_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// The agent's hand on the launcher. Dropping it ends the launcher, after its keepers have ended.
#[derive(Debug)]
pub struct Launcher {
    socket: Mutex<OwnedFd>,
    child: Mutex<Child>,
}

impl Launcher {
    /// Starts it; its keepers leave out the mechanisms of tiers before `from_tier`. To be called before privileges are
    /// given away, and before other threads are there.
    ///
    /// # Errors
    /// [`KeeperError::Start`] when the binary cannot be started again.
    pub fn start(from_tier: u8) -> Result<Self, KeeperError> {
        let (ours, theirs) = protocol::pair()?;
        let child = spawn(LAUNCHER, Some(from_tier), theirs, None)
            .map_err(|source| KeeperError::Start { exe: own_binary(), source })?;
        Ok(Self { socket: Mutex::new(ours), child: Mutex::new(child) })
    }

    /// One that starts nothing, for tests of what needs no keeper.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        let (socket, _nobody) = protocol::pair().unwrap();
        Self { socket: Mutex::new(socket), child: Mutex::new(Command::new("true").spawn().unwrap()) }
    }

    /// Has a keeper started on its end of a socket pair; its process id.
    pub(super) fn keeper(&self, socket: &OwnedFd) -> Result<u32, KeeperError> {
        self.start_one(KEEPER, 0, socket)
    }
    /// Has the inspector of a share started on its end of a socket pair; its process id.
    pub(crate) fn inspector(&self, share: Share, socket: &OwnedFd) -> Result<u32, KeeperError> {
        self.start_one(INSPECTOR, share.number(), socket)
    }
    /// Has a reader of files started on its end of a socket pair; its process id.
    pub(crate) fn reader(&self, socket: &OwnedFd) -> Result<u32, KeeperError> {
        self.start_one(READER, 0, socket)
    }
    fn start_one(&self, what: &str, number: u8, socket: &OwnedFd) -> Result<u32, KeeperError> {
        let ours = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = Wish { what: what.to_owned(), number };
        protocol::send(ours.as_fd(), &wish, &[socket.as_fd()])?;
        match protocol::receive::<Started>(ours.as_fd())?.0 {
            Started::Running { pid } => Ok(pid),
            Started::Failed { reason } => Err(KeeperError::Failed(reason)),
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if let Ok(socket) = self.socket.get_mut()
            && let Ok((closed, _other)) = protocol::pair()
        {
            *socket = closed;
        }
        if let Ok(child) = self.child.get_mut()
            && let Err(error) = child.wait()
        {
            tracing::warn!(%error, "the launcher's end could not be waited for");
        }
    }
}

/// Starts this binary again as `what`, with the socket as its standard input, and another one as its standard output where
/// it has something to tell the launcher.
pub(super) fn spawn(
    what: &str,
    from_tier: Option<u8>,
    socket: OwnedFd,
    told: Option<OwnedFd>,
) -> std::io::Result<Child> {
    let tier = from_tier.map(|tier| format!("--from-tier={tier}"));
    let told = told.map_or_else(Stdio::null, Stdio::from);
    // Nobody of them needs the environment, which may have passwords and tokens.
    let mut child = Command::new(own_binary());
    if what == LAUNCHER {
        // An interrupt at a terminal goes to all of a group. It is the agent's to end, which then ends the others, and what they
        // have made.
        child.process_group(0);
    }
    child.arg(what).args(tier).env_clear().stdin(Stdio::from(socket)).stdout(told).spawn()
}

/// What runs.
#[derive(Default)]
struct Running {
    keepers: Vec<Kept>,
    /// By their shares.
    inspectors: BTreeMap<u8, Child>,
    reader: Option<Child>,
    /// `None` where the kernel asks nobody.
    stand_in: Option<StandIn>,
    /// Whether it answers, and no keeper.
    stands_in: bool,
}

/// Runs the launcher on the socket that is its standard input, until the other end closes.
///
/// # Errors
/// A sentence for the log when the socket cannot be used.
pub fn launcher_main(from_tier: u8) -> Result<(), String> {
    let socket = std::io::stdin();
    let socket = socket.as_fd();
    let stand_in = StandIn::start().inspect_err(|error| tracing::warn!(error, "nobody is asked")).ok();
    let mut running = Running { stand_in, stands_in: true, ..Running::default() };
    loop {
        let asked = wait(socket, &running.keepers)?;
        running.look_after();
        if !asked {
            continue;
        }
        let (Wish { what, number }, mut sockets) = match protocol::receive::<Wish>(socket) {
            Ok(received) => received,
            Err(ProtocolError::Closed) => break,
            Err(error) => return Err(error.to_string()),
        };
        let started = match (what.as_str(), sockets.pop()) {
            (KEEPER, Some(socket)) => running.keeper(from_tier, socket).map(|keeper| {
                let pid = keeper.pid();
                running.keepers.push(keeper);
                pid
            }),
            (INSPECTOR, Some(socket)) if number < MAX_SHARES => {
                end(running.inspectors.remove(&number))?;
                spawn(INSPECTOR, None, socket, None).map_err(|error| error.to_string()).map(|inspector| {
                    let pid = inspector.id();
                    running.inspectors.insert(number, inspector);
                    pid
                })
            }
            (READER, Some(socket)) => {
                end(running.reader.take())?;
                spawn(READER, None, socket, None).map_err(|error| error.to_string()).map(|reader| {
                    let pid = reader.id();
                    running.reader = Some(reader);
                    pid
                })
            }
            _ => Err(format!("{what:?} {number} with {} sockets is not understood", sockets.len())),
        };
        let answer = match started {
            Ok(pid) => Started::Running { pid },
            Err(reason) => Started::Failed { reason },
        };
        match protocol::send(socket, &answer, &[]) {
            Ok(()) => {}
            Err(ProtocolError::Closed) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    running.inspectors.into_values().try_for_each(|inspector| end(Some(inspector)))?;
    end(running.reader)?;
    // Their own sockets are closed too, so they end.
    running.keepers.into_iter().try_for_each(Kept::end).map_err(|error| error.to_string())
}

/// Waits until the agent asks for something, a keeper has told something, or it is time to look after them. Whether the
/// agent asks.
fn wait(socket: BorrowedFd<'_>, keepers: &[Kept]) -> Result<bool, String> {
    let patience = if keepers.is_empty() { REAP } else { LOOK };
    // Of one that is gone there is nothing to hear.
    let told = keepers.iter().filter(|keeper| keeper.stage != Stage::Gone).map(Kept::told);
    let mut ready: Vec<PollFd<'_>> = std::iter::once(socket)
        .chain(told)
        .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN))
        .collect();
    match poll(&mut ready, Some(&patience)) {
        Ok(_) => Ok(ready.first().is_some_and(|socket| !socket.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

impl Running {
    fn keeper(&self, from_tier: u8, socket: OwnedFd) -> Result<Kept, String> {
        Kept::start(from_tier, socket, self.stand_in.as_ref().map(StandIn::group))
    }

    /// Takes what keepers have told, ends one that is stopped or hangs, and has one answer at a time: the keeper that is
    /// ready, when those before it are gone, else the stand-in.
    fn look_after(&mut self) {
        let runs = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        self.inspectors.retain(|_, inspector| runs(inspector));
        self.reader = self.reader.take().and_then(|mut reader| runs(&mut reader).then_some(reader));
        if let Some(stand_in) = &mut self.stand_in {
            stand_in.tend();
        }
        let mut left = false;
        for keeper in &mut self.keepers {
            let before = keeper.stage;
            keeper.listen(self.stand_in.as_ref());
            keeper.look_after();
            let ended = keeper.has_ended();
            let leaves = matches!(keeper.stage, Stage::Killed | Stage::Gone);
            // Again when it is gone after it was ended: it may have read something in between.
            left |= leaves && before != keeper.stage && matches!(before, Stage::Answers | Stage::Killed);
            tracing::trace!(keeper = keeper.pid(), stage = ?keeper.stage, ended, "a keeper");
        }
        if let Some(stand_in) = self.stand_in.as_ref().filter(|_| left) {
            stand_in.take_over();
            // One that hung may go long after another one was told to answer: what it left behind is answered, no more.
            self.stands_in = !self.keepers.iter().any(|keeper| keeper.stage == Stage::Answers);
            if !self.stands_in {
                stand_in.rest();
            }
        }
        self.keepers.retain_mut(|keeper| !keeper.has_ended());
        if !self.stands_in || !self.keepers.iter().all(Kept::is_quiet) {
            return;
        }
        if let Some(keeper) = self.keepers.iter_mut().find(|keeper| keeper.stage == Stage::Ready) {
            if let Some(stand_in) = &self.stand_in {
                stand_in.rest();
            }
            keeper.order();
            self.stands_in = keeper.stage != Stage::Answers;
            tracing::info!(keeper = keeper.pid(), "the keeper answers");
        }
    }
}

/// Ends an inspector. It holds nothing that could be lost.
fn end(inspector: Option<Child>) -> Result<(), String> {
    let Some(mut inspector) = inspector else { return Ok(()) };
    // One that has ended already cannot be killed, and is waited for all the same.
    let killed = inspector.kill();
    inspector.wait().map_err(|error| format!("{error}, after {killed:?}")).map(drop)
}
