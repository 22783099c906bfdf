//! What the tables in the kernel hold, byte for byte as `bpf/network/maps.h` lays it out.
//!
//! Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`; ports are in network order; everything else is native.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nv_model::mode::Mode;
use nv_model::port::Protocol;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::fate::OnFault;

/// What a host end of a veth (`endpoints`, by interface index), or the sockets of a cgroup, belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// Identity of the pod behind it.
    pub identity: u32,
    /// A number of the writer's choice; flows and events carry it.
    pub number: u32,
    /// 1: nothing but ARP and neighbour discovery passes.
    pub quarantined: u32,
    /// Whether its packets wait for an inspector.
    pub waits: Waits,
    /// Which judgement is valid for them: with another number, connections that were clean wait again.
    pub judging: u32,
}

/// Whether the packets of a pod wait for an inspector before they go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Waits(u32);

impl Waits {
    /// They do, which by default they do not; where nobody inspects they go on, or they are dropped.
    #[must_use]
    pub const fn or(fault: OnFault) -> Self {
        match fault {
            OnFault::Pass => Self(1),
            OnFault::Drop => Self(2),
        }
    }
}

/// What a container's cgroup is on the network (`places`, by cgroup id); it counts for all cgroups below too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Place {
    identity: u32,
    flags: u32,
    endpoint: u32,
    veths: [u32; 2],
}

impl Place {
    const QUARANTINED: u32 = 1;
    const AT_INTERFACE: u32 = 1 << 1;
    const HOST_NETWORK: u32 = 1 << 2;

    /// Connects of `identity` are judged when they are asked for; with `at_interface` its packets are judged at an
    /// attached interface instead.
    #[must_use]
    pub const fn new(identity: u32, quarantined: bool, at_interface: bool) -> Self {
        let quarantined = if quarantined { Self::QUARANTINED } else { 0 };
        let flags = quarantined | if at_interface { Self::AT_INTERFACE } else { 0 };
        Self { identity, flags, endpoint: 0, veths: [0; 2] }
    }
    /// On the host's network: cut off, it does not reach the host by the loopback either.
    #[must_use]
    pub const fn on_host_network(self) -> Self {
        Self { flags: self.flags | Self::HOST_NETWORK, ..self }
    }
    /// What its sockets send and are sent is judged as the endpoint [`sockets_endpoint`] of the cgroup, but for what
    /// passes `veths`, its own ends of veths (0 for none), whose other ends are attached.
    #[must_use]
    pub const fn at_sockets(self, endpoint: u32, veths: [u32; 2]) -> Self {
        Self { endpoint, veths, ..self }
    }
}

/// The row of `endpoints` for the sockets of a cgroup. Numbers of interfaces are below it.
#[must_use]
pub const fn sockets_endpoint(cgroup: u64) -> u32 {
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "the lower bits number the live cgroups"
    )]
    let low = cgroup as u32;
    low | 1 << 31
}

/// Key of `addresses`: a network. The longest prefix counts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AddressKey {
    prefix_bits: u32,
    address: [u8; 16],
}

impl AddressKey {
    /// The key of a network; host bits are cleared.
    #[must_use]
    pub fn new(net: IpNet) -> Self {
        let net = net.trunc();
        let mapped_bits: u32 = if matches!(net, IpNet::V4(_)) { 96 } else { 0 };
        Self {
            prefix_bits: mapped_bits.saturating_add(u32::from(net.prefix_len())),
            address: octets(net.addr()),
        }
    }
}

/// Key of `rules`: client, server, protocol and a prefix of the port. The longest prefix counts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuleKey {
    prefix_bits: u32,
    client: u32,
    server: u32,
    protocol: u8,
    zero: u8,
    port: [u8; 2],
}

impl RuleKey {
    /// Bits in front of the port.
    const BEFORE_PORT: u32 = 80;

    /// The key for the ports whose first `port_bits` (0 to 16) bits are those of `port`. ICMP has no rows, other
    /// protocols have port 0.
    #[must_use]
    pub fn new(client: u32, server: u32, protocol: Protocol, port: u16, port_bits: u8) -> Self {
        let bits = u32::from(port_bits.min(16));
        let mask = u16::MAX.checked_shl(16_u32.saturating_sub(bits)).unwrap_or(0);
        Self {
            prefix_bits: Self::BEFORE_PORT.saturating_add(bits),
            client,
            server,
            protocol: protocol.number(),
            zero: 0,
            port: (port & mask).to_be_bytes(),
        }
    }

