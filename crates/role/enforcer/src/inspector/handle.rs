//! The agent's side: starts inspectors, hears what they say, and lets the kernel know.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nv_capture::{Share, TableError, Tap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use super::rules::FromAgent;
use super::{Connection, Counts, Told};
use crate::keeper::{Keeper, KeeperError, Launcher, ProtocolError, pair, receive, send};

/// How long packets are copied after a sign of life.
const GRACE: Duration = Duration::from_secs(3);
/// How long an inspector may be silent until another one is started in its place.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the reader waits at a time.
const WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What comes out of the inspector of a share.
#[derive(Debug)]
pub(crate) enum Heard {
    /// What it said.
    Told(Share, Vec<Told>),
    /// It has ended, or says nothing any more.
    Ended(Share, String),
}

/// A running inspector.
#[derive(Debug)]
pub(crate) struct Inspector {
    pid: u32,
    /// It ends when this is closed, and the reader's.
    socket: Arc<OwnedFd>,
    /// The reader ends with it.
    alive: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Inspector {
    /// Has the launcher start the one of a share, the keeper give it its ring, and a thread listen to it. Blocks for some
    /// milliseconds.
    pub(crate) fn start(
        share: Share,
        launcher: &Launcher,
        keeper: &Keeper,
        tap: Option<Arc<Tap>>,
        heard: mpsc::Sender<Heard>,
    ) -> Result<Self, KeeperError> {
        let (ours, theirs) = pair()?;
        let pid = launcher.inspector(share, &theirs)?;
        drop(theirs);
        let ifindex = keeper.inspect(share, &ours)?;
        let ours = Arc::new(ours);
        let inspector = Self {
            pid,
            socket: Arc::clone(&ours),
            alive: Arc::new(AtomicBool::new(true)),
            lost: Arc::new(AtomicU64::new(0)),
        };
        let ear = Ear {
            share,
            socket: ours,
            tap,
            ifindex,
            heard,
            alive: Arc::clone(&inspector.alive),
            lost: Arc::clone(&inspector.lost),
        };
        std::thread::Builder::new()
            .name("inspection".to_owned())
            .spawn(move || ear.listen())
            .map_err(|error| KeeperError::Talk(format!("no thread for the inspector: {error}")))?;
        Ok(inspector)
    }
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
    /// Hands it rules, [sealed](Rules::sealed), without waiting for it.
    pub(crate) fn hand(&self, revision: u64, file: &OwnedFd) -> Result<(), String> {
        if !has_room(&self.socket) {
            return Err("it has not taken what it was told before".to_owned());
        }
        let word = FromAgent::Rules { revision };
        match send((*self.socket).as_fd(), &word, &[file.as_fd()]) {
            // One that has ended is replaced, and told then.
            Ok(()) | Err(ProtocolError::Closed) => Ok(()),
            Err(error) => Err(nv_telemetry::chain(&error)),
        }
    }
    /// Asks for its meters, without waiting for it. Whether the question was sent.
    pub(crate) fn ask_meters(&self, ask: u64) -> bool {
        has_room(&self.socket) && send((*self.socket).as_fd(), &FromAgent::Meters { ask }, &[]).is_ok()
    }
    /// Words that found the agent's queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

/// Whether the inspector can be told something without waiting for it.
fn has_room(socket: &OwnedFd) -> bool {
    let mut room = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut room, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Hears one inspector. When it ends, its socket closes, and the inspector with it.
struct Ear {
    share: Share,
    socket: Arc<OwnedFd>,
    /// `None` where no BPF program makes copies.
    tap: Option<Arc<Tap>>,
    ifindex: u32,
    heard: mpsc::Sender<Heard>,
    alive: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Ear {
    fn listen(self) {
        let reason = self.hear();
        if let Err(error) = self.with_tap(|tap| tap.stop(self.share)) {
            tracing::warn!(%error, "packets are copied for nobody for some seconds");
        }
        if self.alive.load(Ordering::Relaxed) {
            // The agent is gone when nobody takes it.
            drop(self.heard.blocking_send(Heard::Ended(self.share, reason)));
        }
    }

    /// Nothing, where no BPF program makes copies.
    fn with_tap<T: Default>(&self, act: impl FnOnce(&Tap) -> Result<T, TableError>) -> Result<T, TableError> {
        self.tap.as_deref().map_or_else(|| Ok(T::default()), act)
    }

    /// Why it ended.
    fn hear(&self) -> String {
        let mut last = Instant::now();
        loop {
            if !self.alive.load(Ordering::Relaxed) || self.heard.is_closed() {
                return "it is not needed any more".to_owned();
            }
            match poll(&mut [PollFd::new(&*self.socket, PollFlags::IN)], Some(&WAIT)) {
                Ok(0) | Err(rustix::io::Errno::INTR) if last.elapsed() < PATIENCE => continue,
                Ok(0) | Err(rustix::io::Errno::INTR) => return "it says nothing any more".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
            match receive::<Vec<Told>>((*self.socket).as_fd()) {
                Ok((words, _)) => {
                    last = Instant::now();
                    if let Err(reason) = self.pass_on(words) {
                        return reason;
                    }
                }
                Err(ProtocolError::Closed) => return "it has ended".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// The inspector waits for it, for a few milliseconds; without an answer it asks again, or does without.
    fn say_who_serves(&self, connection: Connection, queue: u32) {
        let Connection { protocol, client, server } = connection;
        let served = match self.with_tap(|tap| tap.served(queue, protocol, client, server)) {
            Ok(Some(served)) => served,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "who serves a connection cannot be asked"),
        };
        let word = FromAgent::Served { connection, identity: served.identity, address: served.address };
        if has_room(&self.socket)
            && let Err(error) = send((*self.socket).as_fd(), &word, &[])
        {
            tracing::debug!(%error, "the inspector is not told who serves a connection");
        }
    }

    /// What is for the kernel goes there at once: until it knows that a connection is settled, it copies its packets.
    fn pass_on(&self, words: Vec<Told>) -> Result<(), String> {
        let mut rest = Vec::new();
        for word in words {
            match word {
                Told::Settled(connection) => {
                    let (one, other) = (connection.client, connection.server);
                    let inspected = |tap: &Tap| tap.inspected(connection.protocol, one, other);
                    if let Err(error) = self.with_tap(inspected) {
                        tracing::debug!(%error, "a connection is copied on");
                    }
                    rest.push(Told::Settled(connection));
                }
                Told::Alive(counts) => {
                    self.with_tap(|tap| tap.copy_to(self.share, self.ifindex, GRACE))
                        .map_err(|error| error.to_string())?;
                    rest.push(Told::Alive(counts));
                }
                Told::Asks { connection, queue } => self.say_who_serves(connection, queue),
                other => rest.push(other),
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let count = rest.len() as u64;
        if let Err(mpsc::error::TrySendError::Full(_)) = self.heard.try_send(Heard::Told(self.share, rest)) {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What inspection of a share has done since the agent's start, over all its inspectors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Of inspectors that have ended.
    before: Counts,
    /// Of the one that runs.
    now: Counts,
    /// Inspectors started in the place of one that had ended.
    pub(crate) restarts: u64,
}

impl Sums {
    /// Takes the totals of the one that runs.
    pub(crate) fn take(&mut self, counts: Counts) {
        self.now = counts;
    }
    /// The one that ran has ended.
    pub(crate) fn ended(&mut self) {
        self.before = Counts { flows: 0, kept: 0, ..self.total() };
        self.now = Counts::default();
        self.restarts = self.restarts.saturating_add(1);
    }
    /// All of them.
    pub(crate) fn total(&self) -> Counts {
        self.before.plus(&self.now)
    }
}
