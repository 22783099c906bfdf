//! IPv4 with options and IPv6 with extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{DecodeError, Layer};
use crate::read::{clip, head, split};

/// Extension headers of one IPv6 packet that are followed; RFC 8200 §4.1 lets each kind appear once or twice.
pub const MAX_EXTENSIONS: usize = 10;

/// What the network header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Protocol of the payload (IANA protocol numbers), after all extension headers.
    pub protocol: u8,
    /// Time to live, hop limit.
    pub hop_limit: u8,
    /// Set when this is one fragment of a datagram.
    pub fragment: Option<Fragment>,
    /// The frame has fewer bytes than the header promises, as captures with a snap length have.
    pub cut: bool,
}

/// Where a fragment belongs (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Number of the datagram, unique per sender, receiver and protocol.
    pub id: u32,
    /// First byte in the datagram's payload, in bytes (0 to 65,528).
    pub offset: u32,
    /// More fragments follow.
    pub more: bool,
}

/// Reads an IPv4 header and gives the bytes of its payload (RFC 791 §3.1).
pub(crate) fn ipv4(input: &[u8]) -> Result<(Network, &[u8]), DecodeError> {
    let (fixed, _) = head::<20>(Layer::Ipv4, input)?;
    let [first, _, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    if first >> 4 != 4 {
        return Err(DecodeError::Malformed { layer: Layer::Ipv4, what: "version is not 4" });
    }
    let header = usize::from(first & 0x0F).saturating_mul(4);
    if header < 20 {
        return Err(DecodeError::Malformed { layer: Layer::Ipv4, what: "header is shorter than 20 bytes" });
    }
    let (_, rest) = split(Layer::Ipv4, input, header)?;
    // A total length of 0 is a segmentation-offload frame above 64 KiB: the frame's own end counts.
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let (body, cut) = match total.checked_sub(header) {
        Some(length) => clip(rest, length),
        None if total == 0 => (rest, false),
        None => {
            return Err(DecodeError::Malformed {
                layer: Layer::Ipv4,
                what: "total length is below the header's",
            });
        }
    };
    let flags = u16::from_be_bytes([f0, f1]);
    let offset = u32::from(flags & 0x1FFF).saturating_mul(8);
    let more = flags & 0x2000 != 0;
    let network = Network {
        source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        protocol,
        hop_limit: ttl,
        fragment: (offset != 0 || more).then(|| Fragment {
            id: u32::from(u16::from_be_bytes([i0, i1])),
            offset,
            more,
        }),
        cut,
    };
    Ok((network, body))
}

/// Reads an IPv6 header and its extension headers, and gives the bytes of the payload (RFC 8200 §3, §4).
pub(crate) fn ipv6(input: &[u8]) -> Result<(Network, &[u8]), DecodeError> {
    let (fixed, rest) = head::<40>(Layer::Ipv6, input)?;
    let ([first, _, _, _, l0, l1, next, hop_limit], addresses) = head::<8>(Layer::Ipv6, fixed)?;
    if first >> 4 != 6 {
        return Err(DecodeError::Malformed { layer: Layer::Ipv6, what: "version is not 6" });
    }
    let (source, addresses) = head::<16>(Layer::Ipv6, addresses)?;
    let (destination, _) = head::<16>(Layer::Ipv6, addresses)?;
    // A payload length of 0 is a jumbogram or a segmentation-offload frame: the frame's own end counts.
    let (body, cut) = match usize::from(u16::from_be_bytes([*l0, *l1])) {
        0 => (rest, false),
        length => clip(rest, length),
    };
    let (protocol, fragment, body) = extensions(*next, body)?;
    let network = Network {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(*destination)),
        protocol,
        hop_limit: *hop_limit,
        fragment,
        cut,
    };
    Ok((network, body))
}

/// Walks the extension headers; ends at the payload, or behind the fragment header of a fragment.
fn extensions(first: u8, input: &[u8]) -> Result<(u8, Option<Fragment>, &[u8]), DecodeError> {
    const LAYER: Layer = Layer::Ipv6Extension;
    let (mut next, mut input) = (first, input);
    for _ in 0..MAX_EXTENSIONS {
        let length = match next {
            // Hop-by-hop, routing, destination, mobility, host identity, shim.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let ([_, units], _) = head::<2>(LAYER, input)?;
                usize::from(*units).saturating_add(1).saturating_mul(8)
            }
            // Authentication (RFC 4302 §2.2).
            51 => {
                let ([_, units], _) = head::<2>(LAYER, input)?;
                usize::from(*units).saturating_add(2).saturating_mul(4)
            }
            44 => {
                let ([after, _, o0, o1, id @ ..], rest) = head::<8>(LAYER, input)?;
                let field = u16::from_be_bytes([*o0, *o1]);
                let fragment = Fragment {
                    id: u32::from_be_bytes(*id),
                    offset: u32::from(field & 0xFFF8),
                    more: field & 1 != 0,
                };
                if fragment.offset != 0 || fragment.more {
                    return Ok((*after, Some(fragment), rest));
                }
                // Offset 0 and no more: an "atomic" fragment is a whole datagram (RFC 6946).
                8
            }
            _ => return Ok((next, None, input)),
        };
        let (header, rest) = split(LAYER, input, length)?;
        next = header.first().copied().unwrap_or(59);
        input = rest;
    }
    Err(DecodeError::Malformed { layer: LAYER, what: "too many extension headers" })
}
