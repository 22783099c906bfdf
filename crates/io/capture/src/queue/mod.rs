//! Packets of a pod that wait for an answer: NFQUEUE inside of the pod's network namespace.
//!
//! ```text
//! packet ─► rules of nftables ─► queue ─► QueueReader (who inspects; no privilege) ─ Answer ─► Queue (CAP_NET_ADMIN) ─► kernel
//!             │ clean: past it                                                          │ late or dead: as OnFault says
//!             │ cut: refused                                                            ▼
//!             └◄──────────────── sets of connections ◄─────────────── the rules again ◄─── mark of the packet
//! ```
//!
//! The kernel wants `CAP_NET_ADMIN` of whoever answers, not only of whoever opened the socket, so that reading and
//! answering can be two processes.

mod answer;
mod expression;
mod reader;
mod rules;
pub(crate) mod trial;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt};

pub use answer::{ANSWER_BYTES, Answer};
pub use reader::{QueueReader, Queued};
use rules::{CUT, Dialect, Epoch, Wish, marked};

use crate::fate::{Fate, OnFault};
use crate::netlink::{NLM_F_ACK, NLM_F_REQUEST, Request, Socket, attributes, messages, put_attribute};
use crate::netns::{self, NetnsError};

const NFNL_SUBSYS_QUEUE: u8 = 3;
const NFQNL_MSG_PACKET: u8 = 0;
const NFQNL_MSG_VERDICT: u8 = 1;
const NFQNL_MSG_CONFIG: u8 = 2;
const NFQNL_MSG_VERDICT_BATCH: u8 = 3;
// Attributes of linux/netfilter/nfnetlink_queue.h.
const NFQA_VERDICT_HDR: u16 = 2;
const NFQA_MARK: u16 = 3;
const NFQA_CFG_CMD: u16 = 1;
const NFQA_CFG_PARAMS: u16 = 2;
const NFQA_CFG_QUEUE_MAXLEN: u16 = 3;
const NFQA_CFG_MASK: u16 = 4;
const NFQA_CFG_FLAGS: u16 = 5;
const NFQNL_CFG_CMD_BIND: u8 = 1;
const NFQNL_CFG_CMD_UNBIND: u8 = 2;
const NFQNL_COPY_PACKET: u8 = 2;
const NFQA_CFG_F_FAIL_OPEN: u32 = 1;
const NFQA_CFG_F_GSO: u32 = 4;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// The rules that have asked look at the packet once more.
const NF_REPEAT: u32 = 4;

/// Most packets of a pod that wait at one time; what comes beyond goes as [`OnFault`] says, and the kernel counts it.
const MAX_WAITING: u32 = 1024;
/// Room for them on their way to the reader.
const ROOM: usize = 8 * 1024 * 1024;
/// Queue numbers that are tried: another process may have some of them in the same namespace.
const NUMBERS: std::ops::RangeInclusive<u16> = 18_401..=18_416;
/// Most messages that a reader can leave behind.
const MAX_LEFT: usize = 1 << 16;
/// Most answers in one packet to the kernel.
const MAX_ANSWERS: usize = 128;

