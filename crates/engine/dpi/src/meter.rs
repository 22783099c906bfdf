//! Rates and numbers that only many flows show, in bounded memory: a table of fixed size, in sets of eight rows. Under a
//! flood with invented senders the rows that saw least are given up; floods are counted by their target, whose row sees
//! most.

use std::hash::BuildHasher as _;

use std::net::{IpAddr, Ipv6Addr};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use nv_model::question::MeterKind;

use crate::counters::bump;
use crate::key::{Address, Endpoint, Endpoints, pack};

/// Rows of a set.
const WAYS: usize = 8;
/// Seconds over which a rate is taken.
const RATE_SECONDS: u32 = 5;
/// Seconds over which a scan is looked for.
const SCAN_SECONDS: u32 = 60;
/// Connections a second to one target that are a flood, and below which it is over (the contract's figures).
const SYNS: (u32, u32) = (800, 600);
/// Echoes a second to one target.
const ECHOES: (u32, u32) = (100, 75);
/// Sessions at once between two addresses, and below which the next excess is told anew.
const SESSIONS: (u32, u32) = (2000, 1900);
/// Connections to one target that their clients opened and did not use, in ten seconds.
const SILENT: u32 = 10;
const SILENT_SECONDS: u32 = 10;
/// Bits of 256 that about 100 different ports and addresses set.
const SCANNED_BITS: u32 = 83;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Syns,
    Echoes,
    Sessions,
    Scan,
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    kind: Kind,
    /// Target, or sender of a scan.
    subject: Address,
    /// Sender, where the pair is counted.
    other: Address,
    window: u32,
    /// Of this window; sessions at this moment.
    count: u32,
    /// Over the limit, and told.
    over: bool,
    bits: [u64; 4],
}

/// Seconds after which a meter that counts nothing more is not shown.
const SHOWN_SECONDS: u32 = 60;

/// A row as it is shown. Scans are counted without a limit that could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// What it counts.
    pub kind: MeterKind,
    /// At whom.
    pub target: IpAddr,
    /// By whom, where a pair is counted.
    pub peer: Option<IpAddr>,
    /// A second, of the present span; sessions at this moment.
    pub count: u32,
    /// Of the present span so far.
    pub span_count: u32,
    /// Seconds of a span; 0 for what is counted at one time.
    pub span: u32,
    /// From which count on it is an attack.
    pub upper: u32,
    /// Below which count the attack is over.
    pub lower: u32,
    /// Seconds since it last counted something.
    pub idle: u32,
}

/// The meters of one engine.
#[derive(Debug)]
pub(crate) struct Meters {
    rows: Vec<Option<Row>>,
    hasher: SeedableRandomState,
}

