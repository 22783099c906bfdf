//! Connections through addresses that the kernel translates, by the rules that a Kubernetes node has.

use std::net::{IpAddr, TcpListener};

use nv_capture::{FlowChange, FlowEvent, ModeRow, RuleAction};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Lab, NODE, command};

/// Addresses of a service that no interface has.
const SERVICE: [&str; 2] = ["10.99.0.10", "fd99::10"];

/// The lab with a service on port 80 that B serves on 8080, and A's connections to it in the host's name, so that the
/// answers come back through the host.
fn run(test: impl FnOnce(&mut Lab) + Send) {
    lab::run(|lab| {
        assert_eq!(lab.loaded.as_ref().unwrap().translations(), Ok(()));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        serve(lab);
        test(lab);
    });
}

/// Makes the rules of the service.
fn serve(lab: &Lab) {
    for (program, service, own, pods) in [
        ("iptables-legacy", SERVICE[0], lab.b.v4.to_string(), "10.77.0.0/24"),
        ("ip6tables-legacy", SERVICE[1], format!("[{}]", lab.b.v6), "fd77::/64"),
    ] {
        for protocol in ["tcp", "udp"] {
            command(
                program,
                &format!(
                    "-t nat -A PREROUTING -d {service} -p {protocol} --dport 80 -j DNAT --to {own}:8080"
                ),
            );
        }
        command(program, &format!("-t nat -A POSTROUTING -s {pods} -d {pods} -j MASQUERADE"));
    }
}

fn services() -> [IpAddr; 2] {
    SERVICE.map(|address| address.parse().unwrap())
}

/// The ends of a flow as they are told, with its verdict.
fn told(event: &FlowEvent) -> (bool, u32, u32, u16, Verdict) {
    (event.ends.ingress, event.client.0, event.server.0, event.ends.server_port, event.verdict)
}

fn listeners(lab: &Lab) -> [TcpListener; 2] {
    [lab.b.listen(lab.b.v4, 8080), lab.b.listen(lab.b.v6, 8080)]
}

#[test]
fn both_ends_of_a_connection_through_a_service_are_who_is_behind_it() {
    run(|lab| {
        lab.modes(Discover, Discover);
        let _listeners = listeners(lab);
        for (service, client, server) in
            [(services()[0], lab.a.v4, lab.b.v4), (services()[1], lab.a.v6, lab.b.v6)]
        {
            let _open = lab.a.connect(service, 80).unwrap();
            let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
            let flow = |ingress| {
                sweep
                    .flows
                    .iter()
                    .find(|flow| flow.ends.ingress == ingress && flow.ends.server == server)
                    .unwrap()
            };
            let (out, into) = (flow(false), flow(true));
            assert_eq!((out.client.0, out.server.0, out.ends.server_port), (A, B, 8080), "{service}");
            assert_eq!(out.ends.translated, Some((service, 80)));
            assert_eq!((into.client.0, into.server.0, into.ends.client), (A, B, client), "{service}");
            assert_eq!((into.ends.server_port, into.verdict), (8080, Verdict::Learn));
            assert!(
                into.ends.translated.is_some_and(|(host, _)| host != client),
                "it came in the host's name"
            );
        }
        // Datagrams too.
        let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 8080));
        from.send_to(b"x", (services()[0], 80)).unwrap();
        let (_, asker) = to.recv_from(&mut [0]).unwrap();
        to.send_to(b"y", asker).unwrap();
        from.recv(&mut [0]).unwrap();
        let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
        let udp = sweep.flows.iter().filter(|flow| flow.ends.protocol == Udp);
        let udp: Vec<_> = udp.map(|flow| (flow.client.0, flow.server.0, flow.ends.server_port)).collect();
        assert_eq!(udp, [(A, B, 8080); 2]);
    });
}

#[test]
fn who_serves_a_connection_is_known_with_the_first_answer_behind_a_service_or_not() {
    run(|lab| {
        lab.modes(Discover, Discover);
        let tap =
            nv_capture::Tap::from_descriptors(&lab.loaded.as_mut().unwrap().descriptors().unwrap()).unwrap();
        let _listeners = listeners(lab);
        for (asked, port, server) in [
            (services()[0], 80, lab.b.v4),
            (services()[1], 80, lab.b.v6),
            (lab.b.v4, 8080, lab.b.v4),
            (lab.b.v6, 8080, lab.b.v6),
        ] {
            let client = lab.a.connect(asked, port).unwrap();
            let served = |to| tap.served(lab.a.ifindex, Tcp, client.local_addr().unwrap(), to).unwrap();
            let found = served((asked, port).into()).unwrap();
            assert_eq!((found.identity.0, found.address), (B, server), "{asked}");
            assert_eq!(served((asked, 81).into()), None);
        }
        // Nobody has answered.
        let nobody = lab.a.bind(lab.a.v4, 0);
        nobody.send_to(b"x", (lab.b.v4, 9)).unwrap();
        let to = (lab.b.v4, 9).into();
        assert_eq!(tap.served(lab.a.ifindex, Udp, nobody.local_addr().unwrap(), to).unwrap(), None);
    });
}

