//! The agent's side: starts the keeper and asks it.

use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nv_capture::Share;
use nv_capture::netns::Interface;
use nv_model::name::WorkloadId;
use nv_model::node::Capabilities;
use nv_model::question::WatchedFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guard::{Watch, Watched};
use super::launcher::Launcher;
use super::protocol::{self, ProtocolError, Reply, Request};
use super::queues::{QueueCounts, Wanted};

/// Most bytes of a list of watched files.
const MAX_LISTED_BYTES: u64 = 8 * 1024 * 1024;

/// Descriptors, each with the name of its table.
pub(crate) type Named = Vec<(String, OwnedFd)>;

/// What the keeper handed on.
#[derive(Debug)]
pub(crate) struct Handed {
    /// What the kernel allows.
    pub(crate) capabilities: Capabilities,
    /// Descriptors of the process programs' tables and ring, and of the network programs'; or why there are none.
    pub(crate) tables: Result<(Named, Named), String>,
    /// Where files are reported; `None` when they cannot be watched.
    pub(crate) files: Option<OwnedFd>,
    /// The socket of programs that the keeper judges; `None` where the kernel does it all.
    pub(crate) programs: Option<OwnedFd>,
    /// The programs outlive the keeper, and the tables are those of an earlier one.
    pub(crate) pinned: bool,
}

/// Why the keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// It did not start.
    #[error("the keeper {} does not start", .exe.display())]
    Start {
        /// The binary.
        exe: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It has ended, or what it said is not understood.
    #[error("the keeper: {0}")]
    Talk(String),
    /// It tried and failed.
    #[error("the keeper: {0}")]
    Failed(String),
}

impl From<ProtocolError> for KeeperError {
    fn from(error: ProtocolError) -> Self {
        Self::Talk(error.to_string())
    }
}

/// The descriptors of a packet, when they are as many as it says.
fn complete(descriptors: Vec<OwnedFd>, count: usize) -> Result<std::vec::IntoIter<OwnedFd>, KeeperError> {
    if descriptors.len() == count {
        return Ok(descriptors.into_iter());
    }
    Err(KeeperError::Talk("descriptors are missing".to_owned()))
}

/// A running keeper. Dropping it closes the socket, so that it ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// One request and its reply at a time.
    socket: Mutex<OwnedFd>,
    /// The same socket, to see that its other end closes also while a request is under way.
    other_end: OwnedFd,
    pid: u32,
}

impl Keeper {
    /// Starts it and lets it load. Blocks for about a second: call it from a blocking thread.
    pub(crate) fn start(launcher: &Launcher, bpf_dir: &Path) -> Result<(Self, Handed), KeeperError> {
        let (ours, theirs) = protocol::pair()?;
        let pid = launcher.keeper(&theirs)?;
        drop(theirs);
        let other_end =
            ours.try_clone().map_err(|error| KeeperError::Talk(format!("its socket: {error}")))?;
        let keeper = Self { socket: Mutex::new(ours), other_end, pid };
        let (reply, descriptors) = keeper.ask(&Request::Load { bpf_dir: bpf_dir.to_owned() })?;
        let handed = match reply {
            Reply::Ready { capabilities, process, network, pinned, files, programs } => {
                let tables = process.len() + network.len();
                let mut descriptors =
                    complete(descriptors, tables + usize::from(files) + usize::from(programs))?;
                let process: Named = process.into_iter().zip(descriptors.by_ref()).collect();
                let network: Named = network.into_iter().zip(descriptors.by_ref()).collect();
                let files = if files { descriptors.next() } else { None };
                let programs = if programs { descriptors.next() } else { None };
                Handed { capabilities, tables: Ok((process, network)), pinned, files, programs }
            }
            Reply::Unable { capabilities, reason, files, programs } => {
                let mut descriptors = complete(descriptors, usize::from(files) + usize::from(programs))?;
                let files = if files { descriptors.next() } else { None };
                let programs = if programs { descriptors.next() } else { None };
                Handed { capabilities, tables: Err(reason), pinned: false, files, programs }
            }
            other => return Err(KeeperError::Talk(format!("{other:?} is no answer to loading"))),
        };
        Ok((keeper, handed))
    }