impl Meters {
    /// Room for about `rows` rows.
    pub(crate) fn new(rows: u32, seed: u64) -> Self {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX).clamp(WAYS, 1 << 24).next_power_of_two();
        Self {
            rows: vec![None; rows],
            hasher: SeedableRandomState::with_seed(!seed, SharedSeed::global_fixed()),
        }
    }

    /// Notes a SYN; true when a flood begins.
    pub(crate) fn syn(&mut self, target: Endpoint, second: u32, evicted: &mut u64) -> bool {
        self.rate(Kind::Syns, target, second, SYNS, evicted)
    }

    /// Notes an echo request; true when a flood begins.
    pub(crate) fn echo(&mut self, target: Endpoint, second: u32, evicted: &mut u64) -> bool {
        self.rate(Kind::Echoes, target, second, ECHOES, evicted)
    }

    /// Notes a new session; true when there are too many at once.
    pub(crate) fn opened(&mut self, ends: &Endpoints, second: u32, evicted: &mut u64) -> bool {
        let row =
            self.row(Kind::Sessions, pack(ends.server.address), pack(ends.client.address), second, evicted);
        row.is_some_and(|row| {
            row.window = second;
            row.count = row.count.saturating_add(1);
            let begins = row.count >= SESSIONS.0 && !row.over;
            row.over |= begins;
            begins
        })
    }

    /// Notes the end of a session. With `unanswered`, that it was an attempt; true when attempts are a scan.
    pub(crate) fn closed(
        &mut self,
        ends: &Endpoints,
        unanswered: bool,
        second: u32,
        evicted: &mut u64,
    ) -> bool {
        let (client, server) = (pack(ends.client.address), pack(ends.server.address));
        if let Some(row) = self.find(Kind::Sessions, server, client) {
            row.count = row.count.saturating_sub(1);
            row.over &= row.count >= SESSIONS.1;
        }
        if !unanswered {
            return false;
        }
        let bit = self.hasher.hash_one((server, ends.server.port)) & 0xFF;
        let window = second / SCAN_SECONDS;
        self.row(Kind::Scan, client, [0; 16], window, evicted).is_some_and(|row| {
            if row.window != window {
                (row.window, row.bits, row.over) = (window, [0; 4], false);
            }
            if let Some(word) = usize::try_from(bit / 64).ok().and_then(|word| row.bits.get_mut(word)) {
                *word |= 1 << (bit % 64);
            }
            let bits: u32 = row.bits.iter().map(|word| word.count_ones()).sum();
            let begins = bits >= SCANNED_BITS && !row.over;
            row.over |= begins;
            begins
        })
    }

    /// Notes a client that opened a connection and said nothing; true when there are many.
    pub(crate) fn silent(&mut self, target: Endpoint, second: u32, evicted: &mut u64) -> bool {
        let window = second / SILENT_SECONDS;
        self.row(Kind::Silent, pack(target.address), [0; 16], window, evicted).is_some_and(|row| {
            if row.window != window {
                (row.window, row.count, row.over) = (window, 0, false);
            }
            row.count = row.count.saturating_add(1);
            let begins = row.count >= SILENT && !row.over;
            row.over |= begins;
            begins
        })
    }

    fn rate(
        &mut self,
        kind: Kind,
        target: Endpoint,
        second: u32,
        limits: (u32, u32),
        evicted: &mut u64,
    ) -> bool {
        let window = second / RATE_SECONDS;
        self.row(kind, pack(target.address), [0; 16], window, evicted).is_some_and(|row| {
            if row.window != window {
                // A flood goes on while the window before was above the lower limit.
                let next = row.window.saturating_add(1) == window;
                row.over &= next && row.count >= limits.1.saturating_mul(RATE_SECONDS);
                (row.window, row.count) = (window, 0);
            }
            row.count = row.count.saturating_add(1);
            let begins = row.count >= limits.0.saturating_mul(RATE_SECONDS) && !row.over;
            row.over |= begins;
            begins
        })
    }

    /// What they count at `second`, in no order.
    pub(crate) fn all(&self, second: u32) -> impl Iterator<Item = Meter> + '_ {
        self.rows.iter().flatten().filter_map(move |row| row.shown(second))
    }

    fn set(&mut self, kind: Kind, subject: Address, other: Address) -> &mut [Option<Row>] {
        let hash = usize::try_from(self.hasher.hash_one((kind, subject, other)) >> 16).unwrap_or(usize::MAX);
        let sets = (self.rows.len() / WAYS).max(1);
        let start = (hash & sets.saturating_sub(1)).saturating_mul(WAYS);
        self.rows.get_mut(start..start.saturating_add(WAYS)).unwrap_or_default()
    }

    fn find(&mut self, kind: Kind, subject: Address, other: Address) -> Option<&mut Row> {
        let same = |row: &Row| row.kind == kind && row.subject == subject && row.other == other;
        self.set(kind, subject, other).iter_mut().flatten().find(|row| same(row))
    }

    /// The row of a key; a new one takes a free place, or that of the row in its set that saw least.
    fn row(
        &mut self,
        kind: Kind,
        subject: Address,
        other: Address,
        window: u32,
        evicted: &mut u64,
    ) -> Option<&mut Row> {
        let set = self.set(kind, subject, other);
        let same = |row: &Row| row.kind == kind && row.subject == subject && row.other == other;
        let index = match set.iter().position(|row| row.as_ref().is_some_and(same)) {
            Some(index) => index,
            None => {
                let least = |index: &usize| match set.get(*index) {
                    Some(Some(row)) => (true, row.over, row.count, row.window),
                    _ => (false, false, 0, 0),
                };
                let index = (0..set.len()).min_by_key(least)?;
                let place = set.get_mut(index)?;
                if place.is_some() {
                    bump(evicted);
                }
                *place = Some(Row { kind, subject, other, window, count: 0, over: false, bits: [0; 4] });
                index
            }
        };
        set.get_mut(index)?.as_mut()
    }
}

