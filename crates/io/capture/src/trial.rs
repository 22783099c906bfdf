//! Finds out whether this kernel really lets the programs drop a packet.
//!
//! In a network namespace of its own, which ends with the trial, one end of a veth plays the host end of a pod. A frame
//! to a forbidden port is put into the other end, and behind it one to an allowed port. When the second has arrived and
//! the first has not, the mechanism works. Nothing is pinned, and no other namespace notices.
#![expect(unsafe_code, reason = "leaves the network namespace and sends a raw frame")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nv_model::mode::Mode;
use nv_model::node::Capability;
use nv_model::port::Protocol;
use nv_model::verdict::Mechanism;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::attach::Hook;
use crate::bpffs;
use crate::clock::monotonic_nanos;
use crate::counters::Counters;
use crate::detour::{DetourReader, Detours};
use crate::fate::{Fate, OnFault};
use crate::load::{Loaded, Options};
use crate::netlink::{RTM_NEWADDR, RTM_NEWLINK, Request, Socket, link_header, put_attribute};
use crate::netns::{self, Interface};
use crate::rows::{Endpoint, ModeRow, RuleAction, RuleKey, RuleRow, Waits};
use crate::share::Share;
use crate::tables::{Rows, Tables};
use crate::tap::TapInterface;

const HOST_END: &str = "trial0";
const POD_END: &str = "trial1";
/// Addresses for documentation (RFC 5737): they meet nobody.
pub(crate) const HOST_ADDRESS: [u8; 4] = [192, 0, 2, 1];
const POD_ADDRESS: [u8; 4] = [192, 0, 2, 2];
pub(crate) const ALLOWED_PORT: u16 = 40_007;
pub(crate) const FORBIDDEN_PORT: u16 = 40_009;
/// Identities of the trial's own tables.
const POD: u32 = 16;
const HOST: u32 = 17;
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How often a packet is led to an interface that is new: until the kernel has it work, which it does aside, it drops packets.
const MAX_TRIES: usize = 40;
/// How long each is waited for.
const TRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Frames at the new interface that are read at a time; others may be among them (the node asks for routers there).
const MAX_OTHERS: usize = 32;

/// What came of [`run`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether packets are stopped at an interface.
    pub capability: Capability,
    /// The hook that worked.
    pub hook: Option<Hook>,
    /// Whether ends behind a translation of addresses are found, or why not, a sentence
    /// ([`Loaded::translations`]).
    pub translations: Result<(), String>,
}

/// Loads, attaches and fires; takes a fraction of a second.
#[must_use]
pub fn run() -> Outcome {
    let start = monotonic_nanos();
    let result = std::thread::Builder::new()
        .name("trial".to_owned())
        .spawn(fire)
        .map_err(|error| format!("no thread for the trial: {error}"))
        .and_then(|thread| thread.join().unwrap_or_else(|_panic| Err("the trial has failed".to_owned())));
    let trial_micros = monotonic_nanos().saturating_sub(start) / 1_000;
    let (works, reason, hook, translations) = match result {
        Ok((hook, translations)) => (true, String::new(), Some(hook), translations),
        Err(reason) => (false, reason.clone(), None, Err(reason)),
    };
    let capability = Capability { mechanism: Mechanism::TrafficControl, works, reason, trial_micros };
    Outcome { capability, hook, translations }
}

/// Whether packets wait in a queue until they are answered to: [`crate::queue`], loaded and fired.
#[must_use]
pub fn queue() -> Capability {
    apart(Mechanism::Nfqueue, crate::queue::trial::fire)
}

/// Whether packets are led to an inspector, and come back: [`crate::detour`], loaded and fired.
#[must_use]
pub fn detour() -> Capability {
    apart(Mechanism::Detour, wait_and_come_back)
}

/// On a thread that leaves its network namespace for good.
fn apart(mechanism: Mechanism, fire: fn() -> Result<(), String>) -> Capability {
    let start = monotonic_nanos();
    let result = std::thread::Builder::new()
        .name("trial".to_owned())
        .spawn(move || leave_namespace().and_then(|()| fire()))
        .map_err(|error| format!("no thread for the trial: {error}"))
        .and_then(|thread| thread.join().unwrap_or_else(|_panic| Err("the trial has failed".to_owned())));
    let trial_micros = monotonic_nanos().saturating_sub(start) / 1_000;
    let reason = result.err().unwrap_or_default();
    Capability { mechanism, works: reason.is_empty(), reason, trial_micros }
}

/// Moves the calling thread into a network namespace of its own, for good.
fn leave_namespace() -> Result<(), String> {
    // SAFETY: only the network namespace of this thread changes; descriptors and memory stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| format!("no network namespace for the trial (it needs root): {error}"))
}

