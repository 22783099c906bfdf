//! Names of hosts in policy: which addresses they have, as answers of the DNS said, and what that makes of identities.
//!
//! A group by names is an identity without addresses ([`Identity::names`]). On a node an address that a name led to gets
//! an identity of the node's own, which stands for three things ([`Named`]): what the address is without any name, the
//! groups that one of its names is in, and those that all of them are in. An allowance holds where one name is meant; a
//! denial only where every name is, since others may live at the same address. Which of them a connection means it says
//! itself ([`crate::layer7`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use nv_model::group::{Group, GroupKind};
use nv_model::policy::{Identity, IdentityId, IdentityKind, NodePolicy, ResolvedRule};
use nv_model::verdict::Action;
use serde::{Deserialize, Serialize};

use crate::address::{AddressValue, host_net};

/// Most names that are remembered, over all addresses.
pub const MAX_NAMES: usize = 65_536;
/// Most names of one address; the one that ends first makes room.
pub const MAX_NAMES_OF_ADDRESS: usize = 32;
/// Most different identities that names make of addresses.
pub const MAX_NAMED: usize = 1024;
/// First number of the identities that a node makes itself.
pub const FIRST_NAMED: u32 = 0xC000_0000;

/// The criteria of an address group that are names, as they are written.
#[must_use]
pub fn of_group(group: &Group) -> Vec<String> {
    if !matches!(group.kind, GroupKind::Address | GroupKind::IpService) {
        return Vec::new();
    }
    let addresses = group.criteria.iter().filter(|criterion| criterion.key == "address");
    let names = addresses.filter(|criterion| {
        matches!(
            criterion.value.parse(),
            Ok(AddressValue::Name(_) | AddressValue::Below(_) | AddressValue::VirtualHost(_))
        )
    });
    names.map(|criterion| criterion.value.trim().to_ascii_lowercase()).collect()
}

/// The name of a host as a client writes it, in lower case, without its port and its last dot; `None` for an address.
#[must_use]
pub fn host(raw: &str) -> Option<String> {
    let name = match raw.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => raw,
    };
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let name = name.trim_end_matches('.');
    (!is_address && !name.is_empty() && name.len() <= 253).then(|| name.to_ascii_lowercase())
}

/// Whether a name (`www.example.com`, or `*.example.com` for all below it) means this host; both in lower case.
#[must_use]
pub fn is_meant(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|below| below.ends_with('.')),
        None => name == host,
    }
}

/// A name of an address, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: Box<str>,
    /// In nanoseconds since 1970.
    from: u64,
    until: u64,
}

/// Names of addresses, out of answers of the DNS. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    by_address: HashMap<IpAddr, Vec<Known>>,
    #[serde(skip)]
    dropped: u64,
}

impl Names {
    /// Takes an answer: `name` has `address` from `at` on for so many seconds. Whether the address has a name by it that
    /// it had not. What no rule names (`wanted` is false) fills half of the room at most: whoever asks for many such
    /// names must not push out those that count.
    pub fn learn(&mut self, name: &str, address: IpAddr, at: u64, seconds: u64, wanted: bool) -> bool {
        let until = at.saturating_add(seconds.saturating_mul(1_000_000_000));
        let address = address.to_canonical();
        if let Some(known) = self.by_address.get_mut(&address)
            && let Some(same) = known.iter_mut().find(|known| &*known.name == name)
        {
            // Between two answers that are both over, nobody asked for it.
            let anew = same.until < at;
            same.from = if anew { at } else { same.from.min(at) };
            same.until = same.until.max(until);
            return anew;
        }
        let room = if wanted { MAX_NAMES } else { MAX_NAMES / 2 };
        if self.len() >= room {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        let known = self.by_address.entry(address).or_default();
        if known.len() >= MAX_NAMES_OF_ADDRESS {
            self.dropped = self.dropped.saturating_add(1);
            let first = known.iter().enumerate().min_by_key(|(_, known)| known.until).map(|(at, _)| at);
            if let Some(first) = first {
                known.swap_remove(first);
            }
        }
        known.push(Known { name: name.into(), from: at, until });
        true
    }

    /// The names that an address has at this time.
    pub fn of(&self, address: IpAddr, at: u64) -> impl Iterator<Item = &str> {
        let known = self.by_address.get(&address.to_canonical()).map_or(&[][..], Vec::as_slice);
        known.iter().filter(move |known| known.from <= at && at <= known.until).map(|known| &*known.name)
    }

    /// Forgets names that ended before `now`, but for those of addresses that are in use. Whether there were any.
    pub fn forget(&mut self, now: u64, in_use: impl Fn(IpAddr) -> bool) -> bool {
        let before = self.len();
        self.by_address.retain(|address, known| {
            if known.iter().any(|known| known.until < now) {
                if in_use(*address) {
                    // As long as somebody talks to it, it is who it was when that began.
                    known.iter_mut().for_each(|known| known.until = known.until.max(now));
                }
                known.retain(|known| known.until >= now);
            }
            !known.is_empty()
        });
        self.len() != before
    }

    /// Whether a name ended before `now`.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.by_address.values().flatten().any(|known| known.until < now)
    }