/// Why there is no queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The namespace cannot be entered.
    #[error("the network namespace cannot be looked into")]
    Namespace(#[source] NetnsError),
    /// The queue's socket cannot be opened; that takes `CAP_NET_ADMIN` and `CONFIG_NETFILTER_NETLINK_QUEUE`.
    #[error("a queue for packets cannot be opened")]
    Socket(#[source] io::Error),
    /// The rules cannot be put; that takes `CAP_NET_ADMIN` and nf_tables with sets that rules change (Linux 5.4).
    #[error("the rules that lead packets into the queue cannot be put")]
    Rules(#[source] io::Error),
}

/// A queue and its rules in a pod's namespace. The rules stay when it is dropped, for a process that is killed leaves
/// them as well: [`Queue::remove`] takes them away.
#[derive(Debug)]
pub struct Queue {
    rules: Socket,
    socket: OwnedFd,
    number: u16,
    on_fault: OnFault,
    epoch: Epoch,
    dialect: Dialect,
    sealed: bool,
    paused: bool,
}

impl Queue {
    /// In the network namespace of a process. No packet comes to it until [`Self::put_rules`].
    ///
    /// # Errors
    /// [`QueueError`]; then nothing has changed.
    pub fn open(pid: u32, on_fault: OnFault) -> Result<Self, QueueError> {
        let (rules, (socket, number)) =
            netns::within_process(pid, || Ok((Socket::netfilter(), open_socket(on_fault))))
                .map_err(QueueError::Namespace)
                .and_then(|(rules, socket)| {
                    Ok((rules.map_err(QueueError::Rules)?, socket.map_err(QueueError::Socket)?))
                })?;
        Ok(Self::new(rules, socket, number, on_fault))
    }

    /// In the network namespace of the calling thread, with its rules.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn open_here(on_fault: OnFault) -> Result<Self, QueueError> {
        let rules = Socket::netfilter().map_err(QueueError::Rules)?;
        let (socket, number) = open_socket(on_fault).map_err(QueueError::Socket)?;
        let mut queue = Self::new(rules, socket, number, on_fault);
        queue.put_rules()?;
        Ok(queue)
    }

    fn new(rules: Socket, socket: OwnedFd, number: u16, on_fault: OnFault) -> Self {
        let epoch = Epoch::begin(crate::clock::monotonic_nanos());
        Self {
            rules,
            socket,
            number,
            on_fault,
            epoch,
            dialect: Dialect::default(),
            sealed: false,
            paused: false,
        }
    }

    /// Leads packets into the queue, in the place of the rules that an earlier process has left. Whoever reads it has to be
    /// there, or it has to be paused.
    ///
    /// # Errors
    /// [`QueueError::Rules`]; then nothing has changed.
    pub fn put_rules(&mut self) -> Result<(), QueueError> {
        let wish = self.wish();
        self.dialect = rules::put(&mut self.rules, wish).map_err(QueueError::Rules)?;
        Ok(())
    }

    /// Has every packet but those of the loopback dropped by the rules that are put or renewed from now on, whoever reads the
    /// queue; or no more.
    pub fn seal(&mut self, sealed: bool) {
        self.sealed = sealed;
    }

    /// Whether every packet is dropped, as [`Self::seal`] has said.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    fn wish(&self) -> Wish {
        let bypass = self.on_fault == OnFault::Pass;
        Wish { queue: self.number, bypass, epoch: self.epoch, sealed: self.sealed }
    }

    /// A descriptor of the queue for a [`QueueReader`].
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Whether a connection that is cut is answered with a reset; else its packets are dropped in silence.
    #[must_use]
    pub fn resets(&self) -> bool {
        self.dialect.reset
    }

    /// What becomes of packets that cannot be judged.
    #[must_use]
    pub fn on_fault(&self) -> OnFault {
        self.on_fault
    }

    /// What was clean is asked about again, as other rules may hold for it, and `on_fault` is what holds from now on. What
    /// waits waits on.
    ///
    /// # Errors
    /// When the kernel refuses; then all is as before.
    pub fn renew(&mut self, on_fault: OnFault) -> Result<(), QueueError> {
        let epoch = self.epoch.next();
        let wish = Wish { bypass: on_fault == OnFault::Pass, epoch, ..self.wish() };
        rules::replace(&mut self.rules, wish, self.epoch, self.dialect).map_err(QueueError::Rules)?;
        self.epoch = epoch;
        if on_fault != self.on_fault {
            let request = configuration(self.number, &flags(on_fault));
            // Without an answer: it would come between the packets, to whoever reads them.
            send(&self.socket, &request.bytes(NLM_F_REQUEST, 0), SendFlags::empty())
                .map_err(|errno| QueueError::Socket(errno.into()))?;
            self.on_fault = on_fault;
        }
        Ok(())
    }

    /// Answers to packets of this queue. An answer to a packet that was answered already, or that there is none of, does
    /// nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn answer(&self, answers: impl Iterator<Item = Answer>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut count = 0_usize;
        for answer in answers {
            bytes.extend(self.verdict(answer).bytes(NLM_F_REQUEST, 0));
            count = count.saturating_add(1);
            if count >= MAX_ANSWERS {
                send(&self.socket, &bytes, SendFlags::empty())?;
                (bytes, count) = (Vec::new(), 0);
            }
        }
        if count > 0 {
            send(&self.socket, &bytes, SendFlags::empty())?;
        }
        Ok(())
    }

    fn verdict(&self, answer: Answer) -> Request {
        let (verdict, mark) = match answer.fate {
            Fate::Pass => (NF_ACCEPT, None),
            Fate::Clean => (NF_REPEAT, Some(self.epoch.clean())),
            Fate::Drop => (NF_DROP, None),
            // The rules refuse it.
            Fate::Cut => (NF_REPEAT, Some(CUT)),
        };
        let request = about(NFQNL_MSG_VERDICT, self.number)
            .attribute(NFQA_VERDICT_HDR, &verdict_header(verdict, answer.packet));
        match mark {
            Some(ours) => request.attribute(NFQA_MARK, &marked(answer.mark, ours).to_be_bytes()),
            None => request,
        }
    }

    /// Answers to all packets that wait, as for those that cannot be judged.
    ///
    /// # Errors
    /// When the kernel refuses. That none waits is no error.
    pub fn answer_all(&self) -> io::Result<()> {
        let verdict = match self.on_fault {
            OnFault::Pass => NF_ACCEPT,
            OnFault::Drop => NF_DROP,
        };
        self.answer_with(verdict)
    }

    fn answer_with(&self, verdict: u32) -> io::Result<()> {
        // Numbers go round: half of them are before any one.
        for up_to in [u32::MAX >> 1, u32::MAX] {
            let request = about(NFQNL_MSG_VERDICT_BATCH, self.number)
                .attribute(NFQA_VERDICT_HDR, &verdict_header(verdict, up_to));
            send(&self.socket, &request.bytes(NLM_F_REQUEST, 0), SendFlags::empty())?;
        }
        Ok(())
    }

    /// Nobody reads the queue from now on: what waits, and what comes, goes as for packets that cannot be judged, without
    /// waiting.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pause(&mut self) -> io::Result<()> {
        self.answer_all()?;
        let unbind = configuration(self.number, &command(NFQNL_CFG_CMD_UNBIND));
        // Without an answer, as above.
        send(&self.socket, &unbind.bytes(NLM_F_REQUEST, 0), SendFlags::empty())?;
        self.paused = true;
        Ok(())
    }

    /// Packets wait again. Nobody may read the queue at this moment, and somebody has to from now on.
    ///
    /// # Errors
    /// When the kernel refuses, as another process has taken the queue's number meanwhile: open a new one.
    pub fn resume(&mut self) -> Result<(), QueueError> {
        if !self.paused {
            return Ok(());
        }
        // What the last reader has left is of packets that are gone, and the kernel gives their numbers out anew.
        let mut rest = [0; 64];
        let flags = rustix::net::RecvFlags::DONTWAIT;
        for _ in 0..MAX_LEFT {
            match rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut rest[..], flags)) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
                Err(_none) => break,
            }
        }
        set_up(&self.socket, self.number, self.on_fault).map_err(QueueError::Socket)?;
        self.paused = false;
        Ok(())
    }

    /// Takes the rules away, and ends the queue. Packets that wait go on, like those that come now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(mut self) -> Result<(), QueueError> {
        // With the table goes what waits, so that it is let go before, when nothing comes any more.
        let emptied = rules::empty(&mut self.rules);
        if let Err(error) = emptied.and_then(|()| self.answer_with(NF_ACCEPT)) {
            tracing::debug!(%error, "packets that wait are dropped");
        }
        rules::remove(&mut self.rules).map(drop).map_err(QueueError::Rules)
    }
}