/// Whether the kernel takes the programs of sockets, on a cgroup of the trial's own that goes with it.
///
/// # Errors
/// The reason, a sentence.
pub fn sockets() -> Result<(), String> {
    let why = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let root = bpffs::cgroup_root().map_err(why("the mounts cannot be read"))?;
    let root = root.ok_or("no cgroup v2 hierarchy is mounted")?;
    let cgroup = root.join(format!("nv-trial-sockets-{}", std::process::id()));
    std::fs::create_dir(&cgroup).map_err(why("no cgroup for the trial"))?;
    let done = std::fs::metadata(&cgroup).map_err(why("no cgroup for the trial")).and_then(|folder| {
        let options =
            Options { pin_dir: None, cgroup_root: Some(cgroup.clone()), flows: 64, ..Options::default() };
        let mut loaded = Loaded::load(&options).map_err(|error| error.to_string())?;
        loaded.attribution()?;
        loaded.attach_sockets(folder.ino()).map_err(|error| error.to_string())
    });
    std::fs::remove_dir(&cgroup).map_err(why("the trial's cgroup stays"))?;
    done
}

/// A pod in Protect that may reach one port of the host, as far as an interface shows it.
struct Stage {
    loaded: Loaded,
    descriptors: Vec<(String, OwnedFd)>,
    tables: Tables,
    host_end: Interface,
    pod_end: Interface,
    hook: Hook,
}

