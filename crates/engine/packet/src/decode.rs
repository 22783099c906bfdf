//! From a frame to the innermost packet, in one loop without recursion.

use crate::error::{DecodeError, Layer};
use crate::link::{self, ETHERNET, IPV4, IPV6, Link};
use crate::network::{self, Network};
use crate::transport::{Icmp, Tcp, Udp};
use crate::tunnel::{self, MAX_TUNNELS};

/// Headers inside one another that are followed, tags and tunnels included.
pub const MAX_LAYERS: usize = 24;

/// The innermost packet of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the innermost network header says.
    pub network: Network,
    /// What it carries.
    pub transport: Transport<'a>,
    /// Everything behind the network header, for checksums and defragmentation.
    pub body: &'a [u8],
    /// Identifier of the innermost VLAN tag.
    pub vlan: Option<u16>,
    /// Tunnels around the packet (0 to [`MAX_TUNNELS`]).
    pub tunnels: u8,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// A TCP segment.
    Tcp(Tcp<'a>),
    /// A UDP datagram.
    Udp(Udp<'a>),
    /// An ICMP message in IPv4.
    Icmp(Icmp<'a>),
    /// An ICMPv6 message in IPv6.
    Icmpv6(Icmp<'a>),
    /// A piece of a datagram: its header is known only when all pieces are there.
    Fragment,
    /// A protocol that is not read, by [`Network::protocol`].
    Other,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An IP packet.
    Packet(Packet<'a>),
    /// Something else, by its EtherType (ARP, LLDP); 0 when it has none.
    NotIp(u16),
}

/// How many frames had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames read.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// IP packets, fragments included.
    pub packets: u64,
    /// Packets that are fragments.
    pub fragments: u64,
    /// Packets that came in a tunnel.
    pub tunnelled: u64,
    /// Packets that the frame holds only in part.
    pub cut: u64,
    /// Frames that are not IP.
    pub not_ip: u64,
    /// Frames that end inside a header.
    pub truncated: u64,
    /// Frames with a forbidden value.
    pub malformed: u64,
    /// Frames with too many headers.
    pub too_deep: u64,
}

impl Counters {
    /// Decodes `frame` and counts the outcome.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode<'a>(&mut self, link: Link, frame: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let outcome = decode(link, frame);
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(frame.len() as u64);
        match &outcome {
            Ok(Decoded::Packet(packet)) => {
                self.packets = self.packets.saturating_add(1);
                let fragment = packet.network.fragment.is_some();
                self.fragments = self.fragments.saturating_add(u64::from(fragment));
                self.tunnelled = self.tunnelled.saturating_add(u64::from(packet.tunnels > 0));
                self.cut = self.cut.saturating_add(u64::from(packet.network.cut));
            }
            Ok(Decoded::NotIp(_)) => self.not_ip = self.not_ip.saturating_add(1),
            Err(DecodeError::Truncated { .. }) => self.truncated = self.truncated.saturating_add(1),
            Err(DecodeError::Malformed { .. }) => self.malformed = self.malformed.saturating_add(1),
            Err(DecodeError::TooDeep { .. }) => self.too_deep = self.too_deep.saturating_add(1),
        }
        outcome
    }
}

/// The payload of an IP packet, or a frame within it.
enum Inner<'a> {
    Transport(Transport<'a>),
    Tunnel(u16, &'a [u8]),
}

/// Reads `frame` down to the innermost packet. Total: every input gives a packet, a foreign EtherType or an error.
///
/// # Errors
/// [`DecodeError`] with the layer that is cut or wrong; `TooDeep` beyond [`MAX_LAYERS`] headers or
/// [`MAX_TUNNELS`] tunnels.
pub fn decode(link: Link, frame: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let (ether_type, input) = link::header(link, frame)?;
    descend(ether_type, input, None, 0)
}

/// Reads a packet from its IP header on, and no tunnel in it: what a tunnel carries is payload to whoever judges a packet by
/// the addresses and ports that it goes by.
///
/// # Errors
/// As [`decode`].
pub fn decode_outer(packet: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let (ether_type, input) = link::header(Link::Raw, packet)?;
    let (network, body) = match ether_type {
        IPV4 => network::ipv4(input)?,
        IPV6 => network::ipv6(input)?,
        other => return Ok(Decoded::NotIp(other)),
    };
    let transport = match network.protocol {
        _ if network.fragment.is_some() => Transport::Fragment,
        6 => Transport::Tcp(Tcp::parse(body)?),
        17 => Transport::Udp(Udp::parse(body)?),
        _ => Transport::Other,
    };
    Ok(Decoded::Packet(Packet { network, transport, body, vlan: None, tunnels: 0 }))
}

/// Reads on behind a network header whose fragments have been put together; tunnels are followed as in [`decode`].
///
/// # Errors
/// As [`decode`].
pub fn decode_payload<'a>(
    network: Network,
    body: &'a [u8],
    vlan: Option<u16>,
    tunnels: u8,
) -> Result<Decoded<'a>, DecodeError> {
    match payload(&network, body)? {
        Inner::Transport(transport) => {
            Ok(Decoded::Packet(Packet { network, transport, body, vlan, tunnels }))
        }
        Inner::Tunnel(..) if tunnels >= MAX_TUNNELS => {
            Err(DecodeError::TooDeep { limit: usize::from(MAX_TUNNELS) })
        }
        Inner::Tunnel(ether_type, inner) => descend(ether_type, inner, None, tunnels.saturating_add(1)),
    }
}

/// Follows headers inside one another, from `ether_type` on.
fn descend(
    mut ether_type: u16,
    mut input: &[u8],
    mut vlan: Option<u16>,
    mut tunnels: u8,
) -> Result<Decoded<'_>, DecodeError> {
    for _ in 0..MAX_LAYERS {
        let (network, body) = match ether_type {
            IPV4 => network::ipv4(input)?,
            IPV6 => network::ipv6(input)?,
            0x8100 | 0x88A8 | 0x9100 => {
                let (id, inner) = link::vlan(input)?;
                vlan = Some(id);
                (ether_type, input) = inner;
                continue;
            }
            0x8864 => {
                (ether_type, input) = link::pppoe(input)?;
                continue;
            }
            ETHERNET => {
                (ether_type, input) = link::header(Link::Ethernet, input)?;
                continue;
            }
            other => return Ok(Decoded::NotIp(other)),
        };
        match payload(&network, body)? {
            Inner::Transport(transport) => {
                return Ok(Decoded::Packet(Packet { network, transport, body, vlan, tunnels }));
            }
            Inner::Tunnel(..) if tunnels == MAX_TUNNELS => {
                return Err(DecodeError::TooDeep { limit: usize::from(MAX_TUNNELS) });
            }
            Inner::Tunnel(inner_type, inner) => {
                tunnels = tunnels.saturating_add(1);
                vlan = None; // the outer network's tag says nothing about the inner packet
                (ether_type, input) = (inner_type, inner);
            }
        }
    }
    Err(DecodeError::TooDeep { limit: MAX_LAYERS })
}

