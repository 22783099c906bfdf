//! What passes, and what is told of it.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use nv_capture::{Endpoint, FlowChange, ModeRow, RuleAction, RuleKey, RuleRow};
use nv_model::mode::Mode::{Discover, Monitor, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::rule::RuleId;
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Frames, NODE, arrives, command, ip};

#[test]
fn in_protect_only_what_a_rule_allows_connects() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, 80);
        for address in [lab.b.v4, lab.b.v6] {
            let _allowed = lab.b.listen(address, 80);
            let _forbidden = lab.b.listen(address, 81);
            lab.a.connect(address, 80).unwrap();
            lab.a.connect(address, 81).unwrap_err();
            // Both ends of the allowed connection tell the same; the denied one ends at the client's.
            let events = lab.flow_events();
            let told: Vec<_> = events
                .iter()
                .map(|event| (event.ends.server_port, event.ends.ingress, event.verdict, event.rule))
                .collect();
            assert_eq!(
                told,
                [
                    (80, false, Verdict::Allow, RuleId(7)),
                    (80, true, Verdict::Allow, RuleId(7)),
                    (81, false, Verdict::Deny, RuleId::DEFAULT),
                ],
                "{address}"
            );
            assert!(events.iter().all(|event| (event.client.0, event.server.0) == (A, B)));
            assert!(
                events.iter().all(|event| event.ends.server == address && event.change == FlowChange::New)
            );
        }
    });
}

#[test]
fn among_ten_thousand_rules_a_connection_is_judged_by_its_own() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        for other in 0..10_000 {
            let key = RuleKey::new(B + 1 + other, A, Tcp, 80, 16);
            lab.rows.rules.insert(key, RuleRow::new(RuleAction::Allow, 100 + other));
        }
        lab.allow((A, B), Tcp, 80);
        for address in [lab.b.v4, lab.b.v6] {
            let _allowed = lab.b.listen(address, 80);
            let _forbidden = lab.b.listen(address, 81);
            lab.a.connect(address, 80).unwrap();
            lab.a.connect(address, 81).unwrap_err();
        }
    });
}

#[test]
fn a_denied_flow_is_told_once_and_its_packets_are_counted() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        let (from, to) = (lab.a.bind(lab.a.v4, 4000), lab.b.bind(lab.b.v4, 5000));
        for _ in 0..10 {
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
        }
        assert!(!arrives(&from, &to, 1));
        assert_eq!(lab.verdicts(5000), [(false, Verdict::Deny)]);
        assert_eq!(lab.counters.read().unwrap().denied_packets, 11);
        let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
        let flow = sweep.flows.iter().find(|flow| flow.ends.server_port == 5000).unwrap();
        assert_eq!((flow.packets_to_server, flow.bytes_to_server), (11, 11 * 29));
    });
}

#[test]
fn a_prefix_of_ports_covers_its_ports_and_no_other() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        // 8000 to 8007, of which 8004 is denied by a longer prefix.
        lab.rule((A, B), Udp, 8000, 13, RuleAction::Allow, 7);
        lab.rule((A, B), Udp, 8004, 16, RuleAction::Deny, 8);
        let from = lab.a.bind(lab.a.v4, 0);
        for (port, passes) in
            [(7999, false), (8000, true), (8003, true), (8004, false), (8007, true), (8008, false)]
        {
            let to = lab.b.bind(lab.b.v4, port);
            assert_eq!(arrives(&from, &to, 10), passes, "port {port}");
        }
    });
}

#[test]
fn the_mode_decides_what_happens_without_a_rule() {
    lab::run(|lab| {
        let from = lab.a.bind(lab.a.v6, 0);
        for (port, mode, passes, verdict) in [
            (9001, Discover, true, Verdict::Learn),
            (9002, Monitor, true, Verdict::Violate),
            (9003, Protect, false, Verdict::Deny),
        ] {
            lab.modes(mode, mode);
            let to = lab.b.bind(lab.b.v6, port);
            assert_eq!(arrives(&from, &to, 10), passes, "{mode:?}");
            let told = lab.verdicts(port);
            assert!(told.contains(&(false, verdict)), "{mode:?}: {told:?}");
            assert!(told.iter().all(|(_, one)| *one == verdict), "both ends agree: {told:?}");
        }
    });
}

