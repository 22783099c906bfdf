//! What one packet of a connection that is judged and clean costs in the programs at a pod's interface: the kernel runs them
//! on the same packet again and again, with the tables as they are (`BPF_PROG_TEST_RUN`). Of many runs the shortest counts,
//! as nothing else makes a run shorter. And what the verifier has looked at to take each program. Needs root. `RUNS` and
//! `REPEAT` set how many runs, and packets in each.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(unsafe_code, reason = "runs programs without an interface")]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use libbpf_rs::Program;
use libbpf_rs::query::ProgInfoIter;
use libbpf_sys::bpf_test_run_opts;
use nv_capture::{Share, Tap, TapInterface};
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;

#[path = "../tests/host_network/lab.rs"]
mod lab;

use lab::{A, B, Lab};

const PORT: u16 = 5201;
/// Flags of a segment in the middle of a connection.
const ACK: u8 = 0x10;

fn main() {
    let (runs, repeat) = (number("RUNS", 200), number("REPEAT", 20_000));
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, PORT);
        let descriptors = lab.loaded.as_ref().unwrap().descriptors().unwrap();
        let tap = Tap::from_descriptors(&descriptors).unwrap();
        let interface = TapInterface::make("nvtap-p").unwrap();
        tap.copy_to(Share::WHOLE, interface.ifindex, Duration::from_secs(3600)).unwrap();
        for address in [lab.b.v4, lab.b.v6] {
            measure(lab, &tap, address, runs, repeat);
        }
        for name in ["from_pod", "to_pod"] {
            println!("{name}: {} instructions verified", newest(name).1);
        }
        drop(interface.remove());
    });
}

fn measure(lab: &Lab, tap: &Tap, address: IpAddr, runs: usize, repeat: usize) {
    let listener = lab.b.listen(address, PORT);
    let mut client = lab.a.connect(address, PORT).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    let (one, other) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    tap.inspected(Tcp, one, other).unwrap();
    let mut costs = Vec::new();
    for (program, at, from, to) in [
        ("from_pod", lab.a.ifindex, one, other),
        ("to_pod", lab.b.ifindex, one, other),
        ("from_pod", lab.b.ifindex, other, one),
        ("to_pod", lab.a.ifindex, other, one),
    ] {
        let (fd, _) = newest(program);
        let frame = segment(from, to);
        let mut shortest = u32::MAX;
        for _ in 0..runs {
            shortest = shortest.min(nanos(&fd, at, &frame, repeat));
        }
        costs.push(shortest);
    }
    let [out, into, answer_out, answer_into] = costs[..] else { panic!("four programs") };
    println!(
        "{address}: nanoseconds a packet: {out} from and {into} to a pod towards the server, {answer_out} and {answer_into} back"
    );
}

/// The program of this name that was loaded last, and how many instructions the verifier has looked at.
fn newest(name: &str) -> (OwnedFd, u32) {
    let info = ProgInfoIter::default()
        .filter(|info| info.name.to_str() == Some(name))
        .max_by_key(|info| info.id)
        .expect("the program is loaded");
    (Program::fd_from_id(info.id).unwrap(), info.verified_insns)
}

/// Runs a program on a frame; nanoseconds of one run.
fn nanos(program: &OwnedFd, ifindex: u32, frame: &[u8], repeat: usize) -> u32 {
    // The first words of a `__sk_buff`, up to that with the interface.
    let mut context = [0_u32; 11];
    context[10] = ifindex;
    let mut options = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).unwrap(),
        ctx_in: (&raw mut context).cast(),
        ctx_size_in: u32::try_from(size_of_val(&context)).unwrap(),
        repeat: i32::try_from(repeat).unwrap(),
        ..Default::default()
    };
    // SAFETY: frame and context outlive the call, and their lengths are given.
    let code = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
    // TC_ACT_UNSPEC: the packet goes on.
    assert_eq!(options.retval, u32::MAX);
    options.duration
}

/// A segment with 1,400 bytes of payload in the middle of a connection.
fn segment(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    const PAYLOAD: u16 = 1400;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((40 + PAYLOAD).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((20 + PAYLOAD).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, ACK, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(vec![b'x'; usize::from(PAYLOAD)]);
    frame
}

/// What the environment says, or `default`.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
