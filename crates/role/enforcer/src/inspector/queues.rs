//! Packets that wait for their answer: on a detour, by which they go on from here, or in queues that the keeper hands on, which
//! are answered through the keeper.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nv_capture::detour::DetourReader;
use nv_capture::fate::Fate;
use nv_capture::queue::{Answer, QueueReader};
use nv_packet::decode::{Decoded, Transport, decode};
use nv_packet::link::Link;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::keeper::{ALIVE, MAX_ANSWERS_BYTES, ProtocolError, ToInspector, receive};

/// Most packets that are read of one queue before the next one has its turn.
const TURN: usize = 64;
/// Least time between two words to the relay, in nanoseconds.
const SPEAK: u64 = 100_000_000;

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    queue: u32,
    /// What cannot be judged is stopped.
    closed: bool,
    /// What inspection finds is stopped.
    stops: bool,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    /// The queue that it waits in; on a detour the interface that it has left its way at.
    pub(super) queue: u32,
    /// An address of the pod of the packet's family; `None` when it has none.
    pub(super) own: Option<IpAddr>,
    /// It leaves the pod; else it arrives.
    pub(super) leaves: bool,
    /// What inspection finds is stopped; else it is told alone.
    pub(super) stops: bool,
    /// What becomes of it as another queue of the node reads its connection; `None` when none does.
    pub(super) elsewhere: Option<Fate>,
    /// From its IP header on.
    pub(super) bytes: &'a [u8],
}

/// A pod whose packets wait.
#[derive(Debug)]
struct Pod {
    addresses: Vec<IpAddr>,
    stops: bool,
    /// `None` where they wait on the detour, or for another inspector.
    reader: Option<QueueReader>,
}

impl Pod {
    fn lost(&self) -> u64 {
        self.reader.as_ref().map_or(0, QueueReader::lost)
    }
}

/// What was done with packets that waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Packets answered.
    pub(super) packets: u64,
    /// Connections that wait no more.
    pub(super) clean: u64,
    /// Packets dropped.
    pub(super) dropped: u64,
    /// Packets with which a connection was cut.
    pub(super) cut: u64,
    /// Times that the kernel had no room for a packet, which then went by the group's policy; on the detour it was dropped.
    pub(super) lost: u64,
}

impl Done {
    fn count(&mut self, fate: Fate) {
        self.packets = self.packets.saturating_add(1);
        match fate {
            Fate::Pass => {}
            Fate::Clean => self.clean = self.clean.saturating_add(1),
            Fate::Drop => self.dropped = self.dropped.saturating_add(1),
            Fate::Cut => self.cut = self.cut.saturating_add(1),
        }
    }
}

/// All queues, and the way to the keeper.
#[derive(Debug)]
pub(super) struct Queues {
    relay: OwnedFd,
    detour: Option<DetourReader>,
    pods: BTreeMap<u32, Pod>,
    by_address: HashMap<IpAddr, Owner>,
    /// Answers that are not sent yet.
    waiting: Vec<u8>,
    spoke_at: u64,
    done: Done,
    /// Of queues that are read no more, and on the detour.
    lost_before: u64,
}

impl Queues {
    /// On its end of the relay, and the socket of its detour.
    pub(super) fn new(relay: OwnedFd, detour: Option<OwnedFd>) -> Self {
        Self {
            relay,
            detour: detour.map(DetourReader::new),
            pods: BTreeMap::new(),
            by_address: HashMap::new(),
            waiting: Vec::new(),
            spoke_at: 0,
            done: Done::default(),
            lost_before: 0,
        }
    }

