//! From words to tests.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::words::{Word, words};
use super::{
    Carrier, Filter, Header, MAX_FILTER, Node, Operator, Relation, SCTP, Side, TCP, Test, UDP, Value, Version,
};
use crate::link::{IPV4, IPV6};

/// Deepest nesting of brackets and `not`.
const MAX_DEPTH: usize = 64;
/// Most tests of one filter.
const MAX_TESTS: usize = 512;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// More bytes than a filter may have.
    #[error("a filter has at most {MAX_FILTER} bytes")]
    TooLong,
    /// More tests, or deeper brackets, than a filter may have.
    #[error("a filter has at most {MAX_TESTS} tests, in brackets at most {MAX_DEPTH} deep")]
    TooComplex,
    /// It ends where more is to come.
    #[error("the filter ends where {wanted} is to come")]
    Ends {
        /// What.
        wanted: &'static str,
    },
    /// A word that cannot stand there.
    #[error("{word:?} at {at}: {reason}")]
    Word {
        /// The word.
        word: String,
        /// Where it begins, in bytes.
        at: usize,
        /// What is wrong, and what may stand there.
        reason: &'static str,
    },
}

type Parsed<T> = Result<T, FilterError>;

impl FromStr for Filter {
    type Err = FilterError;
    /// The empty text wants every packet.
    fn from_str(text: &str) -> Parsed<Self> {
        if text.len() > MAX_FILTER {
            return Err(FilterError::TooLong);
        }
        let words = words(text);
        if words.is_empty() {
            return Ok(Self { root: None });
        }
        let mut parser = Parser { words: &words, next: 0, last: None, depth: 0, tests: 0 };
        let root = parser.either()?;
        match parser.peek() {
            Some(word) => Err(wrong(word, "here the filter should end; join tests with and, or")),
            None => Ok(Self { root: Some(root) }),
        }
    }
}

fn wrong(word: Word<'_>, reason: &'static str) -> FilterError {
    FilterError::Word { word: word.text.chars().take(64).collect(), at: word.at, reason }
}

