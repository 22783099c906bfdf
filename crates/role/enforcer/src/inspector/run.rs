//! The inspector's own side.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nv_capture::fate::Fate;
use nv_capture::{Frames, Share, Skew};
use nv_dpi::OverlapPolicy;
use nv_dpi::content::Content;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Current, Event, Field, Kind, SessionId, Sink, Value};
use nv_dpi::key::{Endpoints, Side};
use nv_dpi::limits::Limits;
use nv_dpi::threat::Threat;
use nv_model::threat::MAX_PACKET_BYTES;
use nv_packet::link::Link;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::compiler::{Compiler, Made};
use super::confine::confine;
use super::ends::{Ends, Judged};
use super::fold::Fold;
use super::heed::Heed;
use super::judge::{Findings, fate, is_cut, is_flood, stops};
use super::metered;
use super::queues::{Queues, Waiting};
use super::rules::FromAgent;
use super::rulings::{Ruling, Rulings};
use super::sensing::{Hit, Outcome, Sensing};
use super::{Begin, Connection, Counts, Told};
use crate::keeper::{ProtocolError, receive, send};

/// What the engines of all shares may use together: about 30 MiB when all of it is in use.
const LIMITS: Limits = Limits {
    flows: 1 << 15,
    parsers: 1 << 13,
    pages: 1 << 12,
    held_bytes: 1 << 18,
    carries: 1 << 10,
    senders: 1 << 12,
};
/// Most connections of which it is remembered that they were cut; of others the kernel's mark alone says so.
const MAX_CUT: usize = 4096;
/// How long frames are waited for before time goes on without them.
const WAIT: Duration = Duration::from_millis(200);
/// Least time between two signs of life, in nanoseconds.
const ALIVE: u64 = 500_000_000;
/// Least time between two looks for rules, in nanoseconds.
const HEAR: u64 = 100_000_000;
/// Added to the ids of rules of rule sets, so that repeats are counted apart from those of everything else.
const RULE_SETS: u32 = 1_000_000;
/// How long a packet that says something waits for the answer to who serves its connection: so many times so many
/// nanoseconds.
const SERVED: (u32, i64) = (5, 1_000_000);
/// How long none waits after one has waited in vain, in nanoseconds: whoever does not answer must not slow others down.
const NO_WAIT: u64 = 1_000_000_000;
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
    let (Begin { share }, descriptors) = match receive::<Begin>(socket) {
        Ok(begun) => begun,
        Err(ProtocolError::Closed) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let mut descriptors = descriptors.into_iter();
    let (ring, relay) = descriptors.next().zip(descriptors.next()).ok_or("no ring and relay came along")?;
    let detour = descriptors.next();
    let frames = Frames::map(ring, share).map_err(|error| format!("the ring: {error}"))?;
    rustix::io::ioctl_fionbio(socket, true).map_err(|error| format!("the socket: {error}"))?;
    // Who sends packets must not know where flows are kept.
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let engine = Engine::new(&limits(share), OverlapPolicy::First, seed);
    // The first look at the clock asks the kernel where it is, which is no more possible afterwards.
    let begun = nv_capture::steady_nanos();
    let compiler = Compiler::start()?;
    confine(Some(relay.as_fd()), detour.as_ref().map(|detour| detour.as_fd()))
        .map_err(|error| nv_telemetry::chain(&error))?;
    let mouth = Mouth { socket, waiting: VecDeque::new(), unsent: 0 };
    let mut inspection = Inspection {
        engine,
        fold: Fold::default(),
        heed: Heed::default(),
        sensing: Sensing::new(),
        rulings: Rulings::default(),
        ends: Ends::default(),
        compiler,
        waits_from: 0,
        cut: HashSet::new(),
        mouth,
    };
    match inspection.run(frames, &mut Queues::new(relay, detour), begun) {
        Ok(()) | Err(InspectError::Told(ProtocolError::Closed)) => Ok(()),
        Err(error) => Err(nv_telemetry::chain(&error)),
    }
}

