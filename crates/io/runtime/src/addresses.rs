//! Addresses of a network namespace, from what `/proc/<pid>/net` shows of it. Reading these files needs neither
//! netlink nor entering the namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nv_model::workload::InterfaceAddress;

/// Longest of these files that is read; a namespace with more routes shows fewer addresses.
const FILE_BYTES: u64 = 1024 * 1024;
/// Most addresses that are kept of one namespace.
const ADDRESSES: usize = 256;
/// `RTF_GATEWAY` of `linux/route.h`.
const GATEWAY: u32 = 0x2;
/// Scopes of `/proc/net/if_inet6` (`net/ipv6.h`) that nobody outside of the link can reach.
const LOCAL_SCOPES: [&str; 2] = ["10", "20"];

/// All addresses but those of `lo` and link-local ones.
pub(crate) fn of_process(proc_root: &Path, pid: u32) -> Vec<InterfaceAddress> {
    let read = |name: &str| {
        let mut text = String::new();
        let file = File::open(proc_root.join(pid.to_string()).join("net").join(name));
        // A namespace without IPv6 lacks two of the files; a process that ended lacks all.
        file.and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text))
            .map_or_else(|_| String::new(), |_| text)
    };
    let mut found = ipv4(&read("fib_trie"), &read("route"));
    found.extend(ipv6(&read("if_inet6"), &read("ipv6_route")));
    found.truncate(ADDRESSES);
    found
}

/// `fib_trie` has the addresses (`|-- <address>` followed by `/32 host LOCAL`), `route` their interfaces and
/// prefixes: interface, destination, gateway, flags, …, mask as 8th field, numbers as the machine stores them.
fn ipv4(fib_trie: &str, route: &str) -> Vec<InterfaceAddress> {
    let mut addresses = BTreeSet::new();
    let mut leaf = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(leaf.filter(|address| !address.is_loopback()));
        }
    }
    let number = |field: Option<&&str>| u32::from_str_radix(field?, 16).ok();
    let address = |field: Option<&&str>| number(field).map(|raw| Ipv4Addr::from(raw.to_ne_bytes()));
    let mut networks = Vec::new();
    let mut gateways = Vec::new();
    for line in route.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(interface), Some(destination), Some(gateway), Some(flags), Some(mask)) = (
            fields.first(),
            address(fields.get(1)),
            address(fields.get(2)),
            number(fields.get(3)),
            address(fields.get(7)),
        ) else {
            continue;
        };
        if flags & GATEWAY == 0 {
            networks.extend(Ipv4Net::with_netmask(destination, mask).ok().map(|net| (*interface, net)));
        } else if destination.is_unspecified() && mask.is_unspecified() {
            gateways.push((*interface, gateway));
        }
    }
    let narrowest = |address: &Ipv4Addr| {
        let containing = networks.iter().filter(|(_, net)| net.contains(address));
        containing.max_by_key(|(_, net)| net.prefix_len())
    };
    let with_interface = |address: Ipv4Addr| {
        let (interface, prefix) =
            narrowest(&address).map_or(("", 32), |(name, net)| (*name, net.prefix_len()));
        let gateway =
            gateways.iter().find(|(name, _)| *name == interface).map(|(_, gateway)| IpAddr::V4(*gateway));
        let address = IpNet::V4(Ipv4Net::new(address, prefix).unwrap_or_else(|_| address.into()));
        InterfaceAddress { interface: interface.to_owned(), address, gateway }
    };
    addresses.into_iter().take(ADDRESSES).map(with_interface).collect()
}

/// `if_inet6`: address, index, prefix length, scope, flags, name; `ipv6_route`: destination, its prefix length, …,
/// gateway as 5th field, …, interface as 10th (proc(5)).
fn ipv6(if_inet6: &str, ipv6_route: &str) -> Vec<InterfaceAddress> {
    let address = |field: Option<&&str>| u128::from_str_radix(field?, 16).ok().map(Ipv6Addr::from);
    let mut gateways = Vec::new();
    for line in ipv6_route.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default =
            fields.get(1) == Some(&"00") && address(fields.first()).is_some_and(|a| a.is_unspecified());
        if let (true, Some(gateway), Some(interface)) = (is_default, address(fields.get(4)), fields.get(9))
            && !gateway.is_unspecified()
        {
            gateways.push((*interface, gateway));
        }
    }
    let mut found = Vec::new();
    for line in if_inet6.lines().take(ADDRESSES) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(own), Some(prefix), Some(scope), Some(interface)) =
            (address(fields.first()), fields.get(2), fields.get(3), fields.get(5))
        else {
            continue;
        };
        let prefix = u8::from_str_radix(prefix, 16).unwrap_or(128);
        if LOCAL_SCOPES.contains(scope) || own.is_loopback() {
            continue;
        }
        let gateway =
            gateways.iter().find(|(name, _)| name == interface).map(|(_, gateway)| IpAddr::V6(*gateway));
        let address = IpNet::V6(Ipv6Net::new(own, prefix).unwrap_or_else(|_| own.into()));
        found.push(InterfaceAddress { interface: (*interface).to_owned(), address, gateway });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/1 2 0 2\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
        \x20    +-- 10.231.0.0/30 2 0 2\n        |-- 10.231.0.0\n           /24 link UNICAST\n\
        \x20       |-- 10.231.0.2\n           /32 host LOCAL\n     |-- 127.0.0.0\n        /8 host LOCAL\n\
        \x20    |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     |-- 10.231.0.2\n        /32 host LOCAL\n";
    const ROUTE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100E70A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000E70A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    const IF_INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo\n\
        fe8000000000000070d41dfffea67e78 02 40 20 80     eth0\n\
        fd000231000000000000000000000002 02 40 00 80     eth0\n";
    const IPV6_ROUTE: &str = "fd000231000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fd000231000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn an_ipv4_address_has_its_interface_prefix_and_gateway() {
        let want = InterfaceAddress {
            interface: "eth0".into(),
            address: "10.231.0.2/24".parse().unwrap(),
            gateway: Some("10.231.0.1".parse().unwrap()),
        };
        assert_eq!(ipv4(FIB_TRIE, ROUTE), [want]);
    }

    #[test]
    fn an_address_without_a_route_stands_for_itself() {
        let found = ipv4(FIB_TRIE, "");
        assert_eq!(found.iter().map(|a| a.address.to_string()).collect::<Vec<_>>(), ["10.231.0.2/32"]);
    }

    #[test]
    fn an_ipv6_address_has_its_interface_prefix_and_gateway_and_local_ones_are_left_out() {
        let want = InterfaceAddress {
            interface: "eth0".into(),
            address: "fd00:231::2/64".parse().unwrap(),
            gateway: Some("fd00:231::1".parse().unwrap()),
        };
        assert_eq!(ipv6(IF_INET6, IPV6_ROUTE), [want]);
    }

    proptest! {
        #[test]
        fn reading_is_total(one in "([|+-]{1,3} [0-9./ a-zA-Z]{0,20}\n){0,8}", two in "([0-9a-fA-F\t ]{0,60}\n){0,8}") {
            ipv4(&one, &two);
            ipv6(&two, &two);
        }
    }
}
