//! Why a frame could not be decoded.

use std::fmt;

/// A header that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet II, the loopback header or Linux "cooked" capture.
    Link,
    /// 802.1Q or 802.1ad tag.
    Vlan,
    /// PPPoE session header.
    Pppoe,
    /// IPv4 header and its options.
    Ipv4,
    /// IPv6 header.
    Ipv6,
    /// IPv6 extension header.
    Ipv6Extension,
    /// TCP header and its options.
    Tcp,
    /// UDP header.
    Udp,
    /// ICMP or ICMPv6 header.
    Icmp,
    /// GRE header.
    Gre,
    /// Geneve header and its options.
    Geneve,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Vlan => "VLAN",
            Self::Pppoe => "PPPoE",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv6Extension => "IPv6 extension",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Gre => "GRE",
            Self::Geneve => "Geneve",
        })
    }
}

/// Why a frame could not be decoded. The sender of the packet is to blame, or a capture that cut it short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends inside a header.
    #[error("{layer} header needs {needed} bytes, the frame has {had}")]
    Truncated {
        /// Header that is cut.
        layer: Layer,
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that were left.
        had: usize,
    },
    /// A field has a value that its standard forbids.
    #[error("{layer} header is malformed: {what}")]
    Malformed {
        /// Header that is wrong.
        layer: Layer,
        /// Which field, and how.
        what: &'static str,
    },
    /// More headers inside one another than are followed.
    #[error("frame has more than {limit} headers inside one another")]
    TooDeep {
        /// Headers that are followed.
        limit: usize,
    },
}
