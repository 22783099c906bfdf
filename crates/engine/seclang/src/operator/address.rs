//! `@ipMatch`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Reason;

/// Addresses and networks.
#[derive(Debug)]
pub(crate) struct Addresses(Vec<IpNet>);

impl Addresses {
    const MAX: usize = 65_536;

    /// Reads addresses and networks between commas or blanks; lines that begin with `#` are none.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let mut nets = Vec::new();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        for word in lines.flat_map(|line| line.split([',', ' ', '\t'])).filter(|word| !word.is_empty()) {
            let net = word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from));
            nets.push(net.ok_or_else(|| Reason::Value { what: "address", value: word.to_owned() })?);
        }
        if nets.len() > Self::MAX {
            return Err(Reason::Bound { what: "addresses", most: Self::MAX });
        }
        if nets.is_empty() { Err(Reason::Missing("an address")) } else { Ok(Self(nets)) }
    }

    pub(super) fn have(&self, value: &[u8]) -> bool {
        let address = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        address.is_some_and(|address| self.0.iter().any(|net| net.contains(&address.to_canonical())))
    }
}
