//! The parsers: one for each protocol that is read, behind one front.

use super::{Context, Protocol, Step};
use super::{
    amqp, cassandra, dhcp, dns, http, http2, kafka, ldap, memcached, mongodb, mqtt, mysql, nats, ntp,
    postgresql, quic, radius, redis, smb, smtp, ssh, tds, tftp, tls, tns,
};
use crate::content::Body;
use crate::key::Side;

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
                    (Protocol::Smb, _) => smb::MARK_BYTES,
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