#[test]
fn a_service_is_judged_by_the_rules_for_who_serves_it() {
    run(|lab| {
        lab.modes(Discover, Discover);
        let _listeners = listeners(lab);
        for service in services() {
            lab.a.connect(service, 80).unwrap();
        }
        lab.modes(Protect, Protect);
        drop(lab.flow_events());
        for service in services() {
            lab.a.connect(service, 80).unwrap_err();
        }
        let events = lab.flow_events();
        let new = events.iter().filter(|event| event.change == FlowChange::New);
        assert_eq!(
            new.map(told).collect::<Vec<_>>(),
            [(false, A, B, 8080, Verdict::Deny); 2],
            "the very first packets are dropped"
        );
        lab.allow((A, B), Tcp, 8080);
        for service in services() {
            lab.a.connect(service, 80).unwrap();
        }
    });
}

#[test]
fn a_first_connection_to_a_service_is_cut_at_its_answer_when_who_serves_it_is_not_allowed() {
    run(|lab| {
        // The service's address itself is allowed: as an outside address it is anybody's.
        lab.rule((A, 1), Tcp, 80, 16, RuleAction::Allow, 5);
        lab.rows.modes.insert(A, ModeRow::new(Some(Protect), false));
        lab.apply();
        // B is on another node, so to say.
        lab.loaded.as_mut().unwrap().detach(lab.b.ifindex).unwrap();
        lab.tables.remove_endpoint(lab.b.ifindex).unwrap();
        let _listeners = listeners(lab);
        for service in services() {
            lab.a.connect(service, 80).unwrap_err();
        }
        let denied: Vec<_> =
            lab.flow_events().iter().map(told).filter(|told| told.4 == Verdict::Deny).collect();
        assert!(denied.contains(&(false, A, B, 8080, Verdict::Deny)), "{denied:?}");
    });
}

#[test]
fn a_service_that_nobody_has_used_is_judged_by_who_serves_it_where_services_are_told_by_their_range() {
    run(|lab| {
        lab.modes(Protect, Protect);
        let _listeners = listeners(lab);
        lab.allow((A, B), Tcp, 8080);
        for service in services() {
            lab.a.connect(service, 80).unwrap_err();
        }
        lab.tables
            .set_service_ranges(&["10.99.0.0/16", "fd99::/64"].map(|net| net.parse().unwrap()))
            .unwrap();
        lab.apply();
        for service in services() {
            lab.a.connect(service, 80).unwrap();
        }
        // Who serves these is not allowed: its end and ours stop them.
        drop(lab.flow_events());
        let datagrams = lab.b.bind(lab.b.v4, 8080);
        lab.loaded.as_mut().unwrap().detach(lab.b.ifindex).unwrap();
        let from = lab.a.bind(lab.a.v4, 0);
        for _ in 0..5 {
            from.send_to(b"x", (SERVICE[0], 80)).unwrap();
        }
        let mut byte = [0; 8];
        datagrams.recv(&mut byte).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        assert!(datagrams.recv(&mut byte).is_err(), "the first one alone goes out");
        let denied: Vec<_> =
            lab.flow_events().iter().map(told).filter(|told| told.4 == Verdict::Deny).collect();
        assert_eq!(denied, [(false, A, B, 8080, Verdict::Deny)]);
        // No service has this address: nobody is behind it.
        lab.a.connect("10.99.0.77".parse().unwrap(), 80).unwrap_err();
    });
}

#[test]
fn a_service_whose_server_is_another_now_is_not_held_to_the_old_one() {
    run(|lab| {
        lab.modes(Discover, Discover);
        let _listeners = listeners(lab);
        for service in services() {
            lab.a.connect(service, 80).unwrap();
        }
        lab.allow((A, B), Tcp, 8080);
        lab.modes(Protect, Protect);
        // The address of who served it last is somebody else's by now.
        for address in [lab.b.v4, lab.b.v6] {
            lab.rows.set_address(address.into(), 40);
        }
        lab.rows.modes.insert(40, ModeRow::new(Some(Protect), false));
        lab.apply();
        for service in services() {
            // It goes out by the identity of then, and is judged by who answers.
            assert!(lab.a.connect(service, 80).is_err());
        }
        lab.allow((A, 40), Tcp, 8080);
        for service in services() {
            lab.a.connect(service, 80).unwrap();
        }
    });
}

#[test]
fn connections_without_a_translation_are_as_before() {
    run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((NODE, B), Tcp, 8080);
        let _listeners = listeners(lab);
        std::net::TcpStream::connect((lab.b.v4, 8080)).unwrap();
        let events = lab.flow_events();
        assert_eq!(events.iter().map(told).collect::<Vec<_>>(), [(true, NODE, B, 8080, Verdict::Allow)]);
        assert!(events.iter().all(|event| event.ends.translated.is_none() && event.decision_nanos > 0));
    });
}
