//! Programs, where no BPF program can stop one (tier 4), and scripts, which the tracepoint of tier 3 sees only as their
//! interpreters.
//!
//! ```text
//! agent ── Seats ──▶ socket ──▶ who has which profile
//! exec in a container ──▶ fanotify asks ──▶ answer (whose cgroup? which file? which line?) ──▶ go on or EPERM ──▶ Told
//! exec, fork, end ──▶ proc connector ──▶ life ──▶ Told ──▶ socket ──▶ agent
//!                                          └── a program that fanotify was not asked about: judged now, killed if need be
//! new mount on the host, new mount namespace ──▶ marks
//! ```
//!
//! Who is of a container's family is known by forks and by who runs what ([`kin`]). A program is judged by `nv_policy`'s own
//! judge. Programs of the host are never held up.

mod answer;
mod judge;
mod kin;
mod life;
mod look;
mod marks;
mod seats;
mod tell;

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nv_probe::fanotify::{Asking, Inode};
use nv_probe::tables::Tables;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub(crate) use self::seats::{Seat, Seats};
pub(crate) use self::tell::Told;

use self::judge::Judged;
use self::kin::Kinship;
use self::marks::Marks;
use self::tell::Sink;
use super::protocol;
use super::questions::Desk;
use super::signs::{Asked, Life, Places};

/// Most processes that one of the lists here remembers.
const MAX_PROCESSES: usize = 65_536;
/// How often mount namespaces are looked at.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// How often it is looked whether the agent has told of profiles, at the start.
const NOBODY_YET: Duration = Duration::from_millis(20);
/// Most bytes of the agent's [`Seats`].
const MAX_SEATS: u64 = 256 * 1024 * 1024;

/// The agent's packet on the socket; the seats are in the file that comes along.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct TakeSeats;

/// By what it is known which profile holds where.
pub(super) enum Rows {
    /// By what the agent tells: every program is judged here.
    Told(PathBuf),
    /// By the kernel's tables: scripts alone are.
    Kernel(PathBuf, Box<Tables>),
}

/// The dynamic loader that a program which was let through is loaded by, which the kernel asks about next.
struct Expected {
    loader: Inode,
}

/// What a container had when its first program ran.
struct First {
    /// Device of its root file system; 0 where that is not known.
    root: u32,
    /// Devices of everything that its runtime has mounted in it.
    devices: HashSet<u32>,
}

/// What the threads share.
struct Warden {
    rows: Rows,
    host_mounts: u32,
    asking: Arc<Asking>,
    seats: Mutex<Arc<Seats>>,
    /// What a container had when its first program ran, by the cgroup that has a seat of its own.
    roots: Mutex<HashMap<u64, Arc<First>>>,
    expected: Mutex<HashMap<u32, Expected>>,
    /// What was let through, until the kernel tells that it runs.
    judged: Mutex<HashMap<u32, Judged>>,
    /// Who is of whose family; kept where every program is judged here.
    kinship: Mutex<Kinship>,
    marks: Marks,
    sink: Sink,
}

impl Warden {
    fn seats(&self) -> Arc<Seats> {
        Arc::clone(&held(&self.seats))
    }
    fn scripts_only(&self) -> bool {
        matches!(self.rows, Rows::Kernel(..))
    }
    fn cgroup_root(&self) -> &PathBuf {
        match &self.rows {
            Rows::Told(root) | Rows::Kernel(root, _) => root,
        }
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the threads. The other end of the socket takes [`TakeSeats`] and gives [`Told`].
pub(super) fn start(rows: Rows, desk: &Desk, life: &Life) -> Result<OwnedFd, String> {
    let asked = if matches!(rows, Rows::Kernel(..)) { Asked::Scripts } else { Asked::Programs };
    let host_mounts = nv_probe::cgroup::host_mount_namespace()
        .map_err(|error| format!("the host's mount namespace: {error}"))?;
    let (ours, theirs) = protocol::pair().map_err(|error| error.to_string())?;
    let requests = ours.try_clone().map_err(|error| format!("the socket for programs: {error}"))?;
    let warden = Arc::new(Warden {
        rows,
        host_mounts,
        asking: desk.asking(),
        seats: Mutex::default(),
        roots: Mutex::default(),
        expected: Mutex::default(),
        judged: Mutex::default(),
        kinship: Mutex::default(),
        marks: Marks::new(host_mounts),
        sink: Sink::new(ours)?,
    });
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map(drop)
            .map_err(|error| format!("a thread for programs: {error}"))
    };
    let answers: Arc<Warden> = Arc::clone(&warden);
    desk.programs(answers);
    life.expect(asked);
    let shared = Arc::clone(&warden);
    start("exec-seats", Box::new(move || take_seats(&shared, &requests)))?;
    let shared = Arc::clone(&warden);
    start("exec-marks", Box::new(move || marks::keep(&shared.asking, &shared.marks)))?;
    let shared = Arc::clone(&warden);
    start("exec-mounts", Box::new(move || marks::follow(&shared.asking, &shared.marks)))?;
    let shared = Arc::clone(&warden);
    let life = life.clone();
    let look_around = move || {
        let mut told = Places::default();
        loop {
            let seats = shared.seats();
            if seats.profiles.is_empty() {
                std::thread::sleep(NOBODY_YET);
                continue;
            }
            // Before what is asked about is marked.
            let places = seats.fail_closed(shared.cgroup_root());
            if places != told {
                life.places(asked, &places);
                told = places;
            }
            shared.marks.look_around(&shared.asking, |pid| shared.is_in_container(pid, &seats));
            life.placed(asked);
            std::thread::sleep(LOOK_AROUND);
        }
    };
    start("exec-namespaces", Box::new(look_around))?;
    if !warden.scripts_only() {
        let connector = nv_probe::connector::Connector::open()
            .map_err(|error| format!("the kernel does not tell of processes: {error}"))?;
        start("exec-lives", Box::new(move || life::follow(&warden, &connector)))?;
    }
    Ok(theirs)
}

/// Takes what the agent tells, until it is gone.
fn take_seats(warden: &Warden, socket: &OwnedFd) {
    loop {
        // The socket itself does not wait, for the sake of what is told through it.
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return tracing::error!(%error, "which profile holds where is not told any more"),
        }
        let file = match protocol::receive::<TakeSeats>(socket.as_fd()) {
            Ok((TakeSeats, files)) => files.into_iter().next(),
            Err(protocol::ProtocolError::Socket(Errno::AGAIN)) => continue,
            Err(protocol::ProtocolError::Content(error)) => {
                tracing::error!(%error, "which profile holds where is not understood");
                continue;
            }
            Err(protocol::ProtocolError::Closed) => return,
            Err(error) => return tracing::error!(%error, "which profile holds where is not told any more"),
        };
        let Some(file) = file else { continue };
        let limited = std::io::BufReader::new(std::fs::File::from(file).take(MAX_SEATS));
        match serde_json::from_reader::<_, Seats>(limited) {
            Ok(seats) => {
                held(&warden.roots).retain(|cgroup, _| seats.cgroups.contains_key(cgroup));
                *held(&warden.seats) = Arc::new(seats);
            }
            Err(error) => tracing::error!(%error, "which profile holds where is not understood"),
        }
    }
}