/// What the engine of a share may use. What one connection may, and the senders that are watched of a few pods as of many,
/// stays.
fn limits(share: Share) -> Limits {
    let part = |whole: u32| whole.div_ceil(u32::from(share.of()).max(1));
    Limits {
        flows: part(LIMITS.flows),
        parsers: part(LIMITS.parsers),
        pages: part(LIMITS.pages),
        carries: part(LIMITS.carries),
        ..LIMITS
    }
}

/// Why an inspector ends.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    /// There are no more frames.
    #[error("what arrives at the interface cannot be read")]
    Frames(#[source] std::io::Error),
    /// The agent, or the keeper, is gone.
    #[error("what was found cannot be told")]
    Told(#[from] ProtocolError),
}

/// An engine at work.
struct Inspection<'s> {
    engine: Engine,
    fold: Fold,
    heed: Heed,
    sensing: Sensing,
    rulings: Rulings,
    ends: Ends,
    compiler: Compiler,
    /// Until when no packet waits for an answer to who serves its connection.
    waits_from: u64,
    /// Connections that were cut; what is left of them in queues is refused as well.
    cut: HashSet<SessionId>,
    mouth: Mouth<'s>,
}

/// What an engine tells of one packet, or of time that goes on.
#[derive(Default)]
struct Heard {
    identified: bool,
    settled: bool,
    over: Vec<(SessionId, Endpoints)>,
    attacks: Vec<(Threat, Option<Endpoints>, Side)>,
}

/// Takes what an engine tells; what is said goes on to the sensors.
struct Ear<'e> {
    heard: Heard,
    heed: &'e mut Heed,
    sensing: &'e mut Sensing,
    rulings: &'e mut Rulings,
}

impl Sink for Ear<'_> {
    fn event(&mut self, event: &Event<'_>) {
        self.heed.event(event);
        self.rulings.event(event);
        let heard = &mut self.heard;
        match &event.kind {
            Kind::Field { transaction, field: Field::Host, value: Value::Text(host) } => {
                self.sensing.host(event.session, *transaction, host);
            }
            Kind::Identified(_) => heard.identified = true,
            Kind::Settled => heard.settled = true,
            Kind::Closed(summary) => {
                self.sensing.closed(event.session, event.at, summary);
                heard.over.push((event.session, summary.endpoints));
            }
            Kind::Threat { threat, endpoints, side } => heard.attacks.push((*threat, *endpoints, *side)),
            _ => {}
        }
    }
    fn content(&mut self, content: &Content<'_>) {
        self.sensing.content(content);
    }
}

