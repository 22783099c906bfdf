//! Values of the criterion `address`: IP, CIDR, range, host name, `*.name`, `vh:` virtual host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// One value of an address group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressValue {
    /// Networks; a single address is a network of one, a range is the fewest networks that make it up.
    Nets(Vec<IpNet>),
    /// A host name, in lower case, resolved on the nodes.
    Name(String),
    /// Every name below this one (`*.example.com` holds `example.com`).
    Below(String),
    /// A virtual host (HTTP Host or TLS SNI), without the `vh:`; may begin with `*.`.
    VirtualHost(String),
}

/// Why a text is no address value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// None of the accepted forms.
    #[error("address {value:?} is no IP, CIDR, range a-b, host name, *.name or vh:name")]
    Form {
        /// The text, at most 64 characters of it.
        value: String,
    },
    /// A range of two families, or backwards.
    #[error("address range {value:?} must run upwards within one IP version")]
    Range {
        /// The text, at most 64 characters of it.
        value: String,
    },
}

fn shown(raw: &str) -> String {
    raw.chars().take(64).collect()
}

fn is_name(raw: &str) -> bool {
    (1..=253).contains(&raw.len())
        && raw.contains(|c: char| c.is_ascii_alphabetic())
        && raw.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        })
}

fn name_or_wildcard(raw: &str) -> bool {
    is_name(raw.strip_prefix("*.").unwrap_or(raw))
}

impl FromStr for AddressValue {
    type Err = AddressError;

    fn from_str(raw: &str) -> Result<Self, AddressError> {
        let text = raw.trim();
        let form = || AddressError::Form { value: shown(text) };
        let range = || AddressError::Range { value: shown(text) };
        if let Some(host) = text.strip_prefix("vh:") {
            let host = host.to_ascii_lowercase();
            return if name_or_wildcard(&host) { Ok(Self::VirtualHost(host)) } else { Err(form()) };
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Nets(vec![IpNet::from(ip)]));
        }
        if text.contains('/') {
            let net = text.parse::<IpNet>().map_err(|_not_a_net| form())?;
            return Ok(Self::Nets(vec![net.trunc()]));
        }
        if let Some((low, high)) = text.split_once('-') {
            match (low.trim().parse::<IpAddr>(), high.trim().parse::<IpAddr>()) {
                (Ok(IpAddr::V4(low)), Ok(IpAddr::V4(high))) if low <= high => {
                    return Ok(Self::Nets(v4_range(low, high)));
                }
                (Ok(IpAddr::V6(low)), Ok(IpAddr::V6(high))) if low <= high => {
                    return Ok(Self::Nets(v6_range(low, high)));
                }
                (Ok(_), Ok(_)) => return Err(range()),
                _ => {}
            }
        }
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(rest) if is_name(rest) => Ok(Self::Below(rest.to_owned())),
            None if is_name(&lower) => Ok(Self::Name(lower)),
            _ => Err(form()),
        }
    }
}

fn v4_range(low: Ipv4Addr, high: Ipv4Addr) -> Vec<IpNet> {
    Ipv4Subnets::new(low, high, 0).map(IpNet::V4).collect()
}

fn v6_range(low: Ipv6Addr, high: Ipv6Addr) -> Vec<IpNet> {
    Ipv6Subnets::new(low, high, 0).map(IpNet::V6).collect()
}

impl AddressValue {
    /// The networks, where the value is one of addresses.
    #[must_use]
    pub fn nets(&self) -> &[IpNet] {
        match self {
            Self::Nets(nets) => nets,
            Self::Name(_) | Self::Below(_) | Self::VirtualHost(_) => &[],
        }
    }
}

/// The network of this one address.
#[must_use]
pub fn host_net(ip: IpAddr) -> IpNet {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::from(ip)),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::from(ip)),
    }
}

/// Whether an address says who has it: no loopback, link-local, multicast or unspecified one.
#[must_use]
pub fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_read() {
        let nets = |list: &[&str]| AddressValue::Nets(list.iter().map(|net| net.parse().unwrap()).collect());
        for (raw, want) in [
            ("10.1.2.3", nets(&["10.1.2.3/32"])),
            ("10.1.2.3/24", nets(&["10.1.2.0/24"])),
            ("10.0.0.2-10.0.0.5", nets(&["10.0.0.2/31", "10.0.0.4/31"])),
            ("2001:db8::1", nets(&["2001:db8::1/128"])),
            ("Example.com", AddressValue::Name("example.com".into())),
            ("my-host", AddressValue::Name("my-host".into())),
            ("*.example.com", AddressValue::Below("example.com".into())),
            ("vh:*.shop.io", AddressValue::VirtualHost("*.shop.io".into())),
        ] {
            assert_eq!(raw.parse(), Ok(want), "raw={raw}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for raw in [
            "",
            "*",
            "*.",
            "a..b",
            "-a.com",
            "10.0.0.5-10.0.0.2",
            "10.0.0.1-::1",
            "10.0.0.0/33",
            "vh:",
            "a b",
        ] {
            assert!(raw.parse::<AddressValue>().is_err(), "raw={raw:?}");
        }
    }
}
