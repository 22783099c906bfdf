//! The flows of one engine: a slab, a keyed hash of their keys, and a timer wheel through the slab.

use std::hash::BuildHasher as _;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashTable;

use crate::flow::{Flow, Phase};
use crate::key::{Key, Transport};
use crate::limits::patience;
use crate::pool::NONE;
use crate::wheel::Wheel;

/// Slots that are compared when one must make room.
const CANDIDATES: u32 = 16;

/// Flows by key. The hash has a secret seed: who sends packets cannot make keys collide.
#[derive(Debug)]
pub(crate) struct Table {
    flows: Vec<Flow>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: SeedableRandomState,
    wheel: Wheel,
    limit: u32,
    hand: u32,
}

/// What a lookup of a new key led to.
pub(crate) enum Room {
    /// There is room.
    Free,
    /// This flow should make room first.
    Evict(u32),
}

impl Table {
    pub(crate) fn new(limit: u32, seed: u64) -> Self {
        Self {
            flows: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            wheel: Wheel::new(),
            limit: limit.clamp(1, NONE - 1),
            hand: 0,
        }
    }
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| get(&self.flows, *slot).is_some_and(|flow| flow.key == *key)).copied()
    }
    pub(crate) fn get(&self, slot: u32) -> Option<&Flow> {
        get(&self.flows, slot)
    }
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.flows.get_mut(usize::try_from(slot).ok()?)
    }
    /// Whether a flow fits, and if not, which one is worth least: not opened or closed before open ones, then the
    /// one longest without a packet, of [`CANDIDATES`] behind a hand that goes around.
    pub(crate) fn room(&mut self) -> Room {
        let used = u32::try_from(self.flows.len()).unwrap_or(NONE);
        if !self.free.is_empty() || used < self.limit {
            return Room::Free;
        }
        let mut worst = (u8::MAX, u64::MAX, self.hand);
        for _ in 0..CANDIDATES {
            self.hand = self.hand.checked_add(1).filter(|hand| *hand < used).unwrap_or(0);
            if let Some(flow) = self.get(self.hand).filter(|flow| flow.live) {
                let worth = match flow.phase {
                    Phase::Closed => 0,
                    Phase::Opening => 1,
                    Phase::HalfClosed => 2,
                    Phase::Open => 3,
                };
                worst = worst.min((worth, flow.last, self.hand));
            }
        }
        Room::Evict(worst.2)
    }
    /// Puts a flow in; `None` when there is no room.
    pub(crate) fn insert(&mut self, flow: Flow) -> Option<u32> {
        let hash = self.hasher.hash_one(flow.key);
        let slot = if let Some(slot) = self.free.pop() {
            *self.get_mut(slot)? = flow;
            slot
        } else {
            let slot = u32::try_from(self.flows.len()).ok().filter(|slot| *slot < self.limit)?;
            self.flows.push(flow);
            slot
        };
        let (flows, hasher) = (&self.flows, &self.hasher);
        self.index
            .insert_unique(hash, slot, |slot| get(flows, *slot).map_or(0, |flow| hasher.hash_one(flow.key)));
        let deadline = self.get(slot).map_or(0, deadline);
        self.wheel.insert(&mut self.flows, slot, deadline);
        Some(slot)
    }
    /// Takes a flow out; its slot may be used again.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(key) = self.get(slot).filter(|flow| flow.live).map(|flow| flow.key) else { return };
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.wheel.remove(&mut self.flows, slot);
        if let Some(flow) = self.get_mut(slot) {
            flow.live = false;
        }
        self.free.push(slot);
    }
    /// Puts a flow whose patience became shorter where the wheel finds it in time.
    pub(crate) fn hurry(&mut self, slot: u32) {
        if let Some(deadline) = self.get(slot).filter(|flow| flow.live).map(deadline) {
            self.wheel.remove(&mut self.flows, slot);
            self.wheel.insert(&mut self.flows, slot, deadline);
        }
    }
    /// The next flow whose time is over at second `now`; the wheel goes on.
    pub(crate) fn expired(&mut self, now: u32) -> Option<u32> {
        while let Some(slot) = self.wheel.pop(&mut self.flows, now) {
            let Some(deadline) = self.get(slot).map(deadline) else { continue };
            if deadline <= now {
                return Some(slot);
            }
            // It had packets since it was put into the wheel.
            self.wheel.insert(&mut self.flows, slot, deadline);
        }
        None
    }
    /// Any flow, until none is left.
    pub(crate) fn any(&mut self) -> Option<u32> {
        let length = u32::try_from(self.flows.len()).unwrap_or(NONE);
        while self.hand < length {
            if self.get(self.hand).is_some_and(|flow| flow.live) {
                return Some(self.hand);
            }
            self.hand = self.hand.saturating_add(1);
        }
        self.hand = 0;
        None
    }
    /// Lets [`Table::any`] begin at the first flow.
    pub(crate) fn rewind(&mut self) {
        self.hand = 0;
    }
    /// Flows at this moment.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

fn get(flows: &[Flow], slot: u32) -> Option<&Flow> {
    flows.get(usize::try_from(slot).ok()?)
}

/// Second of packet time.
pub(crate) fn second(at: u64) -> u32 {
    u32::try_from(at / 1_000_000_000).unwrap_or(NONE)
}

/// Second at which a flow without further packets is over.
fn deadline(flow: &Flow) -> u32 {
    let patience = match (flow.key.transport(), flow.phase) {
        (Transport::Udp, _) => patience::UDP,
        (Transport::Icmp, _) => patience::ICMP,
        (Transport::Tcp, Phase::Opening) => patience::OPENING,
        (Transport::Tcp, Phase::Open) if flow.is_silent() && !flow.noted => patience::SILENT,
        (Transport::Tcp, Phase::Open) => patience::ESTABLISHED,
        (Transport::Tcp, Phase::HalfClosed) => patience::HALF_CLOSED,
        (Transport::Tcp, Phase::Closed) => patience::CLOSED,
    };
    second(flow.last).saturating_add(patience)
}
