//! What connections say of hosts: which one a client means, and which addresses a server of the DNS gives for a name.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use nv_dpi::event::{Event, Field, Kind, SessionId, Value};
use nv_policy::names;

use super::{Connection, Told};

/// Most connections of which it is remembered what they said.
const MAX_SESSIONS: usize = 16_384;
/// Most different hosts of one connection that are told; beyond it every one is told as often as it is named.
const MAX_HOSTS: usize = 16;
/// Most questions of one connection that wait for their answer.
const MAX_QUESTIONS: usize = 8;
/// Most addresses of one answer.
pub(super) const MAX_ADDRESSES: usize = 64;

/// What is remembered of connections that go on, and what the present frame said.
#[derive(Debug, Default)]
pub(super) struct Heed {
    hasher: RandomState,
    hosts: HashMap<SessionId, Vec<u64>>,
    questions: HashMap<SessionId, Vec<(u32, String)>>,
    frame: Frame,
    /// Words about connections that found no room.
    pub(super) overflow: u64,
}

/// Of the connection that the present frame belongs to.
#[derive(Debug, Default)]
struct Frame {
    hosts: Vec<String>,
    software: Option<u32>,
    /// A question is in it: what else it says of this transaction is no answer to an earlier one.
    asked: Option<u32>,
    answered: Option<u32>,
    addresses: Vec<(IpAddr, u32)>,
}

impl Heed {
    /// Takes an event of the present frame.
    pub(super) fn event(&mut self, event: &Event<'_>) {
        let session = event.session;
        match event.kind {
            Kind::Software(application) => self.frame.software = Some(application.0),
            Kind::Field { field: Field::Host | Field::Sni, value: Value::Text(raw), .. } => {
                if let Some(host) = std::str::from_utf8(raw).ok().and_then(names::host) {
                    self.host(session, host);
                }
            }
            Kind::Field { transaction, field: Field::Query, value: Value::Text(raw) } => {
                self.frame.asked = Some(transaction);
                if let Some(name) = std::str::from_utf8(raw).ok().and_then(names::host) {
                    self.question(session, transaction, name);
                }
            }
            Kind::Field { transaction, field: Field::Answer, value: Value::Address(address) }
                if self.frame.asked != Some(transaction) && self.frame.addresses.len() < MAX_ADDRESSES =>
            {
                self.frame.answered = Some(transaction);
                self.frame.addresses.push((address, 0));
            }
            Kind::Field { transaction, field: Field::AnswerTtl, value: Value::Number(seconds) }
                if self.frame.answered == Some(transaction) =>
            {
                if let Some((_, ttl)) = self.frame.addresses.last_mut() {
                    *ttl = u32::try_from(seconds).unwrap_or(u32::MAX);
                }
            }
            Kind::Closed(_) => {
                self.hosts.remove(&session);
                self.questions.remove(&session);
            }
            _ => {}
        }
    }

    fn host(&mut self, session: SessionId, host: String) {
        let digest = self.hasher.hash_one(&host);
        if self.hosts.len() >= MAX_SESSIONS && !self.hosts.contains_key(&session) {
            self.overflow = self.overflow.saturating_add(1);
            return self.frame.hosts.push(host);
        }
        let known = self.hosts.entry(session).or_default();
        if !known.contains(&digest) {
            if known.len() < MAX_HOSTS {
                known.push(digest);
            } else {
                self.overflow = self.overflow.saturating_add(1);
            }
            self.frame.hosts.push(host);
        }
    }

    fn question(&mut self, session: SessionId, transaction: u32, name: String) {
        if self.questions.len() >= MAX_SESSIONS && !self.questions.contains_key(&session) {
            self.overflow = self.overflow.saturating_add(1);
            return;
        }
        let waiting = self.questions.entry(session).or_default();
        if waiting.len() >= MAX_QUESTIONS {
            waiting.remove(0);
        }
        waiting.push((transaction, name));
    }

    /// What the frame said, now that it is known whose it is.
    pub(super) fn say(&mut self, connection: Connection, session: SessionId, mut say: impl FnMut(Told)) {
        let frame = std::mem::take(&mut self.frame);
        if let Some(application) = frame.software {
            say(Told::Software { connection, application });
        }
        for name in frame.hosts {
            say(Told::Host { connection, name });
        }
        let Some(transaction) = frame.answered else { return };
        let waiting = self.questions.get_mut(&session);
        let asked = waiting.and_then(|waiting| {
            let at = waiting.iter().position(|(known, _)| *known == transaction)?;
            Some(waiting.remove(at).1)
        });
        if let Some(name) = asked {
            say(Told::Name { connection, name, addresses: frame.addresses });
        }
    }
}

impl Heed {
    /// It was nobody's.
    pub(super) fn drop_frame(&mut self) {
        self.frame = Frame::default();
    }
}

#[cfg(test)]
mod tests {
    use nv_model::port::Protocol;

    use super::*;

    fn connection() -> Connection {
        let end = |last: u8| IpAddr::from([10, 0, 0, last]);
        Connection::ends(Protocol::Udp, (end(1), 40_000), (end(2), 53))
    }

    fn field(heed: &mut Heed, transaction: u32, field: Field, value: Value<'_>) {
        let kind = Kind::Field { transaction, field, value };
        heed.event(&Event { at: 0, session: SessionId(1), kind });
    }

    fn said(heed: &mut Heed) -> Vec<Told> {
        let mut said = Vec::new();
        heed.say(connection(), SessionId(1), |told| said.push(told));
        said
    }

    #[test]
    fn an_answer_is_told_with_the_name_that_was_asked_for_and_only_once() {
        let mut heed = Heed::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let answer = |heed: &mut Heed, transaction| {
            field(heed, transaction, Field::Answer, Value::Address(address));
            field(heed, transaction, Field::AnswerTtl, Value::Number(60));
        };
        field(&mut heed, 0, Field::Query, Value::Text(b"WWW.Example.com"));
        assert_eq!(said(&mut heed), []);
        answer(&mut heed, 0);
        let connection = connection();
        let told =
            Told::Name { connection, name: "www.example.com".to_owned(), addresses: vec![(address, 60)] };
        assert_eq!(said(&mut heed), [told]);
        answer(&mut heed, 0);
        assert_eq!(said(&mut heed), [], "it was answered");
        // An answer that nobody asked for brings its question along.
        field(&mut heed, 1, Field::Query, Value::Text(b"evil.example"));
        answer(&mut heed, 1);
        assert_eq!(said(&mut heed), []);
    }

    #[test]
    fn a_host_is_told_once_a_connection() {
        let mut heed = Heed::default();
        for (raw, want) in [("A.example:80", 1), ("a.example", 0), ("b.example", 1), ("192.0.2.1", 0)] {
            field(&mut heed, 0, Field::Host, Value::Text(raw.as_bytes()));
            assert_eq!(said(&mut heed).len(), want, "{raw}");
        }
        for n in 0..20 {
            field(&mut heed, 0, Field::Host, Value::Text(format!("{n}.example").as_bytes()));
            assert_eq!(said(&mut heed).len(), 1);
        }
        assert!(heed.overflow > 0);
    }
}