/// Reads what an IP packet carries.
fn payload<'a>(network: &Network, body: &'a [u8]) -> Result<Inner<'a>, DecodeError> {
    if network.fragment.is_some() {
        return Ok(Inner::Transport(Transport::Fragment));
    }
    Ok(match network.protocol {
        1 if network.source.is_ipv4() => Inner::Transport(Transport::Icmp(Icmp::parse(body)?)),
        58 if network.source.is_ipv6() => Inner::Transport(Transport::Icmpv6(Icmp::parse(body)?)),
        4 => Inner::Tunnel(IPV4, body),
        41 => Inner::Tunnel(IPV6, body),
        6 => Inner::Transport(Transport::Tcp(Tcp::parse(body)?)),
        17 => {
            let datagram = Udp::parse(body)?;
            match tunnel::over_udp(&datagram)? {
                Some((ether_type, inner)) => Inner::Tunnel(ether_type, inner),
                None => Inner::Transport(Transport::Udp(datagram)),
            }
        }
        47 => match tunnel::gre(body)? {
            (0, _) => Inner::Transport(Transport::Other),
            (ether_type, inner) => Inner::Tunnel(ether_type, inner),
        },
        _ => Inner::Transport(Transport::Other),
    })
}

/// Checks the header checksum of an IPv4 packet (RFC 791 §3.1); `input` starts at the header.
///
/// # Errors
/// [`DecodeError::Truncated`] when the header is not whole.
pub fn ipv4_checksum_is_valid(input: &[u8]) -> Result<bool, DecodeError> {
    let length = input.first().map_or(20, |first| usize::from(first & 0x0F).saturating_mul(4)).max(20);
    let (header, _) = crate::read::split(Layer::Ipv4, input, length)?;
    Ok(crate::checksum::sum(&[header]) == 0xFFFF)
}