impl Inspection<'_> {
    fn run(&mut self, mut frames: Frames, queues: &mut Queues, begun: u64) -> Result<(), InspectError> {
        let (mut count, mut told_at, mut heard_at) = (0_u64, begun.saturating_sub(ALIVE), begun);
        loop {
            let Waited { word, told, mut came } = wait(&frames, queues, self.mouth.socket)?;
            if word {
                queues.hear_all()?;
            }
            if told {
                self.hear()?;
            }
            // Those that wait go first.
            came |= queues.read(|waiting| self.answer(waiting))?;
            came |= queues.take_detour(|waiting| self.answer(waiting)).map_err(InspectError::Frames)?;
            let skew = Skew::now();
            let read = frames.drain(|at, frame| {
                if !queues.has(frame) {
                    self.look(skew.steady(at), Link::Ethernet, frame, false);
                }
            });
            count = count.saturating_add(read as u64);
            let now = nv_capture::steady_nanos();
            queues.speak(now)?;
            if !came && read == 0 {
                // Nothing is on its way: time alone ends what is over.
                let heard = self.listen(|engine, ear| engine.advance(now, ear));
                self.over(&heard);
                self.tell_hits(now, Link::Ethernet, &[], false);
            }
            if now.saturating_sub(heard_at) >= HEAR {
                heard_at = now;
                self.hear()?;
            }
            if now.saturating_sub(told_at) >= ALIVE {
                told_at = now;
                for attack in self.fold.due(now) {
                    self.mouth.say(attack);
                }
                let done = queues.done();
                let rule_sets = self.sensing.transactions();
                let counts = Counts {
                    frames: count,
                    dropped: frames.dropped().unwrap_or(0),
                    unsent: self
                        .mouth
                        .unsent
                        .saturating_add(self.heed.overflow)
                        .saturating_add(self.rulings.overflow())
                        .saturating_add(self.ends.overflow()),
                    flows: self.engine.flows() as u64,
                    evicted: self.engine.counters().flows_evicted,
                    kept: self.sensing.kept() as u64,
                    unmatched: self.sensing.dropped(),
                    exchanges: rule_sets.exchanges,
                    unjudged: rule_sets.left.saturating_add(rule_sets.exhausted),
                    cut: rule_sets.cut,
                    queued: done.packets,
                    queue_clean: done.clean,
                    queue_dropped: done.dropped,
                    queue_cut: done.cut,
                    queue_lost: done.lost,
                };
                self.mouth.say_alive(counts);
            }
            self.mouth.utter()?;
        }
    }

    /// What the engine tells while it does something.
    fn listen(&mut self, act: impl FnOnce(&mut Engine, &mut Ear<'_>)) -> Heard {
        let Self { engine, heed, sensing, rulings, .. } = self;
        let mut ear = Ear { heard: Heard::default(), heed, sensing, rulings };
        act(engine, &mut ear);
        ear.heard
    }

    /// Judges a packet that waits: by its ends where nobody else does, then by what it says, unless another queue reads it.
    fn answer(&mut self, waiting: Waiting<'_>) -> Fate {
        let now = nv_capture::steady_nanos();
        let Judged { denied, told } = self.ends.judge(self.rulings.rules(), &waiting, now);
        if let Some(opened) = told {
            let (connection, ingress) = (opened.connection, opened.ingress);
            self.mouth.say(Told::Opened { connection, queue: waiting.queue, ingress, denied });
        }
        match (denied, waiting.elsewhere) {
            (true, _) => Fate::Drop,
            (false, Some(fate)) => fate,
            (false, None) => self.judge(now, &waiting),
        }
    }

    /// Judges a packet that waits by what it says.
    fn judge(&mut self, now: u64, waiting: &Waiting<'_>) -> Fate {
        let queue = waiting.queue;
        let mut findings = self.look(now, Link::Raw, waiting.bytes, waiting.stops);
        if let Some(current) = self.engine.current() {
            findings.transport = Some(current.endpoints.transport);
            let settled = self.engine.is_settled();
            let ruling = match self.rule(now, queue, &current, settled) {
                // It was open before this inspector, and says no more what it is: that is no reason to end it.
                Ruling::Denied if current.application.is_none() && self.engine.is_midstream() => {
                    Ruling::Passes
                }
                ruling => ruling,
            };
            let read = self.sensing.reads(&current.endpoints, current.application);
            findings.settled = settled && !read && !matches!(ruling, Ruling::Waits | Ruling::Asks);
            let known = self.cut.contains(&current.session);
            findings.denied |= known || ruling == Ruling::Denied;
            if ruling == Ruling::Denied && !known {
                self.mouth.say(Told::Refused(Connection::of(&current.endpoints)));
            }
            if is_cut(findings, fate(findings)) && self.cut.len() < MAX_CUT {
                self.cut.insert(current.session);
            }
        }
        fate(findings)
    }

    /// What rules say of the present packet's connection. Who serves it is asked with its first packets, so that the answer
    /// is there before it says something; what comes too early waits for it.
    fn rule(&mut self, now: u64, queue: u32, current: &Current, settled: bool) -> Ruling {
        let ruling = self.rulings.judge(current, settled);
        if ruling != Ruling::Asks {
            return ruling;
        }
        self.mouth.say(Told::Asks { connection: Connection::of(&current.endpoints), queue });
        if now < self.waits_from || (!settled && !self.rulings.has_said(current.session)) {
            return ruling;
        }
        let (times, tv_nsec) = SERVED;
        for _ in 0..times {
            let mut answer = [PollFd::from_borrowed_fd(self.mouth.socket, PollFlags::IN)];
            let wait = Timespec { tv_sec: 0, tv_nsec };
            // Whether the agent has ended is found where it is heard next.
            if self.mouth.utter().is_err() || poll(&mut answer, Some(&wait)).is_err() || self.hear().is_err()
            {
                break;
            }
            let ruling = self.rulings.judge(current, settled);
            if ruling != Ruling::Asks {
                return ruling;
            }
        }
        self.waits_from = now.saturating_add(NO_WAIT);
        self.rulings.ask_no_more(current.session);
        self.rulings.judge(current, settled)
    }

    /// Takes what the agent says, and rules that are ready.
    fn hear(&mut self) -> Result<(), ProtocolError> {
        let mut came = None;
        match receive::<FromAgent>(self.mouth.socket) {
            Ok((FromAgent::Rules { revision }, mut files)) => {
                came = files.pop().map(|file| (revision, file));
            }
            Ok((FromAgent::Served { connection, identity, address }, _)) => {
                self.rulings.served(connection, identity, address);
            }
            Ok((FromAgent::Meters { ask }, _)) => {
                metered::words(&self.engine, ask).into_iter().for_each(|word| self.mouth.say(word));
            }
            Err(ProtocolError::Socket(Errno::AGAIN)) => {}
            Err(error) => return Err(error),
        }
        let refused = came.and_then(|(revision, file)| self.compiler.make(revision, file));
        for Made { revision, made } in refused.into_iter().chain(self.compiler.made()) {
            let refused = match made {
                Ok(mut ready) => {
                    self.ends.replace(ready.by_ends());
                    self.rulings.replace(ready.take_layer7());
                    for ends in self.sensing.replace(ready) {
                        self.mouth.say(Told::Settled(Connection::of(&ends)));
                    }
                    None
                }
                Err(reason) => Some(reason),
            };
            self.mouth.say(Told::Rules { revision, refused });
        }
        Ok(())
    }

    fn over(&mut self, heard: &Heard) {
        for (session, ends) in &heard.over {
            self.cut.remove(session);
            self.mouth.say(Told::Over(Connection::of(ends)));
        }
    }

    /// Takes one packet; `waits` says that it goes on only if nothing is found.
    fn look(&mut self, at: u64, link: Link, frame: &[u8], waits: bool) -> Findings {
        let heard = self.listen(|engine, ear| engine.frame(at, link, frame, ear));
        self.over(&heard);
        let current = self.engine.current();
        if let Some(current) = current {
            let connection = Connection::of(&current.endpoints);
            if let Some(application) = current.application.filter(|_| heard.identified) {
                self.mouth.say(Told::Application { connection, application: application.0 });
            }
            self.heed.say(connection, current.session, |told| self.mouth.say(told));
            if let Some(client) = self.rulings.take_asker() {
                self.mouth.say(Told::Forwarded { connection, client });
            }
            if heard.settled {
                let keeps = self.sensing.keeps(current.session, &current.endpoints, current.application);
                self.mouth.say(if keeps { Told::Known(connection) } else { Told::Settled(connection) });
            }
        } else {
            self.heed.drop_frame();
            self.rulings.take_asker();
        }
        let mut findings = Findings::default();
        for (threat, endpoints, side) in heard.attacks {
            let connection = endpoints.as_ref().map(Connection::of);
            // The frame shows the attack when it is of the connection that is attacked; others only let time go on.
            let is_of_frame = connection.is_none()
                || current.is_some_and(|current| Some(Connection::of(&current.endpoints)) == connection);
            let stopped = waits && is_of_frame && stops(threat);
            findings.attack |= stopped && !is_flood(threat);
            findings.flood |= stopped && is_flood(threat);
            let (packet, packet_bytes) = if is_of_frame { proof(link, frame) } else { (Vec::new(), 0) };
            let application = current.and_then(|current| current.application).map_or(0, |known| known.0);
            let told = self.fold.take(threat.id(), connection.as_ref(), stopped, at, || Told::Attack {
                threat: threat.id(),
                connection,
                by_client: side == Side::Client,
                application,
                packet,
                packet_bytes,
                stopped,
                count: 1,
                at: Skew::now().wall(at),
            });
            if let Some(told) = told {
                self.mouth.say(told);
            }
        }
        findings.denied |= self.tell_hits(at, link, frame, waits);
        findings
    }

    /// Tells what sensors have found; whether the connection of this packet, which waits, must end for it.
    fn tell_hits(&mut self, at: u64, link: Link, frame: &[u8], waits: bool) -> bool {
        let current = self.engine.current();
        let hits: Vec<Hit> = self.sensing.hits().collect();
        let mut denied = false;
        for hit in hits {
            let connection = Connection::of(&hit.endpoints);
            let current = current.filter(|current| current.endpoints == hit.endpoints);
            let stopped = waits && current.is_some() && hit.outcome == Outcome::Denied;
            denied |= stopped;
            let (packet, packet_bytes) = if current.is_some() { proof(link, frame) } else { (Vec::new(), 0) };
            // Ids of rule sets' rules are their authors' own, and may be those of something else.
            let kind = if hit.message.is_empty() { hit.id } else { hit.id.saturating_add(RULE_SETS) };
            let told = self.fold.take(kind, Some(&connection), stopped, at, || Told::Match {
                kind: hit.kind,
                sensor: hit.sensor,
                rule: hit.rule,
                id: hit.id,
                group: hit.group,
                message: hit.message,
                variable: hit.variable,
                severity: hit.severity,
                connection,
                by_client: hit.by_client,
                application: current.and_then(|current| current.application).map_or(0, |known| known.0),
                packet,
                packet_bytes,
                stopped,
                count: 1,
                at: Skew::now().wall(hit.at),
            });
            if let Some(told) = told {
                self.mouth.say(told);
            }
        }
        denied
    }
}

