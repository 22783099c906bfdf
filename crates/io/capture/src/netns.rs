//! Network namespaces: the interfaces of a pod, and which host end each of them has.
//!
//! A thread of its own enters the namespace just long enough to open a socket there; the socket stays in it, and the
//! thread ends. Nothing in the namespace is changed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::listening::{self, Listening};
use crate::netlink::{
    Message, RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
    RTMGRP_LINK, Request, Socket, attributes, link_header,
};

/// Why a namespace cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// The process has ended, or `/proc` is not the host's.
    #[error("process {pid} has no network namespace; it has ended")]
    Gone {
        /// Which process.
        pid: u32,
    },
    /// The namespace cannot be entered; that needs root, or `CAP_SYS_ADMIN`.
    #[error("cannot {act} the network namespace of {whose}")]
    Enter {
        /// What was tried.
        act: &'static str,
        /// Whose.
        whose: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel does not answer about interfaces.
    #[error("cannot ask the kernel for {what} of {whose}")]
    Ask {
        /// What was asked.
        what: &'static str,
        /// Whose.
        whose: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Index of the other end of the veth, in the host's namespace; `None` for other kinds, and when the other end is not
    /// there.
    pub peer: Option<u32>,
    /// What it is (`veth`, `bridge`); empty for a physical one.
    pub kind: String,
    /// Link address; empty when it has none.
    pub mac: Vec<u8>,
    /// It is up.
    pub up: bool,
    /// It is the loopback.
    pub loopback: bool,
    /// Addresses and prefixes, those of the link itself (`fe80::/10`) included.
    pub addresses: Vec<IpNet>,
    /// Default gateways on it, at most one for IPv4 and one for IPv6.
    pub gateways: Vec<IpAddr>,
}

/// A change of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// It is gone; else it is new or changed.
    pub gone: bool,
    /// It is up.
    pub up: bool,
}

/// Inode of the network namespace of a process: the same number, the same namespace.
///
/// # Errors
/// When there is no such process.
pub fn inode(pid: u32) -> Result<u64, NetnsError> {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .map(|meta| meta.ino())
        .map_err(|_no_such_process| NetnsError::Gone { pid })
}

/// Interfaces of the network namespace of a process, whose host ends are looked for in the namespace of the calling
/// thread.
///
/// # Errors
/// When there is no such process, its namespace cannot be entered, or the kernel does not answer.
pub fn interfaces(pid: u32) -> Result<Vec<Interface>, NetnsError> {
    let whose = format!("process {pid}");
    let namespace = open(pid)?;
    let mut inside = enter(&namespace, &whose)?;
    let mut found = list(&mut inside, &whose)?;
    let mut here = Socket::open().map_err(ask("interfaces", "the host"))?;
    for interface in &mut found {
        let peer = interface.peer.take();
        interface.peer = peer.filter(|&peer| is_other_end(&mut here, peer, interface.ifindex));
    }
    Ok(found)
}

/// A socket that sees every packet on every interface of the network namespace of a process. It keeps the namespace alive
/// for as long as it is open. Read it with [`crate::Packets`].
///
/// # Errors
/// When there is no such process, its namespace cannot be entered, or the kernel refuses the socket (`CAP_NET_RAW`).
pub fn packets(pid: u32) -> Result<OwnedFd, NetnsError> {
    within_process(pid, crate::packets::open)
}

/// Interfaces of the namespace of the calling thread. `peer` is not resolved.
///
/// # Errors
/// When the kernel does not answer.
pub fn host_interfaces() -> Result<Vec<Interface>, NetnsError> {
    let mut socket = Socket::open().map_err(ask("interfaces", "the host"))?;
    let mut found = list(&mut socket, "the host")?;
    for interface in &mut found {
        interface.peer = None;
    }
    Ok(found)
}

