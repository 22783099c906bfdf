//! What a filter asks of a frame: its outermost packet.

use std::net::{IpAddr, Ipv4Addr};

use super::{Header, SCTP, TCP, UDP, Version};
use crate::link::{self, IPV4, IPV6, Link};
use crate::network::{self, Network};

/// Tags that are looked through.
const MAX_TAGS: usize = 2;
const ARP: u16 = 0x0806;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// A frame, taken apart as far as it goes.
pub(super) struct View<'a> {
    frame: &'a [u8],
    /// On the wire.
    pub(super) length: u32,
    /// Of what is behind the tags; 0 when the frame ends before.
    pub(super) ether_type: u16,
    /// Outermost first.
    pub(super) vlans: [Option<u16>; MAX_TAGS],
    /// Behind the link header and its tags.
    packet: &'a [u8],
    /// The network header and what it carries.
    network: Option<(Network, &'a [u8])>,
}

impl<'a> View<'a> {
    pub(super) fn of(frame: &'a [u8], length: u32) -> Self {
        let mut view =
            Self { frame, length, ether_type: 0, vlans: [None; MAX_TAGS], packet: &[], network: None };
        let Ok((mut ether_type, mut packet)) = link::header(Link::Ethernet, frame) else { return view };
        for place in &mut view.vlans {
            if !matches!(ether_type, 0x8100 | 0x88A8 | 0x9100) {
                break;
            }
            let Ok((id, inner)) = link::vlan(packet) else { break };
            *place = Some(id);
            (ether_type, packet) = inner;
        }
        (view.ether_type, view.packet) = (ether_type, packet);
        view.network = match ether_type {
            IPV4 => network::ipv4(packet).ok(),
            IPV6 => network::ipv6(packet).ok(),
            _ => None,
        };
        view
    }

    /// Source and destination of the Ethernet header.
    pub(super) fn ethernet(&self) -> Option<(&'a [u8; 6], &'a [u8; 6])> {
        let (destination, rest) = self.frame.split_first_chunk()?;
        Some((rest.first_chunk()?, destination))
    }

    /// Source and destination of the IP header.
    pub(super) fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        self.network.as_ref().map(|(network, _)| (network.source, network.destination))
    }

    /// Sender and target of an ARP packet for IPv4 over Ethernet (RFC 826).
    pub(super) fn arp_addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let fields = self.packet.first_chunk::<28>().filter(|_| self.ether_type == ARP)?;
        let [_, _, p0, p1, 6, 4, _, _, rest @ ..] = fields else { return None };
        if u16::from_be_bytes([*p0, *p1]) != IPV4 {
            return None;
        }
        let address = |at: usize| {
            let bytes: &[u8; 4] = rest.get(at..)?.first_chunk()?;
            Some(IpAddr::V4(Ipv4Addr::from(*bytes)))
        };
        Some((address(6)?, address(16)?))
    }

    /// Protocol of the IP packet, when it is of this version.
    pub(super) fn protocol(&self, version: Option<Version>) -> Option<u8> {
        let (network, _) = self.network.as_ref()?;
        let is = if network.source.is_ipv4() { Version::V4 } else { Version::V6 };
        version.is_none_or(|wanted| wanted == is).then_some(network.protocol)
    }

    /// What the IP packet carries, unless it is a later fragment.
    fn carried(&self) -> Option<&'a [u8]> {
        let (network, body) = self.network.as_ref()?;
        let first = network.fragment.is_none_or(|fragment| fragment.offset == 0);
        first.then_some(*body)
    }

    /// Source and destination port of TCP, UDP or SCTP, whose headers all begin with them.
    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let [s0, s1, d0, d1] = self.carried()?.first_chunk()?;
        Some((u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])))
    }

    /// A header and all that follows it, when the packet has one.
    pub(super) fn header(&self, header: Header) -> Option<&'a [u8]> {
        let carried = |version, number| self.carried().filter(|_| self.protocol(version) == Some(number));
        match header {
            Header::Ethernet => Some(self.frame),
            Header::Arp => (self.ether_type == ARP).then_some(self.packet),
            Header::Ip => (self.ether_type == IPV4).then_some(self.packet),
            Header::Ip6 => (self.ether_type == IPV6).then_some(self.packet),
            Header::Icmp => carried(Some(Version::V4), ICMP),
            Header::Icmp6 => carried(Some(Version::V6), ICMP6),
            Header::Tcp => carried(None, TCP),
            Header::Udp => carried(None, UDP),
            Header::Sctp => carried(None, SCTP),
        }
    }
}
