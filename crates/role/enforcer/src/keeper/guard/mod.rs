//! Files: who may open what, asked by the kernel before the open, and what was done to files that are watched.
//!
//! ```text
//! agent ── Request::Files ──▶ place (rules → inodes, folders) ──▶ marks, tables
//! where BPF refuses: place ──▶ rows of the kernel's tables, which the hooks judge by; reports come in the ring
//! where it does not:
//! open of a marked file ──▶ ask (whose container? which rule? which program?) ──▶ allow or EPERM ──▶ Seen
//! change in a marked folder ──▶ tell ──▶ Seen ──▶ socket ──▶ agent
//! ```
//!
//! A program is judged by the rules of the container that its cgroup is, whatever namespaces it is in. Programs of the
//! host, this one included, are never held up. What a program may is tied to the inode of its executable as it was when
//! the rules came, so that a file of the same name is not enough. A protected file that is made or replaced later is looked
//! up anew (names).

mod apart;
mod ask;
mod listing;
mod names;
mod place;
mod resolve;
mod rows;
mod tables;
mod tell;
pub(in crate::keeper) mod who;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nv_model::file::{FileBehavior, FileOperation, FilePattern, FileRule};
use nv_model::mode::{Fault, Mode};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::question::WatchedFile;
use nv_model::verdict::Verdict;
use serde::{Deserialize, Serialize};

use self::listing::Listing;
use self::names::{Heard, Key};
use self::place::Placed;
use self::rows::RowGuard;
use self::tables::Tables;
use super::protocol;
use super::questions::Desk;
use super::signs::{Asked, Life, Places};

/// What is to be watched: all of it, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    pub(crate) places: Vec<Place>,
    pub(crate) profiles: Vec<Rules>,
}

impl Watch {
    /// Which of its places fail closed.
    fn fail_closed(&self) -> Places {
        let closed = |place: &Place| {
            self.profiles.get(place.profile).is_some_and(|rules| rules.in_doubt() == Fault::Closed)
        };
        Places(self.places.iter().map(|place| (place.cgroup.clone(), closed(place))).collect())
    }
}

/// A container, or the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// `None` for the host.
    pub(crate) workload: Option<WorkloadId>,
    /// Path of its cgroup; those below belong to it.
    pub(crate) cgroup: String,
    /// A process whose root is the container's.
    pub(crate) pid: u32,
    /// Index in [`Watch::profiles`].
    pub(crate) profile: usize,
}

/// The file rules that hold in some places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// The learned group, or `nodes`.
    pub(crate) group: GroupName,
    /// Number of its profile in the kernel's tables.
    pub(crate) number: u32,
    pub(crate) mode: Mode,
    pub(crate) fault: Fault,
    /// In order: the first that covers a path decides.
    pub(crate) rules: Vec<(GroupName, FileRule)>,
}

impl Rules {
    /// What holds where nothing can be told: nothing is stopped but in Protect.
    fn in_doubt(&self) -> Fault {
        if self.mode == Mode::Protect { self.fault } else { Fault::Open }
    }
}

/// What came of a [`Watch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// Files and folders that are asked about.
    pub(crate) asked: u64,
    /// Folders that are heard of.
    pub(crate) told: u64,
    /// Files and folders that could not be marked, or were too many.
    pub(crate) refused: u64,
    /// Places whose root was gone.
    pub(crate) gone: u64,
}

/// Something was done to a watched file, or was not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) workload: Option<WorkloadId>,
    pub(crate) group: GroupName,
    pub(crate) rule_group: GroupName,
    pub(crate) filter: FilePattern,
    pub(crate) behavior: FileBehavior,
    pub(crate) path: String,
    pub(crate) operation: FileOperation,
    pub(crate) pid: u32,
    pub(crate) process: String,
    pub(crate) process_path: String,
    pub(crate) command: String,
    pub(crate) parent_pid: u32,
    pub(crate) real_uid: u32,
    pub(crate) effective_uid: u32,
    pub(crate) verdict: Verdict,
    pub(crate) decision_nanos: u64,
    /// How often, when like ones were folded into one; at least 1.
    pub(crate) count: u32,
    /// How many others were left out before it.
    pub(crate) dropped: u64,
}

/// Looking names up anew is followed by a pause this many times as long, so that making many costs its maker the most.
const SHARE: u32 = 20;
/// Longest time between a name and the look for it, under a flood of them.
const LATEST: Duration = Duration::from_secs(5);

/// What keeps the files.
pub(crate) struct Guard {
    kept: Arc<Mutex<Kept>>,
}

