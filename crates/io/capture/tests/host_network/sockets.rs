//! Containers whose packets pass no veth of ours, on the host's network or on another kind of interface: judged at their
//! sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use nv_capture::{Endpoint, Loaded, Place, Places, RuleAction, sockets_endpoint};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Lab, arrives};
use crate::places::Cgroups;

/// Number of the container's endpoint.
const NUMBER: u32 = 9;

/// The lab whose pod A has no interface that is ours, but a container whose sockets are.
fn run(name: &str, test: impl FnOnce(&mut Lab, &Places, &Cgroups) + Send) {
    lab::run_with(
        |options| options.attribution = true,
        |lab| {
            let cgroups = Cgroups::new(name);
            let loaded = lab.loaded.as_mut().unwrap();
            assert_eq!(loaded.sockets(), Ok(()));
            for ifindex in [lab.a.ifindex, lab.b.ifindex] {
                loaded.detach(ifindex).unwrap();
                lab.tables.remove_endpoint(ifindex).unwrap();
            }
            let places = Places::from_descriptors(&loaded.descriptors().unwrap()).unwrap();
            let endpoint = sockets_endpoint(cgroups.id());
            places.set(cgroups.id(), Place::new(A, false, false).at_sockets(endpoint, [0; 2])).unwrap();
            let row = Endpoint { identity: A, number: NUMBER, ..Endpoint::default() };
            lab.tables.set_endpoint(endpoint, row).unwrap();
            loaded.attach_sockets(cgroups.id()).unwrap();
            test(lab, &places, &cgroups);
            lab.loaded.as_mut().unwrap().detach_sockets(cgroups.id()).unwrap();
        },
    );
}

fn listen(lab: &Lab, cgroups: &Cgroups, address: IpAddr, port: u16) -> TcpListener {
    cgroups.inside(|| lab.a.listen(address, port))
}

fn bind(lab: &Lab, cgroups: &Cgroups, address: IpAddr, port: u16) -> UdpSocket {
    cgroups.inside(|| lab.a.bind(address, port))
}

/// Whether a byte goes from one end to the other.
fn talks(one: &mut TcpStream, other: &mut TcpStream) -> bool {
    other.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    one.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).is_ok()
}

#[test]
fn what_comes_in_to_a_container_without_a_veth_needs_a_rule_in_protect() {
    run("incoming", |lab, _places, cgroups| {
        lab.modes(Protect, Protect);
        lab.allow((B, A), Tcp, 80);
        lab.allow((B, A), Udp, 9001);
        let sender = [lab.b.bind(lab.b.v4, 0), lab.b.bind(lab.b.v6, 0)];
        for (address, sender) in [lab.a.v4, lab.a.v6].into_iter().zip(sender) {
            let _listeners = [80, 81].map(|port| listen(lab, cgroups, address, port));
            lab.b.connect(address, 80).unwrap();
            lab.b.connect(address, 81).unwrap_err();
            let [allowed, denied] = [9001, 9002].map(|port| bind(lab, cgroups, address, port));
            assert!(arrives(&sender, &allowed, 10) && arrives(&allowed, &sender, 10), "{address}");
            assert!(!arrives(&sender, &denied, 10), "{address}");
            let events = lab.flow_events();
            let told: Vec<_> = events.iter().map(|event| (event.ends.server_port, event.verdict)).collect();
            let want =
                [(80, Verdict::Allow), (81, Verdict::Deny), (9001, Verdict::Allow), (9002, Verdict::Deny)];
            assert_eq!(told, want, "{address}");
            assert!(events.iter().all(|event| event.ends.ingress && event.endpoint == NUMBER));
            assert!(events.iter().all(|event| (event.client.0, event.server.0) == (B, A)));
        }
    });
}

#[test]
fn what_a_container_without_a_veth_does_is_learned_with_port_and_bytes() {
    run("learned", |lab, _places, cgroups| {
        lab.modes(Discover, Discover);
        let (from, to) = (bind(lab, cgroups, lab.a.v6, 0), lab.b.bind(lab.b.v6, 53));
        assert!(arrives(&from, &to, 100) && arrives(&to, &from, 300));
        let listener = listen(lab, cgroups, lab.a.v4, 8080);
        let mut client = lab.b.connect(lab.a.v4, 8080).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert!(talks(&mut client, &mut server));
        let sweep = lab.flows.sweep(&nv_capture::IdleLimits::default()).unwrap();
        let flow = |port: u16| sweep.flows.iter().find(|flow| flow.ends.server_port == port).unwrap();
        let (dns, web) = (flow(53), flow(8080));
        assert_eq!((dns.verdict, dns.ends.ingress, dns.endpoint), (Verdict::Learn, false, NUMBER));
        assert_eq!((dns.bytes_to_server, dns.bytes_to_client), (148, 348), "with the headers");
        assert_eq!((web.verdict, web.ends.ingress, web.ends.client), (Verdict::Learn, true, lab.b.v4));
        assert!(web.packets_to_server >= 3 && web.packets_to_client >= 2, "{web:?}");
    });
}

#[test]
fn what_goes_out_of_a_container_without_a_veth_needs_a_rule_in_protect() {
    run("outgoing", |lab, _places, cgroups| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        for (address, own) in [(lab.b.v4, lab.a.v4), (lab.b.v6, lab.a.v6)] {
            let from = bind(lab, cgroups, own, 0);
            assert!(arrives(&from, &lab.b.bind(address, 9001), 1), "{address}");
            let denied = lab.b.bind(address, 9002);
            from.send_to(b"x", denied.local_addr().unwrap()).unwrap_err();
            denied.recv(&mut [0]).unwrap_err();
        }
    });
}

