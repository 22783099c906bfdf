//! Copies of packets for inspection: where they go, while somebody inspects.
//!
//! A veth of the node's own: the programs put the copies into one end, and they are read at the other. It has no
//! address, so that nothing else on the node looks at them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nv_model::policy::IdentityId;
use nv_model::port::Protocol;

use crate::clock::monotonic_nanos;
use crate::detour;
use crate::frames;
use crate::map::{Map, TableError, name};
use crate::netlink::{RTM_DELLINK, RTM_NEWLINK, Request, Socket, link_header, put_attribute};
use crate::netns;
use crate::offload;
use crate::rows::{FlowKey, FlowRow, InspectedKey, TapRow, address, octets};
use crate::share::Share;

// Attributes of linux/if_link.h and linux/veth.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const AF_INET6: u16 = 10;
/// The most that a veth takes.
const MTU: u32 = 65_535;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 1 << 7;

/// Why there is nothing to inspect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The veth cannot be made or set up; that takes `CAP_NET_ADMIN`.
    #[error("the veth {name} for inspection cannot be made")]
    Interface {
        /// Name of its first end.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The packet socket cannot be opened; that takes `CAP_NET_RAW`.
    #[error("what arrives at {name} cannot be read")]
    Socket {
        /// Name of the end.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// The veth, in the network namespace of the thread that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapInterface {
    /// Index of the end that copies are put into.
    pub ifindex: u32,
    /// Index of the end that they arrive at.
    other_end: u32,
    names: [String; 2],
}

impl TapInterface {
    /// The veth of that name, where an earlier process has left one.
    #[must_use]
    pub fn left(name: &str) -> Option<Self> {
        let names = ["i", "o"].map(|end| format!("{name}{end}"));
        let [ifindex, other_end] = find(&names).ok().flatten()?;
        Some(Self { ifindex, other_end, names })
    }

    /// Makes the veth, or takes the one of that name that an earlier process has left. `name` has at most 14 bytes.
    ///
    /// # Errors
    /// [`TapError::Interface`].
    pub fn make(name: &str) -> Result<Self, TapError> {
        let names = ["i", "o"].map(|end| format!("{name}{end}"));
        let failed = |source| TapError::Interface { name: name.to_owned(), source };
        let mut socket = Socket::open().map_err(failed)?;
        let mut ends = find(&names).map_err(failed)?;
        if ends.is_none() {
            create(&mut socket, &names).map_err(failed)?;
            ends = find(&names).map_err(failed)?;
        }
        let ends = ends.ok_or_else(|| failed(io::Error::other("it is not there after it was made")))?;
        for end in ends {
            // Without an address of its own no end says anything by itself.
            let mut inet6 = Vec::new();
            put_attribute(&mut inet6, IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
            let mut families = Vec::new();
            put_attribute(&mut families, AF_INET6, &inet6);
            let quiet = Request::new(RTM_NEWLINK, &link_header(end, 0, 0)).attribute(IFLA_AF_SPEC, &families);
            if let Err(error) = socket.execute(&quiet, false) {
                // A node without IPv6 gives out no such addresses anyway.
                tracing::debug!(%error, ifindex = end, "an interface may get an IPv6 address");
            }
            let flags = IFF_UP | IFF_NOARP;
            // Pods may have longer packets than Ethernet has by itself.
            let up = Request::new(RTM_NEWLINK, &link_header(end, flags, flags))
                .attribute(IFLA_MTU, &MTU.to_ne_bytes());
            socket.execute(&up, false).map_err(failed)?;
        }
        let [ifindex, other_end] = ends;
        Ok(Self { ifindex, other_end, names })
    }

    /// A socket with a ring of what arrives, for the reader of a share, to be read with [`Frames`](crate::Frames).
    ///
    /// # Errors
    /// [`TapError::Socket`].
    pub fn open(&self, share: Share) -> Result<OwnedFd, TapError> {
        let [_, name] = &self.names;
        frames::open(self.other_end, share).map_err(|source| TapError::Socket { name: name.clone(), source })
    }

    /// A socket of what arrives, and by which it goes back, for a [`DetourReader`](crate::detour::DetourReader).
    ///
    /// # Errors
    /// [`TapError::Socket`].
    pub fn open_detour(&self) -> Result<OwnedFd, TapError> {
        let [first, name] = &self.names;
        offload::cut_all_but_tcp(first)
            .and_then(|()| detour::open(self.other_end))
            .map_err(|source| TapError::Socket { name: name.clone(), source })
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`TapError::Interface`].
    pub fn remove(self) -> Result<(), TapError> {
        let [name, _] = self.names;
        let request = Request::new(RTM_DELLINK, &link_header(self.ifindex, 0, 0));
        Socket::open()
            .and_then(|mut socket| socket.execute(&request, false))
            .map_err(|source| TapError::Interface { name, source })
    }
}

fn find(names: &[String; 2]) -> io::Result<Option<[u32; 2]>> {
    let links = netns::host_interfaces().map_err(io::Error::other)?;
    let [first, second] = names.each_ref().map(|name| {
        links.iter().find(|link| link.name == *name && link.kind == "veth").map(|link| link.ifindex)
    });
    Ok(first.zip(second).map(|(first, second)| [first, second]))
}

fn create(socket: &mut Socket, names: &[String; 2]) -> io::Result<()> {
    let [first, second] = names.each_ref().map(|name| [name.as_bytes(), b"\0"].concat());
    let mut peer = link_header(0, 0, 0).to_vec();
    put_attribute(&mut peer, IFLA_IFNAME, &second);
    let mut data = Vec::new();
    put_attribute(&mut data, VETH_INFO_PEER, &peer);
    let mut info = Vec::new();
    put_attribute(&mut info, IFLA_INFO_KIND, b"veth");
    put_attribute(&mut info, IFLA_INFO_DATA, &data);
    let request = Request::new(RTM_NEWLINK, &link_header(0, 0, 0))
        .attribute(IFLA_IFNAME, &first)
        .attribute(IFLA_LINKINFO, &info);
    socket.execute(&request, true)
}

/// The kernel's rows on what is inspected.
#[derive(Debug)]
pub struct Tap {
    taps: Map<u32, TapRow>,
    inspected: Map<InspectedKey, u64>,
    flows: Map<FlowKey, FlowRow>,
}

/// Who serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its identity, as the connection was judged by it.
    pub identity: IdentityId,
    /// Its address, behind a translation.
    pub address: IpAddr,
}

impl Tap {
    /// From what the loader has handed over.
    ///
    /// # Errors
    /// When a table is missing or of another version.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        Ok(Self {
            taps: Map::find(name::TAPS, descriptors)?,
            inspected: Map::find(name::INSPECTED, descriptors)?,
            flows: Map::find(name::FLOWS, descriptors)?,
        })
    }
    /// Has copies of what passes at the pods of a share put into an interface ([`TapInterface::ifindex`]) for some time from
    /// now on. To be said again while somebody inspects: when it is not, the copies end by themselves.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn copy_to(&self, share: Share, ifindex: u32, time: Duration) -> Result<(), TableError> {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let row = TapRow { until_ns: monotonic_nanos().saturating_add(time), ifindex, zero: 0 };
        share.places().try_for_each(|place| self.taps.put(&place, &row))
    }
    /// Who serves a connection that a pod, at the interface `ifindex`, has opened to `server`. `None` before the server's
    /// first answer, where the kernel has no such connection, and where it cannot be asked whom it has chosen.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn served(
        &self,
        ifindex: u32,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<Option<Served>, TableError> {
        let key = FlowKey {
            ifindex,
            local: octets(client.ip()),
            remote: octets(server.ip()),
            local_port: client.port().into(),
            remote_port: server.port().into(),
            protocol: protocol.number(),
            vlan: [0; 3],
        };
        let row = self.flows.get(&key)?.filter(|row| row.is.asked != 0 && row.is.local_client != 0);
        Ok(row.map(|row| Served {
            identity: IdentityId(row.server),
            address: if row.peer == [0; 16] { server.ip() } else { address(row.peer) },
        }))
    }
    /// Ends the copies of a share.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop(&self, share: Share) -> Result<(), TableError> {
        let none = TapRow { until_ns: 0, ifindex: 0, zero: 0 };
        share.places().try_for_each(|place| self.taps.put(&place, &none))
    }
    /// No more copies of the packets between two ends, as long as the connection that they have now lasts, but for those
    /// that begin or end it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn inspected(
        &self,
        protocol: Protocol,
        one: SocketAddr,
        other: SocketAddr,
    ) -> Result<(), TableError> {
        let now = monotonic_nanos();
        // At whichever interface it is: which end is the pod's is the kernel's to know.
        for (local, remote) in [(one, other), (other, one)] {
            let address = |end: IpAddr| octets(end);
            let key = InspectedKey {
                local: address(local.ip()),
                remote: address(remote.ip()),
                local_port: local.port().into(),
                remote_port: remote.port().into(),
                protocol: protocol.number(),
                zero: [0; 3],
            };
            self.inspected.put(&key, &now)?;
        }
        Ok(())
    }
}
