//! Messages between agent and keeper: one JSON object a packet on a `SOCK_SEQPACKET` pair, descriptors beside it.
//!
//! The keeper trusts the agent no more than it must: it takes numbers of interfaces, cgroups and processes and lists of
//! files, and what it loads is in its own binary.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nv_capture::Share;
use nv_capture::netns::Interface;
use nv_model::name::WorkloadId;
use nv_model::node::Capabilities;

use super::guard::Watched;
use super::queues::{QueueCounts, Wanted};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most descriptors in one packet.
const MAX_DESCRIPTORS: usize = 48;
/// Most bytes of one packet.
const MAX_PACKET: usize = 64 * 1024;

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// First of all: load everything. Answered with [`Reply::Ready`] and the descriptors that it names.
    Load {
        /// Folder on the BPF file system.
        bpf_dir: PathBuf,
    },
    /// Put the network programs on the host end of a veth.
    Attach {
        /// Its interface number in the host's namespace.
        ifindex: u32,
    },
    /// Take them off.
    Detach {
        /// Its interface number.
        ifindex: u32,
    },
    /// Put the programs of sockets on a cgroup.
    AttachSockets {
        /// The inode of its folder in the v2 hierarchy.
        cgroup: u64,
    },
    /// Take them off.
    DetachSockets {
        /// Its number.
        cgroup: u64,
    },
    /// Watch these files and no others. The packet carries one descriptor: a file with the JSON of a [`Watch`].
    Files,
    /// Say which files are watched. Answered with [`Reply::Done`] and a file with the JSON of a list of them.
    WatchedFiles {
        /// Whose; `None` for every place.
        workload: Option<WorkloadId>,
    },
    /// Look up the interfaces of the network namespace of a process.
    Interfaces {
        /// Which process.
        pid: u32,
    },
    /// Open a socket that sees every packet of the network namespace of a process. Answered with [`Reply::Done`] and the
    /// socket's descriptor.
    Packets {
        /// Which process.
        pid: u32,
    },
    /// Give the inspector of a share its ring. The packet carries the agent's end of the inspector's socket, through which the keeper
    /// hands it on: no packet of a pod comes to the agent. Answered with [`Reply::Tapped`].
    Inspect {
        /// The pods that it inspects.
        share: Share,
    },
    /// Have packets of a pod wait until an inspector has looked at them, or change what holds for them: what was clean is
    /// asked about again.
    Queue(Wanted),
    /// Have them wait no more.
    Unqueue {
        /// The queue's number.
        queue: u32,
        /// A process of the pod while there is one, so that what an earlier keeper has left goes as well.
        pid: Option<u32>,
    },
    /// What became of answers. Answered with [`Reply::Queues`].
    Queues,
    /// Take what other versions have pinned out of the kernel. Asked when the tables of this version have their rows
    /// and its programs are on every interface.
    Retire,
}

/// What the keeper answers; one reply a request, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Loaded. The packet carries one descriptor for each name.
    Ready {
        /// What the kernel allows.
        capabilities: Capabilities,
        /// Names of the process programs' descriptors, then of the network programs'.
        process: Vec<String>,
        /// See `process`.
        network: Vec<String>,
        /// There is one more descriptor behind them: the socket on which files are reported.
        files: bool,
        /// There is one more behind that: the socket of programs that the keeper judges.
        programs: bool,
        /// The programs outlive the keeper.
        pinned: bool,
    },
    /// Tried, but no BPF program could be loaded.
    Unable {
        /// What the kernel allows.
        capabilities: Capabilities,
        /// Why, in a sentence.
        reason: String,
        /// As in [`Self::Ready`].
        files: bool,
        /// As in [`Self::Ready`].
        programs: bool,
    },
    /// The files are watched.
    Watching(Watched),
    /// To [`Request::Interfaces`].
    Interfaces(Vec<Interface>),
    /// The inspector has its ring.
    Tapped {
        /// The interface that copies of packets are to go to.
        ifindex: u32,
    },
    /// To [`Request::Queues`].
    Queues(QueueCounts),
    /// Done.
    Done,
    /// Not done.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
}

impl From<Result<(), String>> for Reply {
    fn from(done: Result<(), String>) -> Self {
        match done {
            Ok(()) => Self::Done,
            Err(reason) => Self::Failed { reason },
        }
    }
}

/// Why a packet could not be sent or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ProtocolError {
    #[error("the other process has closed the connection")]
    Closed,
    #[error("socket to the other process")]
    Socket(#[source] rustix::io::Errno),
    #[error("packet is not understood: {0}")]
    Content(#[source] serde_json::Error),
    #[error("packet is larger than {MAX_PACKET} bytes or carries more than {MAX_DESCRIPTORS} descriptors")]
    TooLarge,
}

/// Sends one packet.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ProtocolError> {
    let bytes = serde_json::to_vec(message).map_err(ProtocolError::Content)?;
    if bytes.len() > MAX_PACKET || descriptors.len() > MAX_DESCRIPTORS {
        return Err(ProtocolError::TooLarge);
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ProtocolError::TooLarge);
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })
    .map(drop)
    .map_err(|errno| match errno {
        rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => ProtocolError::Closed,
        other => ProtocolError::Socket(other),
    })
}

/// Waits for one packet.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<(T, Vec<OwnedFd>), ProtocolError> {
    let mut bytes = vec![0_u8; MAX_PACKET];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(|errno| match errno {
        rustix::io::Errno::CONNRESET => ProtocolError::Closed,
        other => ProtocolError::Socket(other),
    })?;
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    if received.bytes == 0 {
        return Err(ProtocolError::Closed);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(ProtocolError::TooLarge);
    }
    let body = bytes.get(..received.bytes).unwrap_or_default();
    Ok((serde_json::from_slice(body).map_err(ProtocolError::Content)?, descriptors))
}

/// A connected pair: one end for the agent, one for the keeper.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), ProtocolError> {
    rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .map_err(ProtocolError::Socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_packet_arrives_whole_with_its_descriptors() {
        let (agent, keeper) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"through the socket").unwrap();
        file.rewind().unwrap();
        send(agent.as_fd(), &Request::Attach { ifindex: 7 }, &[file.as_fd()]).unwrap();
        let (request, descriptors) = receive::<Request>(keeper.as_fd()).unwrap();
        assert_eq!(request, Request::Attach { ifindex: 7 });
        let mut text = String::new();
        std::fs::File::from(descriptors.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the socket");
    }

    #[test]
    fn a_closed_end_and_a_strange_packet_are_told_apart() {
        let (agent, keeper) = pair().unwrap();
        send(agent.as_fd(), &"hello", &[]).unwrap();
        assert!(matches!(receive::<Request>(keeper.as_fd()), Err(ProtocolError::Content(_))));
        drop(agent);
        assert!(matches!(receive::<Request>(keeper.as_fd()), Err(ProtocolError::Closed)));
        assert!(matches!(send(keeper.as_fd(), &Reply::Done, &[]), Err(ProtocolError::Closed)));
    }
}
