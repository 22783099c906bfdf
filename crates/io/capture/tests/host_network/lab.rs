//! A host with a bridge and two pods, each a network namespace without a name, gone with the test.
#![expect(unsafe_code, reason = "leaves the network namespace and sends raw frames")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nv_capture::{
    Counters, Endpoint, Event, Events, FlowEvent, Flows, Hook, Loaded, ModeRow, Options, Rows, RuleAction,
    RuleKey, RuleRow, Tables,
};
use nv_model::mode::Mode;
use nv_model::port::Protocol;
use nv_model::verdict::Verdict;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Identities of the pods, of the host, and of what has no address row.
pub(crate) const A: u32 = 16;
pub(crate) const B: u32 = 17;
pub(crate) const NODE: u32 = 2;
/// How long a packet that was dropped is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// A pod: its namespace and its host end.
pub(crate) struct Pod {
    pub(crate) namespace: OwnedFd,
    pub(crate) ifindex: u32,
    pub(crate) host_end: String,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
}

/// A BPF file system of its own.
pub(crate) struct Pins {
    folder: tempfile::TempDir,
}

impl Pins {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let folder = tempfile::tempdir().unwrap();
        mount("bpf", folder.path(), "bpf", MountFlags::empty(), None).unwrap();
        Self { folder }
    }
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("network")
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        assert!(unmount(self.folder.path(), UnmountFlags::DETACH).is_ok() || std::thread::panicking());
    }
}

pub(crate) struct Lab {
    pub(crate) a: Pod,
    pub(crate) b: Pod,
    pub(crate) rows: Rows,
    pub(crate) tables: Tables,
    pub(crate) events: Events,
    pub(crate) flows: Flows,
    pub(crate) counters: Counters,
    pub(crate) hook: Hook,
    pub(crate) options: Options,
    /// `None` once the keeper is gone.
    pub(crate) loaded: Option<Loaded>,
    pub(crate) pins: Pins,
}

/// Runs a test on a thread that is the host.
pub(crate) fn run(test: impl FnOnce(&mut Lab) + Send) {
    run_with(|_options| {}, test);
}

/// The same with other options.
pub(crate) fn run_with(set: impl FnOnce(&mut Options) + Send, test: impl FnOnce(&mut Lab) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            leave_namespace();
            let pins = Pins::new();
            let mut options =
                Options { pin_dir: Some(pins.path()), attribution: false, ..Options::default() };
            set(&mut options);
            test(&mut Lab::new(pins, options));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Lab {
    fn new(pins: Pins, options: Options) -> Self {
        // Where the kernel has it, the bridge would send frames past iptables first, which drops broken ones.
        for family in ["ip", "ip6"] {
            drop(std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables"), "0"));
        }
        ip("link set lo up");
        ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        ip("addr add 10.77.0.1/24 dev br0");
        ip("addr add fd77::1/64 dev br0 nodad");
        ip("link set br0 up");
        let (a, b) = (Pod::new(2), Pod::new(3));
        let mut loaded = Loaded::load(&options).unwrap();
        let descriptors = loaded.descriptors().unwrap();
        let mut tables = Tables::from_descriptors(&descriptors).unwrap();
        let mut rows = Rows::default();
        for (identity, addresses) in [
            (A, [a.v4, a.v6]),
            (B, [b.v4, b.v6]),
            (NODE, ["10.77.0.1", "fd77::1"].map(|ip| ip.parse().unwrap())),
        ] {
            for address in addresses {
                rows.set_address(address.into(), identity);
            }
        }
        tables.apply(&rows).unwrap();
        tables.set_endpoint(a.ifindex, Endpoint { identity: A, number: 1, ..Endpoint::default() }).unwrap();
        tables.set_endpoint(b.ifindex, Endpoint { identity: B, number: 2, ..Endpoint::default() }).unwrap();
        let hook = loaded.attach(a.ifindex).unwrap();
        assert_eq!(loaded.attach(b.ifindex).unwrap(), hook);
        Self {
            a,
            b,
            rows,
            tables,
            events: Events::from_descriptors(&descriptors).unwrap(),
            flows: Flows::from_descriptors(&descriptors).unwrap(),
            counters: Counters::from_descriptors(&descriptors).unwrap(),
            hook,
            options,
            loaded: Some(loaded),
            pins,
        }
    }
    /// Sets the modes of both pods.
    pub(crate) fn modes(&mut self, a: Mode, b: Mode) {
        self.rows.modes.insert(A, ModeRow::new(Some(a), false));
        self.rows.modes.insert(B, ModeRow::new(Some(b), false));
        self.apply();
    }
    /// A rule for the ports that share their first `bits` bits with `port`.
    pub(crate) fn rule(
        &mut self,
        ends: (u32, u32),
        protocol: Protocol,
        port: u16,
        bits: u8,
        action: RuleAction,
        id: u32,
    ) {
        self.rows.rules.insert(RuleKey::new(ends.0, ends.1, protocol, port, bits), RuleRow::new(action, id));
        self.apply();
    }
    pub(crate) fn allow(&mut self, ends: (u32, u32), protocol: Protocol, port: u16) {
        self.rule(ends, protocol, port, 16, RuleAction::Allow, 7);
    }
    pub(crate) fn apply(&mut self) {
        self.tables.apply(&self.rows).unwrap();
    }
    /// Every flow event so far.
    pub(crate) fn flow_events(&mut self) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        self.events.drain(100_000, &mut events);
        events
            .into_iter()
            .filter_map(|event| match event {
                Event::Flow(flow) => Some(flow),
                Event::Connect(_) => None,
            })
            .collect()
    }
    /// Verdicts of the flow events to a port, by whether they were seen at the server's end.
    pub(crate) fn verdicts(&mut self, port: u16) -> Vec<(bool, Verdict)> {
        let events = self.flow_events();
        events
            .iter()
            .filter(|event| event.ends.server_port == port)
            .map(|event| (event.ends.ingress, event.verdict))
            .collect()
    }
}

impl Pod {
    fn new(number: u8) -> Self {
        let namespace = std::thread::spawn(|| {
            leave_namespace();
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        })
        .join()
        .unwrap();
        let host_end = format!("v{number}");
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        ip(&format!("link add {host_end} type veth peer name eth0 netns {path}"));
        ip(&format!("link set {host_end} master br0 up"));
        let pod = Self {
            namespace,
            ifindex: ifindex(&host_end),
            host_end,
            v4: IpAddr::from([10, 77, 0, number]),
            v6: format!("fd77::{number}").parse().unwrap(),
        };
        pod.inside(|| {
            ip(&format!("addr add 10.77.0.{number}/24 dev eth0"));
            ip(&format!("addr add fd77::{number}/64 dev eth0 nodad"));
            ip("link set eth0 up");
            ip("link set lo up");
            ip("route add default via 10.77.0.1");
            ip("route add default via fd77::1");
        });
        pod
    }
    /// Runs something inside of the pod's namespace. Sockets that are opened there stay there.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
    pub(crate) fn listen(&self, address: IpAddr, port: u16) -> TcpListener {
        self.inside(|| TcpListener::bind((address, port)).unwrap())
    }
    pub(crate) fn bind(&self, address: IpAddr, port: u16) -> UdpSocket {
        let socket = self.inside(|| UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
    pub(crate) fn connect(&self, address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE))
    }
    /// Whether an echo request is answered.
    pub(crate) fn pings(&self, address: IpAddr) -> bool {
        self.inside(|| {
            Command::new("ping")
                .args(["-c", "1", "-W", "0.3", &address.to_string()])
                .output()
                .unwrap()
                .status
                .success()
        })
    }
}

/// A socket for whole frames at the only interface of a pod.
pub(crate) struct Frames {
    fd: OwnedFd,
    pub(crate) mac: Vec<u8>,
}

impl Frames {
    pub(crate) fn at(pod: &Pod) -> Self {
        pod.inside(|| {
            let interfaces = nv_capture::netns::host_interfaces().unwrap();
            let eth0 = interfaces.iter().find(|interface| interface.name == "eth0").unwrap();
            let address = libc::sockaddr_ll {
                sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
                sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap().to_be(),
                sll_ifindex: i32::try_from(eth0.ifindex).unwrap(),
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            };
            let fd =
                rustix::net::socket(rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW, None)
                    .unwrap();
            let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
            // SAFETY: the address outlives the call, and its length is given.
            let code = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
            assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
            Self { fd, mac: eth0.mac.clone() }
        })
    }
    pub(crate) fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.fd, frame, rustix::net::SendFlags::empty()).unwrap();
    }
    /// Whether a frame that ends so comes in time.
    pub(crate) fn sees(&self, end: &[u8]) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut frame = [0; 2048];
            match rustix::net::recv(&self.fd, &mut frame[..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((length, _)) if frame[..length].ends_with(end) => return true,
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        false
    }
}

