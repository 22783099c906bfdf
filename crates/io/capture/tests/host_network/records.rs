//! What the agent learns: flows, their bytes, and who opened them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nv_capture::{ConnectEvent, Event, IdleLimits};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::verdict::Verdict;

use crate::lab::{self, Lab};

#[test]
fn datagrams_are_counted_to_the_byte_in_both_directions() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        for (a, b, header) in [(lab.a.v4, lab.b.v4, 28), (lab.a.v6, lab.b.v6, 48)] {
            let (from, to) = (lab.a.bind(a, 0), lab.b.bind(b, 9001));
            for _ in 0..100 {
                assert!(lab::arrives(&from, &to, 1000));
            }
            for _ in 0..7 {
                assert!(lab::arrives(&to, &from, 10));
            }
            let sweep = lab.flows.sweep(&IdleLimits::default()).unwrap();
            let flows: Vec<_> = sweep.flows.iter().filter(|flow| flow.ends.server_port == 9001).collect();
            assert_eq!(flows.len(), 2, "one at each end: {flows:?}");
            for flow in flows {
                assert_eq!((flow.bytes_to_server, flow.packets_to_server), (100 * (1000 + header), 100));
                assert_eq!((flow.bytes_to_client, flow.packets_to_client), (7 * (10 + header), 7));
                assert_eq!((flow.sessions, flow.verdict, flow.closed), (1, Verdict::Learn, false));
            }
            assert!(lab::arrives(&from, &to, 1));
            let next = lab.flows.sweep(&IdleLimits::default()).unwrap();
            let flows: Vec<_> = next.flows.iter().filter(|flow| flow.ends.server_port == 9001).collect();
            assert!(
                flows.iter().all(|flow| flow.bytes_to_server == 1 + header && flow.sessions == 0),
                "{flows:?}"
            );
        }
    });
}

#[test]
fn a_stream_is_counted_within_its_headers_and_forgotten_after_its_end() {
    lab::run(|lab| {
        lab.modes(Discover, Discover);
        let listener = lab.b.listen(lab.b.v4, 80);
        let total = 20_000_000_u64;
        let mut client = lab.a.connect(lab.b.v4, 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let writer = std::thread::spawn(move || {
            client.write_all(&vec![1; usize::try_from(total).unwrap()]).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
        });
        let mut read = Vec::new();
        server.read_to_end(&mut read).unwrap();
        drop(server);
        writer.join().unwrap();
        assert_eq!(u64::try_from(read.len()).unwrap(), total);
        let sweep = lab.flows.sweep(&IdleLimits::default()).unwrap();
        let flows: Vec<_> = sweep.flows.iter().filter(|flow| flow.ends.server_port == 80).collect();
        assert_eq!(flows.len(), 2);
        for flow in flows {
            assert!(flow.closed);
            assert!((total..total + total / 20).contains(&flow.bytes_to_server), "{flow:?}");
            assert!(flow.packets_to_server > total / 1500, "segments are counted, not bundles: {flow:?}");
        }
        let limits = IdleLimits { closed: Duration::ZERO, ..IdleLimits::default() };
        assert_eq!(lab.flows.sweep(&limits).unwrap().forgotten, 2);
        assert_eq!(lab.flows.sweep(&limits).unwrap().live, 0);
    });
}

#[test]
fn a_flood_of_new_flows_stays_in_bounds_and_is_stopped() {
    let flows = 4096;
    lab::run_with(
        |options| options.flows = flows,
        |lab| {
            lab.modes(Protect, Protect);
            let to = lab.b.bind(lab.b.v4, 9001);
            let target = to.local_addr().unwrap();
            // Spoofed or not, every source is another flow.
            lab.a.inside(|| {
                for last in 0..40 {
                    lab::ip(&format!("addr add 10.77.1.{last}/32 dev eth0"));
                    let source = IpAddr::from([10, 77, 1, last]);
                    for port in 20_000..20_500 {
                        let socket = UdpSocket::bind((source, port)).unwrap();
                        socket.send_to(b"x", target).unwrap();
                    }
                }
            });
            let sent = 40 * 500;
            let mut byte = [0; 1];
            to.recv(&mut byte).unwrap_err();
            let totals = lab.counters.read().unwrap();
            assert_eq!((totals.denied_packets, totals.flows_created), (sent, sent));
            let sweep = lab.flows.sweep(&IdleLimits::default()).unwrap();
            assert!(sweep.live <= usize::try_from(flows).unwrap(), "{}", sweep.live);
            // Every record is in the ring or counted as lost.
            let told = u64::try_from(lab.flow_events().len()).unwrap();
            assert_eq!(told + lab.counters.read().unwrap().events_lost, sent);
        },
    );
}

fn connects(lab: &mut Lab, port: u16) -> Vec<ConnectEvent> {
    let mut events = Vec::new();
    lab.events.drain(100_000, &mut events);
    let pid = std::process::id();
    events
        .into_iter()
        .filter_map(|event| match event {
            // Every process of the machine is told; these are of the test.
            Event::Connect(connect) if connect.pid == pid && connect.port == port => Some(connect),
            _ => None,
        })
        .collect()
}

/// Inode of this process' folder in the v2 hierarchy.
fn own_cgroup() -> u64 {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let folder = format!("{}{path}", root.split(' ').nth(1).unwrap());
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(folder).unwrap())
}