    /// Addresses that have names.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_address.keys().copied()
    }

    /// How many names are known, over all addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_address.values().map(Vec::len).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Names that found no room, or had to make some.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What an address with names stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Named {
    /// What it is without any name.
    pub base: IdentityId,
    /// Groups by names that mean one of its names.
    pub some: BTreeSet<IdentityId>,
    /// Of these, the ones that mean all of its names.
    pub all: BTreeSet<IdentityId>,
}

impl Named {
    /// Whether a rule's end speaks of the address, as far as that can be said without knowing which host is meant.
    #[must_use]
    pub fn is_in(&self, end: &[IdentityId], action: Action) -> bool {
        let groups = if action == Action::Allow { &self.some } else { &self.all };
        end.binary_search(&self.base).is_ok() || groups.iter().any(|id| end.binary_search(id).is_ok())
    }
}

/// Identities that a node has made of names, by number. A number is not used again before all others were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(IdentityId, Named)>", into = "Vec<(IdentityId, Named)>")]
pub struct NamedIdentities {
    numbers: BTreeMap<Named, IdentityId>,
    next: u32,
    refused: u64,
}

impl From<Vec<(IdentityId, Named)>> for NamedIdentities {
    fn from(list: Vec<(IdentityId, Named)>) -> Self {
        let ours = list.into_iter().filter(|(id, _)| id.0 >= FIRST_NAMED).take(MAX_NAMED);
        let numbers: BTreeMap<Named, IdentityId> = ours.map(|(id, named)| (named, id)).collect();
        let last = numbers.values().map(|id| id.0 - FIRST_NAMED).max();
        Self { numbers, next: last.map_or(0, |last| last.saturating_add(1)), refused: 0 }
    }
}

impl From<NamedIdentities> for Vec<(IdentityId, Named)> {
    fn from(identities: NamedIdentities) -> Self {
        identities.all().into_iter().collect()
    }
}