#[test]
fn sockets_of_others_in_the_same_network_are_left_alone() {
    run("others", |lab, _places, _cgroups| {
        lab.modes(Protect, Protect);
        lab.rule((B, A), Tcp, 81, 16, RuleAction::Deny, 9);
        let _hosts = lab.a.listen(lab.a.v4, 81);
        lab.b.connect(lab.a.v4, 81).unwrap();
        let (from, to) = (lab.b.bind(lab.b.v4, 0), lab.a.bind(lab.a.v4, 9002));
        assert!(arrives(&from, &to, 1) && arrives(&to, &from, 1));
        assert_eq!(lab.flow_events(), [], "and nothing is told of them");
    });
}

#[test]
fn quarantine_cuts_open_connections_of_a_container_on_the_hosts_network_and_its_loopback() {
    run("cut", |lab, places, cgroups| {
        lab.modes(Discover, Discover);
        let endpoint = sockets_endpoint(cgroups.id());
        let set = |lab: &mut Lab, quarantined: bool| {
            let place = Place::new(A, quarantined, false).on_host_network();
            places.set(cgroups.id(), place.at_sockets(endpoint, [0; 2])).unwrap();
            let row = Endpoint {
                identity: A,
                number: NUMBER,
                quarantined: u32::from(quarantined),
                ..Endpoint::default()
            };
            lab.tables.set_endpoint(endpoint, row).unwrap();
        };
        set(lab, false);
        let listener = listen(lab, cgroups, lab.a.v4, 80);
        let mut client = lab.b.connect(lab.a.v4, 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let (inner, hosts) = (bind(lab, cgroups, here, 0), lab.a.bind(here, 0));
        assert!(talks(&mut client, &mut server) && arrives(&inner, &hosts, 1));
        set(lab, true);
        assert!(!talks(&mut client, &mut server), "an open connection");
        lab.b.connect(lab.a.v4, 80).unwrap_err();
        inner.send_to(b"x", hosts.local_addr().unwrap()).unwrap_err();
        assert!(!arrives(&hosts, &inner, 1), "nor does anything of the host come by the loopback");
        set(lab, false);
        lab.b.connect(lab.a.v4, 80).unwrap();
        assert!(arrives(&inner, &hosts, 1));
    });
}

#[test]
fn packets_of_a_veth_are_left_to_its_other_end() {
    run("mixed", |lab, places, cgroups| {
        lab.modes(Protect, Protect);
        let eth0 = lab.a.inside(|| lab::ifindex("eth0"));
        let endpoint = sockets_endpoint(cgroups.id());
        let place = Place::new(A, false, true).at_sockets(endpoint, [0, eth0]);
        places.set(cgroups.id(), place).unwrap();
        let (from, to) = (bind(lab, cgroups, lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001));
        assert!(arrives(&from, &to, 1) && arrives(&to, &from, 1), "the host end would judge them");
        // The same container on another interface, of a kind without another end.
        lab.a.inside(|| {
            lab::ip("link add link eth0 name net1 type macvlan mode bridge");
            lab::ip("addr add 10.77.0.9/24 dev net1");
            lab::ip("link set net1 up");
        });
        let address: IpAddr = [10, 77, 0, 9].into();
        let _listener = listen(lab, cgroups, address, 80);
        // The namespace answers for both addresses at eth0; what comes to this one shall come by its own interface.
        let interfaces = lab.a.inside(|| nv_capture::netns::host_interfaces().unwrap());
        let net1 = interfaces.iter().find(|interface| interface.name == "net1").unwrap();
        let mac: Vec<String> = net1.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        lab.b.inside(|| lab::ip(&format!("neigh replace 10.77.0.9 lladdr {} dev eth0", mac.join(":"))));
        lab.b.connect(address, 80).unwrap_err();
        assert!(lab.verdicts(80).contains(&(true, Verdict::Deny)));
    });
}

#[test]
fn a_new_keeper_adopts_the_sockets_and_nothing_stays_of_a_cgroup_that_is_gone() {
    run("adopted", |lab, _places, cgroups| {
        lab.modes(Protect, Protect);
        let (sender, to) = (lab.b.bind(lab.b.v4, 0), bind(lab, cgroups, lab.a.v4, 9002));
        let pinned = lab::pinned(&lab.pins.path());
        drop(lab.loaded.take());
        assert!(!arrives(&sender, &to, 1), "without a keeper");
        let gone = Cgroups::new("gone");
        let mut loaded = Loaded::load(&lab.options).unwrap();
        loaded.attach_sockets(cgroups.id()).unwrap();
        loaded.attach_sockets(gone.id()).unwrap();
        assert_eq!(lab::pinned(&lab.pins.path()), pinned + 2);
        assert!(!arrives(&sender, &to, 1), "by the new programs");
        drop((loaded, gone));
        lab.loaded = Some(Loaded::load(&lab.options).unwrap());
        assert_eq!(lab::pinned(&lab.pins.path()), pinned, "the pins of the cgroup that is gone");
        lab.allow((B, A), Udp, 9002);
        assert!(arrives(&sender, &to, 1), "and the rows are read");
    });
}
