//! Writes the policy into the kernel's tables.
//!
//! [`Tables`] is the only writer and knows what the tables hold, so that a new policy is the difference to the old one.
//! The order of the writes makes every single lookup go from its old answer to its new one, never through a third
//! (see [`plan`]); flows that are cached follow when the generation is raised at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;

use ipnet::IpNet;

use crate::map::{Map, Plain, TableError, name};
use crate::rows::{AddressKey, Endpoint, ModeRow, Prefix, RuleKey, RuleRow, SettingsRow};

/// The rows of one policy. [`Endpoint`]s are apart: they come and go with pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Mode by identity. An identity without a row leaves the other end's mode.
    pub modes: BTreeMap<u32, ModeRow>,
    /// Identity by network; an address outside of all of them is external.
    pub addresses: BTreeMap<AddressKey, u32>,
    /// Rules, folded into prefixes of ports.
    pub rules: BTreeMap<RuleKey, RuleRow>,
    /// Of two modes the stricter one holds.
    pub strict: bool,
    /// No verdicts but quarantine.
    pub disabled: bool,
}

impl Rows {
    /// Sets the identity of a network.
    pub fn set_address(&mut self, net: IpNet, identity: u32) {
        self.addresses.insert(AddressKey::new(net), identity);
    }
}

/// What a write has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows written.
    pub written: usize,
    /// Rows deleted.
    pub deleted: usize,
    /// The generation that holds from now on.
    pub generation: u32,
}

/// The tables that hold policy.
#[derive(Debug)]
pub struct Tables {
    modes: Map<u32, ModeRow>,
    addresses: Map<AddressKey, u32>,
    rules: Map<RuleKey, RuleRow>,
    endpoints: Map<u32, Endpoint>,
    settings: Map<u32, SettingsRow>,
    service_ranges: Map<AddressKey, u32>,
    held: Rows,
    held_endpoints: BTreeMap<u32, Endpoint>,
    generation: u32,
    token: u32,
}

