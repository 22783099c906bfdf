//! Listening ports, from the tables in `/proc/<pid>/net`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nv_model::port::Protocol;

use crate::netns::read_limited;

/// A port that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listening {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The address it is bound to: unspecified for all, loopback for none but the pod's own processes.
    pub address: IpAddr,
}

/// Length that a table is read to: about 100,000 sockets.
const LIMIT: u64 = 16 * 1024 * 1024;
/// Ports that are told.
const MAX_PORTS: usize = 4_096;
// States of net/tcp_states.h, as the tables print them.
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// Of the network namespace of a process; sorted, each once.
pub(crate) fn of(pid: u32) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for (table, protocol, state) in [
        ("tcp", Protocol::Tcp, TCP_LISTEN),
        ("tcp6", Protocol::Tcp, TCP_LISTEN),
        ("udp", Protocol::Udp, UDP_UNCONNECTED),
        ("udp6", Protocol::Udp, UDP_UNCONNECTED),
    ] {
        match read_limited(&format!("/proc/{pid}/net/{table}"), LIMIT) {
            Ok(bytes) => found.extend(parse(&String::from_utf8_lossy(&bytes), protocol, state)),
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_PORTS);
    Ok(found)
}

/// `sl local_address rem_address st …`; addresses are hexadecimal words in the machine's order.
fn parse<'a>(table: &'a str, protocol: Protocol, state: &'a str) -> impl Iterator<Item = Listening> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote, found) = (fields.next()?, fields.next()?, fields.next()?);
        if found != state {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        Some(Listening { protocol, port: u16::from_str_radix(port, 16).ok()?, address: address_of(address)? })
    })
}

fn address_of(hexadecimal: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let text = hexadecimal.get(at.checked_mul(8)?..at.checked_add(1)?.checked_mul(8)?)?;
        u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes)
    };
    match hexadecimal.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes = <[u8; 16]>::try_from(words.as_flattened()).ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_told_apart_from_connected_ones() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000\n\
            1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000\n\
            2: 0200000A:0050 0300000A:C350 01 00000000:00000000 00:00000000\n\
            broken line\n";
        let found: Vec<_> =
            parse(table, Protocol::Tcp, TCP_LISTEN).map(|one| (one.address.to_string(), one.port)).collect();
        assert_eq!(found, [("127.0.0.1".to_owned(), 8080), ("0.0.0.0".to_owned(), 80)]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn an_ipv6_address_is_four_words() {
        assert_eq!(address_of("00000000000000000000000001000000"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(address_of("0000000000000000FFFF00000100007F"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(address_of("xyz"), None);
    }
}
