//! Single words of a filter that stand for a number, an address or a name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Header, SCTP, TCP, UDP};

/// Decimal, octal with a leading 0, hexadecimal with 0x.
pub(super) fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

pub(super) fn address(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().ok().map(IpNet::from)
}

pub(super) fn ethernet(text: &str) -> Option<[u8; 6]> {
    let mut address = [0_u8; 6];
    let mut parts = text.split([':', '-', '.']);
    for place in &mut address {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *place = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

/// IANA protocol numbers.
pub(super) fn protocol_number(name: &str) -> Option<u8> {
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
pub(super) fn port(text: &str) -> Option<u16> {
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

pub(super) fn header(name: &str) -> Option<Header> {
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
pub(super) fn constant(name: &str) -> Option<u32> {
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
