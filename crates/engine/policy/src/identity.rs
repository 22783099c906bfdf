//! Identities: numbers for sets of endpoints that no rule tells apart.

use std::collections::{BTreeSet, HashMap};

use nv_model::name::{Domain, GroupName};
use nv_model::policy::{IdentityId, IdentityKind};
use serde::{Deserialize, Serialize};

/// What makes two endpoints the same to every rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdentityKey {
    /// What it stands for.
    pub kind: IdentityKind,
    /// The group whose mode counts.
    pub group: GroupName,
    /// The namespace, for its boundary.
    pub domain: Option<Domain>,
    /// Every group that it is in, sorted.
    pub groups: Vec<GroupName>,
}

/// Numbers handed out so far. Data: store it with the policy, so that numbers stay the same over a restart; losing it
/// costs a whole policy to every node and nothing else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(IdentityId, IdentityKey)>", into = "Vec<(IdentityId, IdentityKey)>")]
pub struct Identities {
    numbers: HashMap<IdentityKey, IdentityId>,
    next: u32,
}

impl From<Vec<(IdentityId, IdentityKey)>> for Identities {
    fn from(list: Vec<(IdentityId, IdentityKey)>) -> Self {
        let next = list.iter().map(|(id, _)| id.0).max().unwrap_or(0);
        Self { numbers: list.into_iter().map(|(id, key)| (key, id)).collect(), next }
    }
}

impl From<Identities> for Vec<(IdentityId, IdentityKey)> {
    fn from(identities: Identities) -> Self {
        let mut list: Self = identities.numbers.into_iter().map(|(key, id)| (id, key)).collect();
        list.sort_unstable_by_key(|(id, _)| *id);
        list
    }
}

impl Identities {
    /// Most numbers kept for sets that nobody is in any more, so that a service that is scaled to none and back keeps
    /// its number.
    pub const MAX_IDLE: usize = 4096;

    /// The number of a set; a new one when it has none. Numbers are not used again before all 2^32 were.
    pub fn number(&mut self, key: &IdentityKey) -> IdentityId {
        if let Some(id) = self.numbers.get(key) {
            return *id;
        }
        let mut id = self.next.checked_add(1).unwrap_or(0).max(IdentityId::FIRST);
        if self.next == u32::MAX {
            let taken: BTreeSet<u32> = self.numbers.values().map(|id| id.0).collect();
            id = (IdentityId::FIRST..).find(|id| !taken.contains(id)).unwrap_or(IdentityId::FIRST);
        }
        self.next = id;
        self.numbers.insert(key.clone(), IdentityId(id));
        IdentityId(id)
    }

    /// Forgets the oldest sets that nobody is in, beyond [`Self::MAX_IDLE`].
    pub fn forget_idle(&mut self, used: &BTreeSet<IdentityId>) {
        if self.numbers.len() <= used.len().saturating_add(Self::MAX_IDLE) {
            return;
        }
        let mut idle: Vec<IdentityId> =
            self.numbers.values().filter(|id| !used.contains(id)).copied().collect();
        idle.sort_unstable();
        let surplus: BTreeSet<IdentityId> =
            idle.iter().take(idle.len().saturating_sub(Self::MAX_IDLE)).copied().collect();
        self.numbers.retain(|_, id| !surplus.contains(id));
    }

    /// How many numbers are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str) -> IdentityKey {
        let group: GroupName = group.parse().unwrap();
        IdentityKey { kind: IdentityKind::Workload, group: group.clone(), domain: None, groups: vec![group] }
    }

    #[test]
    fn a_set_keeps_its_number_over_a_restart() {
        let mut identities = Identities::default();
        let (a, b) = (identities.number(&key("nv.a")), identities.number(&key("nv.b")));
        assert_eq!((a, b), (IdentityId(16), IdentityId(17)));
        let stored = serde_json::to_string(&identities).unwrap();
        let mut restored: Identities = serde_json::from_str(&stored).unwrap();
        assert_eq!(restored.number(&key("nv.b")), b);
        assert_eq!(restored.number(&key("nv.c")), IdentityId(18));
    }

    #[test]
    fn idle_numbers_are_bounded_and_the_oldest_go_first() {
        let mut identities = Identities::default();
        let kept = identities.number(&key("nv.kept"));
        for n in 0..Identities::MAX_IDLE + 10 {
            identities.number(&key(&format!("nv.{n}")));
        }
        identities.forget_idle(&BTreeSet::from([kept]));
        assert_eq!(identities.len(), Identities::MAX_IDLE + 1);
        assert_eq!(identities.number(&key("nv.kept")), kept);
    }
}
