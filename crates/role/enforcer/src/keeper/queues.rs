//! Where packets of pods wait for inspection: on a detour, or, where no BPF program is at their interfaces, in queues, which
//! the keeper opens and hands to the inspector, whose answers it passes on to the kernel, which takes them from nobody without
//! a privilege.
//!
//! ```text
//! pod ─► detour ═► inspector ─► pod          the keeper says to the kernel, as long as it hears the inspector, that it lives;
//!                                            else packets go by the group's answer
//!
//! pod ─► queue ═► inspector ─Answer─► relay (a thread of the keeper) ─► kernel
//!                                        │ the inspector is late: the group's answer, again and again
//!                                        │ it has ended: the queue is paused, which is the group's answer by the rules
//! ```
//!
//! Each inspector has the queues of its share of the pods, and a relay and a thread of its own; it is told of the others'
//! queues as well, so that it leaves to them what they read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nv_capture::Share;
use nv_capture::detour::Detours;
use nv_capture::fate::OnFault;
use nv_capture::queue::{ANSWER_BYTES, Answer, Queue};
use nv_telemetry::chain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::protocol;

/// Most queues of a node.
const MAX_QUEUES: usize = 1024;
/// How long an inspector may say nothing until packets are answered for it.
const LATE: Duration = Duration::from_millis(700);
/// How often they are, while it does not.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Most bytes of one packet of answers.
pub(crate) const MAX_ANSWERS_BYTES: usize = 256 * ANSWER_BYTES;
/// What an inspector sends when it has nothing to answer.
pub(crate) const ALIVE: &[u8] = b"!";

/// What the keeper says to an inspector through the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToInspector {
    /// Read this queue; its descriptor comes along. One of the same number is to be read no more. Without a descriptor its packets
    /// wait on the detour of whose share it is in, or another inspector reads it: what it is to be known by.
    Read {
        /// Its number: that of the pod's interface.
        queue: u32,
        /// Addresses of the pod.
        addresses: Vec<IpAddr>,
        /// What cannot be judged is stopped.
        closed: bool,
        /// What inspection finds is stopped; else it is told alone.
        stops: bool,
    },
    /// Read it no more; it is over.
    Leave {
        /// Its number.
        queue: u32,
    },
}

/// A queue that the agent wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Its number: that of the host end of the pod's veth.
    pub(crate) queue: u32,
    /// A process in the pod's network namespace.
    pub(crate) pid: u32,
    /// Addresses of the pod.
    pub(crate) addresses: Vec<IpAddr>,
    /// What cannot be judged is stopped.
    pub(crate) closed: bool,
    /// What inspection finds is stopped; else it is told alone.
    pub(crate) stops: bool,
    /// The pod is cut off: nothing comes in or goes out.
    pub(crate) sealed: bool,
    /// Which policy connections are judged by: with another one, what was clean is asked about again.
    pub(crate) judging: u64,
    /// Its packets wait on a detour, as its row of the kernel's endpoints says; else in a queue in its namespace.
    pub(crate) detour: bool,
}

impl Wanted {
    /// What becomes of packets that cannot be judged.
    pub(crate) fn on_fault(&self) -> OnFault {
        if self.closed { OnFault::Drop } else { OnFault::Pass }
    }
}

/// What the relay has done since the keeper's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueCounts {
    /// Queues at this moment.
    pub(crate) queues: u64,
    /// Answers passed on.
    pub(crate) answers: u64,
    /// Times that what waited was answered by the group's policy, since the inspector was late or had ended.
    pub(crate) by_policy: u64,
    /// Answers that made no sense: to queues that there are none of, or of no kind.
    pub(crate) strange: u64,
}

/// Where packets wait.
#[derive(Debug)]
enum Place {
    Queue(Queue),
    /// Told to every inspector; who reads them is whose share the interface is in.
    Detour(OnFault),
}

impl Place {
    fn on_fault(&self) -> OnFault {
        match self {
            Self::Queue(queue) => queue.on_fault(),
            Self::Detour(on_fault) => *on_fault,
        }
    }
    fn queue(&self) -> Option<&Queue> {
        match self {
            Self::Queue(queue) => Some(queue),
            Self::Detour(_) => None,
        }
    }
    fn queue_mut(&mut self) -> Option<&mut Queue> {
        match self {
            Self::Queue(queue) => Some(queue),
            Self::Detour(_) => None,
        }
    }
}

