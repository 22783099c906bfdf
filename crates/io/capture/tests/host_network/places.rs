//! Connects of containers that have no attached interface: judged by their cgroup, from their first instruction.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nv_capture::{Event, Place, Places, RuleAction};
use nv_model::mode::Mode::{Discover, Protect};
use nv_model::port::Protocol::{Tcp, Udp};
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Lab};

/// A container's cgroup with one below it, gone with the test.
pub(crate) struct Cgroups {
    outer: PathBuf,
    inner: PathBuf,
}

impl Cgroups {
    pub(crate) fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let outer = PathBuf::from(root.split(' ').nth(1).unwrap())
            .join(format!("nv-places-{name}-{}", std::process::id()));
        let inner = outer.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        Self { outer, inner }
    }
    pub(crate) fn id(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&self.outer).unwrap())
    }
    /// Does something as a process of the inner cgroup: sockets that are opened there stay the cgroup's.
    pub(crate) fn inside<T>(&self, act: impl FnOnce() -> T) -> T {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let home = self.outer.parent().unwrap().join(own);
        let enter = |folder: &std::path::Path| {
            std::fs::write(folder.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        };
        enter(&self.inner);
        let done = act();
        enter(&home);
        done
    }
    /// A command that a fresh process of the inner cgroup runs as its very first act.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let procs = self.inner.join("cgroup.procs");
        command.args(["-c", &format!("echo $$ > {}; exec bash -c '{script}'", procs.display())]);
        command.stderr(Stdio::null());
        command
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let gone = lab::eventually(|| {
            drop(std::fs::remove_dir(&self.inner));
            std::fs::remove_dir(&self.outer).is_ok()
        });
        assert!(gone || std::thread::panicking());
    }
}

/// The lab without any interface that is ours.
fn run(test: impl FnOnce(&mut Lab, &Places) + Send) {
    lab::run_with(
        |options| options.attribution = true,
        |lab| {
            let loaded = lab.loaded.as_ref().unwrap();
            assert_eq!(loaded.attribution(), Ok(()));
            let places = Places::from_descriptors(&loaded.descriptors().unwrap()).unwrap();
            for ifindex in [lab.a.ifindex, lab.b.ifindex] {
                lab.tables.remove_endpoint(ifindex).unwrap();
            }
            test(lab, &places);
        },
    );
}

fn received(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut byte = [0; 16];
    std::iter::from_fn(|| socket.recv(&mut byte).ok()).count()
}

#[test]
fn no_packet_of_a_thousand_starts_leaves_before_the_veth_is_attached() {
    run(|lab, places| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        let cgroups = Cgroups::new("starts");
        places.set(cgroups.id(), Place::new(A, false, false)).unwrap();
        let (denied, allowed) = (lab.b.bind(lab.b.v4, 9000), lab.b.bind(lab.b.v4, 9001));
        let six = lab.b.bind(lab.b.v6, 9000);
        let script = "echo x >/dev/udp/10.77.0.3/9000; echo x >/dev/udp/fd77::3/9000";
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    lab.a.inside(|| {
                        for _ in 0..125 {
                            assert!(!cgroups.command(script).status().unwrap().success());
                        }
                    });
                });
            }
        });
        let passing = "echo x >/dev/udp/10.77.0.3/9001";
        lab.a.inside(|| assert!(cgroups.command(passing).status().unwrap().success()));
        assert_eq!((received(&denied), received(&six), received(&allowed)), (0, 0, 1));
        assert!(lab.counters.read().unwrap().connects_denied >= 2000);
    });
}

#[test]
fn a_connect_is_judged_by_the_nearest_cgroup_above_and_told() {
    run(|lab, places| {
        lab.modes(Discover, Discover);
        lab.rule((A, B), Tcp, 81, 16, RuleAction::Deny, 9);
        let cgroups = Cgroups::new("nearest");
        let _listeners = (lab.b.listen(lab.b.v4, 80), lab.b.listen(lab.b.v4, 81));
        let dials = |port: u16| {
            lab.a.inside(|| cgroups.command(&format!("exec 3<>/dev/tcp/10.77.0.3/{port}")).status())
        };
        let passes = |port| dials(port).unwrap().success();
        assert!(passes(81), "without a row nothing is judged");
        places.set(cgroups.id(), Place::new(A, false, false)).unwrap();
        assert!(passes(80) && passes(81), "in Discover a denial is told and nothing is stopped");
        let mut events = Vec::new();
        lab.events.drain(100_000, &mut events);
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Connect(connect) if connect.address == lab.b.v4 => {
                    Some((connect.port, connect.verdict))
                }
                _ => None,
            })
            .collect();
        assert_eq!(told, [(81, Verdict::Open), (80, Verdict::Learn), (81, Verdict::Violate)]);
        places.set(cgroups.id(), Place::new(A, true, false)).unwrap();
        assert!(!passes(80), "cut off");
        places.set(cgroups.id(), Place::new(A, true, true)).unwrap();
        assert!(passes(80), "its interface judges");
        assert!(places.remove(cgroups.id()).unwrap());
    });
}