/// What stands before an address or a port: `tcp dst port`.
#[derive(Clone, Copy)]
struct Qualifiers {
    protocol: Option<Protocol>,
    side: Side,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Ethernet,
    Arp,
    Rarp,
    Ip(Version),
    Number(Option<Version>, u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

struct Parser<'a> {
    words: &'a [Word<'a>],
    next: usize,
    /// Of the last address or port, for `host a or b`.
    last: Option<Qualifiers>,
    depth: usize,
    tests: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }

    fn after(&self, more: usize) -> &'a str {
        self.words.get(self.next.saturating_add(more)).map_or("", |word| word.text)
    }

    fn take(&mut self, wanted: &'static str) -> Parsed<Word<'a>> {
        let word = self.peek().ok_or(FilterError::Ends { wanted })?;
        self.next += 1;
        Ok(word)
    }

    fn accept(&mut self, texts: &[&str]) -> bool {
        let is = self.peek().is_some_and(|word| texts.contains(&word.text));
        self.next += usize::from(is);
        is
    }

    fn demand(&mut self, text: &'static str) -> Parsed<()> {
        let word = self.take(text)?;
        if word.text == text {
            Ok(())
        } else {
            Err(wrong(word, "a closing bracket or a colon is to come here"))
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::TooComplex);
        }
        let found = inner(self)?;
        self.depth -= 1;
        Ok(found)
    }

    /// `and` and `or` bind equally, from the left, as in libpcap.
    fn either(&mut self) -> Parsed<Node> {
        let mut left = self.single()?;
        loop {
            if self.accept(&["and", "&&"]) {
                left = Node::And(Box::new(left), Box::new(self.single()?));
            } else if self.accept(&["or", "||"]) {
                left = Node::Or(Box::new(left), Box::new(self.single()?));
            } else {
                return Ok(left);
            }
            self.count()?;
        }
    }

    fn count(&mut self) -> Parsed<()> {
        self.tests += 1;
        if self.tests > MAX_TESTS { Err(FilterError::TooComplex) } else { Ok(()) }
    }

    fn single(&mut self) -> Parsed<Node> {
        if self.accept(&["not", "!"]) {
            return self.deeper(|parser| Ok(Node::Not(Box::new(parser.single()?))));
        }
        if let Some(comparison) = self.comparison()? {
            return Ok(Node::Test(comparison));
        }
        if self.accept(&["("]) {
            let inner = self.deeper(Self::either)?;
            self.demand(")")?;
            return Ok(inner);
        }
        self.test()
    }

    // ---- bytes and lengths

    /// `value relation value`, or nothing when another test begins here.
    fn comparison(&mut self) -> Parsed<Option<Test>> {
        let begin = (self.next, self.depth);
        let back = |parser: &mut Self| (parser.next, parser.depth) = begin;
        let is_bytes = self.after(1) == "[";
        let left = match self.value() {
            Ok(left) => left,
            // Nothing else begins like this, so this error is the one to tell.
            Err(error) if is_bytes => return Err(error),
            Err(_other) => {
                back(self);
                return Ok(None);
            }
        };
        let relation = match self.peek().map(|word| word.text) {
            Some("<") => Relation::Less,
            Some("<=") => Relation::LessOrEqual,
            Some("=" | "==") => Relation::Equal,
            Some("!=") => Relation::Unequal,
            Some(">=") => Relation::GreaterOrEqual,
            Some(">") => Relation::Greater,
            _ => {
                back(self);
                return Ok(None);
            }
        };
        self.next += 1;
        Ok(Some(Test::Compare(left, relation, self.value()?)))
    }

    /// Lowest first: `|`, `^`, `&`, shifts, sums, products, as in C.
    fn value(&mut self) -> Parsed<Value> {
        const LEVELS: &[&[(&str, Operator)]] = &[
            &[("|", Operator::Or)],
            &[("^", Operator::ExclusiveOr)],
            &[("&", Operator::And)],
            &[("<<", Operator::Left), (">>", Operator::Right)],
            &[("+", Operator::Add), ("-", Operator::Subtract)],
            &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
        ];
        self.level(LEVELS)
    }

    fn level(&mut self, levels: &[&[(&str, Operator)]]) -> Parsed<Value> {
        let Some((operators, higher)) = levels.split_first() else { return self.operand() };
        let mut left = self.level(higher)?;
        while let Some((_, operator)) =
            self.peek().and_then(|word| operators.iter().find(|(sign, _)| *sign == word.text))
        {
            self.next += 1;
            self.count()?;
            left = Value::Calculated(Box::new(left), *operator, Box::new(self.level(higher)?));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Parsed<Value> {
        let word = self.take("a number")?;
        if word.text == "(" {
            let inner = self.deeper(Self::value)?;
            self.demand(")")?;
            return Ok(inner);
        }
        if word.text == "len" {
            return Ok(Value::Length);
        }
        if let Some(of) = header(word.text)
            && self.accept(&["["])
        {
            let at = Box::new(self.deeper(Self::value)?);
            let size = if self.accept(&[":"]) {
                let size = self.take("1, 2 or 4")?;
                match size.text {
                    "1" => 1,
                    "2" => 2,
                    "4" => 4,
                    _ => return Err(wrong(size, "1, 2 or 4 bytes can be compared")),
                }
            } else {
                1
            };
            self.demand("]")?;
            return Ok(Value::Bytes { of, at, size });
        }
        number(word.text)
            .or_else(|| constant(word.text))
            .map(Value::Number)
            .ok_or_else(|| wrong(word, "a number, len, or bytes of a header such as tcp[13] may stand here"))
    }

    // ---- everything else

    fn test(&mut self) -> Parsed<Node> {
        self.count()?;
        let begin = self.take("a test")?;
        let test = match begin.text {
            "vlan" => {
                let id = self.peek().and_then(|word| word.text.parse().ok()).filter(|id| *id < 4_096);
                self.next += usize::from(id.is_some());
                Test::Vlan(id)
            }
            "less" => Test::Compare(Value::Length, Relation::LessOrEqual, Value::Number(self.length()?)),
            "greater" => {
                Test::Compare(Value::Length, Relation::GreaterOrEqual, Value::Number(self.length()?))
            }
            "broadcast" => Test::EthernetGroup { all: true },
            "multicast" => Test::EthernetGroup { all: false },
            "inbound" | "outbound" | "gateway" | "ifname" | "on" | "mpls" | "pppoes" | "geneve" => {
                return Err(wrong(begin, "this test is not supported"));
            }
            _ => {
                self.next -= 1;
                return self.qualified();
            }
        };
        Ok(Node::Test(test))
    }

    fn length(&mut self) -> Parsed<u32> {
        let word = self.take("a length in bytes")?;
        number(word.text).ok_or_else(|| wrong(word, "a length in bytes is to come here"))
    }

    /// `[protocol] [src|dst] [host|net|port|portrange|proto] what`, or a protocol alone.
    fn qualified(&mut self) -> Parsed<Node> {
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

/// Decimal, octal with a leading 0, hexadecimal with 0x.
fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn address(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().ok().map(IpNet::from)
}

fn ethernet(text: &str) -> Option<[u8; 6]> {
    let mut address = [0_u8; 6];
    let mut parts = text.split([':', '-', '.']);
    for place in &mut address {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *place = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

/// IANA protocol numbers.
fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => TCP,
        "udp" => UDP,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmp6" | "ipv6-icmp" => 58,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "sctp" => SCTP,
        _ => return None,
    })
}

/// A number, or one of the names that the IANA's registry of services has for what clusters mostly speak.
fn port(text: &str) -> Option<u16> {
    Some(match text {
        "ftp" => 21,
        "ssh" => 22,
        "telnet" => 23,
        "smtp" => 25,
        "domain" => 53,
        "http" => 80,
        "kerberos" => 88,
        "pop3" => 110,
        "ntp" => 123,
        "imap" => 143,
        "snmp" => 161,
        "ldap" => 389,
        "https" => 443,
        "syslog" => 514,
        "ldaps" => 636,
        "mysql" => 3306,
        "postgresql" => 5432,
        "amqp" => 5672,
        "redis" => 6379,
        "http-alt" => 8080,
        other => return other.parse().ok(),
    })
}

fn header(name: &str) -> Option<Header> {
    Some(match name {
        "ether" => Header::Ethernet,
        "arp" => Header::Arp,
        "ip" => Header::Ip,
        "ip6" => Header::Ip6,
        "icmp" => Header::Icmp,
        "icmp6" => Header::Icmp6,
        "tcp" => Header::Tcp,
        "udp" => Header::Udp,
        "sctp" => Header::Sctp,
        _ => return None,
    })
}

/// Offsets, flags of TCP (RFC 9293 section 3.1) and types of ICMP (RFC 792, RFC 4443) by name.
fn constant(name: &str) -> Option<u32> {
    Some(match name {
        "icmptype" | "icmp6type" | "icmp-echoreply" => 0,
        "icmpcode" | "icmp6code" | "tcp-fin" => 1,
        "tcpflags" => 13,
        "tcp-syn" => 2,
        "tcp-rst" => 4,
        "tcp-push" | "icmp-echo" => 8,
        "tcp-ack" => 16,
        "tcp-urg" => 32,
        "tcp-ece" => 64,
        "tcp-cwr" => 128,
        "icmp-unreach" => 3,
        "icmp-redirect" => 5,
        "icmp-timxceed" => 11,
        "icmp6-destinationunreach" => 1,
        "icmp6-packettoobig" => 2,
        "icmp6-timeexceeded" => 3,
        "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        _ => return None,
    })
}
