//! Tagged frames at a pod's veth.

use nv_capture::RuleAction;
use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Udp;
use nv_model::verdict::Verdict;

use crate::lab::{self, A, B, Frames, Lab};

/// A frame from A to B with these tags (protocol, VLAN) and a datagram to `port`.
pub(crate) fn frame(
    lab: &Lab,
    from: &Frames,
    to: &Frames,
    tags: &[(u16, u16)],
    port: u16,
    six: bool,
) -> Vec<u8> {
    let mut frame = [to.mac.as_slice(), from.mac.as_slice()].concat();
    for (protocol, vlan) in tags {
        frame.extend(protocol.to_be_bytes());
        // With a priority, which is no part of the VLAN's number.
        frame.extend((0x6000 | vlan).to_be_bytes());
    }
    let mut datagram: Vec<u8> = [4000, port, 12, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    datagram.extend(b"end!");
    if six {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64]);
        for address in [lab.a.v6, lab.b.v6] {
            let std::net::IpAddr::V6(six) = address else { panic!() };
            frame.extend(six.octets());
        }
    } else {
        frame.extend([0x08, 0x00, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
        for address in [lab.a.v4, lab.b.v4] {
            let std::net::IpAddr::V4(four) = address else { panic!() };
            frame.extend(four.octets());
        }
    }
    frame.extend(datagram);
    frame
}

#[test]
fn tagged_frames_are_judged_by_what_they_carry() {
    const Q: u16 = 0x8100;
    const AD: u16 = 0x88a8;
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.rule((A, B), Udp, 9001, 16, RuleAction::Allow, 7);
        let (from, to) = (Frames::at(&lab.a), Frames::at(&lab.b));
        for (tags, parsed) in [
            (&[][..], true),
            (&[(Q, 100)], true),
            (&[(AD, 7), (Q, 100)], true),
            (&[(Q, 7), (Q, 101)], true),
            (&[(AD, 7), (Q, 100), (Q, 3)], false),
        ] {
            for six in [false, true] {
                let before = lab.counters.read().unwrap().unparsed;
                from.send(&frame(lab, &from, &to, tags, 9001, six));
                assert_eq!(to.sees(b"end!"), parsed, "allowed, {tags:?}, IPv6 {six}");
                from.send(&frame(lab, &from, &to, tags, 9002, six));
                assert!(!to.sees(b"end!"), "denied, {tags:?}, IPv6 {six}");
                assert_eq!(lab.counters.read().unwrap().unparsed > before, !parsed, "{tags:?}");
            }
        }
        let told: Vec<_> =
            lab.flow_events().iter().map(|told| (told.ends.server_port, told.verdict)).collect();
        let count = |want| told.iter().filter(|told| **told == want).count();
        // Four kinds of tags, two families, and two ends of what passes: flows of different VLANs are different flows.
        assert_eq!((count((9001, Verdict::Allow)), count((9002, Verdict::Deny)), told.len()), (16, 8, 24));
    });
}
