//! The protocols: what each must be able to say, and the order in which they are asked.
//!
//! One folder a protocol: `probe` says from the first bytes whether it is the one, `parse` reads one unit after the
//! other and tells fields and attacks. Both are total: any bytes give an answer.

pub(crate) mod amqp;
pub(crate) mod cassandra;
pub(crate) mod dhcp;
pub(crate) mod dns;
pub(crate) mod elasticsearch;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod kafka;
pub(crate) mod kerberos;
pub(crate) mod ldap;
pub(crate) mod memcached;
pub(crate) mod mongodb;
pub(crate) mod mqtt;
pub(crate) mod mysql;
pub(crate) mod nats;
pub(crate) mod ntp;
pub(crate) mod postgresql;
pub(crate) mod quic;
pub(crate) mod radius;
pub(crate) mod read;
pub(crate) mod redis;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod smb;
pub(crate) mod smtp;
pub(crate) mod ssh;
pub(crate) mod syslog;
pub(crate) mod tds;
pub(crate) mod tftp;
pub(crate) mod tls;
pub(crate) mod tns;
pub(crate) mod zookeeper;

use nv_model::application::ApplicationId;

use crate::attack::sql;
use crate::content::{Body, Content, Part};
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
    /// Maybe instead of no, when `maybe` holds.
    pub(crate) fn or_maybe(self, maybe: bool) -> Self {
        if self == Self::No && maybe { Self::Maybe } else { self }
    }
}

/// What a parser made of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes were read; ask again with the rest.
    Took(usize),
    /// So many bytes, from the first of these on, are of no interest. `u64::MAX` means all that still come.
    Skip(u64),
    /// So many bytes were read, and so many behind them are the body that [`Parser::body`] tells of. `u64::MAX` means all
    /// that still come.
    Body(usize, u64),
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
    /// Tells some of a message, for whoever looks for patterns.
    pub(crate) fn content(&mut self, transaction: u32, part: Part<'_>) {
        let (at, session, endpoints, side) = (self.at, self.session, self.endpoints, self.side);
        self.sink.content(&Content { at, session, endpoints, side, transaction, part });
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
    /// Tells a statement of SQL, and whether a value has changed it.
    pub(crate) fn statement(&mut self, transaction: u32, statement: &[u8]) {
        self.text(Field::Statement, transaction, statement);
        if sql::is_injected(statement) {
            self.threat(Threat::SqlInjection);
        }
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

/// The body that a direction is in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BodyAtHand {
    pub(crate) transaction: u32,
    pub(crate) about: Body,
    /// With it the message ends.
    pub(crate) last: bool,
}

/// What a parser tells as content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Nothing: the bytes of the stream are told as they are.
    Nothing,
    /// Its messages: the bytes are told while it has lost its place.
    Messages,
    /// Nobody can read it.
    Encrypted,
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
    Http2,
    Http,
    Ssh,
    Amqp,
    Smb,
    Nats,
    Elasticsearch,
    Mqtt,
    PostgreSql,
    MySql,
    Redis,
    Smtp,
    Memcached,
    Cassandra,
    ZooKeeper,
    Tds,
    Tns,
    Kerberos,
    Ldap,
    MongoDb,
    Kafka,
    Syslog,
    Dns,
    Echo,
    Dhcp,
    Ntp,
    Tftp,
    Radius,
    Quic,
    Sip,
}

/// What a parser has learned and where it is.
#[derive(Debug)]
pub(crate) enum Parser {
    Tls(tls::Tls),
    Http(http::Http),
    /// In a box of its own: its tables are large, and it is rare.
    Http2(Box<http2::Http2>),
    PostgreSql(postgresql::PostgreSql),
    MySql(mysql::MySql),
    Redis(redis::Redis),
    Dns(dns::Dns),
    Mqtt(mqtt::Mqtt),
    Nats(nats::Nats),
    Smtp(smtp::Smtp),
    Memcached(memcached::Memcached),
    Cassandra(cassandra::Cassandra),
    Tds(tds::Tds),
    /// In a box of its own: it is over after the first packets.
    Quic(Box<quic::Quic>),
    /// A protocol of which at most the beginning is read.
    Plain(Protocol),
}

