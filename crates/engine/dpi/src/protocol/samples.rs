//! A conversation in each protocol, for tests that hold for all of them.

use crate::key::Side::{self, Client, Server};
use crate::tests::conversation::flight;

/// Name, port of the server, flights.
pub(crate) type Sample = (&'static str, u16, Vec<(Side, Vec<u8>)>);

/// Conversations over TCP.
pub(crate) fn streams() -> Vec<Sample> {
    [
        super::http::samples(),
        super::http2::samples::samples(),
        super::tls::samples::samples(),
        super::dns::samples::samples(),
        super::ssh::samples::samples(),
        super::redis::samples::samples(),
        super::postgresql::samples::samples(),
        super::mysql::samples::samples(),
        short(),
    ]
    .concat()
}

/// The beginnings of conversations in protocols of which little is read.
fn short() -> Vec<Sample> {
    let mqtt = b"\x10\x1D\0\x04MQTT\x04\x82\0\x3C\0\x05gauge\0\x03ann\0\x05abcde\x31\x0A\0\x05a/b/cxyz";
    let hello: &[u8] = b"\x80\x1F\0\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0app";
    let bind = b"\x30\x1C\x02\x01\x01\x60\x17\x02\x01\x03\x04\x0Bcn=bob,o=xy\x80\x05abcde";
    let tns = b"\0\x48\0\0\x01\0\0\0\x01\x3A\x01\x2C\0\0\x20\0\x7F\xFF\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        (DATA=(SERVICE_NAME=orders)(USER=scott))";
    let query =
        b"\x34\0\0\0\x07\0\0\0\0\0\0\0\xD4\x07\0\0\0\0\0\0shop.orders\0\0\0\0\0\x01\0\0\0\x05\0\0\0\0";
    let batch = b"\x12\x01\0\x1A\0\0\0\0\0\0\x0B\0\x06\x01\0\x11\0\x01\xFF\x09\0\0\0\0\0\0\x01\x01\0\x18\0\0\x01\0s\0e\0l\0e\0c\0t\0 \x001\0";
    let cql = b"\x04\0\0\x01\x05\0\0\0\0\x04\0\0\x02\x07\0\0\0\x10\0\0\0\x0Aselect * t\0\x01";
    let zookeeper = [&b"\0\0\0\x2D\0\0\0\0"[..], &[0; 20], b"\0\0\0\x10", &[0; 17]].concat();
    let amqp =
        b"\x01\0\0\0\0\0\x20\0\x0A\0\x0A\0\x09\0\0\0\x14\x07productS\0\0\0\x08RabbitMQ\xCE\xCE\xCE\xCE\xCE";
    let smb = b"\0\0\0\x20\xFESMB\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let kerberos =
        b"\0\0\0\x15\x6A\x13\x30\x11\xA1\x03\x02\x01\x05\xA2\x03\x02\x01\x0A\xA3\x05\x30\x03\0\0\0";
    vec![
        ("MQTT", 1883, flight([(Client, mqtt), (Server, b"\x20\x02\0\0")])),
        (
            "memcached",
            11211,
            flight([(Client, b"set k 0 60 5\r\nhello\r\nget k other\r\n"), (Server, b"STORED\r\n")]),
        ),
        ("Couchbase", 11210, flight([(Client, hello)])),
        (
            "LDAP",
            389,
            flight([(Client, bind), (Server, b"\x30\x0C\x02\x01\x01\x61\x07\x0A\x01\0\x04\0\x04\0")]),
        ),
        ("Oracle", 1521, flight([(Client, tns)])),
        ("MongoDB", 27017, flight([(Client, query)])),
        ("MSSQL", 1433, flight([(Client, batch)])),
        ("Cassandra", 9042, flight([(Client, cql)])),
        ("ZooKeeper", 2181, flight([(Client, &zookeeper)])),
        ("AMQP", 5672, flight([(Client, b"AMQP\0\0\x09\x01"), (Server, amqp)])),
        ("SMB", 445, flight([(Client, smb)])),
        ("Kerberos", 88, flight([(Client, kerberos)])),
        ("Kafka", 9092, flight([(Client, b"\0\0\0\x13\0\x12\0\x03\0\0\0\x01\0\x08consumer\0")])),
        (
            "NATS",
            4222,
            flight([
                (Server, b"INFO {\"server_id\":\"x\"}\r\n"),
                (Client, b"CONNECT {\"user\":\"u\"}\r\nSUB orders.* 1\r\nPUB orders.new 5\r\nSUB x\r\n"),
            ]),
        ),
        (
            "SMTP",
            25,
            flight([
                (Server, b"220 mail.example ESMTP Postfix\r\n"),
                (Client, b"EHLO me\r\n"),
                (Server, b"250 ok\r\n"),
                (Client, b"STARTTLS\r\n"),
                (Server, b"220 go\r\n"),
                (Client, &super::tls::samples::client_hello()),
                (Server, &super::tls::samples::server_hello()),
            ]),
        ),
        ("Elasticsearch", 9300, flight([(Client, b"ES\0\0\0\x20\0\0\0\0\0\0\0\x07\0")])),
        ("Syslog", 601, flight([(Client, b"<34>1 2003-10-11T22:14:15.003Z host su - ID47 - text\n")])),
    ]
}