    /// What to wait on, besides others.
    pub(super) fn poll(&self) -> Vec<PollFd<'_>> {
        let readers = self.pods.values().filter_map(|pod| pod.reader.as_ref());
        let readers = readers.map(|reader| PollFd::new(reader, PollFlags::IN));
        let detour = self.detour.iter().map(|detour| PollFd::new(detour, PollFlags::IN));
        std::iter::once(PollFd::new(&self.relay, PollFlags::IN)).chain(detour).chain(readers).collect()
    }

    /// What was done so far.
    pub(super) fn done(&mut self) -> Done {
        // Without an answer it is counted with the next.
        let on_detour = self.detour.as_mut().map_or(0, |detour| detour.lost().unwrap_or(0));
        self.lost_before = self.lost_before.saturating_add(on_detour);
        let lost = self.pods.values().map(Pod::lost);
        let lost = lost.fold(self.lost_before, u64::saturating_add);
        Done { lost, ..self.done }
    }

    /// Takes every word of the keeper that has come; there has to be one. Whose packets wait on the detour is said before they
    /// are led to it.
    ///
    /// # Errors
    /// [`ProtocolError::Closed`] when the keeper has ended, others when the relay cannot be read.
    pub(super) fn hear_all(&mut self) -> Result<(), ProtocolError> {
        loop {
            let (word, mut descriptors) = receive::<ToInspector>(self.relay.as_fd())?;
            match word {
                ToInspector::Read { queue, addresses, closed, stops } => {
                    self.leave(queue);
                    let owner = Owner { queue, closed, stops };
                    self.by_address.extend(addresses.iter().map(|address| (*address, owner)));
                    let reader = descriptors.pop().map(QueueReader::new);
                    self.pods.insert(queue, Pod { addresses, stops, reader });
                }
                ToInspector::Leave { queue } => self.leave(queue),
            }
            let mut more = [PollFd::new(&self.relay, PollFlags::IN)];
            if !poll(&mut more, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
                return Ok(());
            }
        }
    }

    fn leave(&mut self, queue: u32) {
        self.by_address.retain(|_, owner| owner.queue != queue);
        if let Some(pod) = self.pods.remove(&queue) {
            self.lost_before = self.lost_before.saturating_add(pod.lost());
        }
    }

    /// Has `judge` say of what waits on the detour what becomes of it. Whether any did.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn take_detour(
        &mut self,
        mut judge: impl FnMut(Waiting<'_>) -> Fate,
    ) -> std::io::Result<bool> {
        let Self { detour: Some(detour), pods, by_address, done, .. } = self else { return Ok(false) };
        let read = detour.drain(TURN, |waiting| {
            let (queue, leaves, bytes) = (waiting.ifindex, waiting.leaves, waiting.bytes);
            let pod = pods.get(&queue);
            // Of a pod that waits no more what was on its way goes on.
            let (own, stops) = pod.map_or((None, false), |pod| (own(&pod.addresses, bytes), pod.stops));
            let elsewhere = read_elsewhere(queue, bytes, by_address);
            let fate = judge(Waiting { queue, own, leaves, stops, elsewhere, bytes });
            done.count(fate);
            fate
        })?;
        Ok(read > 0)
    }

    /// Reads what waits in queues, and answers as `judge` says of each packet. Whether any did.
    ///
    /// # Errors
    /// When the relay cannot be written to.
    pub(super) fn read(&mut self, mut judge: impl FnMut(Waiting<'_>) -> Fate) -> Result<bool, ProtocolError> {
        let Self { relay, pods, by_address, waiting, done, .. } = self;
        let (before, mut gone) = (done.packets, Vec::new());
        for (number, pod) in pods {
            let Pod { addresses, stops, reader: Some(reader) } = pod else { continue };
            let (queue, stops) = (*number, *stops);
            let read = reader.drain(TURN, |queued| {
                let (bytes, leaves) = (queued.bytes, queued.leaves);
                let own = own(addresses, bytes);
                let elsewhere = read_elsewhere(queue, bytes, by_address);
                let fate = judge(Waiting { queue, own, leaves, stops, elsewhere, bytes });
                done.count(fate);
                let answer = Answer { queue, packet: queued.packet, mark: queued.mark, fate };
                waiting.extend_from_slice(&answer.to_bytes());
            });
            if read.is_err() {
                gone.push(queue);
            }
            for answers in waiting.chunks(MAX_ANSWERS_BYTES) {
                write(relay.as_fd(), answers)?;
            }
            waiting.clear();
        }
        let read = done.packets > before;
        gone.into_iter().for_each(|queue| self.leave(queue));
        Ok(read)
    }

    /// Says that the inspector lives, when it has said nothing for a while.
    ///
    /// # Errors
    /// When the relay cannot be written to.
    pub(super) fn speak(&mut self, now: u64) -> Result<(), ProtocolError> {
        if now.saturating_sub(self.spoke_at) < SPEAK {
            return Ok(());
        }
        self.spoke_at = now;
        write(self.relay.as_fd(), ALIVE)
    }

    /// Whether a copy of a packet is of one that waits, or has waited, in a queue, and is judged there.
    pub(super) fn has(&self, frame: &[u8]) -> bool {
        if self.by_address.is_empty() {
            return false;
        }
        let Ok(Decoded::Packet(packet)) = decode(Link::Ethernet, frame) else { return false };
        let is_queued = match packet.transport {
            // Of IPv6 fragments wait, as what one is of may stand in another one. Of IPv4 wait whole datagrams.
            Transport::Tcp(_) | Transport::Udp(_) | Transport::Fragment => true,
            Transport::Icmp(message) | Transport::Icmpv6(message) => is_echo(message.kind),
            Transport::Other => false,
        };
        let (source, destination) = (packet.network.source, packet.network.destination);
        is_queued
            && packet.tunnels == 0
            && [source, destination].iter().any(|end| self.by_address.contains_key(end))
    }
}

