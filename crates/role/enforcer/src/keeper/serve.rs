//! The keeper's own side.

use std::collections::BTreeMap;
use std::io::Seek as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_capture::{MAX_SHARES, Share};
use nv_model::node::Capabilities;
use nv_model::verdict::Mechanism;
use nv_probe::FileHooks;
use nv_telemetry::chain;
use rustix::process::{Resource, Rlimit};

use super::exec;
use super::guard::{Guard, Watch};
use super::protocol::{self, ProtocolError, Reply, Request};
use super::questions::Desk;
use super::queues::Queues;
use super::signs::Life;
use crate::inspector::Begin;

/// What the keeper has in the kernel.
struct Kernel {
    /// Where it is pinned: the folder of all versions, and the name of this one's; `None` when it ends with the keeper.
    pins: Option<(PathBuf, String)>,
    // Held for its links; pinned ones outlive it.
    process: nv_probe::Loaded,
    network: nv_capture::Loaded,
}

/// The interfaces for copies of packets, and for packets that wait, by their shares, which go with the keeper; one that is killed
/// leaves them to the next.
#[derive(Default)]
struct Tapped {
    /// The enforcer's own folder for pins, whether or not anything can be pinned there: the interfaces are named after it, so that
    /// the next keeper finds them, and enforcers of other folders have others.
    folder: PathBuf,
    interfaces: BTreeMap<(Kind, u8), nv_capture::TapInterface>,
    /// Held, so that what has waited finds its way back.
    ways: BTreeMap<u8, (u32, nv_capture::detour::Way)>,
}

/// What comes to an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Copies,
    Detour,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Copies, Self::Detour];
    /// What names of interfaces begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Copies => "nvtap",
            Self::Detour => "nvway",
        }
    }
}

impl Tapped {
    /// Those that an earlier keeper of this folder has left go with this one.
    fn take_left(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
        for (kind, share) in
            Kind::ALL.into_iter().flat_map(|kind| Share::each(MAX_SHARES).map(move |share| (kind, share)))
        {
            if let Some(left) = nv_capture::TapInterface::left(&self.name(kind, share)) {
                self.interfaces.insert((kind, share.number()), left);
            }
        }
    }

    fn name(&self, kind: Kind, share: Share) -> String {
        let hash = nv_probe::tables::name_hash(&self.folder.display().to_string());
        format!("{}{:08x}{:x}", kind.prefix(), hash & 0xffff_ffff, share.number())
    }

    /// The interface of a share, which is made if it is not there.
    fn make(&mut self, kind: Kind, share: Share) -> Result<&nv_capture::TapInterface, String> {
        let made = nv_capture::TapInterface::make(&self.name(kind, share)).map_err(|error| chain(&error))?;
        let place = self.interfaces.entry((kind, share.number()));
        Ok(place.insert_entry(made).into_mut())
    }

    /// The detour of a share: its interface, and the socket that its packets are read from.
    fn detour(&mut self, share: Share, network: &nv_capture::Loaded) -> Result<(u32, OwnedFd), String> {
        let interface = self.make(Kind::Detour, share)?;
        let (ifindex, socket) = (interface.ifindex, interface.open_detour().map_err(|error| chain(&error))?);
        if self.ways.get(&share.number()).is_none_or(|(at, _)| *at != ifindex) {
            let way = network.attach_detour(ifindex).map_err(|error| chain(&error))?;
            self.ways.insert(share.number(), (ifindex, way));
        }
        Ok((ifindex, socket))
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        for interface in std::mem::take(&mut self.interfaces).into_values() {
            if let Err(error) = interface.remove() {
                tracing::warn!(error = chain(&error), "an interface for inspection stays behind");
            }
        }
    }
}

