//! Ports of network rules: `any`, or a list such as `tcp/80,udp/53-60,icmp,tcp/any`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP protocol that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// ICMP, IP protocol 1, and ICMPv6, 58.
    Icmp,
    /// Any other.
    Other,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];

    /// From the IP header's protocol (IPv6: the upper-layer header's) number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            _ => Self::Other,
        }
    }
    /// The IP protocol number; ICMP gives 1, other gives 0.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Other => 0,
        }
    }
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
        }
    }
}

/// A range of ports of one protocol; both ends are part of it. ICMP and other protocols have 0 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The protocol.
    pub protocol: Protocol,
    /// First port.
    pub low: u16,
    /// Last port, not below `low`.
    pub high: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn single(protocol: Protocol, port: u16) -> Self {
        Self { protocol, low: port, high: port }
    }
    /// All ports of a protocol.
    #[must_use]
    pub const fn all(protocol: Protocol) -> Self {
        Self { protocol, low: 0, high: u16::MAX }
    }
    /// Whether the port is in the range.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && self.low <= port && port <= self.high
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_str();
        match (self.protocol, self.low, self.high) {
            (Protocol::Icmp | Protocol::Other, ..) => f.write_str(protocol),
            (_, 0, u16::MAX) => write!(f, "{protocol}/any"),
            (_, low, high) if low == high => write!(f, "{protocol}/{low}"),
            (_, low, high) => write!(f, "{protocol}/{low}-{high}"),
        }
    }
}

/// The ports a rule speaks of: everything, or a sorted list of ranges without overlap within a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ports {
    /// Every protocol and port.
    #[default]
    Any,
    /// Just these; never empty.
    List(Vec<PortRange>),
}

impl Ports {
    /// Most ranges that a rule may list.
    pub const MAX_RANGES: usize = 512;

    /// A sorted, merged list; `Any` when `ranges` is empty.
    #[must_use]
    pub fn from_ranges(mut ranges: Vec<PortRange>) -> Self {
        if ranges.is_empty() {
            return Self::Any;
        }
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last)
                    if last.protocol == range.protocol
                        && u32::from(range.low) <= u32::from(last.high).saturating_add(1) =>
                {
                    last.high = last.high.max(range.high);
                }
                _ => merged.push(range),
            }
        }
        Self::List(merged)
    }
    /// Whether the rule speaks of this port.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::List(ranges) => ranges.iter().any(|range| range.contains(protocol, port)),
        }
    }
    /// The ranges, with `Any` spelled out.
    #[must_use]
    pub fn ranges(&self) -> Vec<PortRange> {
        match self {
            Self::Any => Protocol::ALL.map(PortRange::all).to_vec(),
            Self::List(ranges) => ranges.clone(),
        }
    }
}

/// Why a text is not a list of ports.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortsError {
    /// One entry of the list cannot be read.
    #[error("port entry {entry:?} is not of the form tcp/80, udp/53-60, tcp/any, icmp or any")]
    Entry {
        /// The entry.
        entry: String,
    },
    /// A range runs backwards.
    #[error("port range {low}-{high} runs backwards")]
    Backwards {
        /// First port.
        low: u16,
        /// Last port.
        high: u16,
    },
    /// More entries than a rule may have.
    #[error("{count} port entries, at most {max} are accepted", max = Ports::MAX_RANGES)]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(raw: &str) -> Result<Self, PortsError> {
        let count = raw.split(',').count();
        if count > Self::MAX_RANGES {
            return Err(PortsError::TooMany { count });
        }
        let mut ranges = Vec::new();
        for entry in raw.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let lower = entry.to_ascii_lowercase();
            let fail = || PortsError::Entry { entry: entry.chars().take(64).collect() };
            if lower == "any" {
                return Ok(Self::Any);
            }
            // A bare number or range means both TCP and UDP.
            let (protocols, span): (&[Protocol], &str) = match lower.split_once('/') {
                Some(("tcp", span)) => (&[Protocol::Tcp], span),
                Some(("udp", span)) => (&[Protocol::Udp], span),
                Some(("icmp", _)) => (&[Protocol::Icmp], "any"),
                Some(("any", span)) => (&[Protocol::Tcp, Protocol::Udp], span),
                Some(_) => return Err(fail()),
                None if lower == "icmp" => (&[Protocol::Icmp], "any"),
                None if lower == "tcp" => (&[Protocol::Tcp], "any"),
                None if lower == "udp" => (&[Protocol::Udp], "any"),
                None if lower == "other" => (&[Protocol::Other], "any"),
                None => (&[Protocol::Tcp, Protocol::Udp], lower.as_str()),
            };
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_not_a_port| fail());
            let (low, high) = match span.split_once('-') {
                _ if span == "any" => (0, u16::MAX),
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(span)?, number(span)?),
            };
            if low > high {
                return Err(PortsError::Backwards { low, high });
            }
            ranges.extend(protocols.iter().map(|&protocol| PortRange { protocol, low, high }));
        }
        Ok(Self::from_ranges(ranges))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::List(ranges) => {
                for (at, range) in ranges.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{range}")?;
                }
                Ok(())
            }
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;
    fn try_from(raw: String) -> Result<Self, PortsError> {
        raw.parse()
    }
}
impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_normalised() {
        for (raw, want) in [
            ("any", "any"),
            ("", "any"),
            ("TCP/80", "tcp/80"),
            ("tcp/81,tcp/80", "tcp/80-81"),
            ("udp/53-60, tcp/any , icmp", "tcp/any,udp/53-60,icmp"),
            ("8080", "tcp/8080,udp/8080"),
            ("tcp/1-10,tcp/5-20", "tcp/1-20"),
        ] {
            assert_eq!(raw.parse::<Ports>().unwrap().to_string(), want, "raw={raw:?}");
        }
    }

    #[test]
    fn a_bad_entry_is_named() {
        for raw in ["sctp/1", "tcp/x", "tcp/70000", "tcp/5-"] {
            let error = raw.parse::<Ports>().unwrap_err();
            assert!(matches!(&error, PortsError::Entry { entry } if entry == raw), "{raw}: {error}");
        }
        assert_eq!("tcp/9-8".parse::<Ports>(), Err(PortsError::Backwards { low: 9, high: 8 }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ranges in proptest::collection::vec((0_usize..4, any::<u16>(), any::<u16>()), 1..20)) {
            let list = Ports::from_ranges(ranges.into_iter().map(|(p, a, b)| match Protocol::ALL[p] {
                protocol @ (Protocol::Icmp | Protocol::Other) => PortRange::all(protocol),
                protocol => PortRange { protocol, low: a.min(b), high: a.max(b) },
            }).collect());
            prop_assert_eq!(list.to_string().parse::<Ports>().unwrap(), list);
        }
        #[test]
        fn any_text_is_answered_without_panic(raw in ".{0,200}") {
            drop(raw.parse::<Ports>());
        }
    }
}
