//! The protocols: what each must be able to say, and the order in which they are asked.
//!
//! One folder a protocol: `probe` says from the first bytes whether it is the one, `parse` reads one unit after the
//! other and tells fields and attacks. Both are total: any bytes give an answer.

pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod mysql;
pub(crate) mod postgresql;
pub(crate) mod read;
pub(crate) mod redis;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod ssh;
pub(crate) mod tls;

use nv_model::application::ApplicationId;

use crate::event::{Event, Field, Kind, SessionId, Sink, Value};
use crate::key::{Endpoints, Side};
use crate::threat::Threat;

/// Ports of a flow, a hint where bytes alone do not decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) server: u16,
    /// The beginning was not seen.
    pub(crate) midstream: bool,
}

/// Whether a stream or datagram is a protocol's. On a longer prefix of the same stream, yes stays yes and no stays no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    No,
    /// Too few bytes to say.
    Maybe,
    Yes,
}

impl Probe {
    /// Whether `input` begins with `start`, or may.
    pub(crate) fn starts(input: &[u8], start: &[u8]) -> Self {
        let common = input.len().min(start.len());
        match (input.get(..common) == start.get(..common), common == start.len()) {
            (false, _) => Self::No,
            (true, true) => Self::Yes,
            (true, false) => Self::Maybe,
        }
    }
    pub(crate) fn when(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// What a parser made of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes were read; ask again with the rest.
    Took(usize),
    /// So many bytes, from the first of these on, are of no interest. `u64::MAX` means all that still come.
    Skip(u64),
    /// The unit is not whole: it has at least so many bytes.
    More(usize),
    /// This direction has nothing more to tell.
    Done,
    /// The bytes make no sense.
    Reject,
    /// So many bytes were read; both directions are another protocol from here on.
    Become(usize, Protocol),
}

/// What a parser may use and tell.
pub(crate) struct Context<'c> {
    pub(crate) at: u64,
    pub(crate) session: SessionId,
    pub(crate) endpoints: Endpoints,
    pub(crate) side: Side,
    pub(crate) application: &'c mut u32,
    pub(crate) scratch: &'c mut Vec<u8>,
    pub(crate) sink: &'c mut dyn Sink,
}

impl Context<'_> {
    fn tell(&mut self, kind: Kind<'_>) {
        self.sink.event(&Event { at: self.at, session: self.session, kind });
    }
    pub(crate) fn text(&mut self, field: Field, transaction: u32, value: &[u8]) {
        self.tell(Kind::Field { transaction, field, value: Value::Text(value) });
    }
    pub(crate) fn number(&mut self, field: Field, transaction: u32, value: u64) {
        self.tell(Kind::Field { transaction, field, value: Value::Number(value) });
    }
    pub(crate) fn value(&mut self, field: Field, transaction: u32, value: Value<'_>) {
        self.tell(Kind::Field { transaction, field, value });
    }
    pub(crate) fn threat(&mut self, threat: Threat) {
        let (endpoints, side) = (Some(self.endpoints), self.side);
        self.tell(Kind::Threat { threat, endpoints, side });
    }
    /// The application is known better than by its protocol.
    pub(crate) fn identified(&mut self, application: u32) {
        if *self.application != application {
            *self.application = application;
            self.tell(Kind::Identified(ApplicationId(application)));
        }
    }
    pub(crate) fn software(&mut self, application: u32) {
        self.tell(Kind::Software(ApplicationId(application)));
    }
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolSet(u64);

impl ProtocolSet {
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) fn has(self, protocol: Protocol) -> bool {
        self.0 & protocol.bit() != 0
    }
    pub(crate) fn remove(&mut self, protocol: Protocol) {
        self.0 &= !protocol.bit();
    }
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tls,
    Http,
    Ssh,
    PostgreSql,
    MySql,
    Redis,
    Dns,
}

/// What a parser has learned and where it is.
#[derive(Debug)]
pub(crate) enum Parser {
    Tls(tls::Tls),
    Http(http::Http),
    Ssh,
    PostgreSql(postgresql::PostgreSql),
    MySql(mysql::MySql),
    Redis(redis::Redis),
    Dns(dns::Dns),
}

