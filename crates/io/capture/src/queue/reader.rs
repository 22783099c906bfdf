//! Reads packets out of a queue that was handed over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, recv};

use super::rules::OUTPUT;
use super::{NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET};
use crate::netlink::attributes;

/// Room for the longest packet (64 KiB) with what the kernel says of it.
const BUFFER: usize = 80 * 1024;
/// Header of a netlink message and of one of nfnetlink.
const HEADERS: usize = 20;
// linux/netfilter/nfnetlink_queue.h
const NFQA_PACKET_HDR: u16 = 1;
const NFQA_MARK: u16 = 3;
const NFQA_PAYLOAD: u16 = 10;
/// Where the hook stands in `nfqnl_msg_packet_hdr`.
const HOOK_AT: usize = 6;

/// A packet that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued<'a> {
    /// The kernel's number of it, by which it is answered.
    pub packet: u32,
    /// Its mark.
    pub mark: u32,
    /// It leaves the namespace; else it arrives.
    pub leaves: bool,
    /// From its IP header on. Checksums that a network card is to compute are not there yet, and what it is to cut into
    /// several packets is one.
    pub bytes: &'a [u8],
}

/// Reads a queue. It takes no privilege; answers do ([`Queue::answer`](super::Queue::answer)).
#[derive(Debug)]
pub struct QueueReader {
    socket: OwnedFd,
    buffer: Vec<u8>,
    lost: u64,
}

impl QueueReader {
    /// Of a queue's socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; BUFFER], lost: 0 }
    }

    /// Hands at most `limit` packets to `each`, as many as there are. Answers with how many there were.
    ///
    /// # Errors
    /// When the queue is gone.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(Queued<'_>)) -> io::Result<usize> {
        let mut count = 0_usize;
        for _ in 0..limit {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let received =
                rustix::io::retry_on_intr(|| recv(self.socket.as_fd(), &mut self.buffer[..], flags));
            match received {
                Ok((kept, _)) => {
                    if let Some(queued) = self.buffer.get(..kept).and_then(packet) {
                        each(queued);
                        count = count.saturating_add(1);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                // What found no room went the queue's own way, and the kernel counts it there.
                Err(rustix::io::Errno::NOBUFS) => self.lost = self.lost.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    /// How often the kernel said that there was no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for QueueReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The packet of a message; `None` for what else comes by, such as the answer to an answer that came too late.
fn packet(message: &[u8]) -> Option<Queued<'_>> {
    let [_, _, _, _, kind, subsystem, ..] = *message.first_chunk::<HEADERS>()?;
    // The kernel's kind is in the byte order of the machine.
    if u16::from_ne_bytes([kind, subsystem]) != u16::from_be_bytes([NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET]) {
        return None;
    }
    let (mut id, mut mark, mut bytes, mut hook) = (None, 0, None, 0);
    for (kind, value) in attributes(message, HEADERS) {
        let number = || value.first_chunk::<4>().map(|number| u32::from_be_bytes(*number));
        match kind {
            // Its number, two bytes of its link's protocol, and the hook.
            NFQA_PACKET_HDR => {
                (id, hook) = (number(), value.get(HOOK_AT).copied().unwrap_or(0));
            }
            NFQA_MARK => mark = number().unwrap_or(0),
            NFQA_PAYLOAD => bytes = Some(value),
            _ => {}
        }
    }
    let leaves = u32::from(hook) == OUTPUT;
    Some(Queued { packet: id?, mark, leaves, bytes: bytes.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Request;
    use proptest::prelude::*;

    fn message(subsystem: u8) -> Vec<u8> {
        Request::new(u16::from_be_bytes([subsystem, NFQNL_MSG_PACKET]), &[2, 0, 0, 5])
            .attribute(NFQA_PACKET_HDR, &[0, 0, 0, 9, 8, 0, 1])
            .attribute(NFQA_MARK, &[0, 0, 5, 0x39])
            .attribute(NFQA_PAYLOAD, b"\x45 and so on")
            .bytes(0, 1)
    }

    #[test]
    fn a_packet_is_read_with_its_number_and_mark() {
        let bytes = message(NFNL_SUBSYS_QUEUE);
        let queued = Queued { packet: 9, mark: 0x0539, leaves: false, bytes: b"\x45 and so on" };
        assert_eq!(packet(&bytes), Some(queued));
        assert_eq!(packet(&message(1)), None, "of another part of netfilter");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = message(NFNL_SUBSYS_QUEUE)[..HEADERS].to_vec();
            whole.extend(&bytes);
            if let Some(queued) = packet(&whole) {
                prop_assert!(queued.bytes.len() <= bytes.len());
            }
            packet(&bytes);
        }
    }
}
