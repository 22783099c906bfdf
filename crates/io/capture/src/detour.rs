//! Packets that wait for an inspector on a way of their own (`bpf/network/detour.h`).
//!
//! ```text
//! veth of a pod ─► program ─► veth of the node ═► DetourReader (who inspects; no privilege) ─ Fate ┐
//!      ▲                       (TapInterface)                                                       │
//!      └──────────── program ◄──────────────────────────────── what may go on ◄─────────────────────┘
//! ```
//!
//! Nothing in the pod changes, and a packet of a connection that is clean costs no more than one of a pod that nobody
//! inspects: the row of its flow says so. Where there are no programs at interfaces, packets wait in a [queue](crate::queue).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nv_packet::decode::{Decoded, Transport, decode};
use nv_packet::link::Link;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt,
};

use crate::attach::{AttachError, Hook, as_c_int, kernel_or_gone};
use crate::clock::monotonic_nanos;
use crate::fate::Fate;
use crate::frames;
use crate::map::{Map, TableError, name};
use crate::reset;
use crate::rows::TapRow;
use crate::share::Share;
use crate::sys::{self, Direction};

/// Name of the program that frames come back by.
pub(crate) const PROGRAM: &str = "from_detour";
/// Room for packets that wait to be read.
const ROOM: usize = 8 * 1024 * 1024;
/// Length of `struct virtio_net_hdr`, which stands before each frame: what a network card has still to do with it.
const CARD: usize = 10;
/// Room for the longest frame (64 KiB with its headers) and what stands before it.
const BUFFER: usize = 68 * 1024;
/// Where a frame has its waybill (`struct waybill`), and what is behind its addresses.
const WAYBILL_AT: usize = CARD + 6;
const SAYS_AT: usize = WAYBILL_AT + 1;
const TYPE_AT: usize = CARD + 12;
/// What a waybill begins with.
const WAYBILL: u8 = 0x02;
// enum says
const LEAVES: u8 = 1;
const CLEAN: u8 = 1 << 1;
const CUT: u8 = 1 << 2;
const TURNED: u8 = 1 << 3;
/// As much of a frame as the kernel reads to know its flow.
const HEADERS: usize = CARD + 256;
/// EtherTypes of VLAN tags.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];

/// The way back, open as long as this lives.
#[derive(Debug)]
pub struct Way {
    /// `None` where the program is a filter, which goes with the interface.
    _link: Option<OwnedFd>,
}

impl Way {
    pub(crate) fn open(program: BorrowedFd<'_>, ifindex: u32) -> Result<Self, AttachError> {
        let failed = |hook| move |source| kernel_or_gone(ifindex, "attach to", hook, source);
        match sys::link_tcx(program, as_c_int(ifindex), Direction::FromPod) {
            Ok(link) => Ok(Self { _link: Some(link) }),
            // A kernel before 6.6 does not know the attach type.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                sys::set_filter(program, as_c_int(ifindex), Direction::FromPod)
                    .map_err(failed(Hook::Clsact))?;
                Ok(Self { _link: None })
            }
            Err(error) => Err(failed(Hook::Tcx)(error)),
        }
    }
}

/// The kernel's rows on where packets wait.
#[derive(Debug)]
pub struct Detours(Map<u32, TapRow>);

impl Detours {
    /// From what the loader has handed over.
    ///
    /// # Errors
    /// When the table is missing or of another version.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        Map::find(name::DETOURS, descriptors).map(Self)
    }
    /// Has packets of the pods of a share that are to wait led to an interface, for some time from now on. To be said again
    /// while somebody reads them: when it is not, they pass or are dropped as their pod fails.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lead_to(&self, share: Share, ifindex: u32, time: Duration) -> Result<(), TableError> {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let row = TapRow { until_ns: monotonic_nanos().saturating_add(time), ifindex, zero: 0 };
        share.places().try_for_each(|place| self.0.put(&place, &row))
    }
    /// Nobody reads them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop(&self, share: Share) -> Result<(), TableError> {
        let none = TapRow { until_ns: 0, ifindex: 0, zero: 0 };
        share.places().try_for_each(|place| self.0.put(&place, &none))
    }
}

/// A socket of what arrives at an interface of the calling thread's network namespace, by which it goes back as well.
///
/// # Errors
/// When the kernel refuses; it takes `CAP_NET_RAW`.
pub(crate) fn open(ifindex: u32) -> io::Result<OwnedFd> {
    // Protocol 0: no frame comes before the socket is bound.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None::<Protocol>)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)
        .or_else(|_not_allowed| sockopt::set_socket_recv_buffer_size(&socket, ROOM))?;
    // What is several packets in one stays so, and a checksum that is not there yet is not computed.
    frames::set(&socket, libc::PACKET_VNET_HDR, &1_i32)?;
    frames::bind(&socket, ifindex)?;
    Ok(socket)
}