fn why(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl Stage {
    /// In the network namespace of the calling thread.
    fn set() -> Result<Self, String> {
        let (host_end, pod_end) = make_veth().map_err(why("no veth for the trial"))?;
        let options = Options { pin_dir: None, attribution: false, flows: 64, ..Options::default() };
        let mut loaded = Loaded::load(&options).map_err(|error| error.to_string())?;
        let descriptors = loaded.descriptors().map_err(why("no descriptors"))?;
        let mut tables = Tables::from_descriptors(&descriptors).map_err(|error| error.to_string())?;
        let mut rows = Rows::default();
        rows.modes.insert(POD, ModeRow::new(Some(Mode::Protect), false));
        rows.set_address(IpAddr::from(HOST_ADDRESS).into(), HOST);
        let key = RuleKey::new(POD, HOST, Protocol::Udp, ALLOWED_PORT, 16);
        rows.rules.insert(key, RuleRow::new(RuleAction::Allow, 1));
        tables.apply(&rows).map_err(|error| error.to_string())?;
        tables
            .set_endpoint(host_end.ifindex, Endpoint { identity: POD, ..Endpoint::default() })
            .map_err(|error| error.to_string())?;
        let hook = loaded.attach(host_end.ifindex).map_err(|error| error.to_string())?;
        Ok(Self { loaded, descriptors, tables, host_end, pod_end, hook })
    }
    fn send(&self, port: u16) -> Result<(), String> {
        let frame = frame(&self.host_end, &self.pod_end, port);
        send_frame(self.pod_end.ifindex, &frame).map_err(why("no frame could be sent"))
    }
}

/// The host's socket of a port.
fn socket(port: u16) -> Result<UdpSocket, String> {
    let socket =
        UdpSocket::bind((IpAddr::from(HOST_ADDRESS), port)).map_err(why("no socket for the trial"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(why("no socket for the trial"))?;
    Ok(socket)
}

/// On a thread of its own: it leaves the namespace for good.
fn fire() -> Result<(Hook, Result<(), String>), String> {
    leave_namespace()?;
    let stage = Stage::set()?;
    let counters = Counters::from_descriptors(&stage.descriptors).map_err(|error| error.to_string())?;
    let (allowed, forbidden) = (socket(ALLOWED_PORT)?, socket(FORBIDDEN_PORT)?);
    forbidden.set_nonblocking(true).map_err(why("no socket for the trial"))?;
    for port in [FORBIDDEN_PORT, ALLOWED_PORT] {
        stage.send(port)?;
    }
    let mut byte = [0; 1];
    allowed.recv(&mut byte).map_err(|_silence| "an allowed packet did not arrive".to_owned())?;
    if forbidden.recv(&mut byte).is_ok() {
        return Err("a forbidden packet was not dropped".to_owned());
    }
    match counters.read() {
        Ok(totals) if totals.denied_packets == 1 => {
            Ok((stage.hook, stage.loaded.translations().map_err(ToOwned::to_owned)))
        }
        Ok(totals) => Err(format!("1 packet was to be dropped, {} were", totals.denied_packets)),
        Err(error) => Err(error.to_string()),
    }
}

/// One packet of an allowed connection waits and comes back, and the next one of it waits no more.
fn wait_and_come_back() -> Result<(), String> {
    let mut stage = Stage::set()?;
    let row = Endpoint { identity: POD, waits: Waits::or(OnFault::Drop), ..Endpoint::default() };
    stage.tables.set_endpoint(stage.host_end.ifindex, row).map_err(|error| error.to_string())?;
    let interface = TapInterface::make("nvtrial").map_err(|error| error.to_string())?;
    let _way = stage.loaded.attach_detour(interface.ifindex).map_err(|error| error.to_string())?;
    let socket_of_it = interface.open_detour().map_err(|error| error.to_string())?;
    let mut reader = DetourReader::new(socket_of_it);
    let detours = Detours::from_descriptors(&stage.descriptors).map_err(|error| error.to_string())?;
    detours.lead_to(Share::WHOLE, interface.ifindex, PATIENCE * 10).map_err(|error| error.to_string())?;
    let allowed = socket(ALLOWED_PORT)?;
    let mut waited = 0;
    for _ in 0..MAX_TRIES {
        stage.send(ALLOWED_PORT)?;
        poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&TRY))
            .map_err(|errno| why("no packet can be waited for")(errno.into()))?;
        waited = reader.drain(MAX_OTHERS, |_packet| Fate::Clean).map_err(why("no packet can be read"))?;
        if waited > 0 {
            break;
        }
    }
    if waited == 0 {
        return Err("no packet was led to where it waits".to_owned());
    }
    let mut byte = [0; 1];
    allowed.recv(&mut byte).map_err(|_silence| "a packet did not come back".to_owned())?;
    stage.send(ALLOWED_PORT)?;
    allowed.recv(&mut byte).map_err(|_silence| "a packet waits that was not to any more".to_owned())?;
    Ok(())
}

// Attributes of linux/if_link.h, linux/veth.h and linux/if_addr.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;

/// A veth whose ends are up, and the address of the host end.
pub(crate) fn make_veth() -> io::Result<(Interface, Interface)> {
    let mut socket = Socket::open()?;
    let mut peer = link_header(0, 0, 0).to_vec();
    put_attribute(&mut peer, IFLA_IFNAME, &terminated(POD_END));
    let mut data = Vec::new();
    put_attribute(&mut data, VETH_INFO_PEER, &peer);
    let mut info = Vec::new();
    put_attribute(&mut info, IFLA_INFO_KIND, b"veth");
    put_attribute(&mut info, IFLA_INFO_DATA, &data);
    let request = Request::new(RTM_NEWLINK, &link_header(0, 0, 0))
        .attribute(IFLA_IFNAME, &terminated(HOST_END))
        .attribute(IFLA_LINKINFO, &info);
    socket.execute(&request, true)?;

    let links = netns::host_interfaces().map_err(io::Error::other)?;
    let find = |name| links.iter().find(|link| link.name == name).cloned();
    let missing = || io::Error::other("the veth is not there after it was made");
    let (host_end, pod_end) = (find(HOST_END).ok_or_else(missing)?, find(POD_END).ok_or_else(missing)?);
    // ifaddrmsg: family, prefix length, flags, scope, index.
    let mut header = [AF_INET, 24, 0, 0, 0, 0, 0, 0];
    for (into, from) in header.iter_mut().skip(4).zip(host_end.ifindex.to_ne_bytes()) {
        *into = from;
    }
    let request = Request::new(RTM_NEWADDR, &header)
        .attribute(IFA_LOCAL, &HOST_ADDRESS)
        .attribute(IFA_ADDRESS, &HOST_ADDRESS);
    socket.execute(&request, true)?;
    for end in [&host_end, &pod_end] {
        socket.execute(&Request::new(RTM_NEWLINK, &link_header(end.ifindex, IFF_UP, IFF_UP)), false)?;
    }
    Ok((host_end, pod_end))
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// An Ethernet frame with a UDP packet of one byte to `port` of the host end.
pub(crate) fn frame(host_end: &Interface, pod_end: &Interface, port: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend_from_slice(&POD_ADDRESS);
    ip.extend_from_slice(&HOST_ADDRESS);
    let checksum = header_checksum(&ip).to_be_bytes();
    for (into, from) in ip.iter_mut().skip(10).zip(checksum) {
        *into = from;
    }
    let mut frame = Vec::with_capacity(64);
    frame.extend_from_slice(&host_end.mac);
    frame.extend_from_slice(&pod_end.mac);
    frame.extend_from_slice(&[0x08, 0x00]);
    frame.extend_from_slice(&ip);
    // UDP: both ports, length, no checksum; then the byte.
    for field in [40_000, port, 9, 0_u16] {
        frame.extend_from_slice(&field.to_be_bytes());
    }
    frame.push(b'x');
    frame
}

/// RFC 1071.
fn header_checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    let folded = (sum & 0xffff).wrapping_add(sum >> 16);
    let folded = (folded & 0xffff).wrapping_add(folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

pub(crate) fn send_frame(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or(0),
        sll_protocol: 0x0800_u16.to_be(),
        sll_ifindex: i32::try_from(ifindex).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: frame and address outlive the call, and their lengths are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            length,
        )
    };
    if usize::try_from(sent) == Ok(frame.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_a_known_header() {
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 0x01, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(header_checksum(&header), 0xb861);
    }
}