    /// A prefix of any length: 64 bits for every protocol between the two ends, 80 for every port of `protocol` (its IP
    /// number, 0 for others), up to 96 for one port.
    #[must_use]
    pub fn with_prefix(client: u32, server: u32, protocol: u8, port: u16, prefix_bits: u32) -> Self {
        Self { prefix_bits: prefix_bits.min(96), client, server, protocol, zero: 0, port: port.to_be_bytes() }
    }
}

/// A key of a table in which the longest prefix counts.
pub trait Prefix {
    /// Length of its prefix in bits.
    fn bits(&self) -> u32;
}

impl Prefix for AddressKey {
    fn bits(&self) -> u32 {
        self.prefix_bits
    }
}

impl Prefix for RuleKey {
    fn bits(&self) -> u32 {
        self.prefix_bits
    }
}

/// What a row of `rules` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum RuleAction {
    /// Let it pass.
    Allow = 1,
    /// Drop or report it, by mode.
    Deny = 2,
    /// Let it pass; between ends in Discover it goes on to be learned.
    Learned = 3,
}

/// Row of `rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RuleRow {
    action: u32,
    rule: u32,
}

impl RuleRow {
    /// What is said, and the id of the rule that says so.
    #[must_use]
    pub const fn new(action: RuleAction, rule: u32) -> Self {
        Self { action: action as u32, rule }
    }
}

/// Row of `modes`, by identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct ModeRow(u32);

impl ModeRow {
    const NEVER_BLOCK: u32 = 0x80;

    /// The mode, `None` where the other end's alone counts. `never_block` turns a denial at this end into a report.
    #[must_use]
    pub const fn new(mode: Option<Mode>, never_block: bool) -> Self {
        let number = match mode {
            None => 0,
            Some(Mode::Discover) => 1,
            Some(Mode::Monitor) => 2,
            Some(Mode::Protect) => 3,
        };
        Self(number | if never_block { Self::NEVER_BLOCK } else { 0 })
    }

    /// As the policy engine writes it: 0 for none, 1 Discover, 2 Monitor, 3 Protect, with 0x80 for an end that is never
    /// cut off.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        Self(number as u32)
    }
}

/// The one row of `settings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SettingsRow {
    pub(crate) generation: u32,
    pub(crate) strict: u32,
    pub(crate) disabled: u32,
    pub(crate) token: u32,
}

/// Key of `flows`, as the interface sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FlowKey {
    pub(crate) ifindex: u32,
    pub(crate) local: [u8; 16],
    pub(crate) remote: [u8; 16],
    pub(crate) local_port: U16,
    pub(crate) remote_port: U16,
    pub(crate) protocol: u8,
    pub(crate) vlan: [u8; 3],
}

/// One way of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct WayRow {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) last_ns: u64,
}

/// Row of `flows`. What each way writes stands in 64 bytes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FlowRow {
    pub(crate) generation: u32,
    pub(crate) rule: u32,
    pub(crate) client: u32,
    pub(crate) server: u32,
    pub(crate) verdict: u8,
    pub(crate) is: FlowFlags,
    pub(crate) waits: u8,
    pub(crate) said: u8,
    pub(crate) to_server: WayRow,
    pub(crate) first_ns: u64,
    pub(crate) peer: [u8; 16],
    pub(crate) sessions: u32,
    pub(crate) endpoint: u32,
    pub(crate) peer_port: U16,
    pub(crate) zero: [u8; 6],
    pub(crate) to_client: WayRow,
    pub(crate) clean_ns: u64,
    pub(crate) judging: u32,
    pub(crate) sources: [[u8; 6]; 2],
    pub(crate) more_zero: [u8; 16],
}

