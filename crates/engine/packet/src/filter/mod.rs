//! Which packets of a capture are wanted: the language of pcap-filter(7), as `tcpdump` users write it.
//!
//! ```text
//! text ──[`words`]──► words ──[`parse`]──► [`Filter`] ──[`view`] of a frame──► wanted or not
//! ```
//!
//! Hosts, nets, ports and port ranges with `src` and `dst`, protocols, VLANs, Ethernet addresses, lengths, bytes of
//! headers compared (`tcp[tcpflags] & tcp-syn != 0`), `and`, `or`, `not` and brackets. Names of hosts are not looked up.
//!
//! It differs from libpcap where that surprises: VLAN tags and IPv6 extension headers are always looked through, so that
//! `tcp port 80` also means tagged frames, and `tcp[13]` is a byte of TCP over IPv6 too. Of tunnels the outer packet counts,
//! as there.

mod names;
mod parse;
mod qualified;
mod view;
mod words;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

pub use parse::FilterError;
use view::View;

/// Longest text of a filter, in bytes.
pub const MAX_FILTER: usize = 4_096;

/// A filter of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `None` wants every packet.
    root: Option<Node>,
}

/// A combination of tests. Its depth is bounded by the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Test(Test),
}

/// One thing about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    /// Protocol of an IP packet, in this version of IP or in both.
    Protocol {
        version: Option<Version>,
        number: u8,
    },
    /// An address of an IP packet, or of an ARP request or answer.
    Address {
        side: Side,
        net: IpNet,
        only: Option<Carrier>,
    },
    Ethernet {
        side: Side,
        address: [u8; 6],
    },
    EthernetGroup {
        all: bool,
    },
    Multicast(Version),
    /// Of TCP, UDP and SCTP, or of one of them.
    Port {
        side: Side,
        protocol: Option<u8>,
        ports: RangeInclusive<u16>,
        version: Option<Version>,
    },
    Vlan(Option<u16>),
    Compare(Value, Relation, Value),
}

/// Versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Where an address is looked for, when not everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Ip,
    Arp,
}

/// Whose address or port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
    Both,
}

impl Side {
    fn holds(self, source: bool, destination: bool) -> bool {
        match self {
            Self::Source => source,
            Self::Destination => destination,
            Self::Either => source || destination,
            Self::Both => source && destination,
        }
    }
}

/// A number: in 32 bits without sign, as in libpcap.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u32),
    /// Of the whole packet on the wire.
    Length,
    /// 1, 2 or 4 bytes of a header or what follows it.
    Bytes {
        of: Header,
        at: Box<Value>,
        size: u8,
    },
    Calculated(Box<Value>, Operator, Box<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Ethernet,
    Arp,
    Ip,
    Ip6,
    Icmp,
    Icmp6,
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    ExclusiveOr,
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    LessOrEqual,
    Equal,
    Unequal,
    GreaterOrEqual,
    Greater,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

impl Filter {
    /// Whether an Ethernet frame is wanted; `length` is what it had on the wire. A frame that is cut or wrong is wanted as
    /// far as what is there says so.
    #[must_use]
    pub fn wants(&self, frame: &[u8], length: u32) -> bool {
        self.root.as_ref().is_none_or(|root| root.holds(&View::of(frame, length)))
    }
}

impl Node {
    fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Self::Not(node) => !node.holds(view),
            Self::And(one, other) => one.holds(view) && other.holds(view),
            Self::Or(one, other) => one.holds(view) || other.holds(view),
            Self::Test(test) => test.holds(view),
        }
    }
}

impl Test {
    fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Self::EtherType(wanted) => view.ether_type == *wanted,
            Self::Protocol { version, number } => view.protocol(*version) == Some(*number),
            Self::Address { side, net, only } => {
                let within = |address: IpAddr| net.contains(&address);
                let pair = |(source, destination)| side.holds(within(source), within(destination));
                (*only != Some(Carrier::Arp) && view.addresses().is_some_and(pair))
                    || (*only != Some(Carrier::Ip) && view.arp_addresses().is_some_and(pair))
            }
            Self::Ethernet { side, address } => view
                .ethernet()
                .is_some_and(|(source, destination)| side.holds(source == address, destination == address)),
            Self::EthernetGroup { all } => view.ethernet().is_some_and(|(_, destination)| {
                if *all { *destination == [0xff; 6] } else { destination[0] & 1 == 1 }
            }),
            // As libpcap has it, with what is above the multicast addresses.
            Self::Multicast(version) => view.addresses().is_some_and(|(_, to)| match (to, version) {
                (IpAddr::V4(to), Version::V4) => to.octets()[0] >= 224,
                (IpAddr::V6(to), Version::V6) => to.is_multicast(),
                _ => false,
            }),
            Self::Port { side, protocol, ports, version } => {
                let found = view.protocol(*version);
                let carried = match protocol {
                    Some(protocol) => found == Some(*protocol),
                    None => matches!(found, Some(TCP | UDP | SCTP)),
                };
                carried
                    && view.ports().is_some_and(|(source, destination)| {
                        side.holds(ports.contains(&source), ports.contains(&destination))
                    })
            }
            Self::Vlan(id) => match id {
                Some(id) => view.vlans.contains(&Some(*id)),
                None => view.vlans[0].is_some(),
            },
            Self::Compare(left, relation, right) => {
                match (left.of(view), right.of(view)) {
                    (Some(left), Some(right)) => relation.holds(left, right),
                    // A byte that is not there is not equal and not unequal.
                    _ => false,
                }
            }
        }
    }
}

impl Value {
    fn of(&self, view: &View<'_>) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Length => Some(view.length),
            Self::Bytes { of, at, size } => {
                let at = usize::try_from(at.of(view)?).ok()?;
                let bytes = view.header(*of)?.get(at..)?.get(..usize::from(*size))?;
                Some(bytes.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte)))
            }
            Self::Calculated(left, operator, right) => {
                let (left, right) = (left.of(view)?, right.of(view)?);
                match operator {
                    Operator::Add => Some(left.wrapping_add(right)),
                    Operator::Subtract => Some(left.wrapping_sub(right)),
                    Operator::Multiply => Some(left.wrapping_mul(right)),
                    Operator::Divide => left.checked_div(right),
                    Operator::Remainder => left.checked_rem(right),
                    Operator::And => Some(left & right),
                    Operator::Or => Some(left | right),
                    Operator::ExclusiveOr => Some(left ^ right),
                    Operator::Left => Some(left.checked_shl(right).unwrap_or(0)),
                    Operator::Right => Some(left.checked_shr(right).unwrap_or(0)),
                }
            }
        }
    }
}

impl Relation {
    fn holds(self, left: u32, right: u32) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::GreaterOrEqual => left >= right,
            Self::Greater => left > right,
        }
    }
}