/// The address of a pod that is of the family of a packet.
fn own(addresses: &[IpAddr], packet: &[u8]) -> Option<IpAddr> {
    let is_six = packet.first().is_some_and(|first| first >> 4 == 6);
    addresses.iter().copied().find(|own| own.is_ipv6() == is_six)
}

/// Whether a message of ICMP is an echo's request or answer: the others never wait.
fn is_echo(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 128 | 129)
}

/// What becomes of a packet of this queue that passes another one, which reads its connection: of two pods of the node one is
/// enough. `None` when it is read here. It is the one of which nothing may pass that cannot be judged, or that is stopped by
/// what is found; else the server's, by its lower port.
fn read_elsewhere(queue: u32, bytes: &[u8], by_address: &HashMap<IpAddr, Owner>) -> Option<Fate> {
    if by_address.len() < 2 {
        return None;
    }
    let Ok(Decoded::Packet(packet)) = decode(Link::Raw, bytes) else { return None };
    let (ports, fate) = match packet.transport {
        Transport::Tcp(segment) => ((segment.source_port, segment.destination_port), Fate::Clean),
        Transport::Udp(datagram) => ((datagram.source_port, datagram.destination_port), Fate::Clean),
        // No set knows echoes.
        Transport::Icmp(_) | Transport::Icmpv6(_) => ((0, 0), Fate::Pass),
        Transport::Fragment | Transport::Other => return None,
    };
    let (source, destination) = (packet.network.source, packet.network.destination);
    let (Some(one), Some(other)) = (by_address.get(&source), by_address.get(&destination)) else {
        return None;
    };
    if packet.tunnels > 0 || one.queue == other.queue {
        return None;
    }
    let is_first = match (one.closed, one.stops).cmp(&(other.closed, other.stops)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => (ports.0, source) < (ports.1, destination),
    };
    let reads = if is_first { one.queue } else { other.queue };
    (reads != queue).then_some(fate)
}

/// The keeper reads at once, and until it has nothing else is to be done: it is waited for.
fn write(relay: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), ProtocolError> {
    let slice = [std::io::IoSlice::new(bytes)];
    let mut none = rustix::net::SendAncillaryBuffer::default();
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(relay, &slice, &mut none, SendFlags::NOSIGNAL))
        .map(drop)
        .map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET => ProtocolError::Closed,
            other => ProtocolError::Socket(other),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram of IPv4 without payload.
    fn packet(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend(source);
        bytes.extend(destination);
        for field in [ports.0, ports.1, 8, 0] {
            bytes.extend(field.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn of_two_pods_of_the_node_exactly_one_reads_a_connection_whichever_way_its_packets_go() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        for (closed_a, closed_b, ports, want) in [
            (false, false, (40_000, 80), 2),
            (false, false, (53, 40_000), 1),
            (false, false, (500, 500), 1),
            (true, false, (40_000, 80), 1),
            (false, true, (53, 40_000), 2),
            (true, true, (40_000, 80), 2),
        ] {
            let owner = |queue, closed| Owner { queue, closed, stops: true };
            let held = HashMap::from([(a.into(), owner(1, closed_a)), (b.into(), owner(2, closed_b))]);
            for bytes in [packet(a, b, ports), packet(b, a, (ports.1, ports.0))] {
                for queue in [1, 2] {
                    assert_eq!(
                        read_elsewhere(queue, &bytes, &held),
                        (queue != want).then_some(Fate::Clean),
                        "{ports:?} at {queue}"
                    );
                }
            }
            assert_eq!(
                read_elsewhere(1, &packet(a, [10, 0, 0, 9], ports), &held),
                None,
                "nobody else reads it"
            );
            let echo = |source, destination, kind| {
                let mut bytes = packet(source, destination, (0, 0));
                (bytes[9], bytes[20]) = (1, kind);
                bytes
            };
            for bytes in [echo(a, b, 8), echo(b, a, 0)] {
                let fates = [1, 2].map(|queue| read_elsewhere(queue, &bytes, &held));
                assert_eq!(fates.iter().flatten().collect::<Vec<_>>(), [&Fate::Pass], "an echo is read once");
            }
        }
    }
}