/// Takes the rules away that an earlier process has left in the network namespace of a process. Whether there were any.
///
/// # Errors
/// [`QueueError`].
pub fn clear(pid: u32) -> Result<bool, QueueError> {
    netns::within_process(pid, || Ok(Socket::netfilter()))
        .map_err(QueueError::Namespace)?
        .and_then(|mut socket| rules::remove(&mut socket))
        .map_err(QueueError::Rules)
}

/// `nfgenmsg` with a queue's number.
fn about(kind: u8, queue: u16) -> Request {
    let [high, low] = queue.to_be_bytes();
    Request::new(u16::from_be_bytes([NFNL_SUBSYS_QUEUE, kind]), &[0, 0, high, low])
}

fn verdict_header(verdict: u32, packet: u32) -> [u8; 8] {
    let mut header = [0; 8];
    for (into, from) in header.iter_mut().zip(verdict.to_be_bytes().into_iter().chain(packet.to_be_bytes())) {
        *into = from;
    }
    header
}

/// A bound queue of the namespace of the calling thread, and its number.
fn open_socket(on_fault: OnFault) -> io::Result<(OwnedFd, u16)> {
    let mut failure = io::Error::other("no queue number was tried");
    for number in NUMBERS {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)
            .or_else(|_not_allowed| sockopt::set_socket_recv_buffer_size(&socket, ROOM))?;
        match set_up(&socket, number, on_fault) {
            Ok(()) => return Ok((socket, number)),
            // Somebody else's, or an earlier inspector's that has not ended yet.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EPERM | libc::EEXIST)) => {
                failure = error;
                continue;
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// Binds a queue: packets come to the socket from now on.
fn set_up(socket: &OwnedFd, number: u16, on_fault: OnFault) -> io::Result<()> {
    configure(socket, number, &command(NFQNL_CFG_CMD_BIND))?;
    // Whole packets: the range is a word in network byte order and one byte for the mode, unpadded.
    let [r0, r1, r2, r3] = 0xffff_u32.to_be_bytes();
    let mut parameters = Vec::new();
    put_attribute(&mut parameters, NFQA_CFG_PARAMS, &[r0, r1, r2, r3, NFQNL_COPY_PACKET]);
    put_attribute(&mut parameters, NFQA_CFG_QUEUE_MAXLEN, &MAX_WAITING.to_be_bytes());
    parameters.extend(flags(on_fault));
    // Without an answer: rules may lead to the queue already, and a packet could come before it.
    let request = configuration(number, &parameters);
    send(socket, &request.bytes(NLM_F_REQUEST, 0), SendFlags::empty())?;
    Ok(())
}

fn command(number: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_attribute(&mut bytes, NFQA_CFG_CMD, &[number, 0, 0, 0]);
    bytes
}

/// Packets that are to be cut into several come as one, and a full queue does as it is told.
fn flags(on_fault: OnFault) -> Vec<u8> {
    let open = if on_fault == OnFault::Pass { NFQA_CFG_F_FAIL_OPEN } else { 0 };
    let mut bytes = Vec::new();
    put_attribute(&mut bytes, NFQA_CFG_FLAGS, &(NFQA_CFG_F_GSO | open).to_be_bytes());
    put_attribute(&mut bytes, NFQA_CFG_MASK, &(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN).to_be_bytes());
    bytes
}

fn configuration(number: u16, fields: &[u8]) -> Request {
    attributes(fields, 0)
        .fold(about(NFQNL_MSG_CONFIG, number), |request, (kind, value)| request.attribute(kind, value))
}

/// Sets a queue that no packet comes to yet (it has no copy mode), so that what is read is the kernel's answer.
fn configure(socket: &OwnedFd, number: u16, fields: &[u8]) -> io::Result<()> {
    let request = configuration(number, fields);
    send(socket, &request.bytes(NLM_F_REQUEST | NLM_F_ACK, 1), SendFlags::empty())?;
    let mut buffer = [0; 4096];
    let (length, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty())
    })?;
    let answer = messages(buffer.get(..length).unwrap_or_default());
    let code = answer.first().and_then(|message| message.body.first_chunk::<4>());
    match code.map_or(0, |code| i32::from_ne_bytes(*code)) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
