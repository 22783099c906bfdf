//! Frames that an interface shows, read from a ring of blocks that the kernel fills (`TPACKET_V3`, packet(7)).
//!
//! The one who may opens the socket ([`open`]) and hands it on; the one who reads maps the ring ([`Frames::map`]), for
//! which he needs no privilege. A block belongs to one side at a time: the kernel hands it over when it is full or a
//! few milliseconds old, and gets it back when its frames were read. Finds the kernel none that is its own, it drops
//! and counts.
#![expect(unsafe_code, reason = "sets up and reads a ring in memory that the kernel writes")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::share::Share;

/// Bytes of a block; the longest frame (64 KiB with its headers) fits many times.
const BLOCK: usize = 1 << 19;
/// Most blocks of a ring: 8 MiB.
const MAX_BLOCKS: usize = 16;
/// Blocks of the rings of all shares together, which are memory of the node whether anything is in them or not.
const ALL_BLOCKS: usize = 24;
/// How old a block may be until it is handed over, in milliseconds.
const RETIRE_MS: u32 = 10;
/// `linux/if_packet.h`
const TPACKET_V3: libc::c_int = 2;
const TP_STATUS_USER: u32 = 1;
/// Where a block's status word, number of frames and first frame stand (`struct tpacket_block_desc`).
const BLOCK_STATUS: usize = 8;
const BLOCK_FRAMES: usize = 12;
const BLOCK_FIRST: usize = 16;
/// Length of a frame's header (`struct tpacket3_hdr`) up to where the frame's place in it ends.
const FRAME_HEADER: usize = 26;

/// Blocks of the ring of a share; two at least, so that one can be filled while the other is read.
fn blocks(share: Share) -> usize {
    ALL_BLOCKS.checked_div(usize::from(share.of())).unwrap_or(MAX_BLOCKS).clamp(2, MAX_BLOCKS)
}

/// A socket with a ring, of the size for a share, that gets every frame that comes in at an interface of the calling thread's
/// network namespace.
///
/// # Errors
/// When the kernel refuses; it takes `CAP_NET_RAW`.
pub(crate) fn open(ifindex: u32, share: Share) -> io::Result<OwnedFd> {
    let blocks = blocks(share);
    // Protocol 0: no frame comes before the ring is there and the socket is bound.
    // SAFETY: takes numbers alone.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set(&socket, libc::PACKET_VERSION, &TPACKET_V3)?;
    let number = |number: usize| u32::try_from(number).map_err(io::Error::other);
    let request = libc::tpacket_req3 {
        tp_block_size: number(BLOCK)?,
        tp_block_nr: number(blocks)?,
        tp_frame_size: number(BLOCK)?,
        tp_frame_nr: number(blocks)?,
        tp_retire_blk_tov: RETIRE_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set(&socket, libc::PACKET_RX_RING, &request)?;
    bind(&socket, ifindex)?;
    Ok(socket)
}

/// Has a packet(7) socket get every frame that comes in at an interface.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn bind(socket: &OwnedFd, ifindex: u32) -> io::Result<()> {
    let every = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: every,
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address outlives the call, and its length is given.
    let code = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of(&address)) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of a packet(7) socket.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value outlives the call, and its length is given.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            length_of(value),
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0)
}

/// Frames that a packet(7) socket had no room for since this was asked last.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // Of a socket without such a ring the kernel writes the first two fields alone.
    let mut since = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    let mut length = length_of(&since);
    // SAFETY: both outlive the call, and the kernel writes no more than the length says.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut since).cast(),
            &raw mut length,
        )
    };
    if code == 0 { Ok(since.tp_drops.into()) } else { Err(io::Error::last_os_error()) }
}

/// Reader of a ring. There must be no other of the same socket.
pub struct Frames {
    socket: OwnedFd,
    start: NonNull<u8>,
    blocks: usize,
    /// The block that comes next.
    next: usize,
    dropped: u64,
}

