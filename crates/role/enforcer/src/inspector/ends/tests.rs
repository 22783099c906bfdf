use std::collections::BTreeMap;
use std::net::IpAddr;

use nv_model::mode::Mode;
use nv_model::policy::{Identity, IdentityKind, NodePolicy, ResolvedRule};
use nv_model::port::Ports;
use nv_model::verdict::Action;

use super::*;

const POD: [u8; 4] = [10, 0, 0, 1];
const WEB: [u8; 4] = [10, 0, 0, 2];
const OTHER: [u8; 4] = [10, 0, 0, 3];

/// Pod 16 may ask pod 17 on TCP port 80; 18 is a pod that nothing is said of.
fn rules(mode: Mode) -> Layer7 {
    let identity = |_| Identity {
        kind: IdentityKind::Workload,
        group: "g".parse().unwrap(),
        mode: Some(mode),
        names: vec![],
    };
    let rule = ResolvedRule {
        id: RuleId(7),
        from: vec![IdentityId(16)],
        to: vec![IdentityId(17)],
        ports: "tcp/80".parse::<Ports>().unwrap(),
        applications: vec![],
        action: Action::Allow,
        learned: false,
    };
    let address = |last: u8| format!("10.0.0.{last}/32").parse().unwrap();
    let policy = NodePolicy {
        identities: (16..19).map(|id| (IdentityId(id), identity(id))).collect(),
        addresses: BTreeMap::from([
            (address(1), IdentityId(16)),
            (address(2), IdentityId(17)),
            (address(3), IdentityId(18)),
        ]),
        rules: vec![rule],
        ..NodePolicy::default()
    };
    Layer7::new(&policy, BTreeMap::new(), policy.addresses.clone())
}

/// A packet of IPv4 that begins a segment with these flags, or a datagram.
fn packet(from: [u8; 4], to: [u8; 4], ports: (u16, u16), flags: Option<u8>) -> Vec<u8> {
    let length = if flags.is_some() { 40 } else { 28 };
    let protocol = if flags.is_some() { 6 } else { 17 };
    let mut bytes = vec![0x45, 0, 0, length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    match flags {
        Some(flags) => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]),
        None => bytes.extend([0, 8, 0, 0]),
    }
    bytes
}

fn waiting(bytes: &[u8], leaves: bool) -> Waiting<'_> {
    Waiting { queue: 5, own: Some(IpAddr::from(POD)), leaves, stops: true, elsewhere: None, bytes }
}

fn ends() -> Ends {
    let mut ends = Ends::default();
    ends.replace(true);
    ends
}

#[test]
fn a_connection_that_no_rule_allows_is_denied_in_protect_from_its_first_packet_and_told_in_every_mode() {
    let (syn, udp) = (Some(Tcp::SYN), None);
    for (mode, to, port, flags, denied) in [
        (Mode::Protect, WEB, 80, syn, false),
        (Mode::Protect, WEB, 81, syn, true),
        (Mode::Protect, WEB, 80, udp, true),
        (Mode::Protect, OTHER, 80, syn, true),
        (Mode::Monitor, WEB, 81, syn, false),
        (Mode::Discover, OTHER, 53, udp, false),
    ] {
        let bytes = packet(POD, to, (40_000, port), flags);
        let mut ends = ends();
        let judged = ends.judge(&rules(mode), &waiting(&bytes, true), 0);
        let row = format!("{mode:?} {to:?} {port}");
        assert_eq!(judged.denied, denied, "{row}");
        let opened = judged.told.unwrap();
        assert!(!opened.ingress, "{row}");
        assert_eq!(opened.connection.server, SocketAddr::from((to, port)), "{row}");
        // Sent again it is the same one.
        let again = ends.judge(&rules(mode), &waiting(&bytes, true), 1);
        assert_eq!(again, Judged { denied, told: None }, "{row}");
    }
}

