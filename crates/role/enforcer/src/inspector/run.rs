//! The inspector's own side.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nv_capture::Frames;
use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind};
use nv_dpi::key::Side;
use nv_dpi::limits::Limits;
use nv_model::threat::MAX_PACKET_BYTES;
use nv_packet::link::Link;
use rustix::io::Errno;

use super::confine::confine;
use super::fold::Fold;
use super::{Begin, Connection, Counts, Told};
use crate::keeper::{ProtocolError, receive, send};

/// What one engine may use: about 30 MiB when all of it is in use.
const LIMITS: Limits = Limits {
    flows: 1 << 15,
    parsers: 1 << 13,
    pages: 1 << 12,
    held_bytes: 1 << 18,
    carries: 1 << 10,
    senders: 1 << 12,
};
/// How long frames are waited for before time goes on without them.
const WAIT: Duration = Duration::from_millis(200);
/// Least time between two signs of life, in nanoseconds.
const ALIVE: u64 = 500_000_000;
/// Most words that wait for room in the socket.
const MAX_WAITING: usize = 8192;
/// Most words in one packet of the socket, and about how many bytes they may come to.
const MAX_WORDS: usize = 128;
const MAX_BYTES: usize = 24 * 1024;

/// Runs an inspector on the socket that is its standard input, until the other end closes.
///
/// # Errors
/// A sentence for the log when it cannot begin, or its interface is gone.
pub fn inspector_main() -> Result<(), String> {
    let socket = std::io::stdin();
    let socket = socket.as_fd();
    let (Begin, mut descriptors) = match receive::<Begin>(socket) {
        Ok(begun) => begun,
        Err(ProtocolError::Closed) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let ring = descriptors.pop().ok_or("no ring came along")?;
    let frames = Frames::map(ring).map_err(|error| format!("the ring: {error}"))?;
    rustix::io::ioctl_fionbio(socket, true).map_err(|error| format!("the socket: {error}"))?;
    // Who sends packets must not know where flows are kept.
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let engine = Engine::new(&LIMITS, OverlapPolicy::First, seed);
    // The first look at the clock asks the kernel where it is, which is no more possible afterwards.
    let begun = nv_capture::wall_nanos();
    confine().map_err(|error| nv_telemetry::chain(&error))?;
    inspect(frames, engine, begun, &mut Mouth { socket, waiting: VecDeque::new(), unsent: 0 })
}

fn inspect(mut frames: Frames, mut engine: Engine, begun: u64, mouth: &mut Mouth<'_>) -> Result<(), String> {
    let mut fold = Fold::default();
    let (mut count, mut told_at) = (0_u64, begun.saturating_sub(ALIVE));
    loop {
        let came = frames.wait(WAIT).map_err(|error| error.to_string())?;
        if came {
            let read = frames.drain(|at, frame| one(&mut engine, &mut fold, mouth, at, frame));
            count = count.saturating_add(read as u64);
        }
        let now = nv_capture::wall_nanos();
        if !came {
            // Nothing is on its way: time alone ends what is over.
            engine.advance(now, &mut |event: &Event<'_>| over(event, mouth));
        }
        if now.saturating_sub(told_at) >= ALIVE {
            told_at = now;
            for attack in fold.due(now) {
                mouth.say(attack);
            }
            let counts = Counts {
                frames: count,
                dropped: frames.dropped().unwrap_or(0),
                unsent: mouth.unsent,
                flows: engine.flows() as u64,
                evicted: engine.counters().flows_evicted,
            };
            mouth.say_alive(counts);
        }
        match mouth.utter() {
            Ok(()) => {}
            Err(ProtocolError::Closed) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn over(event: &Event<'_>, mouth: &mut Mouth<'_>) {
    if let Kind::Closed(summary) = &event.kind {
        mouth.say(Told::Over(Connection::of(&summary.endpoints)));
    }
}

/// Takes one frame.
fn one(engine: &mut Engine, fold: &mut Fold, mouth: &mut Mouth<'_>, at: u64, frame: &[u8]) {
    let (mut identified, mut settled) = (false, false);
    let mut attacks = Vec::new();
    engine.frame(at, Link::Ethernet, frame, &mut |event: &Event<'_>| match &event.kind {
        Kind::Identified(_) => identified = true,
        Kind::Settled => settled = true,
        Kind::Closed(_) => over(event, mouth),
        Kind::Threat { threat, endpoints, side } => attacks.push((*threat, *endpoints, *side)),
        _ => {}
    });
    let current = engine.current();
    if let Some(current) = current {
        let connection = Connection::of(&current.endpoints);
        if let Some(application) = current.application.filter(|_| identified) {
            mouth.say(Told::Application { connection, application: application.0 });
        }
        if settled {
            mouth.say(Told::Settled(connection));
        }
    }
    for (threat, endpoints, side) in attacks {
        let connection = endpoints.as_ref().map(Connection::of);
        // The frame shows the attack when it is of the connection that is attacked; others only let time go on.
        let is_of_frame = connection.is_none()
            || current.is_some_and(|current| Some(Connection::of(&current.endpoints)) == connection);
        let packet = if is_of_frame { frame.get(..MAX_PACKET_BYTES).unwrap_or(frame) } else { &[] };
        let told = fold.take(threat.id(), connection.as_ref(), at, || Told::Attack {
            threat: threat.id(),
            connection,
            by_client: side == Side::Client,
            application: current.and_then(|current| current.application).map_or(0, |known| known.0),
            packet: packet.to_vec(),
            packet_bytes: if is_of_frame { u32::try_from(frame.len()).unwrap_or(u32::MAX) } else { 0 },
            count: 1,
            at,
        });
        if let Some(told) = told {
            mouth.say(told);
        }
    }
}

/// Says things to the agent without ever waiting for it.
struct Mouth<'s> {
    socket: BorrowedFd<'s>,
    waiting: VecDeque<Told>,
    unsent: u64,
}

impl Mouth<'_> {
    fn say(&mut self, told: Told) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(told);
        } else {
            self.unsent = self.unsent.saturating_add(1);
        }
    }
    /// A sign of life goes before everything, in the place of one that has not been taken yet.
    fn say_alive(&mut self, counts: Counts) {
        if let Some(Told::Alive(waiting)) = self.waiting.front_mut() {
            *waiting = counts;
        } else {
            self.waiting.push_front(Told::Alive(counts));
        }
    }
    /// Sends what waits, as far as the socket takes it.
    fn utter(&mut self) -> Result<(), ProtocolError> {
        while !self.waiting.is_empty() {
            let mut bytes = 0_usize;
            let words = self.waiting.iter().take(MAX_WORDS).take_while(|told| {
                bytes = bytes.saturating_add(size(told));
                bytes <= MAX_BYTES
            });
            let words = words.count().max(1);
            let packet: Vec<&Told> = self.waiting.iter().take(words).collect();
            match send(self.socket, &packet, &[]) {
                Ok(()) => drop(self.waiting.drain(..words)),
                Err(ProtocolError::Socket(Errno::AGAIN | Errno::NOBUFS)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// About how many bytes a word takes; a byte of a packet takes up to four characters.
fn size(told: &Told) -> usize {
    match told {
        Told::Attack { packet, .. } => packet.len().saturating_mul(4).saturating_add(400),
        _ => 250,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::keeper::pair;

    #[test]
    fn what_the_socket_does_not_take_waits_and_what_does_not_fit_is_counted() {
        let (agent, inspector) = pair().unwrap();
        rustix::io::ioctl_fionbio(&inspector, true).unwrap();
        let mut mouth = Mouth { socket: inspector.as_fd(), waiting: VecDeque::new(), unsent: 0 };
        let end = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
        let connection =
            |port| Connection { protocol: nv_model::port::Protocol::Tcp, client: end(port), server: end(80) };
        for port in 0..60_000 {
            mouth.say(Told::Settled(connection(port)));
            mouth.utter().unwrap();
        }
        assert!(mouth.unsent > 0 && mouth.waiting.len() == MAX_WAITING);
        // What arrives is in its order, from the first on.
        let mut next = 0;
        for _ in 0..5 {
            for told in receive::<Vec<Told>>(agent.as_fd()).unwrap().0 {
                assert_eq!(told, Told::Settled(connection(next)));
                next += 1;
            }
        }
        assert!(next >= 5);
        // Signs of life need no more room than one.
        let before = mouth.waiting.len();
        for frames in 0..1000 {
            mouth.say_alive(Counts { frames, ..Counts::default() });
        }
        assert_eq!(mouth.waiting.len(), before + 1);
        drop(agent);
        mouth.say(Told::Alive(Counts::default()));
        assert!(matches!(mouth.utter(), Err(ProtocolError::Closed)));
    }

    #[test]
    fn an_attack_with_the_longest_packet_fits_into_one_packet_of_the_socket() {
        let attack = Told::Attack {
            threat: 2022,
            connection: None,
            by_client: true,
            application: 1001,
            packet: vec![0xff; MAX_PACKET_BYTES],
            packet_bytes: u32::MAX,
            count: u32::MAX,
            at: u64::MAX,
        };
        assert!(size(&attack) <= MAX_BYTES);
        assert!(serde_json::to_vec(&attack).unwrap().len() <= size(&attack));
    }
}