/// Whether a datagram of `size` bytes arrives.
pub(crate) fn arrives(from: &UdpSocket, to: &UdpSocket, size: usize) -> bool {
    let sent = vec![7; size];
    from.send_to(&sent, to.local_addr().unwrap()).unwrap();
    let mut received = vec![0; size + 1];
    matches!(to.recv(&mut received), Ok(length) if length == size)
}

/// Waits until something holds, at most two seconds.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Where pods serve connections whose packets wait.
pub(crate) const SERVED: u16 = 8080;

pub(crate) fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// A connection from `a` to `b`.
pub(crate) fn conversation(lab: &Lab, server: IpAddr) -> (TcpStream, TcpStream) {
    let listener: TcpListener = lab.b.listen(server, SERVED);
    let client = lab.a.connect(server, SERVED).unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    (client, server)
}

pub(crate) fn say(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    from.write_all(text)?;
    to.read_exact(&mut vec![0; text.len()])
}

/// A connection from a port that is the same each time, which ends without a trace.
pub(crate) fn from_port(pod: &Pod, from: IpAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    pod.inside(|| {
        let family = if from.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket(family, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        bind(&socket, &SocketAddr::new(from, 40_000)).unwrap();
        connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    })
}

/// What a socket sends has this mark.
pub(crate) fn mark(socket: &TcpStream, mark: u32) {
    let length = libc::socklen_t::try_from(size_of_val(&mark)).unwrap();
    let value = (&raw const mark).cast();
    // SAFETY: the value outlives the call, and its length is given.
    let code =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, value, length) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

/// What a socket is given to send at once leaves as datagrams of this length (`UDP_SEGMENT`, udp(7)).
pub(crate) fn send_in_pieces_of(socket: &UdpSocket, length: i32) {
    let bytes = libc::socklen_t::try_from(size_of_val(&length)).unwrap();
    let value = (&raw const length).cast();
    // SAFETY: the value outlives the call, and its length is given.
    let code =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, bytes) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

pub(crate) fn leave_namespace() {
    // SAFETY: only the network namespace of this thread changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a test of the kernel's network needs root");
}

pub(crate) fn ip(arguments: &str) {
    command("ip", arguments);
}

pub(crate) fn command(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn ifindex(name: &str) -> u32 {
    // The file system of the namespace that mounted it shows its own interfaces only, so that the kernel is asked.
    nv_capture::netns::host_interfaces()
        .unwrap()
        .into_iter()
        .find(|interface| interface.name == name)
        .unwrap_or_else(|| panic!("no interface {name}"))
        .ifindex
}

pub(crate) fn pinned(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("links")).unwrap().count()
}