impl Protocol {
    /// Those over TCP, in the order in which they are asked: the surest signatures first.
    pub(crate) const STREAM: &[Self] = &[
        Self::Tls,
        Self::Http2,
        Self::Http,
        Self::Ssh,
        Self::Amqp,
        Self::Smb,
        Self::Nats,
        Self::Elasticsearch,
        Self::Mqtt,
        Self::PostgreSql,
        Self::MySql,
        Self::Redis,
        Self::Smtp,
        Self::Memcached,
        Self::Cassandra,
        Self::ZooKeeper,
        Self::Tds,
        Self::Tns,
        Self::Kerberos,
        Self::Ldap,
        Self::MongoDb,
        Self::Kafka,
        Self::Syslog,
        Self::Dns,
        Self::Echo,
    ];
    /// Those over UDP.
    pub(crate) const DATAGRAM: &[Self] = &[
        Self::Dns,
        Self::Quic,
        Self::Dhcp,
        Self::Ntp,
        Self::Sip,
        Self::Radius,
        Self::Kerberos,
        Self::Ldap,
        Self::Tftp,
        Self::Syslog,
        Self::Echo,
    ];

    fn bit(self) -> u64 {
        1 << (self as u32)
    }
    /// The contract's application; `None` when only the parser can tell.
    pub(crate) fn application(self) -> Option<ApplicationId> {
        let number = match self {
            // The first line says whether it is HTTP, RTSP or SIP; the first command whether memcached or Couchbase.
            Self::Http | Self::Http2 | Self::Sip | Self::Memcached => return None,
            Self::Tls => 1002,
            Self::Ssh => 1003,
            Self::Dns => dns::APPLICATION,
            Self::Dhcp => 1005,
            Self::Ntp => 1006,
            Self::Tftp => 1007,
            Self::Echo => 1008,
            Self::MySql => 2001,
            Self::Redis => 2002,
            Self::ZooKeeper => 2003,
            Self::Cassandra => 2004,
            Self::MongoDb => 2005,
            Self::PostgreSql => 2006,
            Self::Kafka => 2007,
            Self::Elasticsearch => 2012,
            Self::Radius => 2015,
            Self::Syslog => 2018,
            Self::Tns => 2026,
            Self::Tds => 2027,
            Self::Quic => 3001,
            Self::Mqtt => 3002,
            Self::Amqp => 3003,
            Self::Nats => 3004,
            Self::Smtp => 3005,
            Self::Ldap => 3006,
            Self::Kerberos => 3007,
            Self::Smb => 3008,
        };
        Some(ApplicationId(number))
    }
    /// Ports of protocols whose first bytes say little. In the middle of a stream, where any bytes may stand, these are
    /// looked for on their ports alone; empty for a protocol that says enough.
    fn ports_in_the_middle(self) -> &'static [u16] {
        match self {
            Self::Memcached => &[11_211, 11_210],
            Self::Cassandra => &[9042],
            Self::ZooKeeper => &[2181],
            Self::Kerberos => &[88],
            Self::Ldap => &[389, 3268],
            Self::MongoDb => &[27_017, 27_018, 27_019],
            Self::Kafka => &[9092, 9093, 9094],
            Self::Dns => &[53],
            Self::Tns => &[1521],
            _ => &[],
        }
    }
    pub(crate) fn probe_stream(self, side: Side, input: &[u8], ports: Ports) -> Probe {
        let usual = self.ports_in_the_middle();
        if ports.midstream && !usual.is_empty() && !usual.contains(&ports.server) {
            return Probe::No;
        }
        match self {
            Self::Tls => tls::probe(side, input, ports.midstream),
            Self::Http2 => http2::probe(side, input),
            Self::Http => http::probe(side, input),
            Self::Ssh => ssh::probe(input),
            Self::Amqp => amqp::probe(side, input),
            Self::Smb => smb::probe(input, ports),
            Self::Nats => nats::probe(side, input),
            Self::Elasticsearch => elasticsearch::probe(input),
            Self::Mqtt => mqtt::probe(side, input, ports),
            Self::PostgreSql => postgresql::probe(side, input, ports),
            Self::MySql => mysql::probe(side, input),
            Self::Redis => redis::probe(side, input, ports),
            Self::Smtp => smtp::probe(side, input),
            Self::Memcached => memcached::probe(side, input),
            Self::Cassandra => cassandra::probe(side, input),
            Self::ZooKeeper => zookeeper::probe(side, input, ports),
            Self::Tds => tds::probe(side, input, ports),
            Self::Tns => tns::probe(side, input),
            Self::Kerberos => kerberos::probe_stream(input),
            Self::Ldap => ldap::probe(side, input),
            Self::MongoDb => mongodb::probe(side, input),
            Self::Kafka => kafka::probe(side, input),
            Self::Syslog if side == Side::Client => syslog::probe(input),
            Self::Dns => dns::probe_stream(side, input),
            Self::Echo => Probe::when(ports.server == 7),
            Self::Syslog | Self::Dhcp | Self::Ntp | Self::Tftp | Self::Radius | Self::Quic | Self::Sip => {
                Probe::No
            }
        }
    }
    /// A datagram is whole: maybe counts as no.
    pub(crate) fn probe_datagram(self, side: Side, input: &[u8], ports: Ports) -> Probe {
        match self {
            Self::Dns => dns::probe_datagram(side, input, ports),
            Self::Dhcp => dhcp::probe(input, ports),
            Self::Ntp => ntp::probe(input, ports),
            Self::Tftp => tftp::probe(side, input, ports),
            Self::Radius => radius::probe(input, ports),
            Self::Quic => quic::probe(side, input, ports),
            Self::Sip => http::probe_sip(side, input),
            Self::Kerberos => kerberos::probe_datagram(input),
            Self::Ldap => ldap::probe(side, input),
            Self::Syslog => syslog::probe(input),
            Self::Echo => Probe::when(ports.server == 7),
            _ => Probe::No,
        }
    }
}

