//! Conversations as operators see them.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::application::ApplicationId;
use nv_model::conversation::EndpointId;
use nv_model::port::Protocol;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;

use crate::graph::Graph;
use crate::link::{Entry, EntryKey, Link};

/// A link in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation<'a> {
    /// Who opens the connections.
    pub from: &'a EndpointId,
    /// Who accepts them.
    pub to: &'a EndpointId,
    /// Bytes both ways.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// The most severe of what was decided last for each protocol, port and application.
    pub verdict: Verdict,
    /// Protocols seen.
    pub protocols: BTreeSet<Protocol>,
    /// Ports seen, with their protocols; those whose application is known are left to `applications`.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// Applications seen.
    pub applications: BTreeSet<ApplicationId>,
    /// When anything was last seen.
    pub last: Timestamp,
    /// The link itself.
    pub link: &'a Link,
}

fn conversation<'a>(from: &'a EndpointId, to: &'a EndpointId, link: &'a Link) -> Conversation<'a> {
    let volume = link.volume();
    let mut short = Conversation {
        from,
        to,
        bytes: volume.bytes,
        sessions: volume.sessions,
        verdict: link.verdict(),
        protocols: BTreeSet::new(),
        ports: BTreeSet::new(),
        applications: BTreeSet::new(),
        last: link.last(),
        link,
    };
    for (key, _) in link.entries() {
        short.protocols.insert(key.protocol);
        if key.application == ApplicationId::ANY {
            short.ports.insert((key.protocol, key.port));
        } else {
            short.applications.insert(key.application);
        }
    }
    short
}

impl Graph {
    /// Every conversation for whose ends `keep` holds, sorted by its ends: by workload, group or namespace, as the
    /// caller knows what an end belongs to.
    pub fn conversations<'a>(
        &'a self,
        mut keep: impl FnMut(&EndpointId, &EndpointId) -> bool,
    ) -> Vec<Conversation<'a>> {
        self.links()
            .filter(|(from, to, _)| keep(from, to))
            .map(|(from, to, link)| conversation(from, to, link))
            .collect()
    }

    /// One conversation.
    #[must_use]
    pub fn conversation<'a>(&'a self, from: &EndpointId, to: &EndpointId) -> Option<Conversation<'a>> {
        self.pair(from, to).map(|(from, to, link)| conversation(from, to, link))
    }

    /// What each end has served: protocol, port and application of the connections that it accepted, but for those that
    /// were stopped.
    #[must_use]
    pub fn served(&self) -> BTreeMap<&EndpointId, BTreeSet<(Protocol, u16, ApplicationId)>> {
        let mut served: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (_, to, link) in self.links() {
            let seen = link.entries().filter(|(_, entry)| entry.verdict != Verdict::Deny);
            let seen = seen.map(|(key, _)| (key.protocol, key.port, key.application));
            served.entry(to).or_default().extend(seen);
        }
        // A port whose application is known is not one without.
        for ports in served.values_mut() {
            let known: BTreeSet<(Protocol, u16)> = ports
                .iter()
                .filter(|(_, _, application)| *application != ApplicationId::ANY)
                .map(|(protocol, port, _)| (*protocol, *port))
                .collect();
            ports.retain(|(protocol, port, application)| {
                *application != ApplicationId::ANY || !known.contains(&(*protocol, *port))
            });
        }
        served
    }

    /// The entries of all links from any of `from` to any of `to`, the last seen first, at most `limit`.
    #[must_use]
    pub fn entries_between<'a>(
        &'a self,
        from: &BTreeSet<EndpointId>,
        to: &BTreeSet<EndpointId>,
        limit: usize,
    ) -> Vec<(&'a EndpointId, &'a EndpointId, &'a EntryKey, &'a Entry)> {
        let mut entries: Vec<_> = self
            .links()
            .filter(|(a, b, _)| from.contains(*a) && to.contains(*b))
            .flat_map(|(a, b, link)| link.entries().map(move |(key, entry)| (a, b, key, entry)))
            .collect();
        entries.sort_by(|(.., a_key, a), (.., b_key, b)| b.last.cmp(&a.last).then(a_key.cmp(b_key)));
        entries.truncate(limit);
        entries
    }
}