#[test]
fn the_process_behind_a_connection_is_told_before_its_flow() {
    lab::run_with(
        |options| options.attribution = true,
        |lab| {
            assert_eq!(lab.loaded.as_ref().unwrap().attribution(), Ok(()));
            lab.modes(Discover, Discover);
            for (a, address, port) in [(lab.a.v4, lab.b.v4, 8001), (lab.a.v6, lab.b.v6, 8002)] {
                let _listener = lab.b.listen(address, port);
                let stream = lab.a.connect(address, port).unwrap();
                drop(stream);
                drop(lab.a.connect(address, port).unwrap());
                let socket = lab.a.bind(a, 0);
                socket.send_to(b"x", (address, port)).unwrap();
                socket.send_to(b"x", (address, port)).unwrap();

                let mut all = Vec::new();
                lab.events.drain(100_000, &mut all);
                let of_port = |event: &Event| match event {
                    Event::Connect(connect) if connect.port == port => Some((true, connect.protocol)),
                    Event::Flow(flow) if flow.ends.server_port == port && !flow.ends.ingress => {
                        Some((false, flow.ends.protocol))
                    }
                    _ => None,
                };
                let order: Vec<_> = all.iter().filter_map(of_port).collect();
                assert_eq!(
                    order,
                    [(true, Tcp), (false, Tcp), (false, Tcp), (true, Udp), (false, Udp)],
                    "like connects are told once, and before the flow"
                );
                let connect = all.iter().find_map(|event| match event {
                    Event::Connect(connect) if connect.port == port => Some(connect),
                    _ => None,
                });
                let connect = connect.unwrap();
                assert_eq!((connect.pid, connect.address), (std::process::id(), address));
                assert_eq!((connect.uid, connect.cgroup), (0, own_cgroup()));
                assert!(!connect.command.is_empty());
                let age = std::time::SystemTime::now()
                    .duration_since(
                        std::time::UNIX_EPOCH + Duration::from_nanos(connect.at.nanos().unsigned_abs()),
                    )
                    .unwrap();
                assert!(age < Duration::from_secs(5), "{age:?}");
            }
            assert!(lab.counters.read().unwrap().connects_folded >= 4);
        },
    );
}

#[test]
fn attribution_is_taken_over_by_the_next_keeper() {
    lab::run_with(
        |options| options.attribution = true,
        |lab| {
            drop(lab.loaded.take());
            let probe = || drop(UdpSocket::bind("10.77.0.1:0").unwrap().send_to(b"x", "10.77.0.2:7001"));
            probe();
            assert_eq!(connects(lab, 7001).len(), 1, "the links outlive the keeper");
            let next = nv_capture::Loaded::load(&lab.options).unwrap();
            assert_eq!(next.attribution(), Ok(()));
            let again = UdpSocket::bind("10.77.0.1:0").unwrap();
            again.send_to(b"x", "10.77.0.2:7002").unwrap();
            assert_eq!(connects(lab, 7002).len(), 1, "and there is one of each, not two");
            next.unload().unwrap();
            again.send_to(b"x", "10.77.0.2:7003").unwrap();
            assert_eq!(connects(lab, 7003).len(), 0);
        },
    );
}

#[test]
fn a_violation_wakes_the_reader_at_once() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        assert!(!lab.events.wait(Duration::ZERO).unwrap());
        let (from, to) = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001));
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                from.send_to(b"x", to.local_addr().unwrap()).unwrap();
            });
            assert!(lab.events.wait(Duration::from_secs(5)).unwrap());
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(lab.verdicts(9001), [(false, Verdict::Deny)]);
    });
}

#[test]
fn a_session_that_is_forgotten_goes_on_and_is_judged_anew() {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((lab::A, lab::B), Tcp, 80);
        let listener = lab.b.listen(lab.b.v4, 80);
        let mut client = lab.a.connect(lab.b.v4, 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        lab.flows.sweep(&IdleLimits::default()).unwrap();
        let ids: std::collections::HashSet<u64> = lab
            .flows
            .sessions()
            .filter(|session| session.flow.ends.server_port == 80)
            .map(|session| session.id)
            .collect();
        assert_eq!(ids.len(), 2, "one at each end");
        assert_eq!(lab.flows.forget(&ids).unwrap(), 2);
        assert_eq!(lab.flows.sessions().filter(|session| ids.contains(&session.id)).count(), 0);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        lab.flows.sweep(&IdleLimits::default()).unwrap();
        assert_eq!(lab.flows.sessions().filter(|session| ids.contains(&session.id)).count(), 2);
    });
}