/// Ports that something listens on (TCP) or is bound to (UDP) in the network namespace of a process.
///
/// # Errors
/// When there is no such process.
pub fn listening(pid: u32) -> Result<Vec<Listening>, NetnsError> {
    listening::of(pid).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => NetnsError::Gone { pid },
        _ => NetnsError::Ask { what: "listening ports", whose: format!("process {pid}"), source },
    })
}

/// Tells of new, changed and removed interfaces of the namespace of the thread that made it.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// From now on.
    ///
    /// # Errors
    /// When the kernel does not take the subscription.
    pub fn new() -> Result<Self, NetnsError> {
        let socket = Socket::subscribe(RTMGRP_LINK).map_err(ask("changes of interfaces", "the host"))?;
        Ok(Self { socket })
    }
    /// The next changes. Waits for them; a descriptor to wait on elsewhere is [`AsFd`].
    ///
    /// # Errors
    /// `ENOBUFS` when changes were lost: look at everything anew. Others when the wait fails.
    pub fn changes(&mut self) -> io::Result<Vec<LinkChange>> {
        Ok(self.socket.changes()?.iter().filter_map(link_change).collect())
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(pid: u32) -> Result<File, NetnsError> {
    File::open(format!("/proc/{pid}/ns/net")).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => NetnsError::Gone { pid },
        _ => NetnsError::Enter { act: "open", whose: format!("process {pid}"), source },
    })
}

/// What is opened inside of the network namespace of a process.
pub(crate) fn within_process<T: Send>(
    pid: u32,
    open_there: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, NetnsError> {
    let namespace = open(pid)?;
    within(&namespace, &format!("process {pid}"), open_there)
}

/// A netlink socket inside of the namespace.
fn enter(namespace: &File, whose: &str) -> Result<Socket, NetnsError> {
    within(namespace, whose, Socket::open)
}

/// What is opened inside of the namespace.
fn within<T: Send>(
    namespace: &File,
    whose: &str,
    open: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, NetnsError> {
    let failed = |act| move |source| NetnsError::Enter { act, whose: whose.to_owned(), source };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                open()
            })
            .map_err(failed("start a thread for"))?
            .join()
            .map_err(|_panic| failed("look into")(io::Error::other("the thread has failed")))?
            .map_err(failed("enter"))
    })
}

fn ask(what: &'static str, whose: &str) -> impl FnOnce(io::Error) -> NetnsError {
    let whose = whose.to_owned();
    move |source| NetnsError::Ask { what, whose, source }
}

fn list(socket: &mut Socket, whose: &str) -> Result<Vec<Interface>, NetnsError> {
    let links =
        socket.dump(&Request::new(RTM_GETLINK, &link_header(0, 0, 0))).map_err(ask("interfaces", whose))?;
    let mut found: Vec<Interface> = links.iter().filter_map(interface).collect();
    // ifaddrmsg and rtmsg of zeroes: every family.
    let addresses = socket.dump(&Request::new(RTM_GETADDR, &[0; 8])).map_err(ask("addresses", whose))?;
    for (ifindex, address) in addresses.iter().filter_map(address) {
        if let Some(interface) = found.iter_mut().find(|interface| interface.ifindex == ifindex) {
            interface.addresses.push(address);
        }
    }
    let routes = socket.dump(&Request::new(RTM_GETROUTE, &[0; 12])).map_err(ask("routes", whose))?;
    for (ifindex, gateway) in routes.iter().filter_map(default_route) {
        if let Some(interface) = found.iter_mut().find(|interface| interface.ifindex == ifindex)
            && !interface.gateways.iter().any(|known| known.is_ipv4() == gateway.is_ipv4())
        {
            interface.gateways.push(gateway);
        }
    }
    Ok(found)
}

// Attributes of linux/if_link.h, linux/if_addr.h and linux/rtnetlink.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