/// What is so of a flow: 0 or 1 each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FlowFlags {
    /// The kernel was asked who the other end is; else `peer` says nothing.
    pub(crate) asked: u8,
    pub(crate) local_client: u8,
    pub(crate) mid_stream: u8,
    pub(crate) closed: u8,
    pub(crate) reported: u8,
    pub(crate) fin_client: u8,
    pub(crate) fin_server: u8,
    pub(crate) replied: u8,
    pub(crate) quarantined: u8,
    pub(crate) turned: u8,
    pub(crate) assumed: u8,
    pub(crate) inspected: u8,
    pub(crate) elsewhere: u8,
}

/// A row of `taps`, by the place of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct TapRow {
    pub(crate) until_ns: u64,
    pub(crate) ifindex: u32,
    pub(crate) zero: u32,
}

/// Key of `inspected`: a flow, whoever's interface it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InspectedKey {
    pub(crate) local: [u8; 16],
    pub(crate) remote: [u8; 16],
    pub(crate) local_port: U16,
    pub(crate) remote_port: U16,
    pub(crate) protocol: u8,
    pub(crate) zero: [u8; 3],
}

/// Record of a flow in the ring.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FlowRecord {
    pub(crate) kind: u32,
    pub(crate) endpoint: u32,
    pub(crate) ns: u64,
    pub(crate) key: FlowKey,
    pub(crate) local_client: u8,
    pub(crate) mid_stream: u8,
    pub(crate) quarantined: u8,
    pub(crate) zero: u8,
    pub(crate) client: u32,
    pub(crate) server: u32,
    pub(crate) rule: u32,
    pub(crate) generation: u32,
    pub(crate) verdict: u8,
    pub(crate) previous: u8,
    pub(crate) peer_port: U16,
    pub(crate) decision_nanos: u32,
    pub(crate) peer: [u8; 16],
}

/// Record of a connecting process in the ring.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ConnectRecord {
    pub(crate) kind: u32,
    pub(crate) pid: u32,
    pub(crate) ns: u64,
    pub(crate) cgroup: u64,
    pub(crate) address: [u8; 16],
    pub(crate) port: U16,
    pub(crate) protocol: u8,
    pub(crate) verdict: u8,
    pub(crate) uid: u32,
    pub(crate) command: [u8; 16],
    pub(crate) decision_nanos: u32,
    pub(crate) zero: u32,
}

/// Sixteen bytes of an address, IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of sixteen bytes.
pub(crate) fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_large_as_the_kernel_side_lays_them_out() {
        assert_eq!(size_of::<Endpoint>(), 20);
        assert_eq!(size_of::<Place>(), 20);
        assert_eq!(size_of::<AddressKey>(), 20);
        assert_eq!(size_of::<RuleKey>(), 16);
        assert_eq!(size_of::<RuleRow>(), 8);
        assert_eq!(size_of::<FlowKey>(), 44);
        assert_eq!(size_of::<FlowRow>(), 160);
        assert_eq!(size_of::<FlowRecord>(), 104);
        assert_eq!(size_of::<ConnectRecord>(), 72);
        assert_eq!(size_of::<TapRow>(), 16);
        assert_eq!(size_of::<InspectedKey>(), 40);
    }

    #[test]
    fn an_ipv4_network_is_written_as_a_mapped_one() {
        let key = AddressKey::new("10.1.2.3/24".parse().unwrap());
        assert_eq!(key.prefix_bits, 120);
        assert_eq!(address(key.address), "10.1.2.0".parse::<IpAddr>().unwrap());
        assert_eq!(AddressKey::new("fd00::1/64".parse().unwrap()).prefix_bits, 64);
    }

    #[test]
    fn a_rule_key_keeps_only_the_bits_of_its_prefix() {
        let key = RuleKey::new(16, 17, Protocol::Tcp, 0x1f97, 12);
        assert_eq!((key.prefix_bits, u16::from_be_bytes(key.port)), (92, 0x1f90));
        assert_eq!(RuleKey::new(1, 2, Protocol::Udp, 53, 0).port, [0, 0]);
        assert_eq!(RuleKey::new(1, 2, Protocol::Udp, 53, 16).port, [0, 53]);
    }

    #[test]
    fn an_address_survives_the_way_to_sixteen_bytes_and_back() {
        for text in ["10.0.0.1", "fd00::1", "::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(octets(ip)), ip);
        }
    }
}