#[test]
fn a_learned_rule_is_learned_on_in_discover_and_allows_elsewhere() {
    lab::run(|lab| {
        lab.rule((A, B), Udp, 9001, 16, RuleAction::Learned, 10_001);
        let from = lab.a.bind(lab.a.v4, 0);
        let to = lab.b.bind(lab.b.v4, 9001);
        lab.modes(Discover, Discover);
        assert!(arrives(&from, &to, 1));
        lab.modes(Protect, Protect);
        assert!(arrives(&from, &to, 1));
        let events = lab.flow_events();
        let client: Vec<_> = events
            .iter()
            .filter(|event| !event.ends.ingress)
            .map(|event| (event.change, event.verdict))
            .collect();
        assert_eq!(
            client,
            [
                (FlowChange::New, Verdict::Learn),
                (FlowChange::Verdict { previous: Verdict::Learn }, Verdict::Allow),
            ]
        );
    });
}

#[test]
fn of_two_modes_the_less_strict_one_holds_unless_strict_is_set() {
    lab::run(|lab| {
        lab.modes(Monitor, Protect);
        let from = lab.a.bind(lab.a.v4, 0);
        let to = lab.b.bind(lab.b.v4, 9001);
        assert!(arrives(&from, &to, 1));
        lab.rows.strict = true;
        lab.apply();
        assert!(!arrives(&from, &to, 1));
        // An end without a mode leaves the other's.
        lab.rows.strict = false;
        lab.rows.modes.remove(&A);
        lab.apply();
        assert!(!arrives(&from, &to, 1));
        lab.rows.disabled = true;
        lab.apply();
        assert!(arrives(&from, &to, 1));
    });
}

#[test]
fn an_end_that_is_never_blocked_turns_a_denial_into_a_violation() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.rows.modes.insert(NODE, ModeRow::new(Some(Protect), true));
        lab.apply();
        let to = lab.b.bind(lab.b.v4, 9001);
        let from = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
        assert!(arrives(&from, &to, 1));
        assert_eq!(lab.verdicts(9001), [(true, Verdict::Violate)]);
    });
}

#[test]
fn an_address_without_a_row_is_external() {
    lab::run(|lab| {
        ip("addr add 10.77.0.200/24 dev br0");
        lab.modes(Protect, Protect);
        lab.allow((1, B), Udp, 9001);
        let to = lab.b.bind(lab.b.v4, 9001);
        let external = std::net::UdpSocket::bind("10.77.0.200:0").unwrap();
        let node = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
        assert!(arrives(&external, &to, 1));
        assert!(!arrives(&node, &to, 1));
    });
}

#[test]
fn a_pod_that_is_cut_off_reaches_nobody_and_comes_back() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001));
        assert!(arrives(&from, &to, 1) && lab.a.pings(lab.b.v6));
        let mut endpoint = Endpoint { identity: B, number: 2, quarantined: 1, ..Endpoint::default() };
        lab.tables.set_endpoint(lab.b.ifindex, endpoint).unwrap();
        assert!(!arrives(&from, &to, 1) && !lab.a.pings(lab.b.v4) && !lab.a.pings(lab.b.v6));
        // Its neighbours still find its link address.
        let b = lab.b.v4.to_string();
        lab.a.inside(|| {
            ip("neigh flush dev eth0");
            drop(std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (b.as_str(), 9)));
        });
        assert!(lab::eventually(|| lab.a.inside(|| command("ip", "neigh show").contains("lladdr"))));
        assert!(lab.flow_events().iter().any(|event| event.quarantined && event.verdict == Verdict::Deny));
        endpoint.quarantined = 0;
        lab.tables.set_endpoint(lab.b.ifindex, endpoint).unwrap();
        assert!(arrives(&from, &to, 1) && lab.a.pings(lab.b.v4));
    });
}

#[test]
fn fragments_follow_the_first_of_their_datagram() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        for (a, b) in [(lab.a.v4, lab.b.v4), (lab.a.v6, lab.b.v6)] {
            let from = lab.a.bind(a, 0);
            let (allowed, forbidden) = (lab.b.bind(b, 9001), lab.b.bind(b, 9002));
            assert!(arrives(&from, &allowed, 6000), "{b}");
            assert!(!arrives(&from, &forbidden, 6000), "{b}");
        }
        assert_eq!(lab.counters.read().unwrap().fragments_alone, 0);
        let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
        let bytes = |port| {
            let of = |flow: &&nv_capture::Flow| flow.ends.server_port == port && flow.ends.ingress;
            sweep.flows.iter().filter(of).map(|flow| flow.bytes_to_server).sum::<u64>()
        };
        assert!(bytes(9001) > 2 * 6000, "every fragment is counted: {}", bytes(9001));
    });
}