/// Hands an inspector the ring of the interface for copies, its end of the relay, and the socket of its detour, where the
/// programs are loaded and packets can be led.
fn give_ring(
    tap: &mut Tapped,
    (queues, kernel): (&Queues, Option<&Kernel>),
    (share, inspector): (Share, &OwnedFd),
) -> Result<u32, String> {
    let interface = tap.make(Kind::Copies, share)?;
    let (ifindex, ring) = (interface.ifindex, interface.open(share).map_err(|error| chain(&error))?);
    let detour = kernel.map(|kernel| tap.detour(share, &kernel.network)).transpose()?;
    let relay = queues.connect(share, detour.as_ref().map(|(ifindex, _)| *ifindex))?;
    let mut descriptors = vec![ring.as_fd(), relay.as_fd()];
    descriptors.extend(detour.as_ref().map(|(_, socket)| socket.as_fd()));
    protocol::send(inspector.as_fd(), &Begin { share }, &descriptors).map_err(|error| error.to_string())?;
    Ok(ifindex)
}

/// What the kernel allows, found by firing it, and the hooks of files to load.
#[derive(Debug)]
pub struct Tried {
    capabilities: Capabilities,
    hooks: Option<FileHooks>,
    behaviour: Vec<&'static str>,
}

impl Tried {
    /// Whether packets can be led to an inspector.
    fn leads(&self) -> bool {
        self.capabilities.trials.iter().any(|trial| trial.mechanism == Mechanism::Detour && trial.works)
    }
    /// Whether programs are killed from user space here, which takes a privilege more.
    #[must_use]
    pub fn kills(&self) -> bool {
        self.capabilities.tier == TIER_WITHOUT_BPF
    }
}