/// The beginning of a packet, from an Ethernet header on, and the length of all of it. A packet that waited has none of its
/// own: it gets one without addresses.
fn proof(link: Link, packet: &[u8]) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    if link == Link::Raw {
        bytes.extend([0; 12]);
        bytes.extend(if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] });
    }
    let length = packet.len().saturating_add(bytes.len());
    let kept = packet.len().min(MAX_PACKET_BYTES.saturating_sub(bytes.len()));
    bytes.extend_from_slice(packet.get(..kept).unwrap_or_default());
    (bytes, u32::try_from(length).unwrap_or(u32::MAX))
}

/// What was waited for.
struct Waited {
    /// The keeper says something.
    word: bool,
    /// The agent does.
    told: bool,
    /// There are frames, or packets that wait.
    came: bool,
}

/// Waits for frames, packets that wait, and what the keeper and the agent say.
fn wait(frames: &Frames, queues: &Queues, agent: BorrowedFd<'_>) -> Result<Waited, InspectError> {
    let ready = frames.is_ready();
    let patience = if ready { Duration::ZERO } else { WAIT };
    let timeout = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    let mut ends = vec![PollFd::from_borrowed_fd(agent, PollFlags::IN)];
    ends.extend(queues.poll());
    ends.push(PollFd::new(frames, PollFlags::IN | PollFlags::ERR));
    match poll(&mut ends, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(InspectError::Frames(error.into())),
    }
    let is = |end: Option<&PollFd<'_>>, flags| end.is_some_and(|end| end.revents().intersects(flags));
    if is(ends.last(), PollFlags::ERR) {
        return Err(InspectError::Frames(std::io::Error::other("the interface is gone")));
    }
    let says = |end| is(end, PollFlags::IN | PollFlags::HUP);
    let came = ready || ends.iter().skip(2).any(|end| !end.revents().is_empty());
    Ok(Waited { told: says(ends.first()), word: says(ends.get(1)), came })
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
        Told::Name { addresses, .. } => addresses.len().saturating_mul(64).saturating_add(800),
        Told::Host { .. } => 800,
        Told::Match { packet, .. } => packet.len().saturating_mul(4).saturating_add(2600),
        Told::Rules { .. } => 2400,
        Told::Meters { meters, .. } => meters.len().saturating_mul(340).saturating_add(120),
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
            stopped: true,
            count: u32::MAX,
            at: u64::MAX,
        };
        assert!(size(&attack) <= MAX_BYTES);
        assert!(serde_json::to_vec(&attack).unwrap().len() <= size(&attack));
    }
}