impl Parser {
    pub(crate) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tls => Self::Tls(tls::Tls::default()),
            Protocol::Http | Protocol::Sip => Self::Http(http::Http::default()),
            Protocol::Http2 => Self::Http2(Box::new(http2::Http2::new())),
            Protocol::PostgreSql => Self::PostgreSql(postgresql::PostgreSql::default()),
            Protocol::MySql => Self::MySql(mysql::MySql::default()),
            Protocol::Redis => Self::Redis(redis::Redis::default()),
            Protocol::Dns => Self::Dns(dns::Dns::default()),
            Protocol::Mqtt => Self::Mqtt(mqtt::Mqtt::default()),
            Protocol::Nats => Self::Nats(nats::Nats::default()),
            Protocol::Smtp => Self::Smtp(smtp::Smtp::default()),
            Protocol::Memcached => Self::Memcached(memcached::Memcached::default()),
            Protocol::Cassandra => Self::Cassandra(cassandra::Cassandra::default()),
            Protocol::Tds => Self::Tds(tds::Tds::default()),
            Protocol::Quic => Self::Quic(Box::default()),
            other => Self::Plain(other),
        }
    }
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Tls(_) => Protocol::Tls,
            Self::Http(_) => Protocol::Http,
            Self::Http2(_) => Protocol::Http2,
            Self::PostgreSql(_) => Protocol::PostgreSql,
            Self::MySql(_) => Protocol::MySql,
            Self::Redis(_) => Protocol::Redis,
            Self::Dns(_) => Protocol::Dns,
            Self::Mqtt(_) => Protocol::Mqtt,
            Self::Nats(_) => Protocol::Nats,
            Self::Smtp(_) => Protocol::Smtp,
            Self::Memcached(_) => Protocol::Memcached,
            Self::Cassandra(_) => Protocol::Cassandra,
            Self::Tds(_) => Protocol::Tds,
            Self::Quic(_) => Protocol::Quic,
            Self::Plain(protocol) => *protocol,
        }
    }
    /// Reads the next unit of the direction in `context`.
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        match self {
            Self::Tls(tls) => tls.step(context, input),
            Self::Http(http) => http.step(context, input),
            Self::Http2(http2) => http2.step(context, input),
            Self::PostgreSql(postgresql) => postgresql.step(context, input),
            Self::MySql(mysql) => mysql.step(context, input),
            Self::Redis(redis) => redis.step(context, input),
            Self::Dns(dns) => dns.step(context, input),
            Self::Mqtt(mqtt) => mqtt.step(context, input),
            Self::Nats(nats) => nats.step(context, input),
            Self::Smtp(smtp) => smtp.step(context, input),
            Self::Memcached(memcached) => memcached.step(context, input),
            Self::Cassandra(cassandra) => cassandra.step(context, input),
            Self::Tds(tds) => tds.step(context, input),
            // Only over UDP.
            Self::Quic(_) => Step::Done,
            Self::Plain(Protocol::Ssh) => ssh::step(context, input),
            Self::Plain(Protocol::Amqp) => amqp::step(context, input),
            Self::Plain(protocol) => {
                let wanted = match (*protocol, context.side) {
                    (Protocol::Ldap, Side::Client) => ldap::wanted(input),
                    (Protocol::Tns, Side::Client) => tns::wanted(input),
                    _ => 0,
                };
                if input.len() < wanted {
                    return Step::More(wanted);
                }
                plain(*protocol, context, input);
                Step::Done
            }
        }
    }
    /// Reads a datagram.
    pub(crate) fn datagram(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        match self {
            Self::Dns(dns) => dns.datagram(context, input),
            Self::Quic(quic) => quic.datagram(context, input),
            Self::Http(http) => http.datagram(context, input),
            Self::Plain(protocol) => {
                plain(*protocol, context, input);
                Step::Done
            }
            _ => Step::Done,
        }
    }
    /// The body that a direction is in.
    pub(crate) fn body(&self, side: Side) -> BodyAtHand {
        match self {
            Self::Http(http) => http.body_at_hand(side),
            Self::Http2(http2) => http2.body_at_hand(side),
            _ => BodyAtHand::default(),
        }
    }
    /// How much of a direction's bytes the parser tells as content.
    pub(crate) fn telling(&self) -> Telling {
        match self {
            Self::Http(_) | Self::Http2(_) => Telling::Messages,
            Self::Tls(_) | Self::Quic(_) | Self::Plain(Protocol::Ssh) => Telling::Encrypted,
            _ => Telling::Nothing,
        }
    }
    /// The message that a direction is in, of a protocol that tells messages.
    pub(crate) fn transaction(&self, side: Side) -> u32 {
        match self {
            Self::Http(http) => http.transaction(side),
            _ => 0,
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
            // They know nothing beyond a unit.
            Self::Dns(_)
            | Self::Mqtt(_)
            | Self::Nats(_)
            | Self::Smtp(_)
            | Self::Memcached(_)
            | Self::Cassandra(_)
            | Self::Tds(_)
            | Self::Quic(_)
            | Self::Plain(_)
            // Out of step for good.
            | Self::Http2(_) => {}
        }
    }
}

/// Reads the beginning of a direction, as much as is in the first bytes.
fn plain(protocol: Protocol, context: &mut Context<'_>, input: &[u8]) {
    match protocol {
        Protocol::Smb => smb::first(context, input),
        Protocol::Ldap => ldap::first(context, input),
        Protocol::MongoDb => mongodb::first(context, input),
        Protocol::Kafka => kafka::first(context, input),
        Protocol::Tns => tns::first(context, input),
        Protocol::Dhcp => dhcp::datagram(context, input),
        Protocol::Ntp => ntp::datagram(context, input),
        Protocol::Tftp => tftp::datagram(context, input),
        Protocol::Radius => radius::datagram(context, input),
        _ => {}
    }
}