impl NamedIdentities {
    /// The number of what is there already.
    #[must_use]
    pub fn get(&self, named: &Named) -> Option<IdentityId> {
        self.numbers.get(named).copied()
    }
    fn number(&mut self, named: Named) -> Option<IdentityId> {
        if let Some(id) = self.numbers.get(&named) {
            return Some(*id);
        }
        if self.numbers.len() >= MAX_NAMED {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let id = IdentityId(FIRST_NAMED.saturating_add(self.next));
        self.next = self.next.wrapping_add(1) % (u32::MAX - FIRST_NAMED);
        self.numbers.insert(named, id);
        Some(id)
    }
    /// What each of them stands for.
    #[must_use]
    pub fn all(&self) -> BTreeMap<IdentityId, Named> {
        self.numbers.iter().map(|(named, id)| (*id, named.clone())).collect()
    }
    /// Addresses whose names make an identity for which there is no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Names that the policy speaks of, read once.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Vec<(IdentityId, Vec<String>)>);

impl Wanted {
    /// Those of a policy; virtual hosts are no names of addresses.
    #[must_use]
    pub fn of(policy: &NodePolicy) -> Self {
        let by_address = |names: &[String]| -> Vec<String> {
            names.iter().filter(|name| !name.starts_with("vh:")).cloned().collect()
        };
        let named = policy.identities.iter().map(|(id, identity)| (*id, by_address(&identity.names)));
        Self(named.filter(|(_, names)| !names.is_empty()).collect())
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether one of them means this host.
    #[must_use]
    pub fn means(&self, host: &str) -> bool {
        self.0.iter().any(|(_, names)| names.iter().any(|name| is_meant(name, host)))
    }
    /// What an address stands for by its names at this time; `None` when no rule means any of them, or when it is a
    /// workload's or a node's: these stay who they are, whatever somebody's DNS says.
    #[must_use]
    pub fn named(&self, policy: &NodePolicy, names: &Names, address: IpAddr, at: u64) -> Option<Named> {
        let base = identity_of(policy, address);
        let kind = policy.identities.get(&base).map(|identity| identity.kind);
        let (some, all) = self.groups(names.of(address, at));
        (kind.is_none_or(may_be_named) && !some.is_empty()).then_some(Named { base, some, all })
    }
    fn groups<'n>(
        &self,
        hosts: impl Iterator<Item = &'n str>,
    ) -> (BTreeSet<IdentityId>, BTreeSet<IdentityId>) {
        let hosts: Vec<&str> = hosts.collect();
        let (mut some, mut all) = (BTreeSet::new(), BTreeSet::new());
        for (id, names) in &self.0 {
            let meant = |host: &&&str| names.iter().any(|name| is_meant(name, host));
            let count = hosts.iter().filter(meant).count();
            if count > 0 {
                some.insert(*id);
                if count == hosts.len() {
                    all.insert(*id);
                }
            }
        }
        (some, all)
    }
}

/// Whether an address of this kind may be a host of a name.
pub(crate) const fn may_be_named(kind: IdentityKind) -> bool {
    matches!(kind, IdentityKind::External | IdentityKind::Unmanaged | IdentityKind::Address)
}

/// The policy with rows for the addresses that have names at this time.
#[must_use]
pub fn expand(policy: &NodePolicy, names: &Names, at: u64, identities: &mut NamedIdentities) -> NodePolicy {
    let wanted = Wanted::of(policy);
    let mut expanded = policy.clone();
    let mut used: BTreeMap<Named, IdentityId> = BTreeMap::new();
    let mut rows: Vec<(IpAddr, IdentityId)> = Vec::new();
    if !wanted.is_empty() {
        for address in names.addresses() {
            let Some(named) = wanted.named(policy, names, address, at) else { continue };
            if let Some(id) = identities.number(named.clone()) {
                used.insert(named, id);
                rows.push((address, id));
            }
        }
    }
    identities.numbers.retain(|named, _| used.contains_key(named));
    for (named, id) in &used {
        let group = named.some.first().and_then(|id| policy.identities.get(id));
        let Some(group) = group.map(|identity| identity.group.clone()) else { continue };
        let mode = policy.identities.get(&named.base).and_then(|identity| identity.mode);
        let identity = Identity { kind: IdentityKind::Address, group, mode, names: Vec::new() };
        expanded.identities.insert(*id, identity);
    }
    expanded.addresses.extend(rows.into_iter().map(|(address, id)| (host_net(address), id)));
    let anywhere = nameable(policy);
    for rule in &mut expanded.rules {
        widen(rule, policy, &anywhere, &used);
    }
    expanded
}

/// Identities of addresses that a virtual host may live at.
fn nameable(policy: &NodePolicy) -> Vec<IdentityId> {
    let known = policy.identities.iter().filter(|(_, identity)| may_be_named(identity.kind));
    known.map(|(id, _)| *id).chain([IdentityId::EXTERNAL]).collect()
}

fn widen(
    rule: &mut ResolvedRule,
    policy: &NodePolicy,
    anywhere: &[IdentityId],
    used: &BTreeMap<Named, IdentityId>,
) {
    let is_virtual = |id: &IdentityId| {
        let names = policy.identities.get(id).map_or(&[][..], |identity| &identity.names);
        names.iter().any(|name| name.starts_with("vh:"))
    };
    // Which host is meant shows only when the connection speaks: until then an allowance of some holds.
    if rule.action == Action::Allow && rule.to.iter().any(is_virtual) {
        rule.to.extend(anywhere);
        rule.to.sort_unstable();
        rule.to.dedup();
    }
    let extend = |end: &mut Vec<IdentityId>| {
        let more: Vec<IdentityId> =
            used.iter().filter(|(named, _)| named.is_in(end, rule.action)).map(|(_, id)| *id).collect();
        end.extend(more);
        end.sort_unstable();
        end.dedup();
    };
    extend(&mut rule.from);
    extend(&mut rule.to);
}

/// The identity that an address has: the longest prefix counts, outside of all it is external.
#[must_use]
pub fn identity_of(policy: &NodePolicy, address: IpAddr) -> IdentityId {
    longest(&policy.addresses, address).unwrap_or(IdentityId::EXTERNAL)
}

/// What the longest prefix that an address is in says.
pub(crate) fn longest(addresses: &BTreeMap<ipnet::IpNet, IdentityId>, address: IpAddr) -> Option<IdentityId> {
    if addresses.is_empty() {
        return None;
    }
    let mut next = Some(host_net(address));
    while let Some(net) = next {
        if let Some(id) = addresses.get(&net) {
            return Some(*id);
        }
        next = net.supernet();
    }
    None
}

#[cfg(test)]
mod tests;
