//! What a single packet of TCP or ICMP does to its flow, and which attacks on the transport it shows.

use nv_packet::transport::{Tcp, TcpOption};

use crate::flow::{Flow, Phase};
use crate::key::Side;
use crate::segments::distance;
use crate::threat::Threat;

/// Segment size below which selective acknowledgments can exhaust the sender (CVE-2019-11479).
const MIN_SEGMENT_BYTES: u16 = 256;

/// A window that is none, in bytes, for how long, and what it was before.
const NARROW_BYTES: u32 = 16;
const NARROW_SECONDS: u32 = 8;
const WIDE_BYTES: u32 = 4096;
/// What a server has sent at most, in bytes of frames, to a client that never meant to read.
const LITTLE_BYTES: u64 = 64 * 1024;

/// FNV-1a, to tell payloads apart that nobody made to collide.
pub(crate) fn digest(payload: &[u8]) -> u32 {
    payload.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Attacks on the transport that a packet shows, each told once a flow.
#[derive(Default)]
pub(crate) struct Threats(u16);

const ONCE: [Threat; 9] = [
    Threat::SynFlood,
    Threat::IcmpFlood,
    Threat::InvalidPacketFormat,
    Threat::SynWithData,
    Threat::SplitHandshake,
    Threat::TcpSackSmallMss,
    Threat::PingDeath,
    Threat::IcmpTunneling,
    Threat::TcpSmallWindow,
];

impl Threats {
    pub(crate) fn add(&mut self, threat: Threat) {
        self.0 |= ONCE
            .iter()
            .zip(0_u16..)
            .filter(|(one, _)| **one == threat)
            .fold(0, |set, (_, at)| set | (1 << at));
    }
    pub(crate) fn once(&self, told: &mut u16, mut tell: impl FnMut(Threat)) {
        for (threat, at) in ONCE.iter().zip(0_u16..) {
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

/// A client that reads slowly on purpose: it has offered a wide window, takes less than [`NARROW_BYTES`] for
/// [`NARROW_SECONDS`], and has let the server send little before. Who only stops reading has read more. `now` is in
/// seconds.
pub(crate) fn narrow_window(flow: &mut Flow, side: Side, segment: &Tcp<'_>, now: u32, threats: &mut Threats) {
    if side != Side::Client || segment.has(Tcp::RST) {
        return;
    }
    let window = u32::from(segment.window);
    if segment.has(Tcp::SYN) {
        // The window of a SYN itself is never scaled (RFC 7323 §2.2).
        let scale = segment.options().find_map(|option| match option {
            TcpOption::WindowScale(bits) => Some(bits.min(14)),
            _ => None,
        });
        (flow.client_scale, flow.was_wide) = (scale.unwrap_or(0), window > WIDE_BYTES);
        return;
    }
    let window = window << flow.client_scale;
    flow.was_wide |= window > WIDE_BYTES;
    if flow.midstream || !flow.was_wide || window >= NARROW_BYTES {
        flow.narrow_since = 0;
    } else if flow.narrow_since == 0 {
        flow.narrow_since = now.max(1);
    } else if now.saturating_sub(flow.narrow_since) >= NARROW_SECONDS && flow.server.bytes <= LITTLE_BYTES {
        threats.add(Threat::TcpSmallWindow);
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