#[test]
fn ipv6_extension_headers_are_read_over() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        let from = lab.a.bind(lab.a.v6, 0);
        set_destination_options(&from);
        let (allowed, forbidden) = (lab.b.bind(lab.b.v6, 9001), lab.b.bind(lab.b.v6, 9002));
        assert!(arrives(&from, &allowed, 10));
        assert!(!arrives(&from, &forbidden, 10));
        assert!(arrives(&from, &allowed, 6000), "and before a fragment header");
        assert_eq!(lab.counters.read().unwrap().unparsed, 0);
    });
}

#[expect(unsafe_code, reason = "the standard library has no such socket option")]
fn set_destination_options(socket: &std::net::UdpSocket) {
    // Next header, length in units of eight bytes beyond the first, and four bytes of padding (RFC 8200 §4.6).
    let header = [0_u8, 0, 1, 4, 0, 0, 0, 0];
    // SAFETY: the option's value outlives the call, and its length is given.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DSTOPTS,
            header.as_ptr().cast(),
            8,
        )
    };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_frame_that_cannot_be_judged_does_not_lead_around_protect() {
    lab::run(|lab| {
        let (from, to) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let frame = |ethertype: &[u8], payload: &[u8]| {
            let mut frame = [&to.mac[..], &from.mac, ethertype, payload].concat();
            frame.resize(60, 0);
            frame.extend_from_slice(b"the end");
            frame
        };
        let mut seven = vec![0x60, 0, 0, 0, 0, 64, 60, 1];
        seven.extend([0xfd; 32]);
        seven.extend([60, 0, 1, 4, 0, 0, 0, 0].repeat(7));
        for (what, frame) in [
            ("a VLAN tag", frame(&[0x81, 0, 0, 5, 8, 0], &[0x45, 0, 0, 20])),
            ("another protocol", frame(&[0x88, 0xb5], &[])),
            ("an IPv4 header that is no IPv4 header", frame(&[8, 0], &[0x62, 0, 0, 20])),
            ("more extension headers than are read", frame(&[0x86, 0xdd], &seven)),
        ] {
            lab.modes(Discover, Discover);
            from.send(&frame);
            assert!(to.sees(b"the end"), "{what} passes in Discover");
            lab.modes(Protect, Protect);
            from.send(&frame);
            assert!(!to.sees(b"the end"), "{what} does not pass in Protect");
        }
        assert!(lab.counters.read().unwrap().unparsed >= 8);
    });
}

#[test]
fn a_connection_from_before_keeps_its_roles() {
    lab::run(|lab| {
        for (address, port) in [(lab.b.v4, 80), (lab.b.v6, 60_999)] {
            for pod in [&lab.a, &lab.b] {
                assert!(lab.loaded.as_mut().unwrap().detach(pod.ifindex).unwrap());
            }
            let listener = lab.b.listen(address, port);
            let mut client = lab.a.connect(address, port).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            lab.modes(Protect, Protect);
            lab.allow((A, B), Tcp, port);
            for pod in [&lab.a, &lab.b] {
                lab.loaded.as_mut().unwrap().attach(pod.ifindex).unwrap();
            }
            // The ports mislead in the second case: the server's is the higher one, and the server speaks first.
            server.write_all(b"hello").unwrap();
            client.write_all(b"hello").unwrap();
            assert!(received(&mut client) && received(&mut server), "{address}");
            let events = lab.flow_events();
            let ours: Vec<_> = events.iter().filter(|event| event.ends.server_port == port).collect();
            assert_eq!(ours.len(), 2, "{events:?}");
            assert!(ours.iter().all(|event| event.mid_stream && event.verdict == Verdict::Allow), "{ours:?}");
        }
    });
}

fn received(stream: &mut std::net::TcpStream) -> bool {
    stream.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    let mut bytes = [0; 5];
    std::io::Read::read_exact(stream, &mut bytes).is_ok() && &bytes == b"hello"
}

#[test]
fn the_allowed_way_of_a_connection_does_not_open_the_other_way() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, 80);
        let _service = lab.b.listen(lab.b.v4, 80);
        let _victim = lab.a.listen(lab.a.v4, 4000);
        lab.a.connect(lab.b.v4, 80).unwrap();
        lab.b.connect(lab.a.v4, 4000).unwrap_err();
        assert_eq!(lab.verdicts(4000), [(false, Verdict::Deny)]);
    });
}