impl Tables {
    /// From what the loader has handed over. What the tables hold already, from before a restart, is read.
    ///
    /// # Errors
    /// When a table is missing, of another version, or cannot be read.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        let modes = Map::find(name::MODES, descriptors)?;
        let addresses = Map::find(name::ADDRESSES, descriptors)?;
        let rules = Map::find(name::RULES, descriptors)?;
        let endpoints: Map<u32, Endpoint> = Map::find(name::ENDPOINTS, descriptors)?;
        let settings: Map<u32, SettingsRow> = Map::find(name::SETTINGS, descriptors)?;
        let set = settings.get(&0)?.unwrap_or_default();
        let service_ranges = Map::find(name::SERVICE_RANGES, descriptors)?;
        let held = Rows {
            modes: modes.all()?.into_iter().collect(),
            addresses: addresses.all()?.into_iter().collect(),
            rules: rules.all()?.into_iter().collect(),
            strict: set.strict != 0,
            disabled: set.disabled != 0,
        };
        let held_endpoints = endpoints.all()?.into_iter().collect();
        let generation = set.generation;
        // Packets may be on their way back from an inspector with the one that is there.
        let token = if set.token == 0 { token() } else { set.token };
        Ok(Self {
            modes,
            addresses,
            rules,
            endpoints,
            settings,
            service_ranges,
            held,
            held_endpoints,
            generation,
            token,
        })
    }
    /// Says which networks only services have addresses of, that no host has. A connection to one of them that no rule
    /// names is judged by who serves it, from its second packet on where nobody on this node has used the service yet.
    ///
    /// # Errors
    /// When there are more than fit, or the kernel refuses.
    pub fn set_service_ranges(&self, ranges: &[IpNet]) -> Result<(), TableError> {
        let wanted: BTreeSet<AddressKey> = ranges.iter().copied().map(AddressKey::new).collect();
        self.service_ranges.check_capacity(wanted.len())?;
        for (old, _) in self.service_ranges.all()? {
            if !wanted.contains(&old) {
                self.service_ranges.remove(&old)?;
            }
        }
        wanted.iter().try_for_each(|range| self.service_ranges.put(range, &1))
    }
    /// What the tables hold.
    #[must_use]
    pub fn held(&self) -> &Rows {
        &self.held
    }
    /// Endpoints by interface index.
    #[must_use]
    pub fn endpoints(&self) -> &BTreeMap<u32, Endpoint> {
        &self.held_endpoints
    }
    /// The generation that flows are judged by.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// Makes `rows` the policy: writes what differs, then raises the generation. Costs nothing when nothing differs.
    ///
    /// # Errors
    /// When `rows` do not fit (nothing is written then), or the kernel refuses a write: the rows before are put back as
    /// far as the kernel takes them, and the call may be repeated.
    pub fn apply(&mut self, rows: &Rows) -> Result<Applied, TableError> {
        // Both policies are in the tables for a moment.
        self.modes.check_capacity(union(&self.held.modes, &rows.modes))?;
        self.addresses.check_capacity(union(&self.held.addresses, &rows.addresses))?;
        self.rules.check_capacity(union(&self.held.rules, &rows.rules))?;
        if *rows == self.held {
            return Ok(Applied { generation: self.generation, ..Applied::default() });
        }
        let before = self.held.clone();
        let mut applied = Applied::default();
        if let Err(error) = self.write(rows, &mut applied) {
            // `held` says how far it came, so that the way back is a difference like any other.
            if let Err(back) = self.write(&before, &mut Applied::default()) {
                tracing::error!(error = %back, "the policy before could not be put back either");
            }
            return Err(error);
        }
        applied.generation = self.generation;
        Ok(applied)
    }
    /// Gives one network to an identity whose other rows are there. One row and the generation.
    ///
    /// # Errors
    /// When the table is full or the kernel refuses.
    pub fn set_address(&mut self, net: IpNet, identity: u32) -> Result<(), TableError> {
        let key = AddressKey::new(net);
        if self.held.addresses.get(&key) == Some(&identity) {
            return Ok(());
        }
        if !self.held.addresses.contains_key(&key) {
            self.addresses.check_capacity(self.held.addresses.len().saturating_add(1))?;
        }
        self.addresses.put(&key, &identity)?;
        self.held.addresses.insert(key, identity);
        self.bump_generation()
    }
    /// Sets the mode of one identity. One row and the generation.
    ///
    /// # Errors
    /// When the table is full or the kernel refuses.
    pub fn set_mode(&mut self, identity: u32, mode: ModeRow) -> Result<(), TableError> {
        if self.held.modes.get(&identity) == Some(&mode) {
            return Ok(());
        }
        self.modes.put(&identity, &mode)?;
        self.held.modes.insert(identity, mode);
        self.bump_generation()
    }
    /// Says what a host end of a veth belongs to. Call it before the interface is attached.
    ///
    /// # Errors
    /// When the table is full or the kernel refuses.
    pub fn set_endpoint(&mut self, ifindex: u32, endpoint: Endpoint) -> Result<(), TableError> {
        let held = self.held_endpoints.get(&ifindex).copied();
        if held == Some(endpoint) {
            return Ok(());
        }
        if held.is_none() {
            self.endpoints.check_capacity(self.held_endpoints.len().saturating_add(1))?;
        }
        self.endpoints.put(&ifindex, &endpoint)?;
        self.held_endpoints.insert(ifindex, endpoint);
        // Without a row there were no flows to judge again.
        if held.is_some() { self.bump_generation() } else { Ok(()) }
    }
    /// Forgets a host end; its packets pass from now on. Answers whether it was known.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_endpoint(&mut self, ifindex: u32) -> Result<bool, TableError> {
        if !self.held_endpoints.contains_key(&ifindex) {
            return Ok(false);
        }
        self.endpoints.remove(&ifindex)?;
        self.held_endpoints.remove(&ifindex);
        self.bump_generation()?;
        Ok(true)
    }
    /// Has every flow judged again at its next packet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bump_generation(&mut self) -> Result<(), TableError> {
        self.generation = self.generation.wrapping_add(1);
        self.write_settings()
    }

    fn write(&mut self, rows: &Rows, applied: &mut Applied) -> Result<(), TableError> {
        // What is pointed to comes before what points to it, and goes after it.
        let modes = plan(&self.held.modes, &rows.modes, |_| 0);
        let rules = plan(&self.held.rules, &rows.rules, Prefix::bits);
        let addresses = plan(&self.held.addresses, &rows.addresses, Prefix::bits);
        put_all(&self.modes, &mut self.held.modes, &modes, applied)?;
        put_all(&self.rules, &mut self.held.rules, &rules, applied)?;
        put_all(&self.addresses, &mut self.held.addresses, &addresses, applied)?;
        remove_all(&self.addresses, &mut self.held.addresses, &addresses, applied)?;
        remove_all(&self.rules, &mut self.held.rules, &rules, applied)?;
        remove_all(&self.modes, &mut self.held.modes, &modes, applied)?;
        self.held.strict = rows.strict;
        self.held.disabled = rows.disabled;
        self.bump_generation()
    }
    fn write_settings(&self) -> Result<(), TableError> {
        let row = SettingsRow {
            generation: self.generation,
            strict: u32::from(self.held.strict),
            disabled: u32::from(self.held.disabled),
            token: self.token,
        };
        self.settings.put(&0, &row)
    }
}