/// A packet that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detoured<'a> {
    /// The interface that it has left its way at: the host end of its pod's veth.
    pub ifindex: u32,
    /// It leaves the pod; else it arrives.
    pub leaves: bool,
    /// From its IP header on. Checksums that a network card is to compute are not there yet, and what it is to cut into
    /// several packets is one.
    pub bytes: &'a [u8],
}

/// Reads packets that wait, and sends on what may go on. It takes no privilege.
#[derive(Debug)]
pub struct DetourReader {
    socket: OwnedFd,
    buffer: Vec<u8>,
    unsent: u64,
}

impl DetourReader {
    /// Of a socket by [`TapInterface::open_detour`](crate::TapInterface::open_detour).
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; BUFFER], unsent: 0 }
    }

    /// Has `judge` say of at most `limit` packets what becomes of them, as many as there are. Answers with how many there
    /// were.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn drain(&mut self, limit: usize, mut judge: impl FnMut(Detoured<'_>) -> Fate) -> io::Result<usize> {
        let mut count = 0_usize;
        for _ in 0..limit {
            let flags = RecvFlags::DONTWAIT;
            let received = rustix::io::retry_on_intr(|| recv(&self.socket, &mut self.buffer[..], flags));
            let length = match received {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => break,
                // What the kernel cannot tell what is still to be done with it is gone.
                Err(rustix::io::Errno::INVAL) => {
                    self.unsent = self.unsent.saturating_add(1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(frame) = self.buffer.get_mut(..length) else { continue };
            let Some(fate) = read(frame).map(&mut judge) else { continue };
            count = count.saturating_add(1);
            if !answer(&self.socket, frame, fate) {
                self.unsent = self.unsent.saturating_add(1);
            }
        }
        Ok(count)
    }

    /// Packets that found no room, to be read or on their way back, or could not be told of, since this was asked last.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn lost(&mut self) -> io::Result<u64> {
        Ok(frames::drops(self.socket.as_fd())?.saturating_add(std::mem::take(&mut self.unsent)))
    }
}

impl AsFd for DetourReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where the network header stands; `None` when it does not.
fn network_at(frame: &[u8]) -> Option<usize> {
    let mut at = TYPE_AT;
    loop {
        let kind = frame.get(at..)?.first_chunk::<2>()?;
        if !TAGS.contains(kind) {
            return Some(at.saturating_add(2));
        }
        at = at.saturating_add(4);
    }
}

/// What waits; `None` for what does not, such as what the node itself says at the interface.
fn read(frame: &[u8]) -> Option<Detoured<'_>> {
    let [kind, says, ifindex @ ..] = *frame.get(WAYBILL_AT..)?.first_chunk::<6>()?;
    let bytes = frame.get(network_at(frame)?..)?;
    (kind == WAYBILL).then(|| Detoured {
        ifindex: u32::from_be_bytes(ifindex),
        leaves: says & LEAVES != 0,
        bytes,
    })
}

/// Has a packet, and its connection, go the way that was said. Whether all of it was sent.
fn answer(socket: &OwnedFd, frame: &mut [u8], fate: Fate) -> bool {
    match fate {
        Fate::Drop => true,
        Fate::Pass => pass_on(socket, frame),
        Fate::Clean => {
            say(frame, CLEAN);
            pass_on(socket, frame)
        }
        Fate::Cut => {
            let resets = resets(frame);
            say(frame, CUT);
            // It goes no further than to the program, which reads its headers alone.
            frame.iter_mut().take(CARD).for_each(|byte| *byte = 0);
            let cut = pass_on(socket, frame.get(..HEADERS).unwrap_or(frame));
            resets.iter().flatten().fold(cut, |sent, reset| pass_on(socket, reset) && sent)
        }
    }
}

fn say(frame: &mut [u8], word: u8) {
    if let Some(says) = frame.get_mut(SAYS_AT) {
        *says |= word;
    }
}

fn pass_on(socket: &OwnedFd, frame: &[u8]) -> bool {
    rustix::io::retry_on_intr(|| send(socket, frame, SendFlags::DONTWAIT)).is_ok()
}

/// What ends a TCP connection at both ends: at the one that this segment is for, and at its sender's.
fn resets(frame: &[u8]) -> [Option<Vec<u8>>; 2] {
    let none = [None, None];
    let Some(at) = network_at(frame) else { return none };
    let (Some(link), Some(bytes)) = (frame.get(CARD..at), frame.get(at..)) else { return none };
    let Ok(Decoded::Packet(packet)) = decode(Link::Raw, bytes) else { return none };
    let Transport::Tcp(segment) = packet.transport else { return none };
    let framed = |turns: u8, packet: Vec<u8>| {
        let mut frame = vec![0; CARD];
        frame.extend_from_slice(link);
        if let Some(says) = frame.get_mut(SAYS_AT) {
            *says ^= turns;
        }
        frame.extend(packet);
        frame
    };
    let [on, back] = reset::both(&packet.network, &segment);
    [on.map(|packet| framed(0, packet)), back.map(|packet| framed(LEAVES | TURNED, packet))]
}
