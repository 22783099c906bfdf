//! The keeper comes and goes; what it has attached stays.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nv_capture::{AttachError, Hook, Loaded, Options, Tables, netns};
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Udp;

use crate::lab::{self, A, B, Lab, arrives, command};

/// tcx came with kernel 6.6.
fn has_tcx() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 6)
}

/// By the best hook of this kernel, and by the one that every kernel has.
fn both(test: impl Fn(&mut Lab) + Send + Sync) {
    lab::run(|lab| {
        assert_eq!(lab.hook, if has_tcx() { Hook::Tcx } else { Hook::Clsact });
        test(lab);
    });
    lab::run_with(
        |options| options.only_clsact = true,
        |lab| {
            assert_eq!(lab.hook, Hook::Clsact);
            test(lab);
        },
    );
}

#[test]
fn enforcement_goes_on_without_the_keeper_and_the_next_one_takes_over() {
    both(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        let from = lab.a.bind(lab.a.v4, 0);
        let (allowed, forbidden) = (lab.b.bind(lab.b.v4, 9001), lab.b.bind(lab.b.v4, 9002));
        assert!(arrives(&from, &allowed, 1));
        drop(lab.loaded.take());
        assert!(arrives(&from, &allowed, 1) && !arrives(&from, &forbidden, 1));

        let mut next = Loaded::load(&lab.options).unwrap();
        assert!(next.adopted());
        let mut attached = vec![lab.a.ifindex, lab.b.ifindex];
        attached.sort_unstable();
        assert_eq!(next.attached(), attached);
        // The agent finds the policy that holds.
        let mut tables = Tables::from_descriptors(&next.descriptors().unwrap()).unwrap();
        assert_eq!(tables.held(), &lab.rows);
        assert_eq!(tables.endpoints().len(), 2);
        assert_eq!(tables.apply(&lab.rows).unwrap().written, 0);
        for ifindex in attached {
            assert_eq!(next.attach(ifindex).unwrap(), lab.hook);
        }
        assert!(arrives(&from, &allowed, 1) && !arrives(&from, &forbidden, 1));

        let path = lab.pins.path();
        next.unload().unwrap();
        assert!(!path.exists());
        assert!(arrives(&from, &forbidden, 1), "the node is as before");
    });
}

#[test]
fn no_packet_is_lost_or_let_through_while_programs_are_replaced() {
    both(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        let from = lab.a.bind(lab.a.v4, 0);
        let (allowed, forbidden) = (lab.b.bind(lab.b.v4, 9001), lab.b.bind(lab.b.v4, 9002));
        let pairs = [allowed.local_addr().unwrap(), forbidden.local_addr().unwrap()];
        let stop = AtomicBool::new(false);
        let received = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // The receiver's buffer is not what is tested.
                    if sent - received.load(Ordering::Relaxed) > 64 {
                        std::thread::yield_now();
                        continue;
                    }
                    for to in pairs {
                        from.send_to(&sent.to_be_bytes(), to).unwrap();
                    }
                    sent += 1;
                }
                sent
            });
            let receiver = scope.spawn(|| {
                let mut number = [0; 8];
                while allowed.recv(&mut number).is_ok() {
                    let next = received.fetch_add(1, Ordering::Relaxed);
                    if u64::from_be_bytes(number) != next {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{next} is missing, {} came", u64::from_be_bytes(number));
                    }
                }
            });
            for _ in 0..5 {
                drop(lab.loaded.take());
                let mut next = Loaded::load(&lab.options).unwrap();
                for ifindex in next.attached() {
                    next.attach(ifindex).unwrap();
                }
                lab.loaded = Some(next);
            }
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            receiver.join().unwrap();
            assert_eq!(sent, received.load(Ordering::Relaxed));
            forbidden.recv(&mut [0; 8]).unwrap_err();
        });
    });
}

#[test]
fn the_pod_does_not_notice_that_it_is_attached() {
    both(|lab| {
        let links = || command("ip", "-d link show eth0");
        let host = format!("link show {}", lab.a.host_end);
        let before = (lab.a.inside(links), command("ip", &host));
        lab.loaded.as_mut().unwrap().detach(lab.a.ifindex).unwrap();
        let between = lab.a.inside(links);
        lab.loaded.as_mut().unwrap().attach(lab.a.ifindex).unwrap();
        assert_eq!((lab.a.inside(links), command("ip", &host)), before);
        assert_eq!(between, before.0);
    });
}