impl Row {
    fn shown(&self, second: u32) -> Option<Meter> {
        let (kind, span, (upper, lower)) = match self.kind {
            Kind::Syns => (MeterKind::SynFlood, RATE_SECONDS, SYNS),
            Kind::Echoes => (MeterKind::IcmpFlood, RATE_SECONDS, ECHOES),
            Kind::Sessions => (MeterKind::IpSrcSessionLimit, 0, SESSIONS),
            Kind::Silent => (MeterKind::TcpNodata, SILENT_SECONDS, (SILENT, SILENT)),
            Kind::Scan => return None,
        };
        // A span that is over counted last when it ended, as far as is known.
        let begin = self.window.saturating_mul(span.max(1));
        let end = begin.saturating_add(span.max(1)).saturating_sub(1);
        let idle = second.saturating_sub(end);
        if self.count == 0 || (span > 0 && idle > SHOWN_SECONDS) {
            return None;
        }
        let now = if span > 0 && idle > 0 { 0 } else { self.count };
        let elapsed = second.saturating_sub(begin).saturating_add(1);
        let address = |address: Address| IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
        Some(Meter {
            kind,
            target: address(self.subject),
            peer: (self.kind == Kind::Sessions).then(|| address(self.other)),
            count: if matches!(self.kind, Kind::Syns | Kind::Echoes) { now / elapsed.max(1) } else { now },
            span_count: if span > 0 { now } else { 0 },
            span,
            upper,
            lower,
            idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::key::Transport;

    fn at(address: u32, port: u16) -> Endpoint {
        Endpoint { address: IpAddr::V4(Ipv4Addr::from_bits(address)), port }
    }

    fn ends(client: u32, server: u32, port: u16) -> Endpoints {
        Endpoints { transport: Transport::Tcp, client: at(client, 40_000), server: at(server, port) }
    }

    #[test]
    fn a_flood_is_told_when_it_begins_and_again_after_it_has_ended() {
        let (mut meters, mut evicted) = (Meters::new(64, 1), 0);
        let mut told = Vec::new();
        // 1,000 a second for 20 seconds, 500 for 10, then 1,000 again.
        for second in 0..50 {
            let rate = if (20..30).contains(&second) { 500 } else { 1000 };
            for _ in 0..rate {
                if meters.syn(at(1, 80), second, &mut evicted) {
                    told.push(second);
                }
            }
        }
        assert_eq!(told, [3, 33]);
        assert!(
            (0..1000).all(|turn| !meters.syn(at(2, 80), turn / 500, &mut evicted)),
            "500 a second is no flood"
        );
    }

    #[test]
    fn a_target_is_found_under_a_flood_of_invented_senders() {
        let (mut meters, mut evicted) = (Meters::new(64, 1), 0);
        let told = (0..20_000_u32)
            .filter(|turn| {
                meters.opened(&ends(turn.wrapping_mul(7_919), 1, 80), 0, &mut evicted);
                meters.syn(at(1, 80), 0, &mut evicted)
            })
            .count();
        assert_eq!(told, 1);
        assert!(evicted > 10_000, "the table did not grow");
    }

    #[test]
    fn sessions_at_once_are_counted_by_pair_and_go_down_again() {
        let (mut meters, mut evicted) = (Meters::new(64, 1), 0);
        let session = ends(5, 6, 80);
        let open = |meters: &mut Meters, evicted: &mut u64| {
            (0..1000).filter(|_| meters.opened(&session, 0, evicted)).count()
        };
        assert_eq!(open(&mut meters, &mut evicted), 0);
        assert_eq!(open(&mut meters, &mut evicted), 1);
        for _ in 0..1500 {
            meters.closed(&session, false, 0, &mut evicted);
        }
        assert_eq!(open(&mut meters, &mut evicted), 0);
    }

    #[test]
    fn meters_show_what_they_count_now_and_for_how_long_they_have_counted_nothing() {
        let (mut meters, mut evicted) = (Meters::new(64, 1), 0);
        for _ in 0..30 {
            meters.syn(at(1, 80), 101, &mut evicted);
            meters.opened(&ends(5, 6, 80), 101, &mut evicted);
        }
        meters.closed(&ends(7, 8, 1), true, 101, &mut evicted);
        let shown = |second| {
            let mut all: Vec<Meter> = meters.all(second).collect();
            all.sort_by_key(|meter| meter.kind);
            all
        };
        let syns = Meter {
            kind: MeterKind::SynFlood,
            target: at(1, 0).address,
            peer: None,
            count: 15,
            span_count: 30,
            span: 5,
            upper: 800,
            lower: 600,
            idle: 0,
        };
        let sessions = Meter {
            kind: MeterKind::IpSrcSessionLimit,
            target: at(6, 0).address,
            peer: Some(at(5, 0).address),
            count: 30,
            span_count: 0,
            span: 0,
            upper: 2000,
            lower: 1900,
            idle: 0,
        };
        assert_eq!(shown(101), [syns, sessions]);
        let quiet = [Meter { count: 0, span_count: 0, idle: 6, ..syns }, Meter { idle: 9, ..sessions }];
        assert_eq!(shown(110), quiet);
        assert_eq!(shown(200), [Meter { idle: 99, ..sessions }]);
    }

    #[test]
    fn attempts_at_many_ports_are_a_scan_and_many_at_one_are_not() {
        let (mut meters, mut evicted) = (Meters::new(64, 1), 0);
        let scan = (1..1000).filter(|port| meters.closed(&ends(7, 8, *port), true, 0, &mut evicted)).count();
        let hammer = (1..1000).filter(|_| meters.closed(&ends(9, 8, 80), true, 0, &mut evicted)).count();
        let served =
            (1..1000).filter(|port| meters.closed(&ends(10, 8, *port), false, 0, &mut evicted)).count();
        assert_eq!((scan, hammer, served), (1, 0, 0));
    }
}
