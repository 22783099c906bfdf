//! A small netlink: requests to rtnetlink and nfnetlink, and the messages and attributes of the answers.
//!
//! Every read is bounds-checked: an answer that ends early is an end, never a panic.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

// linux/netlink.h and linux/rtnetlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_GETROUTE: u16 = 26;
/// Group of link messages, as a bit.
pub(crate) const RTMGRP_LINK: u32 = 1;

const HEADER: usize = 16;
/// The kernel fills at most this much at a time for a reader with such a buffer.
const BUFFER: usize = 64 * 1024;
/// Messages of one answer; a host with more interfaces or routes is cut off, and says so.
const MAX_MESSAGES: usize = 65_536;
/// Reads of one answer.
const MAX_READS: usize = 8_192;
/// How often a dump that changed while it was read is asked for again.
const TRIES: usize = 5;

/// A request under construction.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// `header` is the fixed part of the message (`ifinfomsg`, …).
    pub(crate) fn new(kind: u16, header: &[u8]) -> Self {
        Self { kind, body: header.to_vec() }
    }
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.body, kind, value);
        self
    }
    pub(crate) fn bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER.saturating_add(self.body.len())).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER.saturating_add(self.body.len()));
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Appends an attribute, padded to four bytes. One longer than 64 KiB is never asked for.
pub(crate) fn put_attribute(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// A message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    /// Behind the netlink header.
    pub(crate) body: Vec<u8>,
}

/// Splits a read into messages.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(0);
        let Some(body) = bytes.get(HEADER..length) else { break };
        found.push(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attributes behind a fixed part of `skip` bytes: kind (without the nesting flags) and value.
pub(crate) fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// A socket, which stays in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        Self::subscribe(0)
    }
    /// With messages of the groups whose bits are set.
    pub(crate) fn subscribe(groups: u32) -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        Self::of(None, groups)
    }
    /// To the kernel's packet filters (nfnetlink).
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::of(Some(NETFILTER), 0)
    }
    fn of(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }
    /// Does what several requests say, in one packet, each with flags of its own. The kernel answers to those that ask for
    /// it ([`NLM_F_ACK`]), and to each that fails; the first failure is the outcome.
    pub(crate) fn execute_all(&mut self, requests: &[(Request, u16)]) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut awaited = 0_usize;
        for (request, flags) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(request.bytes(NLM_F_REQUEST | flags, self.sequence));
            awaited = awaited.saturating_add(usize::from(flags & NLM_F_ACK != 0));
        }
        send(&self.fd, &bytes, SendFlags::empty())?;
        let ours = self.sequence.wrapping_sub(first);
        for _ in 0..MAX_READS {
            if awaited == 0 {
                return Ok(());
            }
            for message in self.read()? {
                if message.kind != NLMSG_ERROR || message.sequence.wrapping_sub(first) > ours {
                    continue;
                }
                match message.body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code)) {
                    0 => awaited = awaited.saturating_sub(1),
                    code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
                }
            }
        }
        Err(io::Error::other("the answer of the kernel has no end"))
    }
    /// Does what the request says.
    pub(crate) fn execute(&mut self, request: &Request, create: bool) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | if create { NLM_F_CREATE_EXCL } else { 0 };
        self.send(request, flags)?;
        self.answer(|_message| {}).map(drop)
    }
    /// Asks for one object.
    pub(crate) fn get(&mut self, request: &Request) -> io::Result<Vec<Message>> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut found = Vec::new();
        self.answer(|message| found.push(message))?;
        Ok(found)
    }
    /// Asks for all objects of a kind. One consistent state: asks again when it changed meanwhile.
    pub(crate) fn dump(&mut self, request: &Request) -> io::Result<Vec<Message>> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            found.clear();
            self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
            if self.answer(|message| found.push(message))? {
                break;
            }
        }
        Ok(found)
    }
    /// The next messages of the subscribed groups. Waits for them. `ENOBUFS`: some were lost, look at everything anew.
    pub(crate) fn changes(&mut self) -> io::Result<Vec<Message>> {
        self.read()
    }

    fn send(&mut self, request: &Request, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.bytes(flags, self.sequence);
        send(&self.fd, &bytes, SendFlags::empty())?;
        Ok(())
    }
    /// Reads until the end of the answer; `false` when it was interrupted by a change.
    fn answer(&mut self, mut each: impl FnMut(Message)) -> io::Result<bool> {
        let mut count = 0_usize;
        let mut consistent = true;
        for _ in 0..MAX_READS {
            for message in self.read()? {
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => {
                        let code =
                            message.body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 => Ok(consistent),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => {
                        count = count.saturating_add(1);
                        if count > MAX_MESSAGES {
                            return Err(io::Error::other("the answer of the kernel has no end"));
                        }
                        each(message);
                    }
                }
            }
        }
        Err(io::Error::other("the answer of the kernel has no end"))
    }
    fn read(&mut self) -> io::Result<Vec<Message>> {
        let (length, _) =
            rustix::io::retry_on_intr(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()))?;
        Ok(messages(self.buffer.get(..length).unwrap_or_default()))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `ifinfomsg` (16 bytes) for an interface; flags and mask of what to change.
pub(crate) fn link_header(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    let fields = [ifindex, flags, change];
    for (into, from) in header.iter_mut().skip(4).zip(fields.iter().flat_map(|field| field.to_ne_bytes())) {
        *into = from;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let request = Request::new(RTM_NEWLINK, &link_header(7, 1, 1))
            .attribute(3, b"veth0\0")
            .attribute(4, &[1, 2, 3, 4]);
        let read = messages(&request.bytes(NLM_F_REQUEST, 9));
        assert_eq!((read.len(), read[0].kind, read[0].sequence), (1, RTM_NEWLINK, 9));
        assert_eq!(read[0].body[4..8], 7_u32.to_ne_bytes());
        let attributes: Vec<_> = attributes(&read[0].body, 16).collect();
        assert_eq!(attributes, [(3, &b"veth0\0"[..]), (4, &[1, 2, 3, 4][..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for message in messages(&bytes) {
                prop_assert!(attributes(&message.body, 16).count() <= 100);
            }
        }
    }
}