#[test]
fn an_interface_that_is_gone_leaves_nothing_behind() {
    both(|lab| {
        let keeper = lab.loaded.as_mut().unwrap();
        assert!(matches!(keeper.attach(99_999), Err(AttachError::Gone { .. } | AttachError::Kernel { .. })));
        assert_eq!(keeper.attached().len(), 2);
        command("ip", &format!("link del {}", lab.a.host_end));
        assert!(keeper.detach(lab.a.ifindex).unwrap());
        command("ip", &format!("link del {}", lab.b.host_end));
        drop(lab.loaded.take());
        let next = Loaded::load(&lab.options).unwrap();
        assert_eq!(next.attached(), Vec::<u32>::new());
        assert_eq!(lab::pinned(&lab.pins.path()), 0);
    });
}

#[test]
fn tables_of_another_shape_are_replaced_and_the_earlier_programs_keep_theirs() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001));
        drop(lab.loaded.take());
        let options = Options { flows: 1024, ..lab.options.clone() };
        let mut next = Loaded::load(&options).unwrap();
        assert!(!next.adopted());
        assert!(!arrives(&from, &to, 1), "the earlier programs still judge by the earlier tables");
        let mut tables = Tables::from_descriptors(&next.descriptors().unwrap()).unwrap();
        lab.allow((A, B), Udp, 9001);
        tables.apply(&lab.rows).unwrap();
        for (ifindex, endpoint) in lab.tables.endpoints() {
            tables.set_endpoint(*ifindex, *endpoint).unwrap();
        }
        for ifindex in next.attached() {
            next.attach(ifindex).unwrap();
        }
        assert!(arrives(&from, &to, 1));
    });
}

#[test]
fn filters_of_others_and_their_qdisc_stay() {
    lab::run_with(
        |options| options.only_clsact = true,
        |lab| {
            let keeper = lab.loaded.as_mut().unwrap();
            keeper.detach(lab.a.ifindex).unwrap();
            let device = lab.a.host_end.clone();
            let shown = || command("tc", &format!("filter show dev {device} ingress"));
            command(
                "tc",
                &format!(
                    "filter add dev {device} ingress prio 100 protocol ip u32 match u32 0 0 classid 1:1"
                ),
            );
            keeper.attach(lab.a.ifindex).unwrap();
            assert!(shown().contains("u32") && shown().contains("from_pod"), "{}", shown());
            keeper.detach(lab.a.ifindex).unwrap();
            assert!(shown().contains("u32") && !shown().contains("from_pod"), "{}", shown());
            assert!(command("tc", &format!("qdisc show dev {device}")).contains("clsact"));
        },
    );
}

#[test]
fn the_interfaces_of_a_pod_name_their_host_ends() {
    lab::run(|lab| {
        let mut process = lab.a.inside(|| {
            std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        });
        let pid = process.id();
        let interfaces = netns::interfaces(pid).unwrap();
        let eth0 = interfaces.iter().find(|interface| interface.name == "eth0").unwrap();
        assert_eq!(eth0.peer, Some(lab.a.ifindex));
        assert_eq!((eth0.kind.as_str(), eth0.mac.len(), eth0.up), ("veth", 6, true));
        for address in ["10.77.0.2/24", "fd77::2/64"] {
            assert!(eth0.addresses.contains(&address.parse().unwrap()), "{eth0:?}");
        }
        let gateways: Vec<std::net::IpAddr> = ["10.77.0.1", "fd77::1"].map(|one| one.parse().unwrap()).into();
        assert_eq!(eth0.gateways, gateways);
        let listener = lab.a.listen(lab.a.v6, 8080);
        let listening = netns::listening(pid).unwrap();
        assert_eq!(
            listening.iter().map(|one| (one.address, one.port)).collect::<Vec<_>>(),
            [(lab.a.v6, 8080)]
        );
        drop(listener);
        let own = netns::inode(std::process::id()).unwrap();
        assert_ne!(netns::inode(pid).unwrap(), own);
        // Seen from another namespace the host end is not there.
        assert_eq!(
            lab.b
                .inside(|| netns::interfaces(pid).unwrap())
                .iter()
                .find(|one| one.name == "eth0")
                .unwrap()
                .peer,
            None
        );
        drop(process.stdin.take());
        process.wait().unwrap();
    });
}

#[test]
fn a_new_interface_is_told() {
    lab::run(|_lab| {
        let mut watch = netns::LinkWatch::new().unwrap();
        command("ip", "link add dummy9 type bridge");
        let changes = watch.changes().unwrap();
        assert!(changes.iter().any(|change| change.name == "dummy9" && !change.gone), "{changes:?}");
        command("ip", "link del dummy9");
        assert!(lab::eventually(|| watch
            .changes()
            .unwrap()
            .iter()
            .any(|change| change.name == "dummy9" && change.gone)));
    });
}