#[derive(Debug)]
struct Held {
    place: Place,
    addresses: Vec<IpAddr>,
    stops: bool,
    /// The inspector of its share has it; else it is paused.
    handed: bool,
}

/// The socket to the inspector of a share.
#[derive(Debug)]
struct Relay {
    share: Share,
    socket: Arc<OwnedFd>,
    /// It has said that it lives: it is confined, and reads.
    hears: bool,
    /// Queues that others read, and pods whose packets wait on detours, which it knows of.
    knows: BTreeSet<u32>,
    /// Its detour: the interface that packets are led to.
    detour: Option<u32>,
}

impl Held {
    /// As inspectors are told of it.
    fn described(&self, queue: u32) -> ToInspector {
        let closed = self.place.on_fault() == OnFault::Drop;
        ToInspector::Read { queue, addresses: self.addresses.clone(), closed, stops: self.stops }
    }
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<u32, Held>,
    /// By the numbers of their shares.
    relays: BTreeMap<u8, Relay>,
    /// Where the kernel leads packets; `None` where there are no programs.
    detours: Option<Detours>,
    counts: QueueCounts,
}

/// All queues of the node.
#[derive(Debug, Default)]
pub(super) struct Queues(Arc<Mutex<State>>);

impl Queues {
    /// The programs are loaded: packets can wait on detours.
    pub(super) fn lead(&self, detours: Detours) {
        lock(&self.0).detours = Some(detours);
    }

    /// A new inspector is to read those of a share, and what is led to the interface `detour`: its end of the relay.
    pub(super) fn connect(&self, share: Share, detour: Option<u32>) -> Result<OwnedFd, String> {
        let (ours, theirs) = protocol::pair().map_err(|error| error.to_string())?;
        // An inspector that does not read must not hold up the keeper.
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| error.to_string())?;
        let ours = Arc::new(ours);
        let mut state = lock(&self.0);
        state.leave_relay(share.number());
        let socket = Arc::clone(&ours);
        let relay = Relay { share, socket, hears: false, knows: BTreeSet::new(), detour };
        state.relays.insert(share.number(), relay);
        let shared = Arc::clone(&self.0);
        std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || pass_on(&shared, share.number(), &ours))
            .map_err(|error| format!("no thread for answers: {error}"))?;
        Ok(theirs)
    }

    /// Opens a queue, or changes what holds for it. Packets wait on a detour when their endpoint's row says so, which is the
    /// agent's to write once the inspectors have been told of it here.
    pub(super) fn want(&self, wanted: Wanted) -> Result<(), String> {
        let on_fault = wanted.on_fault();
        let mut state = lock(&self.0);
        let number = wanted.queue;
        if let Some(held) = state.queues.get_mut(&number) {
            match &mut held.place {
                Place::Queue(queue) => {
                    queue.seal(wanted.sealed);
                    queue.renew(on_fault).map_err(|error| chain(&error))?;
                    held.handed = false;
                }
                Place::Detour(fault) => *fault = on_fault,
            }
            (held.addresses, held.stops) = (wanted.addresses, wanted.stops);
            state.relays.values_mut().for_each(|relay| relay.knows.retain(|known| *known != number));
            state.hand_over();
            return Ok(());
        }
        if state.queues.len() >= MAX_QUEUES {
            return Err(format!("there are {MAX_QUEUES} queues already"));
        }
        let (addresses, stops) = (wanted.addresses, wanted.stops);
        if wanted.detour {
            // Rules of an earlier keeper, which had no detours, would ask about each packet once more.
            if let Err(error) = nv_capture::queue::clear(wanted.pid) {
                tracing::debug!(
                    number,
                    error = chain(&error),
                    "whether a pod has rules of queues is not known"
                );
            }
            state
                .queues
                .insert(number, Held { place: Place::Detour(on_fault), addresses, stops, handed: true });
            state.hand_over();
            return Ok(());
        }
        let mut queue = Queue::open(wanted.pid, on_fault).map_err(|error| chain(&error))?;
        queue.seal(wanted.sealed);
        state.queues.insert(number, Held { place: Place::Queue(queue), addresses, stops, handed: false });
        state.hand_over();
        // Packets come when somebody reads them, so that none is lost to a group that fails closed.
        if let Err(reason) = state.begin(number) {
            state.queues.remove(&number);
            state.say_left(number)?;
            return Err(reason);
        }
        Ok(())
    }

    /// Ends a queue and takes its rules away; `pid` is a process of the pod, whose rules go also when an earlier keeper
    /// has left them.
    pub(super) fn leave(&self, number: u32, pid: Option<u32>) -> Result<(), String> {
        let mut state = lock(&self.0);
        let Some(held) = state.queues.remove(&number) else {
            let Some(pid) = pid else { return Ok(()) };
            return nv_capture::queue::clear(pid).map(drop).map_err(|error| chain(&error));
        };
        let removed = match held.place {
            Place::Queue(queue) => queue.remove().map_err(|error| chain(&error)),
            Place::Detour(_) => Ok(()),
        };
        state.say_left(number)?;
        removed
    }

    /// What was done so far.
    pub(super) fn counts(&self) -> QueueCounts {
        let state = lock(&self.0);
        QueueCounts { queues: u64::try_from(state.queues.len()).unwrap_or(u64::MAX), ..state.counts }
    }
}