// SAFETY: the memory belongs to the process, not to the thread that mapped it.
unsafe impl Send for Frames {}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("socket", &self.socket)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Frames {
    /// Maps the ring of a share, whose socket was handed over.
    ///
    /// # Errors
    /// When the socket has no such ring.
    pub fn map(socket: OwnedFd, share: Share) -> io::Result<Self> {
        let blocks = blocks(share);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BLOCK * blocks,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { socket, start, blocks, next: 0, dropped: 0 })
    }

    /// Whether a block is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status(self.next).load(Ordering::Acquire) & TP_STATUS_USER != 0
    }

    /// Waits until a block is there, at most `timeout`. False when none came.
    ///
    /// # Errors
    /// When the wait fails, or the interface is gone.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        if self.is_ready() {
            return Ok(true);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN | PollFlags::ERR)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
            Ok(_) if ready.iter().any(|one| one.revents().contains(PollFlags::ERR)) => {
                Err(io::Error::other("the interface is gone"))
            }
            Ok(_) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands the frames of one block to `each`, with their times in nanoseconds since 1970, and the block back to the
    /// kernel. Answers with how many there were; 0 also when no block is there.
    pub fn drain(&mut self, mut each: impl FnMut(u64, &[u8])) -> usize {
        let at = self.next;
        if self.status(at).load(Ordering::Acquire) & TP_STATUS_USER == 0 {
            return 0;
        }
        // SAFETY: the block lies in the mapping, and the kernel does not write to it until its status says that it is the
        // kernel's again. The slice ends before that.
        let block = unsafe { std::slice::from_raw_parts(self.start.add(at * BLOCK).as_ptr(), BLOCK) };
        let count = walk(block, &mut each);
        self.status(at).store(0, Ordering::Release);
        self.next = at.wrapping_add(1).checked_rem(self.blocks).unwrap_or(0);
        count
    }

    /// Frames that found every block waiting to be read, since the ring was mapped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn dropped(&mut self) -> io::Result<u64> {
        // The kernel's own counter begins anew with every look at it.
        self.dropped = self.dropped.saturating_add(drops(self.socket.as_fd())?);
        Ok(self.dropped)
    }

    fn status(&self, block: usize) -> &AtomicU32 {
        // SAFETY: the word lies in the mapping, aligned to four bytes, and is read and written as a whole by both sides.
        unsafe { self.start.add(block * BLOCK + BLOCK_STATUS).cast::<AtomicU32>().as_ref() }
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing of it is borrowed any more.
        let code = unsafe { libc::munmap(self.start.as_ptr().cast(), BLOCK * self.blocks) };
        debug_assert_eq!(code, 0, "a mapping of our own can be unmapped");
    }
}

/// The frames of a block, as its own words say where they are. Words that point out of the block end it.
fn walk(block: &[u8], each: &mut impl FnMut(u64, &[u8])) -> usize {
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*word))
    };
    let place = |word: Option<u32>| word.and_then(|word| usize::try_from(word).ok());
    let frames = word(block, BLOCK_FRAMES).unwrap_or(0);
    let mut at = place(word(block, BLOCK_FIRST)).unwrap_or(usize::MAX);
    let mut count = 0_usize;
    for _ in 0..frames {
        let Some(frame) = block.get(at..).filter(|rest| rest.len() >= FRAME_HEADER) else { break };
        // tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_status, tp_mac.
        let (seconds, nanos) = (word(frame, 4).unwrap_or(0), word(frame, 8).unwrap_or(0));
        let length = place(word(frame, 12)).unwrap_or(0);
        let begin = frame.get(24..).and_then(|rest| rest.first_chunk::<2>());
        let begin = begin.map_or(0, |begin| usize::from(u16::from_ne_bytes(*begin)));
        let Some(bytes) = frame.get(begin..begin.saturating_add(length)) else { break };
        each(u64::from(seconds).saturating_mul(1_000_000_000).saturating_add(nanos.into()), bytes);
        count = count.saturating_add(1);
        match place(word(frame, 0)) {
            Some(step) if step > 0 => at = at.saturating_add(step),
            _ => break,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(frames: &[&[u8]]) -> Vec<u8> {
        let mut block = vec![0; 48];
        block[12..16].copy_from_slice(&(frames.len() as u32).to_ne_bytes());
        block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        for (number, frame) in frames.iter().enumerate() {
            let mut entry = vec![0; 48];
            let length = frame.len() as u32;
            entry[0..4].copy_from_slice(&(48 + length).to_ne_bytes());
            entry[4..8].copy_from_slice(&(number as u32).to_ne_bytes());
            entry[12..16].copy_from_slice(&length.to_ne_bytes());
            entry[24..26].copy_from_slice(&48_u16.to_ne_bytes());
            entry.extend_from_slice(frame);
            block.extend(entry);
        }
        block
    }

    #[test]
    fn the_frames_of_a_block_come_in_their_order_with_their_times() {
        let mut found = Vec::new();
        let count = walk(&block(&[b"one", b"", b"three"]), &mut |at, frame| found.push((at, frame.to_vec())));
        assert_eq!(count, 3);
        assert_eq!(
            found,
            [(0, b"one".to_vec()), (1_000_000_000, vec![]), (2_000_000_000, b"three".to_vec())]
        );
    }

    proptest! {
        #[test]
        fn whatever_a_block_says_nothing_outside_of_it_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            walk(&bytes, &mut |_, frame| assert!(frame.len() <= bytes.len()));
        }
    }
}
