//! Link headers: Ethernet II with VLAN tags and PPPoE, loopback, raw IP and Linux "cooked" captures.

use crate::error::{DecodeError, Layer};
use crate::read::{head, split};

/// What a frame starts with (`LINKTYPE_` numbers of the capture formats in brackets).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet II (1).
    Ethernet,
    /// Four bytes of address family in the byte order of the capturing machine (0, 108).
    Loopback,
    /// IPv4 or IPv6 without a link header (12, 14, 101, 228, 229).
    Raw,
    /// Linux cooked capture, version 1 (113).
    Cooked,
    /// Linux cooked capture, version 2 (276).
    Cooked2,
}

impl Link {
    /// By the number that a capture file uses; `None` for one that is not read.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            0 | 108 => Some(Self::Loopback),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }
}

/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(crate) const IPV6: u16 = 0x86DD;
/// EtherType of a whole Ethernet frame inside a tunnel ("transparent Ethernet bridging").
pub(crate) const ETHERNET: u16 = 0x6558;

/// The EtherType of the payload and the payload.
pub(crate) type Payload<'a> = (u16, &'a [u8]);

/// Reads the link header (IEEE 802.3; `LINKTYPE_` descriptions of the capture formats).
pub(crate) fn header(link: Link, frame: &[u8]) -> Result<Payload<'_>, DecodeError> {
    match link {
        Link::Ethernet => {
            let ([.., t0, t1], rest) = head::<14>(Layer::Link, frame)?;
            Ok((u16::from_be_bytes([*t0, *t1]), rest))
        }
        Link::Loopback => {
            let (family, rest) = head::<4>(Layer::Link, frame)?;
            // The family number of IPv6 differs by system, and the byte order by machine: the IP version is surer.
            let known = [u32::from_be_bytes(*family), u32::from_le_bytes(*family)];
            if known.iter().any(|family| matches!(family, 2 | 10 | 24 | 28 | 30)) {
                version(rest)
            } else {
                Ok((0, rest))
            }
        }
        Link::Raw => version(frame),
        Link::Cooked => {
            let ([.., t0, t1], rest) = head::<16>(Layer::Link, frame)?;
            Ok((u16::from_be_bytes([*t0, *t1]), rest))
        }
        Link::Cooked2 => {
            let ([t0, t1, ..], rest) = head::<20>(Layer::Link, frame)?;
            Ok((u16::from_be_bytes([*t0, *t1]), rest))
        }
    }
}

/// The EtherType that the first four bits of a packet without a link header stand for.
fn version(packet: &[u8]) -> Result<Payload<'_>, DecodeError> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => Ok((IPV4, packet)),
        Some(6) => Ok((IPV6, packet)),
        Some(_) => Err(DecodeError::Malformed { layer: Layer::Link, what: "IP version is neither 4 nor 6" }),
        None => Err(DecodeError::Truncated { layer: Layer::Link, needed: 1, had: 0 }),
    }
}

/// Reads a VLAN tag (IEEE 802.1Q §9.6): its identifier (0 to 4095), and the payload.
pub(crate) fn vlan(input: &[u8]) -> Result<(u16, Payload<'_>), DecodeError> {
    let ([c0, c1, t0, t1], rest) = head::<4>(Layer::Vlan, input)?;
    Ok((u16::from_be_bytes([*c0, *c1]) & 0x0FFF, (u16::from_be_bytes([*t0, *t1]), rest)))
}

/// Reads a PPPoE session header and the PPP protocol number (RFC 2516 §4, RFC 1661 §2).
pub(crate) fn pppoe(input: &[u8]) -> Result<Payload<'_>, DecodeError> {
    let ([version, code, _, _, l0, l1], rest) = head::<6>(Layer::Pppoe, input)?;
    if *version != 0x11 {
        return Err(DecodeError::Malformed { layer: Layer::Pppoe, what: "version or type is not 1" });
    }
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let (body, _) = split(Layer::Pppoe, rest, length.min(rest.len()))?;
    if *code != 0 {
        return Ok((0, body)); // discovery, no data
    }
    // Peers may agree to leave out the first byte of small numbers; the last byte alone is odd (RFC 1661 §6.5).
    let (protocol, body) = match body.split_first() {
        Some((short, body)) if short & 1 == 1 => (u16::from(*short), body),
        _ => {
            let (protocol, body) = head::<2>(Layer::Pppoe, body)?;
            (u16::from_be_bytes(*protocol), body)
        }
    };
    Ok(match protocol {
        0x0021 => (IPV4, body),
        0x0057 => (IPV6, body),
        _ => (0, body), // link control, authentication: nothing that inspection reads
    })
}
