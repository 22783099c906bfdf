//! Tunnels that carry packets in packets: VXLAN, Geneve and GRE. (IP in IP has no header of its own.)

use crate::error::{DecodeError, Layer};
use crate::link::{ETHERNET, Payload};
use crate::read::{head, split};
use crate::transport::Udp;

/// Tunnels inside one another that are followed.
pub const MAX_TUNNELS: u8 = 4;

/// VXLAN's port (RFC 7348 §5) and the one that Linux used before.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// Geneve's port (RFC 8926 §3.3).
const GENEVE_PORT: u16 = 6081;

/// The inner frame of a datagram to a tunnel port; `None` when it is an ordinary datagram after all.
pub(crate) fn over_udp<'a>(datagram: &Udp<'a>) -> Result<Option<Payload<'a>>, DecodeError> {
    if VXLAN_PORTS.contains(&datagram.destination_port) {
        // Only a header whose reserved fields are 0 counts: the ports are not reserved for tunnels.
        return Ok(match datagram.payload.split_first_chunk::<8>() {
            Some(([0x08, 0, 0, 0, _, _, _, 0], frame)) => Some((ETHERNET, frame)),
            _ => None,
        });
    }
    if datagram.destination_port == GENEVE_PORT {
        let ([first, _, p0, p1, _, _, _, reserved], rest) = head::<8>(Layer::Geneve, datagram.payload)?;
        if first >> 6 != 0 || *reserved != 0 {
            return Ok(None);
        }
        let (_, inner) = split(Layer::Geneve, rest, usize::from(first & 0x3F).saturating_mul(4))?;
        return Ok(Some((u16::from_be_bytes([*p0, *p1]), inner)));
    }
    Ok(None)
}

/// Reads a GRE header (RFC 2784, RFC 2890); a version other than 0 (PPTP) has no EtherType: 0.
pub(crate) fn gre(input: &[u8]) -> Result<Payload<'_>, DecodeError> {
    let ([f0, f1, p0, p1], rest) = head::<4>(Layer::Gre, input)?;
    let flags = u16::from_be_bytes([*f0, *f1]);
    if flags & 0x0007 != 0 {
        return Ok((0, rest));
    }
    if flags & 0x4000 != 0 {
        return Err(DecodeError::Malformed { layer: Layer::Gre, what: "source routes are not allowed" });
    }
    // Checksum, key and sequence number take four bytes each.
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let (_, inner) = split(Layer::Gre, rest, optional.saturating_mul(4))?;
    Ok((u16::from_be_bytes([*p0, *p1]), inner))
}