/// A mark that no packet has by chance, nor knows anybody who marks packets.
fn token() -> u32 {
    let number = RandomState::new().hash_one(crate::clock::monotonic_nanos());
    u32::try_from(number & 0xffff_ffff).unwrap_or(0) | 1
}

fn union<K: Ord, V>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> usize {
    one.len().saturating_add(other.keys().filter(|key| !one.contains_key(key)).count())
}

/// The writes that lead from one table to the next, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Plan<K, V> {
    put: Vec<(K, V)>,
    remove: Vec<K>,
}

/// Longest prefixes are written first and deleted last. Then a lookup keeps its old answer until its new longest row is
/// there, or, where the new longest row is shorter than the old one, until the old one is deleted: rows of neither
/// policy's answer are always hidden behind a longer one.
fn plan<K: Ord + Copy, V: PartialEq + Copy>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    bits: impl Fn(&K) -> u32,
) -> Plan<K, V> {
    let mut put: Vec<(K, V)> =
        new.iter().filter(|(key, row)| old.get(key) != Some(row)).map(|(key, row)| (*key, *row)).collect();
    put.sort_by_key(|(key, _)| std::cmp::Reverse(bits(key)));
    let mut remove: Vec<K> = old.keys().filter(|key| !new.contains_key(key)).copied().collect();
    remove.sort_by_key(&bits);
    Plan { put, remove }
}

fn put_all<K: Plain + Ord, V: Plain>(
    map: &Map<K, V>,
    held: &mut BTreeMap<K, V>,
    plan: &Plan<K, V>,
    applied: &mut Applied,
) -> Result<(), TableError> {
    for (key, row) in &plan.put {
        map.put(key, row)?;
        held.insert(*key, *row);
        applied.written = applied.written.saturating_add(1);
    }
    Ok(())
}

fn remove_all<K: Plain + Ord, V: Plain>(
    map: &Map<K, V>,
    held: &mut BTreeMap<K, V>,
    plan: &Plan<K, V>,
    applied: &mut Applied,
) -> Result<(), TableError> {
    for key in &plan.remove {
        map.remove(key)?;
        held.remove(key);
        applied.deleted = applied.deleted.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A prefix over four bits: (length, value).
    type Key = (u32, u8);

    fn lookup(table: &BTreeMap<Key, u8>, point: u8) -> Option<u8> {
        (0..=4_u32).rev().find_map(|bits| table.get(&(bits, mask(point, bits))).copied())
    }
    fn mask(point: u8, bits: u32) -> u8 {
        point & !(0x0f_u8 >> bits) & 0x0f
    }
    fn table() -> impl Strategy<Value = BTreeMap<Key, u8>> {
        proptest::collection::btree_map((0..=4_u32, 0..16_u8), 0..4_u8, 0..12).prop_map(|rows| {
            rows.into_iter().map(|((bits, at), row)| ((bits, mask(at, bits)), row)).collect()
        })
    }

    proptest! {
        #[test]
        fn every_lookup_goes_from_its_old_answer_to_its_new_one(old in table(), new in table()) {
            let plan = plan(&old, &new, |key| key.0);
            let mut now = old.clone();
            let mut steps = vec![now.clone()];
            for (key, row) in &plan.put {
                now.insert(*key, *row);
                steps.push(now.clone());
            }
            for key in &plan.remove {
                now.remove(key);
                steps.push(now.clone());
            }
            prop_assert_eq!(&now, &new);
            for point in 0..16 {
                let (before, after) = (lookup(&old, point), lookup(&new, point));
                let answers: Vec<_> = steps.iter().map(|step| lookup(step, point)).collect();
                let turn = answers.iter().position(|answer| *answer != before).unwrap_or(answers.len());
                prop_assert!(
                    answers.iter().skip(turn).all(|answer| *answer == after),
                    "point {point}: {answers:?}, before {before:?}, after {after:?}"
                );
            }
        }
    }

    #[test]
    fn a_row_that_stays_is_not_written() {
        let old = BTreeMap::from([((4, 1), 1), ((4, 2), 2)]);
        let new = BTreeMap::from([((4, 1), 1), ((4, 2), 3)]);
        assert_eq!(plan(&old, &new, |key: &Key| key.0), Plan { put: vec![((4, 2), 3)], remove: vec![] });
    }
}
