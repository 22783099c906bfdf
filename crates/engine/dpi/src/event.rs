//! What an engine tells.

use std::net::IpAddr;

use nv_model::application::ApplicationId;

use crate::content::Content;
use crate::key::{Endpoints, Side};
use crate::threat::Threat;

/// A flow, numbered from 1 in the order of beginning; 0 stands for a packet without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Takes events. Called in the middle of a packet: keep it short.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, event: &Event<'_>);
    /// Takes a piece of what is said. Who looks for nothing in it need not do anything.
    fn content(&mut self, content: &Content<'_>) {
        let _ = content;
    }
}

impl<F: FnMut(&Event<'_>)> Sink for F {
    fn event(&mut self, event: &Event<'_>) {
        self(event);
    }
}

/// Something that happened at `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Time of the packet, in nanoseconds since 1970.
    pub at: u64,
    /// The flow.
    pub session: SessionId,
    /// What happened.
    pub kind: Kind<'a>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind<'a> {
    /// The application is known, or known better (gRPC within HTTP/2).
    Identified(ApplicationId),
    /// The server's software is known (nginx, Apache).
    Software(ApplicationId),
    /// A field of the protocol was read. `transaction` counts requests, and answers, from 0.
    Field {
        /// Which request or answer; 0 for fields of the whole session.
        transaction: u32,
        /// Which field.
        field: Field,
        /// Its value.
        value: Value<'a>,
    },
    /// An attack.
    Threat {
        /// Which one.
        threat: Threat,
        /// Who talks to whom; `None` for a packet that does not get so far.
        endpoints: Option<Endpoints>,
        /// Who sent the packet.
        side: Side,
    },
    /// A byte of a stream was sent twice with different content.
    Conflict {
        /// Who sent it.
        side: Side,
        /// Where, as a sequence number.
        sequence: u32,
    },
    /// Bytes of a stream were never seen; inspection goes on behind them.
    Gap {
        /// Who sent them.
        side: Side,
        /// How many.
        bytes: u32,
    },
    /// A direction stopped making sense; a place to go on is being looked for.
    Lost {
        /// Who sent it.
        side: Side,
    },
    /// Nothing more will be read of the flow's bytes: their sender's protocol tells no more (TLS behind its handshake),
    /// or it is none that is known. Its packets need not be brought any more, but for those that end it. Told once.
    Settled,
    /// The flow is over.
    Closed(Summary),
}

/// Value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Bytes as sent, not necessarily UTF-8.
    Text(&'a [u8]),
    /// A number.
    Number(u64),
    /// An address.
    Address(IpAddr),
}

/// Why a flow is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished, or one reset.
    Closed,
    /// Nothing came for long.
    TimedOut,
    /// It made room for another.
    Evicted,
    /// Another connection took the same ports.
    Replaced,
    /// The capture ended.
    Finished,
}

/// What one side sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u32,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// A flow that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Which one.
    pub session: SessionId,
    /// Who talks to whom.
    pub endpoints: Endpoints,
    /// Its application, when identified.
    pub application: Option<ApplicationId>,
}

/// A flow at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Who talked to whom.
    pub endpoints: Endpoints,
    /// Its application, when identified.
    pub application: Option<ApplicationId>,
    /// What the client sent.
    pub client: Volume,
    /// What the server sent.
    pub server: Volume,
    /// Time of its first packet, in nanoseconds since 1970.
    pub started: u64,
    /// Time of its last packet.
    pub last: u64,
    /// Its start was not seen.
    pub midstream: bool,
    /// Why it is over.
    pub end: End,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident $text:literal $per:literal,)*) => {
        /// A field that parsers read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field { $($(#[$doc])* $name,)* }

        impl Field {
            /// Its name in JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// Whether it belongs to a transaction rather than to the whole session.
            #[must_use]
            pub fn of_transaction(self) -> bool {
                match self { $(Self::$name => $per,)* }
            }
        }
    };
}

fields! {
    /// Method of a request (HTTP, RTSP, SIP).
    Method "method" true,
    /// Target of a request.
    Uri "uri" true,
    /// Host that a request names.
    Host "host" true,
    /// Program of the client.
    UserAgent "user_agent" true,
    /// Addresses that proxies say to have forwarded for.
    ForwardedFor "forwarded_for" true,
    /// Status of an answer.
    Status "status" true,
    /// Program of the server.
    Server "server" true,
    /// Type of an answer's body.
    ContentType "content_type" true,
    /// Version of the protocol, as it writes it.
    Version "version" false,
    /// Name of the server that a TLS client asks for (RFC 6066 §3).
    Sni "sni" false,
    /// Protocols that a TLS client offers (RFC 7301), one event each.
    AlpnOffered "alpn_offered" false,
    /// Protocol that the TLS server chose.
    Alpn "alpn" false,
    /// Number of the chosen cipher suite.
    Cipher "cipher" false,
    /// JA3 of the client.
    Ja3 "ja3" false,
    /// JA3S of the server.
    Ja3s "ja3s" false,
    /// JA4 of the client.
    Ja4 "ja4" false,
    /// Subject's common name of the server's certificate.
    Subject "subject" false,
    /// Issuer's common name of the server's certificate.
    Issuer "issuer" false,
    /// Name that is asked for (DNS).
    Query "query" true,
    /// Type of the question, as a number.
    QueryType "query_type" true,
    /// Response code.
    ResponseCode "response_code" true,
    /// Address in an answer (A, AAAA).
    Answer "answers" true,
    /// Name in an answer (CNAME, PTR, NS, SRV, HTTPS).
    AnswerName "answer_names" true,
    /// Time to live of the address before, in seconds.
    AnswerTtl "answer_ttls" true,
    /// Program of the client, for the whole session.
    ClientSoftware "client_software" false,
    /// Program of the server, for the whole session.
    ServerSoftware "server_software" false,
    /// Who logs in.
    User "user" false,
    /// What is logged in to.
    Database "database" false,
    /// Command of a request (Redis, memcached, SMTP).
    Command "command" true,
    /// Statement of a request (SQL), its first bytes.
    Statement "statement" true,
    /// Error number of an answer.
    Error "error" true,
    /// Protocol that a connection was upgraded to.
    Upgrade "upgrade" false,
    /// Service of a gRPC call.
    Service "service" true,
    /// Topic, queue or subject of a message.
    Topic "topic" true,
}
