//! What a single packet of TCP or ICMP does to its flow, and which attacks on the transport it shows.

use nv_packet::transport::{Tcp, TcpOption};

use crate::flow::{Flow, Phase};
use crate::key::Side;
use crate::segments::distance;
use crate::threat::Threat;

/// Segment size below which selective acknowledgments can exhaust the sender (CVE-2019-11479).
const MIN_SEGMENT_BYTES: u16 = 256;

/// FNV-1a, to tell payloads apart that nobody made to collide.
pub(crate) fn digest(payload: &[u8]) -> u32 {
    payload.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Attacks on the transport that a packet shows, each told once a flow.
#[derive(Default)]
pub(crate) struct Threats(u8);

const ONCE: [Threat; 8] = [
    Threat::SynFlood,
    Threat::IcmpFlood,
    Threat::InvalidPacketFormat,
    Threat::SynWithData,
    Threat::SplitHandshake,
    Threat::TcpSackSmallMss,
    Threat::PingDeath,
    Threat::IcmpTunneling,
];

impl Threats {
    pub(crate) fn add(&mut self, threat: Threat) {
        self.0 |= ONCE
            .iter()
            .zip(0_u8..8)
            .filter(|(one, _)| **one == threat)
            .fold(0, |set, (_, at)| set | (1 << at));
    }
    pub(crate) fn once(&self, told: &mut u8, mut tell: impl FnMut(Threat)) {
        for (threat, at) in ONCE.iter().zip(0_u8..8) {
            if self.0 & !*told & (1 << at) != 0 {
                tell(*threat);
            }
        }
        *told |= self.0;
    }
}

/// Flags that no stack sends together (RFC 9293 §3.10.7: such segments only probe what the receiver does).
pub(crate) fn invalid_flags(segment: &Tcp<'_>, threats: &mut Threats) {
    let flags = segment.flags & 0x3F;
    let syn_with_end = segment.has(Tcp::SYN) && segment.has(Tcp::FIN | Tcp::RST);
    let nothing = flags == 0;
    let lonely_fin = segment.has(Tcp::FIN) && !segment.has(Tcp::ACK);
    if syn_with_end || nothing || lonely_fin {
        threats.add(Threat::InvalidPacketFormat);
    }
}

pub(crate) fn handshake(flow: &mut Flow, side: Side, segment: &Tcp<'_>, threats: &mut Threats) {
    let (syn, ack) = (segment.has(Tcp::SYN), segment.has(Tcp::ACK));
    if syn {
        // RFC 7413 §4.1.1, and the number that it had before (RFC 6994).
        let fast_open = segment.options().any(|option| {
            matches!(option, TcpOption::Other(34, _) | TcpOption::Other(254, [0xF9, 0x89, ..]))
        });
        if !ack && !segment.payload.is_empty() && !fast_open {
            threats.add(Threat::SynWithData);
        }
        let small = segment
            .options()
            .any(|option| matches!(option, TcpOption::MaximumSegment(bytes) if bytes < MIN_SEGMENT_BYTES));
        if small && segment.options().any(|option| option == TcpOption::SackPermitted) {
            threats.add(Threat::TcpSackSmallMss);
        }
        // RFC 9293 §3.5 allows both sides to begin at once; who answers a SYN with a bare SYN evades (Split handshake).
        if !ack && side == Side::Server && flow.client.started && !flow.server.started {
            threats.add(Threat::SplitHandshake);
        }
        // A SYN that is tried again with another number: the last one counts until it is answered.
        let opening = flow.phase == Phase::Opening && !segment.has(Tcp::RST);
        let half = flow.half_mut(side);
        if opening || !half.started {
            (half.started, half.next) = (true, segment.sequence.wrapping_add(1));
        }
        if ack && side == Side::Server && !flow.client.started {
            (flow.client.started, flow.client.next) = (true, segment.acknowledgment);
        }
    } else if flow.phase == Phase::Opening && !segment.has(Tcp::RST) && (ack || !segment.payload.is_empty()) {
        flow.phase = Phase::Open;
    }
}

pub(crate) fn teardown(flow: &mut Flow, side: Side, segment: &Tcp<'_>) {
    let settled = flow.settled;
    let other = *flow.half(side.other());
    let half = flow.half_mut(side);
    if segment.has(Tcp::RST) {
        // Who does not see the stream can only guess its number (RFC 5961 §3).
        let near = (-1..=1 << 20).contains(&distance(segment.sequence, half.next));
        let answers = segment.has(Tcp::ACK) && other.started && segment.acknowledgment == other.next;
        // Of a flow of which nothing is read the stream is not followed.
        if !half.started || near || answers || settled {
            flow.phase = Phase::Closed;
        }
        return;
    }
    if segment.has(Tcp::FIN) && !segment.has(Tcp::SYN) {
        half.finished = true;
        if flow.phase != Phase::Closed {
            flow.phase = if other.finished { Phase::Closed } else { Phase::HalfClosed };
        }
    }
}
