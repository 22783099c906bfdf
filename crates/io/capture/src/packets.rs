//! Packets as an interface sees them, for whoever looks for a fault: packet(7) sockets.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};

use crate::frames::drops;

/// Every EtherType (`ETH_P_ALL`), in network byte order.
const EVERYTHING: u32 = 0x0003_u16.to_be() as u32;
/// Room for packets between two reads; the kernel counts what does not fit.
const ROOM: usize = 8 * 1024 * 1024;
/// Largest frame: 64 KiB of segmentation offload and its link header.
const MAX_FRAME: usize = 68 * 1024;

/// A socket that gets a copy of every packet of the namespace of the calling thread. Ethernet headers come along.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(EVERYTHING).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    // The limit of unprivileged sockets does not hold for who may open this one; if it does, less room is no fault.
    sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)
        .or_else(|_not_allowed| sockopt::set_socket_recv_buffer_size(&socket, ROOM))?;
    Ok(socket)
}

/// Reads such a socket.
#[derive(Debug)]
pub struct Packets {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// How many there were on the wire.
    pub length: u32,
}

impl Packets {
    /// Of a socket by [`crate::netns::packets`].
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MAX_FRAME] }
    }

    /// The next packet, or `None` when none comes for this long (rounded to milliseconds).
    ///
    /// # Errors
    /// When the kernel does not give packets any more. An interface that goes down (`ENETDOWN`) is none: others may be up.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Frame<'_>>> {
        let wait = Timespec {
            tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut ready, Some(&wait)))? == 0 {
            return Ok(None);
        }
        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let received = rustix::io::retry_on_intr(|| recv(self.socket.as_fd(), &mut self.buffer[..], flags));
        match received {
            Ok((kept, length)) => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                Ok(self.buffer.get(..kept).map(|bytes| Frame { bytes, length }))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NETDOWN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How many packets did not fit since this was asked last.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn dropped(&self) -> io::Result<u64> {
        drops(self.socket.as_fd())
    }
}