    /// Puts the network programs on the host end of a veth. Blocks for some milliseconds.
    pub(crate) fn attach(&self, ifindex: u32) -> Result<(), KeeperError> {
        self.done(&Request::Attach { ifindex })
    }
    /// Takes them off.
    pub(crate) fn detach(&self, ifindex: u32) -> Result<(), KeeperError> {
        self.done(&Request::Detach { ifindex })
    }
    /// Puts the programs of sockets on a cgroup. Blocks for some milliseconds.
    pub(crate) fn attach_sockets(&self, cgroup: u64) -> Result<(), KeeperError> {
        self.done(&Request::AttachSockets { cgroup })
    }
    /// Takes them off.
    pub(crate) fn detach_sockets(&self, cgroup: u64) -> Result<(), KeeperError> {
        self.done(&Request::DetachSockets { cgroup })
    }
    /// Has files watched, and no others. Blocks for as long as they take to be found.
    pub(crate) fn files(&self, watch: &Watch) -> Result<Watched, KeeperError> {
        let fail = |error: std::io::Error| KeeperError::Talk(format!("what is to be watched: {error}"));
        let file = rustix::fs::memfd_create("watch", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|errno| fail(errno.into()))?;
        let mut file = std::fs::File::from(file);
        serde_json::to_writer(std::io::BufWriter::new(&mut file), watch)
            .map_err(|error| fail(error.into()))?;
        file.rewind().map_err(fail)?;
        match self.ask_with(&Request::Files, &[file.as_fd()])?.0 {
            Reply::Watching(watched) => Ok(watched),
            Reply::Failed { reason } => Err(KeeperError::Failed(reason)),
            other => Err(KeeperError::Talk(format!("{other:?} is no answer to files"))),
        }
    }
    /// Which files are watched of a workload, or of every place. Blocks for as long as they take to be found.
    pub(crate) fn watched_files(
        &self,
        workload: Option<WorkloadId>,
    ) -> Result<Vec<WatchedFile>, KeeperError> {
        let fail = |error: &dyn std::fmt::Display| KeeperError::Talk(format!("what is watched: {error}"));
        let request = Request::WatchedFiles { workload };
        let file = match self.ask_with(&request, &[])? {
            (Reply::Done, descriptors) => complete(descriptors, 1)?.next(),
            (Reply::Failed { reason }, _) => return Err(KeeperError::Failed(reason)),
            (other, _) => return Err(KeeperError::Talk(format!("{other:?} is no answer to {request:?}"))),
        };
        let Some(file) = file else { return Err(fail(&"a descriptor is missing")) };
        let file = std::fs::File::from(file).take(MAX_LISTED_BYTES);
        serde_json::from_reader(std::io::BufReader::new(file)).map_err(|error| fail(&error))
    }
    /// Has the inspector of a share, at the other end of a socket, given its ring. Answers with the interface that copies of packets
    /// are to go to.
    pub(crate) fn inspect(&self, share: Share, socket: &OwnedFd) -> Result<u32, KeeperError> {
        match self.ask_with(&Request::Inspect { share }, &[socket.as_fd()])?.0 {
            Reply::Tapped { ifindex } => Ok(ifindex),
            Reply::Failed { reason } => Err(KeeperError::Failed(reason)),
            other => Err(KeeperError::Talk(format!("{other:?} is no answer to inspecting"))),
        }
    }
    /// Has packets of a pod wait for the inspector. Blocks for some milliseconds.
    pub(crate) fn queue(&self, wanted: Wanted) -> Result<(), KeeperError> {
        self.done(&Request::Queue(wanted))
    }
    /// Has them wait no more.
    pub(crate) fn unqueue(&self, queue: u32, pid: Option<u32>) -> Result<(), KeeperError> {
        self.done(&Request::Unqueue { queue, pid })
    }
    /// What became of answers to packets that waited.
    pub(crate) fn queues(&self) -> Result<QueueCounts, KeeperError> {
        match self.ask(&Request::Queues)?.0 {
            Reply::Queues(counts) => Ok(counts),
            other => Err(KeeperError::Talk(format!("{other:?} is no answer about queues"))),
        }
    }
    /// Interfaces of the network namespace of a process.
    pub(crate) fn interfaces(&self, pid: u32) -> Result<Vec<Interface>, KeeperError> {
        match self.ask(&Request::Interfaces { pid })?.0 {
            Reply::Interfaces(found) => Ok(found),
            Reply::Failed { reason } => Err(KeeperError::Failed(reason)),
            other => Err(KeeperError::Talk(format!("{other:?} is no answer about interfaces"))),
        }
    }
    /// A socket that sees every packet of the network namespace of a process.
    pub(crate) fn packets(&self, pid: u32) -> Result<OwnedFd, KeeperError> {
        let request = Request::Packets { pid };
        match self.ask_with(&request, &[])? {
            (Reply::Done, descriptors) => descriptors
                .into_iter()
                .next()
                .ok_or_else(|| KeeperError::Talk("a descriptor is missing".to_owned())),
            (Reply::Failed { reason }, _) => Err(KeeperError::Failed(reason)),
            (other, _) => Err(KeeperError::Talk(format!("{other:?} is no answer to {request:?}"))),
        }
    }
    /// Takes what other versions have pinned out of the kernel.
    pub(crate) fn retire(&self) -> Result<(), KeeperError> {
        self.done(&Request::Retire)
    }
    /// Process id of the keeper.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
    /// Whether it has ended, which it does only when it is killed.
    pub(crate) fn has_ended(&self) -> bool {
        let mut ends = [PollFd::new(&self.other_end, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ends, Some(&now)).is_ok_and(|ready| ready > 0)
            && ends.iter().any(|end| end.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }

    fn done(&self, request: &Request) -> Result<(), KeeperError> {
        match self.ask(request)?.0 {
            Reply::Done => Ok(()),
            Reply::Failed { reason } => Err(KeeperError::Failed(reason)),
            other => Err(KeeperError::Talk(format!("{other:?} is no answer to {request:?}"))),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
        self.ask_with(request, &[])
    }

    fn ask_with(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
        let socket = self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        protocol::send(socket.as_fd(), request, descriptors)?;
        Ok(protocol::receive(socket.as_fd())?)
    }
}
