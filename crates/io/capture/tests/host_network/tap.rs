//! Copies of packets for inspection.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nv_capture::{Frames, MAX_SHARES, Share, Tap, TapInterface};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::Tcp;

use crate::lab::{self, Lab};

const PORT: u16 = 8080;

struct Watch {
    tap: Tap,
    interface: TapInterface,
    frames: Frames,
}

impl Watch {
    fn new(lab: &Lab) -> Self {
        let descriptors = lab.loaded.as_ref().unwrap().descriptors().unwrap();
        let interface = TapInterface::make("nvtap-t").unwrap();
        let frames = Frames::map(interface.open(Share::WHOLE).unwrap(), Share::WHOLE).unwrap();
        Self { tap: Tap::from_descriptors(&descriptors).unwrap(), interface, frames }
    }
    fn live(&self) {
        self.tap.copy_to(Share::WHOLE, self.interface.ifindex, Duration::from_secs(60)).unwrap();
    }
    /// TCP segments that were copied until none comes any more: flags and length of the payload.
    fn segments(&mut self) -> Vec<(u8, usize)> {
        let mut found = Vec::new();
        while self.frames.wait(Duration::from_millis(100)).unwrap() {
            self.frames.drain(|at, frame| {
                assert!(at > 1_700_000_000_000_000_000, "frames have the time of their capture");
                found.extend(tcp(frame));
            });
        }
        found
    }
}

/// Flags and length of the payload of a TCP segment in an Ethernet frame.
fn tcp(frame: &[u8]) -> Option<(u8, usize)> {
    let (at, length) = match frame[12..14] {
        [0x08, 0x00] => (34, usize::from(u16::from_be_bytes([frame[16], frame[17]])) - 20),
        [0x86, 0xdd] => (54, usize::from(u16::from_be_bytes([frame[18], frame[19]]))),
        _ => return None,
    };
    let header = usize::from(frame[at + 12] >> 4) * 4;
    Some((frame[at + 13], length - header))
}

const SYN: u8 = 2;
const FIN: u8 = 1;

struct Conversation {
    client: TcpStream,
    server: TcpStream,
}

impl Conversation {
    fn begin(lab: &Lab, server: IpAddr) -> Self {
        let listener = lab.b.listen(server, PORT);
        let client = lab.a.connect(server, PORT).unwrap();
        let (server, _) = listener.accept().unwrap();
        Self { client, server }
    }
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.client.local_addr().unwrap(), self.client.peer_addr().unwrap())
    }
    fn say(&mut self, bytes: usize) {
        self.client.write_all(&vec![b'x'; bytes]).unwrap();
        self.server.read_exact(&mut vec![0; bytes]).unwrap();
        self.server.write_all(b"answer").unwrap();
        self.client.read_exact(&mut [0; 6]).unwrap();
    }
}

#[test]
fn a_connection_between_two_pods_is_copied_once_from_its_first_packet_to_its_last_in_both_families() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let mut watch = Watch::new(lab);
        watch.live();
        for server in [lab.b.v4, lab.b.v6] {
            let mut talk = Conversation::begin(lab, server);
            talk.say(1000);
            drop(talk);
            let seen = watch.segments();
            let with = |flag: u8| seen.iter().filter(|(flags, _)| flags & flag != 0).count();
            assert_eq!(with(SYN), 2, "the SYN and its answer, each once: {seen:?}");
            assert_eq!(with(FIN), 2, "{seen:?}");
            assert_eq!(seen.iter().map(|(_, bytes)| bytes).sum::<usize>(), 1006, "{seen:?}");
        }
        let totals = lab.counters.read().unwrap();
        assert!(totals.tapped > 10 && totals.tap_failed == 0, "{totals:?}");
        assert_eq!(watch.frames.dropped().unwrap(), 0);
    });
}

#[test]
fn nothing_is_copied_for_nobody() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let mut watch = Watch::new(lab);
        Conversation::begin(lab, lab.b.v4).say(10);
        assert_eq!(watch.segments(), []);
        watch.tap.copy_to(Share::WHOLE, watch.interface.ifindex, Duration::from_millis(1)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        Conversation::begin(lab, lab.b.v4).say(10);
        assert_eq!(watch.segments(), [], "who said that he lives has to say so again");
        watch.live();
        watch.tap.stop(Share::WHOLE).unwrap();
        Conversation::begin(lab, lab.b.v4).say(10);
        assert_eq!((watch.segments(), lab.counters.read().unwrap().tapped), (vec![], 0));
        // Of several readers the one has it whose share the pod is in that begins.
        for share in Share::each(MAX_SHARES) {
            watch.tap.copy_to(share, watch.interface.ifindex, Duration::from_secs(60)).unwrap();
            Conversation::begin(lab, lab.b.v4).say(10);
            assert_eq!(!watch.segments().is_empty(), share.has(lab.a.ifindex), "{share:?}");
            watch.tap.stop(share).unwrap();
        }
    });
}

#[test]
fn of_what_inspection_knows_enough_only_the_end_is_copied_and_a_new_connection_on_its_ports_whole() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let mut watch = Watch::new(lab);
        watch.live();
        for server in [lab.b.v4, lab.b.v6] {
            let mut talk = Conversation::begin(lab, server);
            talk.say(100);
            assert!(watch.segments().iter().any(|(_, bytes)| *bytes == 100));
            let (client, server) = talk.ends();
            watch.tap.inspected(Tcp, server, client).unwrap();
            talk.say(5000);
            assert_eq!(watch.segments(), [], "from its first packet on");
            drop(talk);
            let seen = watch.segments();
            assert!(!seen.is_empty() && seen.iter().all(|(flags, bytes)| flags & FIN != 0 && *bytes == 0));
            // What was said of the last connection does not hold for the next one.
            let mut next = Conversation::begin(lab, server.ip());
            next.say(70);
            assert!(watch.segments().iter().any(|(_, bytes)| *bytes == 70));
        }
    });
}

#[test]
fn what_is_denied_is_not_copied() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        let mut watch = Watch::new(lab);
        watch.live();
        let _listener = lab.b.listen(lab.b.v4, PORT);
        assert!(lab.a.connect(lab.b.v4, PORT).is_err());
        assert_eq!(watch.segments(), []);
    });
}

#[test]
fn the_interface_of_an_earlier_process_is_taken_over_and_goes_when_it_is_removed() {
    lab::run(|_lab| {
        let first = TapInterface::make("nvtap-t").unwrap();
        assert_eq!(TapInterface::make("nvtap-t").unwrap(), first);
        assert_eq!(TapInterface::left("nvtap-t"), Some(first.clone()));
        first.remove().unwrap();
        assert_eq!(TapInterface::left("nvtap-t"), None);
        let left = nv_capture::netns::host_interfaces().unwrap();
        assert!(left.iter().all(|interface| !interface.name.starts_with("nvtap-t")), "{left:?}");
    });
}