/// An IPv4 frame with a TCP header and the given flags; the checksums are left out.
fn segment(from: (&Frames, [u8; 4], u16), to: (&Frames, [u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut frame = [&to.0.mac[..], &from.0.mac, &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]].concat();
    frame.extend(from.1.iter().chain(&to.1));
    frame.extend(from.2.to_be_bytes().iter().chain(&to.2.to_be_bytes()));
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&[flags, 0, 0, 0, 0, 0xfe]);
    frame
}
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

#[test]
fn a_server_cannot_open_a_connection_by_posing_as_an_answer() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, 80);
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let (client, server) = ((&a, [10, 77, 0, 2], 4000), (&b, [10, 77, 0, 3], 80));
        // Without a SYN it could be the answer of a connection from before, and nothing is opened by it.
        let acknowledgement = segment(server, client, ACK);
        b.send(&acknowledgement);
        assert!(a.sees(&acknowledgement));
        // With one it is an attempt of its own.
        let attempt = segment(server, client, SYN);
        b.send(&attempt);
        assert!(!a.sees(&attempt));
        assert!(lab.verdicts(4000).contains(&(false, Verdict::Deny)));
        let other = segment((&b, [10, 77, 0, 3], 81), client, ACK);
        b.send(&other);
        assert!(!a.sees(&other), "a port that no rule allows either way");
    });
}

#[test]
fn an_attempt_against_a_live_connection_is_stopped_and_the_connection_goes_on() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, 80);
        let listener = lab.b.listen(lab.b.v4, 80);
        let mut client = lab.a.connect(lab.b.v4, 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(lab.flow_events());
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let port = client.local_addr().unwrap().port();
        let attempt = segment((&b, [10, 77, 0, 3], 80), (&a, [10, 77, 0, 2], port), SYN);
        for _ in 0..3 {
            b.send(&attempt);
        }
        assert!(!a.sees(&attempt));
        let told: Vec<_> = lab
            .flow_events()
            .iter()
            .map(|event| (event.change, event.client.0, event.ends.server_port, event.verdict))
            .collect();
        assert_eq!(told, [(FlowChange::Turned, B, port, Verdict::Deny)]);
        client.write_all(b"hello").unwrap();
        server.write_all(b"hello").unwrap();
        assert!(received(&mut client) && received(&mut server));
    });
}

#[test]
fn a_stray_reset_is_judged_but_is_no_flow() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let reset = segment((&a, [10, 77, 0, 2], 4000), (&b, [10, 77, 0, 3], 80), RST);
        a.send(&reset);
        assert!(b.sees(&reset));
        lab.modes(Protect, Protect);
        a.send(&reset);
        assert!(!b.sees(&reset));
        assert_eq!(lab.counters.read().unwrap().flows_created, 0);
    });
}

#[test]
fn a_fragment_without_its_first_does_not_pass_in_protect() {
    lab::run(|lab| {
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let mut fragment = segment((&a, [10, 77, 0, 2], 4000), (&b, [10, 77, 0, 3], 80), ACK);
        // Offset 8 bytes: the second part of a datagram.
        fragment[14 + 7] = 1;
        lab.modes(Monitor, Monitor);
        a.send(&fragment);
        assert!(b.sees(&fragment));
        lab.modes(Protect, Protect);
        a.send(&fragment);
        assert!(!b.sees(&fragment));
        assert!(lab.counters.read().unwrap().fragments_alone >= 3);
    });
}

#[test]
fn ports_that_are_used_again_are_another_session_of_the_flow() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let (a, b) = (Frames::at(&lab.a), Frames::at(&lab.b));
        let (client, server) = ((&a, [10, 77, 0, 2], 4000), (&b, [10, 77, 0, 3], 80));
        for _ in 0..3 {
            for (from, frame) in [
                (&a, segment(client, server, SYN)),
                (&b, segment(server, client, SYN | ACK)),
                (&a, segment(client, server, RST)),
            ] {
                from.send(&frame);
            }
        }
        // A retransmission is none.
        a.send(&segment(client, server, SYN));
        a.send(&segment(client, server, SYN));
        let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
        let sessions: Vec<_> = sweep
            .flows
            .iter()
            .filter(|flow| flow.ends.server_port == 80)
            .map(|flow| (flow.sessions, flow.closed))
            .collect();
        assert_eq!(sessions, [(4, false), (4, false)]);
        assert_eq!(lab.verdicts(80).len(), 2, "told once at each end");
    });
}
