//! Who talks to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One of the two directions of a flow, named by its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who asked for the connection.
    Client,
    /// Who was asked.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
}

impl Transport {
    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// An address with a port; ICMP has the identifier of its echo, or 0, for both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// Both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Protocol above IP.
    pub transport: Transport,
    /// Who asked.
    pub client: Endpoint,
    /// Who was asked.
    pub server: Endpoint,
}

/// An address in 16 bytes: IPv4 as in RFC 4291 §2.5.5.2.
pub(crate) type Address = [u8; 16];

pub(crate) fn pack(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn unpack(address: Address, v4: bool) -> IpAddr {
    let [.., a, b, c, d] = address;
    if v4 { IpAddr::V4(Ipv4Addr::new(a, b, c, d)) } else { IpAddr::V6(Ipv6Addr::from(address)) }
}

/// What a flow is found by: the lower end first, so that both directions give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: Address,
    high: Address,
    low_port: u16,
    high_port: u16,
    transport: Transport,
    v4: bool,
}

impl Key {
    /// The key, and whether the sender is its lower end.
    pub(crate) fn new(transport: Transport, source: Endpoint, destination: Endpoint) -> (Self, bool) {
        let from = (pack(source.address), source.port);
        let to = (pack(destination.address), destination.port);
        let forward = from <= to;
        let ((low, low_port), (high, high_port)) = if forward { (from, to) } else { (to, from) };
        (Self { low, high, low_port, high_port, transport, v4: source.address.is_ipv4() }, forward)
    }
    /// The two ends, when the client is the lower one or not.
    pub(crate) fn endpoints(&self, client_is_low: bool) -> Endpoints {
        let low = Endpoint { address: unpack(self.low, self.v4), port: self.low_port };
        let high = Endpoint { address: unpack(self.high, self.v4), port: self.high_port };
        let (client, server) = if client_is_low { (low, high) } else { (high, low) };
        Endpoints { transport: self.transport, client, server }
    }
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }
    /// Port of one end.
    pub(crate) fn port(&self, low: bool) -> u16 {
        if low { self.low_port } else { self.high_port }
    }
}
