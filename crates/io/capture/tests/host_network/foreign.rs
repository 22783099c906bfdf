//! Programs of others at the same interfaces, as a network plugin such as Cilium has them (tcx, Linux 6.6).
#![expect(unsafe_code, reason = "it puts programs into the kernel as somebody else would")]

use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libbpf_sys::{BPF_F_AFTER, BPF_F_BEFORE, BPF_TCX_INGRESS, bpf_insn, bpf_link_create_opts};
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Udp;

use crate::lab::{self, A, B, Lab, arrives, command};

/// What a program at tcx may answer (`enum tcx_action_base`).
const NEXT: i32 = -1;
const PASS: i32 = 0;
const DROP: i32 = 2;

/// A program of somebody else that gives every packet the same answer.
fn program(answer: i32) -> OwnedFd {
    let text = [
        // r0 = answer; exit
        bpf_insn { code: 0xb7, imm: answer, ..Default::default() },
        bpf_insn { code: 0x95, ..Default::default() },
    ];
    // SAFETY: the texts and the instructions outlive the call, and their number is given.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"another".as_ptr(),
            c"GPL".as_ptr(),
            text.as_ptr(),
            2,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "{}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: the kernel has just given the descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Puts a program where A's packets come in, before or after all that are there. It goes with what is given back.
fn put(lab: &Lab, program: &OwnedFd, place: u32) -> OwnedFd {
    let options = bpf_link_create_opts {
        sz: size_of::<bpf_link_create_opts>().try_into().unwrap(),
        flags: place,
        ..Default::default()
    };
    let ifindex = i32::try_from(lab.a.ifindex).unwrap();
    // SAFETY: the options are zeroed but for the fields set, and outlive the call.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, BPF_TCX_INGRESS, &raw const options)
    };
    assert!(fd >= 0, "{}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: the kernel has just given the descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whether what a rule allows arrives, and what none does.
fn passes((from, allowed, forbidden): &(UdpSocket, UdpSocket, UdpSocket)) -> (bool, bool) {
    (arrives(from, allowed, 1), arrives(from, forbidden, 1))
}

fn run(test: impl FnOnce(&mut Lab, &(UdpSocket, UdpSocket, UdpSocket)) + Send) {
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Udp, 9001);
        // What B is sent is not judged a second time.
        lab.loaded.as_mut().unwrap().detach(lab.b.ifindex).unwrap();
        let sockets = (lab.a.bind(lab.a.v4, 0), lab.b.bind(lab.b.v4, 9001), lab.b.bind(lab.b.v4, 9002));
        assert_eq!(passes(&sockets), (true, false));
        test(lab, &sockets);
    });
}

#[test]
fn programs_of_others_before_and_behind_ours_go_on_and_so_do_ours() {
    run(|lab, sockets| {
        let before = put(lab, &program(NEXT), BPF_F_BEFORE);
        let behind = put(lab, &program(NEXT), BPF_F_AFTER);
        assert_eq!(passes(sockets), (true, false));
        // Ours are replaced in their place.
        lab.loaded.as_mut().unwrap().attach(lab.a.ifindex).unwrap();
        assert_eq!(passes(sockets), (true, false));
        drop((before, behind));
        let behind = put(lab, &program(DROP), BPF_F_AFTER);
        assert_eq!(passes(sockets), (false, false), "what we pass is theirs to judge");
        lab.loaded.as_mut().unwrap().detach(lab.a.ifindex).unwrap();
        assert_eq!(passes(sockets), (false, false), "theirs stays when ours go");
        drop(behind);
        assert_eq!(passes(sockets), (true, true));
    });
}

#[test]
fn a_program_that_was_there_before_ours_and_lets_everything_in_leads_around_nothing() {
    run(|lab, sockets| {
        lab.loaded.as_mut().unwrap().detach(lab.a.ifindex).unwrap();
        let _theirs = put(lab, &program(PASS), BPF_F_BEFORE);
        assert_eq!(passes(sockets), (true, true));
        lab.loaded.as_mut().unwrap().attach(lab.a.ifindex).unwrap();
        assert_eq!(passes(sockets), (true, false), "ours come first");
    });
}

#[test]
fn attaching_and_a_change_of_the_mode_leave_link_and_offloads_as_they_are() {
    run(|lab, _| {
        let device = lab.a.host_end.clone();
        let changes = |text: String| {
            let (_, rest) = text.split_once("\"carrier_changes\":").unwrap();
            rest.chars().take_while(char::is_ascii_digit).collect::<String>()
        };
        let look = |lab: &Lab| {
            let at = |device: &str| {
                (
                    command("ip", &format!("link show {device}")),
                    changes(command("ip", &format!("-s -s -j link show {device}"))),
                    command("ethtool", &format!("-k {device}")),
                )
            };
            (at(&device), lab.a.inside(|| at("eth0")))
        };
        let attached = look(lab);
        lab.loaded.as_mut().unwrap().detach(lab.a.ifindex).unwrap();
        assert_eq!(look(lab), attached);
        lab.loaded.as_mut().unwrap().attach(lab.a.ifindex).unwrap();
        lab.modes(nv_model::mode::Mode::Discover, nv_model::mode::Mode::Discover);
        lab.modes(Protect, Protect);
        assert_eq!(look(lab), attached);
    });
}