impl Drop for Queues {
    /// What is left when the agent has ended without taking leave: rules of groups that fail closed stay, and stop what
    /// nobody can judge, until a new agent comes; so do those of pods that are cut off.
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        let relays: Vec<u8> = state.relays.keys().copied().collect();
        relays.into_iter().for_each(|share| state.leave_relay(share));
        for (number, held) in std::mem::take(&mut state.queues) {
            let Place::Queue(queue) = held.place else { continue };
            if queue.on_fault() == OnFault::Pass
                && !queue.is_sealed()
                && let Err(error) = queue.remove()
            {
                tracing::warn!(number, error = chain(&error), "rules of a queue stay behind");
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Gives the inspectors what they have not got yet, as far as their sockets take it; the rest when one says something next.
    fn hand_over(&mut self) {
        let missing: Vec<u32> =
            self.queues.iter().filter(|(_, held)| !held.handed).map(|(number, _)| *number).collect();
        for number in missing {
            if let Err(reason) = self.hand(number) {
                tracing::warn!(number, reason, "packets of a pod are not inspected before they go on");
                break;
            }
        }
        for relay in self.relays.values_mut().filter(|relay| relay.hears) {
            let unknown = |(number, held): &(&u32, &Held)| {
                let is_told = held.place.queue().is_none() || !relay.share.has(**number);
                is_told && !relay.knows.contains(*number)
            };
            let unknown: Vec<u32> = self.queues.iter().filter(unknown).map(|(number, _)| *number).collect();
            for number in unknown {
                let Some(held) = self.queues.get(&number) else { continue };
                // It is told again when it has read what it was told before.
                if protocol::send(relay.socket.as_fd(), &held.described(number), &[]).is_err() {
                    break;
                }
                relay.knows.insert(number);
            }
        }
    }
    /// Leads packets into a queue that somebody reads, or that is paused.
    fn begin(&mut self, number: u32) -> Result<(), String> {
        let Some(held) = self.queues.get_mut(&number) else { return Ok(()) };
        let Some(queue) = held.place.queue_mut() else { return Ok(()) };
        if !held.handed {
            queue.pause().map_err(|error| error.to_string())?;
        }
        queue.put_rules().map_err(|error| chain(&error))
    }
    fn hand(&mut self, number: u32) -> Result<(), String> {
        let relay = self.relays.values().find(|relay| relay.hears && relay.share.has(number));
        let (Some(held), Some(relay)) = (self.queues.get_mut(&number), relay) else { return Ok(()) };
        let read = held.described(number);
        let Some(queue) = held.place.queue_mut() else { return Ok(()) };
        queue.resume().map_err(|error| chain(&error))?;
        let descriptor = queue.reader().map_err(|error| error.to_string())?;
        if let Err(error) = protocol::send(relay.socket.as_fd(), &read, &[descriptor.as_fd()]) {
            // Nobody reads it: nothing may wait in it.
            queue.pause().map_err(|error| error.to_string())?;
            return Err(error.to_string());
        }
        held.handed = true;
        Ok(())
    }
    /// A queue is over: who reads it has to know, and who knows of it.
    fn say_left(&mut self, number: u32) -> Result<(), String> {
        let mut said = Ok(());
        for relay in self.relays.values_mut() {
            if relay.knows.remove(&number) || relay.share.has(number) {
                let word = ToInspector::Leave { queue: number };
                said = protocol::send(relay.socket.as_fd(), &word, &[])
                    .map_err(|error| error.to_string())
                    .and(said);
            }
        }
        said
    }
    /// The inspector of a share reads no more: what waits, and what comes, goes by policy.
    fn leave_relay(&mut self, share: u8) {
        let Some(Relay { share, .. }) = self.relays.remove(&share) else { return };
        if let Some(Err(error)) = self.detours.as_ref().map(|detours| detours.stop(share)) {
            tracing::warn!(error = chain(&error), "packets wait some more tenths of a second for nobody");
        }
        for (number, held) in self.queues.iter_mut().filter(|(number, _)| share.has(**number)) {
            let Some(queue) = held.place.queue_mut() else { continue };
            held.handed = false;
            if let Err(error) = queue.pause() {
                tracing::warn!(number, %error, "a queue is not paused");
            }
            self.counts.by_policy = self.counts.by_policy.saturating_add(1);
        }
    }
    /// The inspector of a share lives, and knows all that was to be told: packets may wait for it.
    fn lead_to(&self, share: u8) {
        let Some((relay, detours)) = self.relays.get(&share).zip(self.detours.as_ref()) else { return };
        let Some(ifindex) = relay.detour else { return };
        let is_told =
            |(number, held): (&u32, &Held)| held.place.queue().is_some() || relay.knows.contains(number);
        if self.queues.iter().all(is_told)
            && let Err(error) = detours.lead_to(relay.share, ifindex, LATE)
        {
            tracing::warn!(error = chain(&error), "packets wait for nobody");
        }
    }
    /// Passes answers of the inspector of a share on; those of one queue that stand together as one.
    fn answer(&mut self, share: Share, bytes: &[u8]) {
        let (records, rest) = bytes.as_chunks::<ANSWER_BYTES>();
        let answers: Vec<Answer> = records.iter().filter_map(Answer::from_bytes).collect();
        let unread =
            records.len().saturating_sub(answers.len()).saturating_add(usize::from(!rest.is_empty()));
        self.counts.strange = self.counts.strange.saturating_add(unread as u64);
        for run in answers.chunk_by(|one, next| one.queue == next.queue) {
            let queue = run.first().map(|first| first.queue).filter(|queue| share.has(*queue));
            let queue = queue.and_then(|queue| self.queues.get(&queue));
            let queue = queue.and_then(|held| held.place.queue());
            let counter = match queue.map(|queue| queue.answer(run.iter().copied())) {
                Some(Ok(())) => &mut self.counts.answers,
                Some(Err(_)) | None => &mut self.counts.strange,
            };
            *counter = counter.saturating_add(run.len() as u64);
        }
    }
    fn answer_all(&mut self, share: Share) {
        for (number, held) in self.queues.iter().filter(|(number, held)| held.handed && share.has(**number)) {
            if let Some(Err(error)) = held.place.queue().map(Queue::answer_all) {
                tracing::debug!(number, %error, "packets wait on");
            }
        }
        self.counts.by_policy = self.counts.by_policy.saturating_add(1);
    }
}

/// Hears the inspector of a share until it ends.
fn pass_on(shared: &Mutex<State>, number: u8, socket: &Arc<OwnedFd>) {
    let mut bytes = vec![0_u8; MAX_ANSWERS_BYTES];
    let mut last = Instant::now();
    loop {
        // `None` when another one has its place.
        let share = |state: &State| {
            let relay = state.relays.get(&number).filter(|relay| Arc::ptr_eq(&relay.socket, socket));
            relay.map(|relay| relay.share)
        };
        match poll(&mut [PollFd::new(socket.as_ref(), PollFlags::IN)], Some(&TICK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {
                let mut state = lock(shared);
                let Some(share) = share(&state) else { return };
                if last.elapsed() > LATE {
                    state.answer_all(share);
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the relay cannot be waited for"),
        }
        let received = rustix::io::retry_on_intr(|| {
            rustix::io::readv(socket.as_ref(), &mut [IoSliceMut::new(&mut bytes)])
        });
        let mut state = lock(shared);
        let Some(share) = share(&state) else { return };
        match received {
            Ok(0) => return state.leave_relay(number),
            Ok(length) => {
                last = Instant::now();
                let said = bytes.get(..length).unwrap_or_default();
                if said != ALIVE {
                    state.answer(share, said);
                }
                if let Some(relay) = state.relays.get_mut(&number) {
                    relay.hears = true;
                }
                state.hand_over();
                state.lead_to(number);
            }
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_gone) => return state.leave_relay(number),
        }
    }
}