/// Rows that the kernel judges by itself, or fanotify.
enum Kept {
    /// BPF refuses; reports come in the process programs' ring.
    Rows(RowGuard),
    /// fanotify asks.
    Asks(AskGuard),
}

impl Guard {
    fn new(kept: Kept, heard: Arc<Heard>) -> Result<Self, String> {
        let kept = Arc::new(Mutex::new(kept));
        let renewed = Arc::clone(&kept);
        std::thread::Builder::new()
            .name("file-names".to_owned())
            .spawn(move || {
                while let Some(places) = heard.wait() {
                    let begin = Instant::now();
                    renewed.lock().unwrap_or_else(PoisonError::into_inner).renew(&places);
                    std::thread::sleep(begin.elapsed().saturating_mul(SHARE).min(LATEST));
                }
            })
            .map_err(|error| format!("a thread for files: {error}"))?;
        Ok(Self { kept })
    }

    /// Watches what is given and nothing else. What stays the same is not touched.
    pub(crate) fn watch(&mut self, watch: &Watch) -> Result<Watched, String> {
        match &mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner) {
            Kept::Rows(guard) => guard.watch(watch),
            Kept::Asks(guard) => Ok(guard.watch(watch)),
        }
    }

    /// What is kept of a workload, or of every place.
    pub(crate) fn list(&self, workload: Option<&WorkloadId>) -> Vec<WatchedFile> {
        let mut listing = Listing::default();
        match &*self.kept.lock().unwrap_or_else(PoisonError::into_inner) {
            Kept::Rows(guard) => guard.list(workload, &mut listing),
            Kept::Asks(guard) => guard.placed.list(workload, &mut listing),
        }
        listing.files
    }

    /// Over the process programs' tables.
    pub(crate) fn rows(descriptors: Vec<(String, OwnedFd)>) -> Result<Self, String> {
        let heard = Arc::new(Heard::new());
        Self::new(Kept::Rows(RowGuard::new(descriptors, Arc::clone(&heard))?), heard)
    }

    /// Starts the threads; what they see goes into the socket whose other end is returned.
    pub(in crate::keeper) fn asks(desk: &Desk, life: &Life) -> Result<(Self, OwnedFd), String> {
        let heard = Arc::new(Heard::new());
        let (guard, socket) = AskGuard::start(Arc::clone(&heard), desk, life)?;
        Ok((Self::new(Kept::Asks(guard), heard)?, socket))
    }
}

impl Kept {
    fn renew(&mut self, places: &HashSet<Key>) {
        match self {
            Self::Rows(guard) => {
                if let Err(error) = guard.renew(places) {
                    tracing::error!(error, "files that were made are not kept");
                }
            }
            Self::Asks(guard) => guard.renew(places),
        }
    }
}

/// What is marked in the group that asks, and the group that tells.
pub(crate) struct AskGuard {
    tables: Arc<Mutex<Arc<Tables>>>,
    groups: Arc<Groups>,
    placed: Placed,
    life: Life,
}

/// What the kernel asks and tells through.
pub(crate) struct Groups {
    pub(crate) asking: Arc<nv_probe::fanotify::Asking>,
    /// `None` where the kernel does not tell.
    pub(crate) telling: Option<nv_probe::fanotify::Telling>,
}

impl AskGuard {
    fn start(heard: Arc<Heard>, desk: &Desk, life: &Life) -> Result<(Self, OwnedFd), String> {
        let telling = nv_probe::fanotify::Telling::new()
            .inspect_err(|error| tracing::warn!(%error, "changes of files are not told"))
            .ok();
        let groups = Arc::new(Groups { asking: desk.asking(), telling });
        let tables = Arc::new(Mutex::new(Arc::new(Tables::default())));
        let (ours, theirs) = protocol::pair().map_err(|error| error.to_string())?;
        let sink = Arc::new(tell::Sink::new(ours)?);
        tell::spawn(&groups, &tables, &sink)?;
        desk.files(Arc::new(ask::Opens::new(&tables, &sink)));
        life.expect(Asked::Files);
        Ok((Self { tables, groups, placed: Placed::new(heard), life: life.clone() }, theirs))
    }

    fn watch(&mut self, watch: &Watch) -> Watched {
        self.life.places(Asked::Files, &watch.fail_closed());
        let (tables, watched) = self.placed.place(&self.groups, watch);
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        self.life.placed(Asked::Files);
        watched
    }

    fn renew(&mut self, places: &HashSet<Key>) {
        let tables = self.placed.renew(&self.groups, places);
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
    }
}

/// The tables as they are now.
fn now(tables: &Mutex<Arc<Tables>>) -> Arc<Tables> {
    Arc::clone(&tables.lock().unwrap_or_else(PoisonError::into_inner))
}
