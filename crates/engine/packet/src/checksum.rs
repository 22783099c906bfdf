//! The Internet checksum (RFC 1071). Decoding does not ask for it: a capture taken before the card has filled it in
//! would look broken. Who wants it checks.

use std::net::IpAddr;

/// One's-complement sum of 16-bit words over all parts as one string; odd lengths are padded with a zero byte.
#[must_use]
pub fn sum(parts: &[&[u8]]) -> u16 {
    let (mut total, mut high) = (0_u64, true);
    for byte in parts.iter().flat_map(|part| part.iter()) {
        let value = u64::from(*byte);
        total = total.saturating_add(if high { value << 8 } else { value });
        high = !high;
    }
    while total > 0xFFFF {
        total = (total & 0xFFFF).saturating_add(total >> 16);
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

/// Checks the checksum of a whole TCP segment, UDP datagram or ICMPv6 message, pseudo-header included
/// (RFC 9293 §3.1, RFC 8200 §8.1). Addresses of different families are never valid.
#[must_use]
pub fn transport_is_valid(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> bool {
    let Ok(length) = u32::try_from(segment.len()) else { return false };
    let tail = [0, 0, 0, protocol];
    let total = match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            sum(&[&a.octets(), &b.octets(), &tail, &length.to_be_bytes(), segment])
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            sum(&[&a.octets(), &b.octets(), &length.to_be_bytes(), &tail, segment])
        }
        _ => return false,
    };
    total == 0xFFFF
}