#[test]
fn answers_go_on_with_their_connection_and_who_is_the_client_does_not_depend_on_where_they_go() {
    let rules = rules(Mode::Protect);
    let mut ends = ends();
    let syn = packet(POD, WEB, (40_000, 80), Some(Tcp::SYN));
    assert!(ends.judge(&rules, &waiting(&syn, true), 0).told.is_some());
    let answer = packet(WEB, POD, (80, 40_000), Some(Tcp::SYN | Tcp::ACK));
    assert_eq!(ends.judge(&rules, &waiting(&answer, false), 1), Judged::default());
    // In its middle: who has the lower port is the server.
    let middle = packet(WEB, POD, (80, 40_001), Some(Tcp::ACK));
    let judged = ends.judge(&rules, &waiting(&middle, false), 2);
    assert!(!judged.denied);
    assert_eq!(judged.told.unwrap().connection.client, SocketAddr::from((POD, 40_001)));
    // The server may not open one to the client.
    let back = packet(WEB, POD, (50_000, 22), Some(Tcp::SYN));
    let judged = ends.judge(&rules, &waiting(&back, false), 3);
    assert!(judged.denied && judged.told.unwrap().ingress);
}

#[test]
fn a_packet_with_the_address_of_another_pod_is_judged_as_the_pods_that_sends_it() {
    // Pod 18 may nothing; it claims to be pod 16.
    let bytes = packet(POD, WEB, (40_000, 80), Some(Tcp::SYN));
    let waiting = Waiting { own: Some(IpAddr::from(OTHER)), ..waiting(&bytes, true) };
    assert!(ends().judge(&rules(Mode::Protect), &waiting, 0).denied);
}

#[test]
fn other_rules_hold_for_connections_that_are_open_and_without_the_task_nothing_is_judged() {
    let (bytes, data) =
        (packet(POD, OTHER, (40_000, 80), Some(Tcp::SYN)), packet(POD, OTHER, (40_000, 80), Some(Tcp::ACK)));
    let mut ends = ends();
    assert!(!ends.judge(&rules(Mode::Monitor), &waiting(&bytes, true), 0).denied);
    ends.replace(true);
    let judged = ends.judge(&rules(Mode::Protect), &waiting(&data, true), 1);
    assert!(judged.denied && judged.told.is_some(), "an open connection ends with the rule that allowed it");
    ends.replace(false);
    assert_eq!(ends.judge(&rules(Mode::Protect), &waiting(&data, true), 2), Judged::default());
}

#[test]
fn a_first_fragment_is_judged_by_its_ports_and_one_without_them_is_none_of_a_protected_pod() {
    let rules = rules(Mode::Protect);
    let fragment = |port, offset: u8| {
        let mut bytes = packet(POD, WEB, (40_000, port), Some(Tcp::SYN));
        (bytes[6], bytes[7]) = (0x20, offset); // more follow
        bytes
    };
    for (bytes, denied) in [
        (fragment(80, 0), false),
        (fragment(81, 0), true),
        (fragment(81, 3), false),
        (
            [&[0x45, 0, 0, 28, 0, 0, 0x20, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 8]].concat(),
            true,
        ),
    ] {
        assert_eq!(ends().judge(&rules, &waiting(&bytes, true), 0).denied, denied, "{bytes:?}");
    }
}

#[test]
fn what_nobody_understands_passes_unless_the_pod_is_protected() {
    let mut ends = ends();
    for stops in [false, true] {
        let waiting = Waiting { stops, ..waiting(&[0x45, 0, 0], true) };
        assert_eq!(ends.judge(&rules(Mode::Protect), &waiting, 0).denied, stops);
    }
}

#[test]
fn connections_that_find_no_room_are_judged_all_the_same() {
    let rules = rules(Mode::Protect);
    let mut ends = ends();
    for port in 0..=u16::MAX {
        for last in [2, 3] {
            let bytes = packet(POD, [10, 0, 0, last], (port, 81), Some(Tcp::SYN));
            assert!(ends.judge(&rules, &waiting(&bytes, true), u64::from(port)).denied);
        }
    }
    assert!(ends.overflow() > 0 && ends.known.len() <= MAX_CONNECTIONS);
}
