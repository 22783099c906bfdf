//! TCP, UDP and ICMP headers.

use crate::error::{DecodeError, Layer};
use crate::read::{clip, head, split};

/// A TCP segment (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// Number of the first payload byte, or of the SYN.
    pub sequence: u32,
    /// Next number that the sender waits for; only with [`Tcp::ACK`].
    pub acknowledgment: u32,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Bytes of the options, padding included (0 to 40).
    pub options: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// First segment of a direction.
    pub const SYN: u8 = 0x02;
    /// The connection is torn down.
    pub const RST: u8 = 0x04;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;

    /// Whether any flag of `mask` is set.
    #[must_use]
    pub fn has(&self, mask: u8) -> bool {
        self.flags & mask != 0
    }
    /// The options, one after the other; ends at the first that is malformed.
    #[must_use]
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions(self.options)
    }
    /// Reads a segment.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self, DecodeError> {
        let (fixed, _) = head::<20>(Layer::Tcp, input)?;
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *fixed;
        let header = usize::from(offset >> 4).saturating_mul(4);
        if header < 20 {
            return Err(DecodeError::Malformed {
                layer: Layer::Tcp,
                what: "header is shorter than 20 bytes",
            });
        }
        let (head, payload) = split(Layer::Tcp, input, header)?;
        Ok(Self {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            options: head.get(20..).unwrap_or_default(),
            payload,
        })
    }
}

/// An option of a TCP header (RFC 9293 §3.2, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Largest segment that the sender takes, in bytes.
    MaximumSegment(u16),
    /// Bits by which the sender's window is shifted.
    WindowScale(u8),
    /// Selective acknowledgments are understood.
    SackPermitted,
    /// The sender's clock and the echo of the receiver's.
    Timestamps(u32, u32),
    /// Any other, with its kind and data.
    Other(u8, &'a [u8]),
}

/// Iterator over the options of a segment.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a>(&'a [u8]);

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each turn eats at least one byte of at most 40.
        loop {
            let (kind, rest) = self.0.split_first()?;
            match kind {
                0 => {
                    self.0 = &[];
                    return None;
                }
                1 => self.0 = rest,
                _ => {
                    let option = rest.split_first().and_then(|(length, rest)| {
                        rest.split_at_checked(usize::from(*length).checked_sub(2)?)
                    });
                    let Some((data, rest)) = option else {
                        self.0 = &[];
                        return None;
                    };
                    self.0 = rest;
                    return Some(match (kind, data) {
                        (2, [m0, m1]) => TcpOption::MaximumSegment(u16::from_be_bytes([*m0, *m1])),
                        (3, [shift]) => TcpOption::WindowScale(*shift),
                        (4, []) => TcpOption::SackPermitted,
                        (8, [v0, v1, v2, v3, e0, e1, e2, e3]) => TcpOption::Timestamps(
                            u32::from_be_bytes([*v0, *v1, *v2, *v3]),
                            u32::from_be_bytes([*e0, *e1, *e2, *e3]),
                        ),
                        _ => TcpOption::Other(*kind, data),
                    });
                }
            }
        }
    }
}

/// A UDP datagram (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Reads a datagram.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self, DecodeError> {
        let ([s0, s1, d0, d1, l0, l1, _, _], rest) = head::<8>(Layer::Udp, input)?;
        let payload = match usize::from(u16::from_be_bytes([*l0, *l1])) {
            0 => rest, // jumbogram (RFC 2675 §4) or offload frame
            length @ 8.. => clip(rest, length.saturating_sub(8)).0,
            _ => {
                return Err(DecodeError::Malformed {
                    layer: Layer::Udp,
                    what: "length is below the header's",
                });
            }
        };
        Ok(Self {
            source_port: u16::from_be_bytes([*s0, *s1]),
            destination_port: u16::from_be_bytes([*d0, *d1]),
            payload,
        })
    }
}

/// An ICMP or ICMPv6 message (RFC 792, RFC 4443 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum: identifier and sequence number of an echo, else by type.
    pub rest: [u8; 4],
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// Reads a message.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self, DecodeError> {
        let ([kind, code, _, _, rest @ ..], payload) = head::<8>(Layer::Icmp, input)?;
        Ok(Self { kind: *kind, code: *code, rest: *rest, payload })
    }
}