impl Protocol {
    /// Those over TCP, in the order in which they are asked: the surest signatures first.
    pub(crate) const STREAM: &[Self] =
        &[Self::Tls, Self::Http, Self::Ssh, Self::PostgreSql, Self::MySql, Self::Redis, Self::Dns];
    /// Those over UDP.
    pub(crate) const DATAGRAM: &[Self] = &[Self::Dns];

    fn bit(self) -> u64 {
        1 << (self as u32)
    }
    /// The contract's application; `None` when only the parser can tell.
    pub(crate) fn application(self) -> Option<ApplicationId> {
        match self {
            Self::Tls => Some(ApplicationId(1002)),
            // Its first line says whether it is HTTP, RTSP or SIP.
            Self::Http => None,
            Self::Ssh => Some(ApplicationId(1003)),
            Self::PostgreSql => Some(ApplicationId(2006)),
            Self::MySql => Some(ApplicationId(2001)),
            Self::Redis => Some(ApplicationId(2002)),
            Self::Dns => Some(ApplicationId(dns::APPLICATION)),
        }
    }
    pub(crate) fn probe_stream(self, side: Side, input: &[u8], ports: Ports) -> Probe {
        match self {
            Self::Tls => tls::probe(side, input, ports.midstream),
            Self::Http => http::probe(side, input),
            Self::Ssh => ssh::probe(input),
            Self::PostgreSql => postgresql::probe(side, input, ports),
            Self::MySql => mysql::probe(side, input),
            Self::Redis => redis::probe(side, input, ports),
            Self::Dns => dns::probe_stream(side, input),
        }
    }
    pub(crate) fn probe_datagram(self, side: Side, input: &[u8], ports: Ports) -> Probe {
        match self {
            Self::Dns => dns::probe_datagram(side, input, ports),
            Self::Tls | Self::Http | Self::Ssh | Self::PostgreSql | Self::MySql | Self::Redis => Probe::No,
        }
    }
}

impl Parser {
    pub(crate) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tls => Self::Tls(tls::Tls::default()),
            Protocol::Http => Self::Http(http::Http::default()),
            Protocol::Ssh => Self::Ssh,
            Protocol::PostgreSql => Self::PostgreSql(postgresql::PostgreSql::default()),
            Protocol::MySql => Self::MySql(mysql::MySql::default()),
            Protocol::Redis => Self::Redis(redis::Redis::default()),
            Protocol::Dns => Self::Dns(dns::Dns::default()),
        }
    }
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Tls(_) => Protocol::Tls,
            Self::Http(_) => Protocol::Http,
            Self::Ssh => Protocol::Ssh,
            Self::PostgreSql(_) => Protocol::PostgreSql,
            Self::MySql(_) => Protocol::MySql,
            Self::Redis(_) => Protocol::Redis,
            Self::Dns(_) => Protocol::Dns,
        }
    }
    /// Reads the next unit of the direction in `context`.
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        match self {
            Self::Tls(tls) => tls.step(context, input),
            Self::Http(http) => http.step(context, input),
            Self::Ssh => ssh::step(context, input),
            Self::PostgreSql(postgresql) => postgresql.step(context, input),
            Self::MySql(mysql) => mysql.step(context, input),
            Self::Redis(redis) => redis.step(context, input),
            Self::Dns(dns) => dns.step(context, input),
        }
    }
    /// Reads a datagram.
    pub(crate) fn datagram(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        match self {
            Self::Dns(dns) => dns.datagram(context, input),
            _ => Step::Done,
        }
    }
    /// A direction has lost its place and will go on at the beginning of a unit.
    pub(crate) fn lost(&mut self, side: Side) {
        match self {
            Self::Tls(tls) => tls.lost(side),
            Self::Http(http) => http.lost(side),
            Self::PostgreSql(postgresql) => postgresql.lost(),
            Self::MySql(mysql) => mysql.lost(),
            Self::Redis(redis) => redis.lost(),
            Self::Ssh | Self::Dns(_) => {}
        }
    }
}
