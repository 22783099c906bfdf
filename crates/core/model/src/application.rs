//! Applications that layer-7 inspection tells apart, with the contract's numbers.

use serde::{Deserialize, Serialize};

/// Number of an application: 1001 to 2028 are the contract's, from 3001 up are ours; 0 stands for `any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApplicationId(pub u32);

/// Every application that a rule may name, in the order of the contract's list.
pub const APPLICATIONS: &[(u32, &str)] = &[
    (1001, "HTTP"),
    (1002, "SSL"),
    (1003, "SSH"),
    (1004, "DNS"),
    (1005, "DHCP"),
    (1006, "NTP"),
    (1007, "TFTP"),
    (1008, "Echo"),
    (1009, "RTSP"),
    (1010, "SIP"),
    (2001, "MySQL"),
    (2002, "Redis"),
    (2003, "ZooKeeper"),
    (2004, "Cassandra"),
    (2005, "MongoDB"),
    (2006, "PostgreSQL"),
    (2007, "Kafka"),
    (2008, "Couchbase"),
    (2009, "Wordpress"),
    (2010, "ActiveMQ"),
    (2011, "CouchDB"),
    (2012, "ElasticSearch"),
    (2013, "Memcached"),
    (2014, "RabbitMQ"),
    (2015, "Radius"),
    (2016, "VoltDB"),
    (2017, "Consul"),
    (2018, "Syslog"),
    (2019, "etcd"),
    (2020, "Spark"),
    (2021, "Apache"),
    (2022, "nginx"),
    (2023, "Jetty"),
    (2026, "Oracle"),
    (2027, "MSSQL"),
    (2028, "GRPC"),
    // Ours.
    (3001, "QUIC"),
    (3002, "MQTT"),
    (3003, "AMQP"),
    (3004, "NATS"),
    (3005, "SMTP"),
    (3006, "LDAP"),
    (3007, "Kerberos"),
    (3008, "SMB"),
];

impl ApplicationId {
    /// Any application.
    pub const ANY: Self = Self(0);

    /// By the contract's name, whatever its case; `any` gives [`Self::ANY`].
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.eq_ignore_ascii_case("any") {
            return Some(Self::ANY);
        }
        APPLICATIONS.iter().find(|(_, name)| name.eq_ignore_ascii_case(raw)).map(|(id, _)| Self(*id))
    }
    /// The contract's name.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        if self == Self::ANY {
            return Some("any");
        }
        APPLICATIONS.iter().find(|(id, _)| *id == self.0).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case() {
        assert_eq!(ApplicationId::parse("redis"), Some(ApplicationId(2002)));
        assert_eq!(ApplicationId::parse("ANY"), Some(ApplicationId::ANY));
        assert_eq!(ApplicationId::parse("gopher"), None);
        assert_eq!(ApplicationId(2028).name(), Some("GRPC"));
    }
}