/// Runs the keeper on the control socket that is its standard input, until the other end closes. Its standard output is the
/// launcher's socket.
///
/// # Errors
/// A sentence for the log when the socket cannot be used.
pub fn keeper_main(tried: &Tried) -> Result<(), String> {
    // Each question that waits is an open file.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = u64::from(super::stand_in::MAX_DESCRIPTORS.unsigned_abs());
    let current = limit.maximum.map_or(most, |maximum| maximum.min(most));
    if let Err(error) =
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit })
    {
        tracing::warn!(%error, "the keeper has few descriptors");
    }
    let socket = std::io::stdin();
    let socket = socket.as_fd();
    let told = std::io::stdout().as_fd().try_clone_to_owned();
    let (life, asking) = Life::start(told.map_err(|error| format!("the launcher's socket: {error}"))?)?;
    let desk = match asking {
        Some(asking) => Desk::start(asking, &life),
        None => Err("the kernel does not ask before files are opened".to_owned()),
    };
    let mut kernel: Option<Kernel> = None;
    let mut guard: Option<Guard> = None;
    let mut tap = Tapped::default();
    let queues = Queues::default();
    loop {
        let (request, descriptors) = match protocol::receive::<Request>(socket) {
            Ok(received) => received,
            Err(ProtocolError::Closed) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let answered = match request {
            Request::Load { bpf_dir } => {
                tap.take_left(&bpf_dir);
                let loaded = if tried.capabilities.tier == TIER_WITHOUT_BPF {
                    Err((tried.capabilities.clone(), "no BPF program stops one here".to_owned()))
                } else {
                    load(&bpf_dir, tried)
                };
                let capabilities = match &loaded {
                    Ok((_, capabilities, ..)) | Err((capabilities, _)) => capabilities.clone(),
                };
                let (loaded, reason) = match loaded {
                    Ok((loaded, _, process, network)) => (Some((loaded, process, network)), String::new()),
                    Err((_, reason)) => (None, reason),
                };
                let pinned = loaded.as_ref().is_some_and(|(kernel, ..)| kernel.pins.is_some());
                let handed = loaded.map(|(loaded, process, network)| {
                    match nv_capture::detour::Detours::from_descriptors(&network) {
                        Ok(detours) => queues.lead(detours),
                        Err(error) => {
                            tracing::error!(error = chain(&error), "no packet can wait for inspection");
                        }
                    }
                    kernel = Some(loaded);
                    (process, network)
                });
                let files = watch_files(&capabilities, kernel.as_ref(), &mut guard, (&desk, &life));
                let programs = judge_programs(&capabilities, kernel.as_ref(), (&desk, &life));
                let sockets = (files.as_ref(), programs.as_ref());
                match handed {
                    Some((process, network)) => {
                        ready(socket, capabilities, pinned, &process, &network, sockets)
                    }
                    None => unable(socket, capabilities, reason, sockets),
                }
            }
            Request::Files => {
                let reply = match (&mut guard, watch(descriptors)) {
                    (Some(guard), Ok(watch)) => match guard.watch(&watch) {
                        Ok(watched) => Reply::Watching(watched),
                        Err(reason) => Reply::Failed { reason },
                    },
                    (None, _) => Reply::Failed { reason: "files cannot be watched here".to_owned() },
                    (_, Err(reason)) => Reply::Failed { reason },
                };
                protocol::send(socket, &reply, &[])
            }
            Request::WatchedFiles { workload } => {
                let listed = match &guard {
                    Some(guard) => listed(&guard.list(workload.as_ref())),
                    None => Err("files cannot be watched here".to_owned()),
                };
                match listed {
                    Ok(file) => protocol::send(socket, &Reply::Done, &[file.as_fd()]),
                    Err(reason) => protocol::send(socket, &Reply::Failed { reason }, &[]),
                }
            }
            Request::Attach { ifindex } => {
                let done = network(&mut kernel)
                    .and_then(|network| network.attach(ifindex).map(drop).map_err(|error| chain(&error)));
                protocol::send(socket, &Reply::from(done), &[])
            }
            Request::AttachSockets { cgroup } => {
                let done = network(&mut kernel)
                    .and_then(|network| network.attach_sockets(cgroup).map_err(|error| chain(&error)));
                protocol::send(socket, &Reply::from(done), &[])
            }
            Request::DetachSockets { cgroup } => {
                let done = network(&mut kernel).and_then(|network| {
                    network.detach_sockets(cgroup).map(drop).map_err(|error| chain(&error))
                });
                protocol::send(socket, &Reply::from(done), &[])
            }
            Request::Interfaces { pid } => {
                let reply = match nv_capture::netns::interfaces(pid) {
                    Ok(found) => Reply::Interfaces(found),
                    Err(error) => Reply::Failed { reason: chain(&error) },
                };
                protocol::send(socket, &reply, &[])
            }
            Request::Packets { pid } => match nv_capture::netns::packets(pid) {
                Ok(packets) => protocol::send(socket, &Reply::Done, &[packets.as_fd()]),
                Err(error) => protocol::send(socket, &Reply::Failed { reason: chain(&error) }, &[]),
            },
            Request::Inspect { share } => {
                let given = match descriptors.first() {
                    Some(inspector) => {
                        let kernel = kernel.as_ref().filter(|_| tried.leads());
                        give_ring(&mut tap, (&queues, kernel), (share, inspector))
                    }
                    None => Err("no socket came along".to_owned()),
                };
                let reply = match given {
                    Ok(ifindex) => Reply::Tapped { ifindex },
                    Err(reason) => Reply::Failed { reason },
                };
                protocol::send(socket, &reply, &[])
            }
            Request::Queue(wanted) => protocol::send(socket, &Reply::from(queues.want(wanted)), &[]),
            Request::Unqueue { queue, pid } => {
                protocol::send(socket, &Reply::from(queues.leave(queue, pid)), &[])
            }
            Request::Queues => protocol::send(socket, &Reply::Queues(queues.counts()), &[]),
            Request::Retire => {
                let done = match kernel.as_ref().and_then(|kernel| kernel.pins.as_ref()) {
                    Some((dir, version)) => nv_probe::bpffs::retire(dir, version)
                        .map(drop)
                        .map_err(|error| format!("{}: {error}", dir.display())),
                    None => Ok(()),
                };
                protocol::send(socket, &Reply::from(done), &[])
            }
            Request::Detach { ifindex } => {
                let done = network(&mut kernel)
                    .and_then(|network| network.detach(ifindex).map(drop).map_err(|error| chain(&error)));
                protocol::send(socket, &Reply::from(done), &[])
            }
        };
        match answered {
            Ok(()) => {}
            Err(ProtocolError::Closed) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn network(kernel: &mut Option<Kernel>) -> Result<&mut nv_capture::Loaded, String> {
    kernel.as_mut().map(|kernel| &mut kernel.network).ok_or_else(|| "nothing is loaded".to_owned())
}

/// The tier on which no BPF program stops one.
const TIER_WITHOUT_BPF: u8 = 4;

/// Starts what keeps files; the socket on which it reports, when it has one of its own.
fn watch_files(
    capabilities: &Capabilities,
    kernel: Option<&Kernel>,
    guard: &mut Option<Guard>,
    (desk, life): (&Result<Arc<Desk>, String>, &Life),
) -> Option<OwnedFd> {
    let started = match capabilities.file {
        Some(Mechanism::Fanotify) => desk
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|desk| Guard::asks(desk, life))
            .map(|(guard, socket)| (guard, Some(socket))),
        Some(_) => kernel_rows(kernel).map(|guard| (guard, None)),
        None => Err("the kernel has nothing for it".to_owned()),
    };
    match started {
        Ok((started, socket)) => {
            *guard = Some(started);
            socket
        }
        Err(error) => {
            tracing::error!(error, "files are not watched");
            None
        }
    }
}

/// Starts what judges programs where no BPF program does, and scripts where the tracepoint alone does; the socket to it.
fn judge_programs(
    capabilities: &Capabilities,
    kernel: Option<&Kernel>,
    (desk, life): (&Result<Arc<Desk>, String>, &Life),
) -> Option<OwnedFd> {
    let start = || {
        let root = nv_probe::cgroup::unified_root().map_err(|error| error.to_string())?;
        let rows = match (capabilities.process, kernel) {
            (Some(Mechanism::Fanotify), _) => exec::Rows::Told(root),
            (Some(Mechanism::TracepointKill), Some(kernel)) => {
                let held = kernel.process.descriptors().map_err(|error| format!("descriptors: {error}"))?;
                let tables = nv_probe::Tables::from_descriptors(held).map_err(|error| chain(&error))?;
                exec::Rows::Kernel(root, Box::new(tables))
            }
            _ => return Ok(None),
        };
        exec::start(rows, desk.as_ref().map_err(Clone::clone)?, life).map(Some)
    };
    start().unwrap_or_else(|error: String| {
        tracing::error!(error, "programs, or scripts, are not judged by fanotify");
        None
    })
}

/// Files kept by rows of the process programs' tables.
fn kernel_rows(kernel: Option<&Kernel>) -> Result<Guard, String> {
    let kernel = kernel.ok_or("nothing is loaded")?;
    Guard::rows(kernel.process.descriptors().map_err(|error| format!("duplicating descriptors: {error}"))?)
}

/// Reads what is to be watched from the file that came along.
fn watch(descriptors: Vec<OwnedFd>) -> Result<Watch, String> {
    let file = descriptors.into_iter().next().ok_or("no file came along")?;
    serde_json::from_reader(std::io::BufReader::new(std::fs::File::from(file)))
        .map_err(|error| format!("what is to be watched is not understood: {error}"))
}

/// A list in a file in memory, as it may be longer than a packet.
fn listed(files: &[nv_model::question::WatchedFile]) -> Result<OwnedFd, String> {
    let file = rustix::fs::memfd_create("watched", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| format!("a list of files: {error}"))?;
    let mut file = std::fs::File::from(file);
    let written = serde_json::to_writer(std::io::BufWriter::new(&mut file), files);
    written.map_err(|error| format!("a list of files: {error}"))?;
    file.rewind().map_err(|error| format!("a list of files: {error}"))?;
    Ok(file.into())
}

type Descriptors = Vec<(String, OwnedFd)>;

/// Loads what works and pins it.
fn load(
    bpf_dir: &Path,
    tried: &Tried,
) -> Result<(Kernel, Capabilities, Descriptors, Descriptors), (Capabilities, String)> {
    let (mut capabilities, hooks) = (tried.capabilities.clone(), tried.hooks.as_ref());
    let pins = match nv_probe::bpffs::ensure(bpf_dir) {
        Ok(()) => version().map(|version| (bpf_dir.to_owned(), version)),
        Err(error) => Err(format!("{}: {error}", bpf_dir.display())),
    };
    if let Err(reason) = &pins {
        capabilities
            .lost
            .push(format!("Enforcement ends when the enforcer does: nothing can be pinned: {reason}"));
    }
    let pins = pins.ok();
    let versioned = pins.as_ref().map(|(dir, version)| dir.join(version));
    let attempt = || -> Result<(Kernel, Descriptors, Descriptors), String> {
        let mechanism = capabilities
            .process
            .filter(|mechanism| matches!(mechanism, Mechanism::BpfLsm | Mechanism::FmodRet));
        let mut options = nv_probe::Options::new(versioned.clone(), mechanism)
            .map_err(|error| format!("the host's mount namespace: {error}"))?;
        options.behaviour.clone_from(&tried.behaviour);
        options.files = hooks.map(|hooks| (hooks.mechanism, hooks.works.clone()));
        let process = nv_probe::Loaded::load(&options).map_err(|error| chain(&error))?;
        let network = nv_capture::Loaded::load(&nv_capture::Options {
            pin_dir: versioned.as_ref().map(|versioned| versioned.join("network")),
            ..Default::default()
        })
        .map_err(|error| chain(&error))?;
        let fail = |error: std::io::Error| format!("duplicating descriptors: {error}");
        let handed = (process.descriptors().map_err(fail)?, network.descriptors().map_err(fail)?);
        Ok((Kernel { pins: pins.clone(), process, network }, handed.0, handed.1))
    };
    match attempt() {
        Ok((kernel, process, network)) => Ok((kernel, capabilities, process, network)),
        Err(reason) => Err((capabilities, reason)),
    }
}

/// What the kernel allows: each mechanism loaded and fired.
pub(crate) fn try_all(trial: &nv_probe::Trial, from_tier: u8) -> Capabilities {
    try_each(trial, from_tier).capabilities
}

/// The same, for [`keeper_main`]. It takes more privileges than holding the kernel does (a cgroup of the trial's own, a
/// frame on the wire), so it comes before they are given away. `trial` names the hidden subcommand by which this binary
/// can be started as the trial's child; mechanisms of tiers before `from_tier` are left out.
#[must_use]
pub fn try_each(trial: &nv_probe::Trial, from_tier: u8) -> Tried {
    let mut capabilities = nv_probe::trial::run(trial, from_tier);
    if capabilities.tier == TIER_WITHOUT_BPF {
        try_queue_alone(&mut capabilities);
        capabilities.lost.push(
            "What containers ask the kernel for (mounts, namespaces, modules, to trace a process) is not told.".to_owned(),
        );
        let hooks = try_files(&mut capabilities);
        return Tried { capabilities, hooks, behaviour: Vec::new() };
    }
    let network = nv_capture::trial::run();
    if network.capability.works {
        capabilities.network = Some(network.capability.mechanism);
        if let Err(reason) = network.translations {
            capabilities.lost.push(format!(
                "Connections through addresses that the kernel translates (services, masquerading) are judged by these \
                 addresses and not by who is behind them: {reason}"
            ));
        }
    } else {
        let reason = &network.capability.reason;
        capabilities.lost.push(format!("connections are reported but not stopped: {reason}"));
    }
    capabilities.trials.push(network.capability);
    if let Err(reason) = nv_capture::trial::sockets() {
        capabilities.lost.push(format!(
            "What containers on the host's network, and on interfaces that are no veths, send and are sent is not judged \
             packet by packet: {reason}"
        ));
    }
    let detour = nv_capture::trial::detour();
    if !detour.works {
        capabilities.lost.push(format!(
            "In Protect attacks, sensors and applications are told and not stopped: packets cannot wait for inspection: {}",
            detour.reason
        ));
    }
    capabilities.trials.push(detour);
    let hooks = try_files(&mut capabilities);
    let behaviour = nv_probe::try_behaviour();
    capabilities.lost.extend(behaviour.lost);
    Tried { capabilities, hooks, behaviour: behaviour.works }
}

/// What sees and stops connections without BPF: the queues of pods.
fn try_queue_alone(capabilities: &mut Capabilities) {
    let queue = nv_capture::trial::queue();
    let lost = &mut capabilities.lost;
    if queue.works {
        capabilities.network = Some(queue.mechanism);
        for loss in [
            "Connections are judged by the enforcer's processes, in whose queues their packets wait: while these do not run \
             they go by the fail mode of their group, unseen.",
            "Connections of the host's own programs, and of containers on its network or on interfaces that are no veths, \
             are neither seen nor stopped, nor is what a container sends past IP (packet sockets), ICMP, and protocols \
             other than TCP and UDP.",
            "A new pod's connections are judged from some tenths of a second after its start on; those that it has opened \
             before, at their next packet.",
            "Connections through addresses that the kernel translates (services, masquerading) are judged by these addresses \
             and not by who is behind them.",
            "Which program has opened a connection is not known, and of its bytes nothing is told.",
        ] {
            lost.push(loss.to_owned());
        }
    } else {
        lost.push(format!(
            "Connections are neither seen nor stopped: that takes BPF programs, or packets that wait: {}",
            queue.reason
        ));
    }
    capabilities.trials.push(queue);
}

/// What keeps files: the hooks of whatever refuses programs, else fanotify.
fn try_files(capabilities: &mut Capabilities) -> Option<FileHooks> {
    let fanotify = nv_probe::fanotify::trial();
    let refuses = capabilities.process.filter(|one| matches!(one, Mechanism::BpfLsm | Mechanism::FmodRet));
    let hooks = refuses.and_then(|mechanism| match nv_probe::try_files(mechanism) {
        Ok(hooks) => Some(hooks),
        Err(reason) => {
            let name = mechanism.as_str();
            capabilities.lost.push(format!("Files are not kept by {name}: {reason}"));
            None
        }
    });
    if let Some(hooks) = &hooks {
        capabilities.file = Some(hooks.mechanism);
        for (hook, reason) in &hooks.lost {
            capabilities.lost.push(format!("What {hook} sees is neither refused nor told: {reason}"));
        }
    } else if fanotify.works {
        capabilities.file = Some(Mechanism::Fanotify);
        capabilities.lost.push(
            "Of a protected file only the open is refused: that it was deleted, renamed, linked, cut or given other \
             attributes is reported after the fact, and a mount over it is not seen. Nothing is refused on FUSE or an \
             overlay that a container has mounted itself."
                .to_owned(),
        );
        if let Err(reason) = nv_probe::fanotify::tells_of_overlay() {
            capabilities.lost.push(format!("Changes of files in containers are not told: {reason}"));
        }
    } else {
        capabilities.lost.push(format!("Files are neither watched nor protected: {}", fanotify.reason));
    }
    // Of the last tier the trial of programs was one of fanotify already.
    if capabilities.process != Some(Mechanism::Fanotify) {
        capabilities.trials.push(fanotify);
    }
    hooks
}

/// Folder of this build's pins: the number of the layout and a hash of the shape of every table, so that no program
/// ever works on tables of another shape. What another version has pinned goes on judging beside this one until
/// [`Request::Retire`].
fn version() -> Result<String, String> {
    let process = nv_probe::shape().map_err(|error| chain(&error))?;
    let network = nv_capture::shape().map_err(|error| chain(&error))?;
    let hash = nv_probe::tables::name_hash(&format!("{process}\n{network}"));
    Ok(format!("v{}-{hash:016x}", nv_probe::layout::ABI))
}

fn ready(
    socket: BorrowedFd<'_>,
    capabilities: Capabilities,
    pinned: bool,
    process: &Descriptors,
    network: &Descriptors,
    (files, programs): (Option<&OwnedFd>, Option<&OwnedFd>),
) -> Result<(), ProtocolError> {
    let names = |list: &Descriptors| list.iter().map(|(name, _)| name.clone()).collect();
    let reply = Reply::Ready {
        capabilities,
        process: names(process),
        network: names(network),
        files: files.is_some(),
        programs: programs.is_some(),
        pinned,
    };
    let descriptors: Vec<BorrowedFd<'_>> = process
        .iter()
        .chain(network)
        .map(|(_, descriptor)| descriptor)
        .chain(files)
        .chain(programs)
        .map(AsFd::as_fd)
        .collect();
    protocol::send(socket, &reply, &descriptors)
}

fn unable(
    socket: BorrowedFd<'_>,
    capabilities: Capabilities,
    reason: String,
    (files, programs): (Option<&OwnedFd>, Option<&OwnedFd>),
) -> Result<(), ProtocolError> {
    let reply = Reply::Unable { capabilities, reason, files: files.is_some(), programs: programs.is_some() };
    let descriptors: Vec<BorrowedFd<'_>> = files.into_iter().chain(programs).map(AsFd::as_fd).collect();
    protocol::send(socket, &reply, &descriptors)
}
