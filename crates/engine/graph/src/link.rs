//! One direction between two ends: entries by protocol, port, application and addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nv_model::application::ApplicationId;
use nv_model::observation::ConnectionObservation;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use serde::{Deserialize, Serialize};

/// Most entries of a link.
pub const MAX_ENTRIES: usize = 1000;
/// How many of the oldest entries make room when a link is full.
pub const DROPPED_AT_ONCE: usize = 100;

/// What tells the entries of a link apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryKey {
    /// IP protocol.
    pub protocol: Protocol,
    /// Destination port; 0 for protocols without.
    pub port: u16,
    /// Application; [`ApplicationId::ANY`] while it is not known.
    pub application: ApplicationId,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The server's address.
    pub server_ip: IpAddr,
}

/// Bytes both ways and sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sessions = self.sessions.saturating_add(other.sessions);
    }
}

/// What was seen under one key. Both ends of a connection may report it; it counts once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Seen at the client's end.
    at_client: Option<Volume>,
    /// Seen at the server's end: counts only as long as the client's says nothing, as it does when it is not managed.
    at_server: Option<Volume>,
    /// What was decided last.
    pub verdict: Verdict,
    /// The rule that decided last.
    pub rule: RuleId,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// Name of the process that opened it, when a node knew it.
    pub process: String,
}

impl Entry {
    /// How much.
    #[must_use]
    pub fn volume(&self) -> Volume {
        self.at_client.or(self.at_server).unwrap_or_default()
    }

    fn observe(&mut self, seen: &ConnectionObservation) {
        let volume = Volume { bytes: seen.bytes, sessions: u64::from(seen.sessions) };
        let side = if seen.ingress { &mut self.at_server } else { &mut self.at_client };
        side.get_or_insert_default().add(volume);
        // The later report says what holds; of two ends at the same time, the more severe one.
        if (seen.last, seen.verdict) >= (self.last, self.verdict) {
            self.verdict = seen.verdict;
            self.rule = seen.rule;
        }
        self.first = if self.first == Timestamp::NEVER { seen.first } else { self.first.min(seen.first) };
        self.last = self.last.max(seen.last);
        if !seen.process.is_empty() {
            self.process.clone_from(&seen.process);
        }
    }
}

/// Everything that was seen from one end to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    #[serde(with = "pairs")]
    entries: BTreeMap<EntryKey, Entry>,
    /// Of entries that were dropped.
    rest: Volume,
}

impl Link {
    /// Takes in an observation; how many old entries were dropped for it.
    pub(crate) fn observe(&mut self, seen: &ConnectionObservation) -> usize {
        let key = EntryKey {
            protocol: seen.protocol,
            port: seen.port,
            application: seen.application.unwrap_or(ApplicationId::ANY),
            client_ip: seen.client.address.to_canonical(),
            server_ip: seen.server.address.to_canonical(),
        };
        // What was seen before the application was known is of the same connections.
        let unknown = EntryKey { application: ApplicationId::ANY, ..key };
        if key != unknown
            && !self.entries.contains_key(&key)
            && self.entries.get(&unknown).is_some_and(|entry| entry.verdict == seen.verdict)
            && let Some(entry) = self.entries.remove(&unknown)
        {
            self.entries.insert(key, entry);
        }
        let dropped = if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.trim()
        } else {
            0
        };
        self.entries
            .entry(key)
            .or_insert_with(|| Entry {
                at_client: None,
                at_server: None,
                verdict: Verdict::Open,
                rule: RuleId::DEFAULT,
                first: Timestamp::NEVER,
                last: Timestamp::NEVER,
                process: String::new(),
            })
            .observe(seen);
        dropped
    }

    fn trim(&mut self) -> usize {
        let mut ages: Vec<(Timestamp, EntryKey)> =
            self.entries.iter().map(|(key, entry)| (entry.last, *key)).collect();
        ages.sort_unstable();
        for (_, key) in ages.iter().take(DROPPED_AT_ONCE) {
            if let Some(entry) = self.entries.remove(key) {
                self.rest.add(entry.volume());
            }
        }
        ages.len().min(DROPPED_AT_ONCE)
    }

    /// Forgets what a rule decided; how many entries that were.
    pub(crate) fn forget_rule(&mut self, rule: RuleId) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.rule != rule);
        before.saturating_sub(self.entries.len())
    }

    /// Its entries.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&EntryKey, &Entry)> {
        self.entries.iter()
    }

    /// All bytes and sessions, those of dropped entries included.
    #[must_use]
    pub fn volume(&self) -> Volume {
        self.entries.values().fold(self.rest, |mut sum, entry| {
            sum.add(entry.volume());
            sum
        })
    }

    /// When anything was last seen.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.entries.values().map(|entry| entry.last).max().unwrap_or_default()
    }

    /// The most severe of what was decided last for each protocol, port and application.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut latest: BTreeMap<(Protocol, u16, ApplicationId), (Timestamp, Verdict)> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let held = latest.entry((key.protocol, key.port, key.application)).or_default();
            *held = (*held).max((entry.last, entry.verdict));
        }
        latest.into_values().map(|(_, verdict)| verdict).max().unwrap_or_default()
    }
}

/// JSON has no maps with such keys, so they are lists of pairs there.
mod pairs {
    use super::{BTreeMap, Deserialize, Entry, EntryKey, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<EntryKey, Entry>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(out)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<BTreeMap<EntryKey, Entry>, D::Error> {
        Ok(Vec::<(EntryKey, Entry)>::deserialize(input)?.into_iter().collect())
    }
}