fn interface(message: &Message) -> Option<Interface> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let flags = number(message.body.get(8..12)?)?;
    let mut found = Interface {
        name: String::new(),
        ifindex: number(message.body.get(4..8)?)?,
        peer: None,
        kind: String::new(),
        mac: Vec::new(),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        addresses: Vec::new(),
        gateways: Vec::new(),
    };
    let mut link = None;
    for (kind, value) in attributes(&message.body, 16) {
        match kind {
            IFLA_IFNAME => found.name = text(value),
            IFLA_ADDRESS => found.mac = value.to_vec(),
            IFLA_LINK => link = number(value),
            IFLA_LINKINFO => {
                found.kind = attributes(value, 0)
                    .find_map(|(kind, value)| (kind == IFLA_INFO_KIND).then(|| text(value)))
                    .unwrap_or_default();
            }
            _ => {}
        }
    }
    found.peer = link.filter(|&link| found.kind == "veth" && link != 0);
    Some(found)
}

/// Whether the interface of the host is the other end of the one with `ifindex` elsewhere.
fn is_other_end(here: &mut Socket, peer: u32, ifindex: u32) -> bool {
    let request = Request::new(RTM_GETLINK, &link_header(peer, 0, 0));
    here.get(&request).is_ok_and(|answer| {
        answer.iter().filter_map(interface).any(|found| found.ifindex == peer && found.peer == Some(ifindex))
    })
}

fn link_change(message: &Message) -> Option<LinkChange> {
    let gone = match message.kind {
        RTM_NEWLINK => false,
        RTM_DELLINK => true,
        _ => return None,
    };
    let name =
        attributes(&message.body, 16).find_map(|(kind, value)| (kind == IFLA_IFNAME).then(|| text(value)))?;
    let ifindex = number(message.body.get(4..8)?)?;
    let up = number(message.body.get(8..12)?)? & IFF_UP != 0;
    Some(LinkChange { name, ifindex, gone, up })
}

fn address(message: &Message) -> Option<(u32, IpNet)> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let prefix = *message.body.get(1)?;
    let ifindex = number(message.body.get(4..8)?)?;
    let find =
        |wanted| attributes(&message.body, 8).find_map(|(kind, value)| (kind == wanted).then_some(value));
    // IFA_ADDRESS is the other end of a point-to-point link; IFA_LOCAL is ours where there is one.
    let address = ip(find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?)?;
    Some((ifindex, IpNet::new(address, prefix).ok()?))
}

fn default_route(message: &Message) -> Option<(u32, IpAddr)> {
    if message.kind != RTM_NEWROUTE || *message.body.get(1)? != 0 {
        return None;
    }
    let find =
        |wanted| attributes(&message.body, 12).find_map(|(kind, value)| (kind == wanted).then_some(value));
    Some((number(find(RTA_OIF)?)?, ip(find(RTA_GATEWAY)?)?))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

/// Reads at most `limit` bytes of a file.
pub(crate) fn read_limited(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_the_host_is_found_with_its_address() {
        let found = host_interfaces().unwrap();
        let loopback = found.iter().find(|interface| interface.loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(!loopback.up || loopback.addresses.contains(&"127.0.0.1/8".parse().unwrap()));
    }

    #[test]
    fn a_process_that_ended_has_no_namespace() {
        assert!(matches!(inode(u32::MAX), Err(NetnsError::Gone { pid: u32::MAX })));
        assert!(matches!(interfaces(u32::MAX), Err(NetnsError::Gone { .. })));
        assert!(matches!(listening(u32::MAX), Err(NetnsError::Gone { .. })));
    }

    #[test]
    fn a_port_that_is_listened_on_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listening(std::process::id()).unwrap();
        assert!(found.iter().any(|one| one.port == port && one.address.is_loopback()), "{port} in {found:?}");
    }

    #[test]
    fn two_processes_of_one_namespace_have_the_same_inode() {
        assert_eq!(
            inode(std::process::id()).unwrap(),
            fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
        );
    }
}
