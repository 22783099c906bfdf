//! The protocols: what each must be able to say, and the order in which they are asked.
//!
//! One folder a protocol: `probe` says from the first bytes whether it is the one, `parse` reads one unit after the
//! other and tells fields and attacks. Both are total: any bytes give an answer.

pub(crate) mod amqp;
pub(crate) mod cassandra;
mod context;
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
mod parser;
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

use crate::key::Side;

pub(crate) use context::Context;
pub(crate) use parser::{BodyAtHand, Parser, Telling};

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
