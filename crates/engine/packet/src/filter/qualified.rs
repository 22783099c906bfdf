//! Tests of addresses, ports and protocols behind their qualifiers: `tcp dst port 80`.

use ipnet::{IpNet, Ipv4Net};

use super::names::{address, ethernet, number, port, protocol_number};
use super::parse::{Parsed, Parser, wrong};
use super::words::Word;
use super::{Carrier, Node, Relation, SCTP, Side, TCP, Test, UDP, Value, Version};
use crate::link::{IPV4, IPV6};

/// What stands before an address or a port: `tcp dst port`.
#[derive(Clone, Copy)]
pub(super) struct Qualifiers {
    protocol: Option<Protocol>,
    side: Side,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ethernet,
    Arp,
    Rarp,
    Ip(Version),
    Number(Option<Version>, u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

impl Parser<'_> {
    /// `[protocol] [src|dst] [host|net|port|portrange|proto] what`, or a protocol alone.
    pub(super) fn qualified(&mut self) -> Parsed<Node> {
        let begin = self.next;
        let protocol = self.protocol();
        if protocol == Some(Protocol::Ethernet) {
            if self.accept(&["broadcast"]) {
                return Ok(Node::Test(Test::EthernetGroup { all: true }));
            } else if self.accept(&["multicast"]) {
                return Ok(Node::Test(Test::EthernetGroup { all: false }));
            }
        }
        if let Some(Protocol::Ip(version)) = protocol
            && self.accept(&["multicast"])
        {
            return Ok(Node::Test(Test::Multicast(version)));
        }
        let side = self.side();
        let kind = self.kind();
        if let (Some(protocol), None, None) = (protocol, side, kind) {
            return Ok(protocol_alone(protocol));
        }
        let qualifiers = match (protocol, side, kind) {
            // `host a or b`: the second has the qualifiers of the first.
            (None, None, None) => self.last,
            _ => {
                let kind = kind.unwrap_or(Kind::Host);
                Some(Qualifiers { protocol, side: side.unwrap_or(Side::Either), kind })
            }
        };
        let what = self.take("an address, a port or a protocol")?;
        let Some(qualifiers) = qualifiers else {
            // A bare address is a host's.
            if address(what.text).is_some() {
                let host = Qualifiers { protocol: None, side: Side::Either, kind: Kind::Host };
                self.last = Some(host);
                return self.identified(host, what);
            }
            return Err(wrong(
                what,
                "no test begins so; host, net, port, a protocol or an address may stand here",
            ));
        };
        debug_assert!(self.next > begin);
        self.last = Some(qualifiers);
        self.identified(qualifiers, what)
    }

    fn protocol(&mut self) -> Option<Protocol> {
        let named = match self.peek()?.text {
            "ether" => Protocol::Ethernet,
            "arp" => Protocol::Arp,
            "rarp" => Protocol::Rarp,
            "ip" => Protocol::Ip(Version::V4),
            "ip6" => Protocol::Ip(Version::V6),
            "icmp" => Protocol::Number(Some(Version::V4), 1),
            "icmp6" => Protocol::Number(Some(Version::V6), 58),
            other => match protocol_number(other) {
                Some(number) => Protocol::Number(None, number),
                None => return None,
            },
        };
        self.next += 1;
        Some(named)
    }

    fn side(&mut self) -> Option<Side> {
        let side = match (self.peek()?.text, self.after(1), self.after(2)) {
            ("src", "or", "dst") | ("dst", "or", "src") => (Side::Either, 3),
            ("src", "and", "dst") | ("dst", "and", "src") => (Side::Both, 3),
            ("src", ..) => (Side::Source, 1),
            ("dst", ..) => (Side::Destination, 1),
            _ => return None,
        };
        self.next += side.1;
        Some(side.0)
    }

    fn kind(&mut self) -> Option<Kind> {
        let kind = match self.peek()?.text {
            "host" => Kind::Host,
            "net" => Kind::Net,
            "port" => Kind::Port,
            "portrange" => Kind::PortRange,
            "proto" => Kind::Proto,
            _ => return None,
        };
        self.next += 1;
        Some(kind)
    }

    fn identified(&mut self, qualifiers: Qualifiers, what: Word<'_>) -> Parsed<Node> {
        let Qualifiers { protocol, side, kind } = qualifiers;
        let test = match kind {
            Kind::Host | Kind::Net if protocol == Some(Protocol::Ethernet) => {
                let address = ethernet(what.text).ok_or_else(|| {
                    wrong(what, "an Ethernet address such as 02:00:5e:10:00:01 is to come here")
                })?;
                Test::Ethernet { side, address }
            }
            Kind::Host | Kind::Net => {
                let only = match protocol {
                    None => None,
                    Some(Protocol::Ip(_)) => Some(Carrier::Ip),
                    Some(Protocol::Arp | Protocol::Rarp) => Some(Carrier::Arp),
                    Some(Protocol::Number(..) | Protocol::Ethernet) => {
                        return Err(wrong(
                            what,
                            "a protocol above IP has ports, no addresses: join them with and",
                        ));
                    }
                };
                let net = if kind == Kind::Host { address(what.text) } else { self.net(what) };
                let net = net.ok_or_else(|| {
                    wrong(
                        what,
                        "an address is to come here, or a net such as 10.0.0.0/8; names are not looked up",
                    )
                })?;
                Test::Address { side, net, only }
            }
            Kind::Port | Kind::PortRange => {
                let (version, protocol) = match protocol {
                    None => (None, None),
                    Some(Protocol::Ip(version)) => (Some(version), None),
                    Some(Protocol::Number(version, number @ (TCP | UDP | SCTP))) => (version, Some(number)),
                    Some(_) => return Err(wrong(what, "only tcp, udp and sctp have ports")),
                };
                let ports = match (kind, what.text.split_once('-')) {
                    (Kind::PortRange, Some((low, high))) => port(low).zip(port(high)),
                    _ => port(what.text).map(|port| (port, port)),
                };
                let (one, other) = ports
                    .ok_or_else(|| wrong(what, "a port from 0 to 65535 is to come here, or low-high"))?;
                Test::Port { side, protocol, ports: one.min(other)..=one.max(other), version }
            }
            Kind::Proto => {
                let name = what.text.trim_start_matches('\\');
                let unknown = || wrong(what, "a protocol's number or name is to come here");
                if protocol == Some(Protocol::Ethernet) {
                    let number = match name {
                        "ip" => Some(u32::from(IPV4)),
                        "ip6" => Some(u32::from(IPV6)),
                        "arp" => Some(0x0806),
                        "rarp" => Some(0x8035),
                        other => number(other),
                    };
                    let number = number.and_then(|number| u16::try_from(number).ok());
                    Test::EtherType(number.ok_or_else(unknown)?)
                } else {
                    let version = match protocol {
                        Some(Protocol::Ip(version)) => Some(version),
                        None => None,
                        Some(_) => return Err(wrong(what, "proto follows ip, ip6 or ether")),
                    };
                    let given = number(name).and_then(|number| u8::try_from(number).ok());
                    Test::Protocol {
                        version,
                        number: given.or_else(|| protocol_number(name)).ok_or_else(unknown)?,
                    }
                }
            }
        };
        Ok(Node::Test(test))
    }

    /// `10.0.0.0/8`, `10.0.0.0 mask 255.0.0.0`, or `10` for 10.0.0.0/8 as tcpdump has it.
    fn net(&mut self, what: Word<'_>) -> Option<IpNet> {
        if self.accept(&["mask"]) {
            let mask = self.take("a mask").ok()?.text.parse().ok()?;
            return Ipv4Net::with_netmask(what.text.parse().ok()?, mask).ok().map(IpNet::V4);
        }
        if let Ok(net) = what.text.parse::<IpNet>() {
            return Some(net.trunc());
        }
        if let Some(host) = address(what.text) {
            return Some(host);
        }
        let parts: Option<Vec<u8>> = what.text.split('.').map(|part| part.parse().ok()).collect();
        let parts = parts.filter(|parts| parts.len() < 4)?;
        let mut octets = [0_u8; 4];
        octets.iter_mut().zip(&parts).for_each(|(octet, part)| *octet = *part);
        let length = u8::try_from(parts.len()).ok()?.checked_mul(8)?;
        Ipv4Net::new(octets.into(), length).ok().map(IpNet::V4)
    }
}

fn protocol_alone(protocol: Protocol) -> Node {
    Node::Test(match protocol {
        // Every frame is one.
        Protocol::Ethernet => Test::Compare(Value::Length, Relation::GreaterOrEqual, Value::Number(0)),
        Protocol::Arp => Test::EtherType(0x0806),
        Protocol::Rarp => Test::EtherType(0x8035),
        Protocol::Ip(Version::V4) => Test::EtherType(IPV4),
        Protocol::Ip(Version::V6) => Test::EtherType(IPV6),
        Protocol::Number(version, number) => Test::Protocol { version, number },
    })
}
