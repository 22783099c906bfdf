//! All links, bounded.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::conversation::EndpointId;
use nv_model::observation::{ConnectionObservation, Peer};
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::link::Link;

/// How much a graph may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most links.
    pub links: usize,
    /// Most entries over all links.
    pub entries: usize,
}

impl Default for Limits {
    /// 50,000 links and 200,000 entries: about 60 MB at worst.
    fn default() -> Self {
        Self { links: 50_000, entries: 200_000 }
    }
}

/// What was given up to stay within bounds; totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Entries of links that were full.
    pub entries: u64,
    /// Whole links, the least recently seen first.
    pub links: u64,
}

/// The two ends of a link: who opens, who accepts.
pub type Ends = (EndpointId, EndpointId);

/// Who talks to whom.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// By client, then by server.
    links: BTreeMap<EndpointId, BTreeMap<EndpointId, Link>>,
    /// Clients by server, so that both directions of an end are found without a walk.
    clients: BTreeMap<EndpointId, BTreeSet<EndpointId>>,
    pairs: usize,
    entries: usize,
    limits: Limits,
    drops: Drops,
}

/// A graph as it is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Format; a checkpoint of another one is not read.
    pub version: u32,
    /// Every link.
    pub links: Vec<(EndpointId, EndpointId, Link)>,
}

impl Checkpoint {
    /// The format that this build writes and reads.
    pub const VERSION: u32 = 1;
}

impl Graph {
    /// An empty graph with other bounds than the usual ones.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes in what a node has seen; `end` says who a peer is. Returns the ends that it was counted for.
    pub fn observe(&mut self, seen: &ConnectionObservation, end: impl Fn(&Peer) -> EndpointId) -> Ends {
        let ends = (end(&seen.client), end(&seen.server));
        let new = self.link(&ends.0, &ends.1).is_none();
        if new || self.entries >= self.limits.entries {
            self.make_room();
        }
        if self.link(&ends.0, &ends.1).is_none() {
            self.insert(&ends, Link::default());
        }
        let link = self.links.entry(ends.0.clone()).or_default().entry(ends.1.clone()).or_default();
        let before = link.entries().len();
        let dropped = link.observe(seen);
        self.entries = self.entries.saturating_sub(before).saturating_add(link.entries().len());
        self.drops.entries = self.drops.entries.saturating_add(u64::try_from(dropped).unwrap_or(u64::MAX));
        ends
    }

    fn insert(&mut self, ends: &Ends, link: Link) {
        self.remove_pair(&ends.0, &ends.1);
        self.pairs = self.pairs.saturating_add(1);
        self.entries = self.entries.saturating_add(link.entries().len());
        self.clients.entry(ends.1.clone()).or_default().insert(ends.0.clone());
        self.links.entry(ends.0.clone()).or_default().insert(ends.1.clone(), link);
    }

    /// Drops the least recently seen links, a hundredth of what is allowed at a time, so that the search for them is
    /// paid for by many insertions.
    fn make_room(&mut self) {
        if self.pairs < self.limits.links && self.entries < self.limits.entries {
            return;
        }
        let mut ages: Vec<(Timestamp, Ends)> =
            self.links().map(|(from, to, link)| (link.last(), (from.clone(), to.clone()))).collect();
        ages.sort_unstable();
        let at_least = (self.limits.links / 100).max(1);
        for (at, (_, ends)) in ages.iter().enumerate() {
            if at >= at_least && self.entries < self.limits.entries - self.limits.entries / 100 {
                break;
            }
            self.remove_pair(&ends.0, &ends.1);
            self.drops.links = self.drops.links.saturating_add(1);
        }
    }

    /// Every link, sorted by its ends.
    pub fn links(&self) -> impl Iterator<Item = (&EndpointId, &EndpointId, &Link)> {
        self.links.iter().flat_map(|(from, served)| served.iter().map(move |(to, link)| (from, to, link)))
    }

    /// How many links there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs
    }

    /// Whether there is no link.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// The link from one end to another.
    #[must_use]
    pub fn link(&self, from: &EndpointId, to: &EndpointId) -> Option<&Link> {
        self.links.get(from)?.get(to)
    }

    pub(crate) fn pair(
        &self,
        from: &EndpointId,
        to: &EndpointId,
    ) -> Option<(&EndpointId, &EndpointId, &Link)> {
        let (from, served) = self.links.get_key_value(from)?;
        served.get_key_value(to).map(|(to, link)| (from, to, link))
    }

    /// Every end that talks or is talked to.
    #[must_use]
    pub fn endpoints(&self) -> BTreeSet<&EndpointId> {
        self.links.keys().chain(self.clients.keys()).collect()
    }

    /// How many entries all links have.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// What was given up so far.
    #[must_use]
    pub const fn drops(&self) -> Drops {
        self.drops
    }

    /// Forgets one direction between two ends; whether there was one.
    pub fn remove_pair(&mut self, from: &EndpointId, to: &EndpointId) -> bool {
        let Some(served) = self.links.get_mut(from) else { return false };
        let Some(link) = served.remove(to) else { return false };
        if served.is_empty() {
            self.links.remove(from);
        }
        self.pairs = self.pairs.saturating_sub(1);
        self.entries = self.entries.saturating_sub(link.entries().len());
        if let Some(clients) = self.clients.get_mut(to) {
            clients.remove(from);
            if clients.is_empty() {
                self.clients.remove(to);
            }
        }
        true
    }

    /// Forgets an end with everything from and to it; how many links that were.
    pub fn remove_endpoint(&mut self, id: &EndpointId) -> usize {
        let served =
            self.links.get(id).into_iter().flat_map(BTreeMap::keys).map(|to| (id.clone(), to.clone()));
        let opened = self.clients.get(id).into_iter().flatten().map(|from| (from.clone(), id.clone()));
        let pairs: Vec<Ends> = served.chain(opened).collect();
        pairs.iter().filter(|(from, to)| self.remove_pair(from, to)).count()
    }

    /// Forgets what a rule decided, as that is no longer so when the rule is changed or deleted; how many entries.
    pub fn forget_rule(&mut self, rule: RuleId) -> usize {
        let mut forgotten = 0_usize;
        let mut emptied = Vec::new();
        for (from, served) in &mut self.links {
            for (to, link) in served {
                forgotten = forgotten.saturating_add(link.forget_rule(rule));
                if link.entries().len() == 0 {
                    emptied.push((from.clone(), to.clone()));
                }
            }
        }
        self.entries = self.entries.saturating_sub(forgotten);
        for (from, to) in emptied {
            self.remove_pair(&from, &to);
        }
        forgotten
    }

    /// Forgets everything; the counters of drops stay.
    pub fn clear(&mut self) {
        *self = Self { limits: self.limits, drops: self.drops, ..Self::default() };
    }

    /// What to keep over a restart.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            version: Checkpoint::VERSION,
            links: self.links().map(|(from, to, link)| (from.clone(), to.clone(), link.clone())).collect(),
        }
    }

    /// A graph from what was kept; empty when that is of another format. What is beyond `limits` is dropped.
    #[must_use]
    pub fn restore(checkpoint: Checkpoint, limits: Limits) -> Self {
        let mut graph = Self::with_limits(limits);
        if checkpoint.version != Checkpoint::VERSION {
            return graph;
        }
        for (from, to, link) in checkpoint.links {
            graph.make_room();
            graph.insert(&(from, to), link);
        }
        graph
    }
}

#[cfg(test)]
mod tests;
