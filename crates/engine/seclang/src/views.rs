//! Values as rules see them: transformed once for all rules that ask for the same.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::finder::{Chain, Slots};
use crate::store::Store;
use crate::transform;
use crate::variable::{List, Selector, Source, Target, Targets};

/// Bytes of all transformed values of a transaction.
const MAX_BYTES: usize = 64 << 20;

/// A transformed value.
#[derive(Debug)]
struct View {
    bytes: Vec<u8>,
    slots: Slots,
}

/// One value that a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) view: usize,
    source: Source,
    at: usize,
    /// The part of the targets that took it.
    target: usize,
}

/// The values that targets take, after one chain of transformations.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) members: Vec<Member>,
    /// Slots that at least one of them has.
    pub(crate) union: Slots,
    /// Whether slots are known: not of values that rules change.
    pub(crate) filtered: bool,
}

/// All of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Views {
    views: Vec<View>,
    places: HashMap<(Source, usize, u32), usize, foldhash::fast::RandomState>,
    groups: HashMap<(u32, u32), Arc<Group>, foldhash::fast::RandomState>,
    /// Of all views.
    bytes: usize,
    scratch: Vec<u8>,
}

/// What a group is made of.
pub(crate) struct Question<'q> {
    /// Its targets, and their place in the rule set.
    pub(crate) targets: &'q Targets,
    pub(crate) targets_at: u32,
    pub(crate) chain: &'q Chain,
    pub(crate) chain_at: u32,
    /// Whether rules change the values.
    pub(crate) changes: bool,
    /// What a rule took away from the targets meanwhile.
    pub(crate) except: &'q [Target],
}

impl Views {
    /// Forgets what may have changed between phases: lists only grow, scalars change.
    pub(crate) fn next_phase(&mut self) {
        self.groups.clear();
        self.places.retain(|(source, _, _), _| !matches!(source, Source::One(_)));
    }

    pub(crate) fn bytes(&self, view: usize) -> &[u8] {
        self.views.get(view).map(|view| view.bytes.as_slice()).unwrap_or_default()
    }

    pub(crate) fn has(&self, view: usize, slot: u32) -> bool {
        self.views.get(view).is_some_and(|view| view.slots.has(slot))
    }

    /// The values that a link looks at. `spend` is told of bytes that are looked at, and says whether there is budget.
    pub(crate) fn group(
        &mut self,
        store: &Store,
        question: &Question<'_>,
        spend: &mut dyn FnMut(usize) -> bool,
    ) -> Arc<Group> {
        let cached = !question.changes && question.except.is_empty();
        let key = (question.targets_at, question.chain_at);
        if cached && let Some(group) = self.groups.get(&key) {
            return Arc::clone(group);
        }
        let mut group = Group { filtered: !question.changes, ..Group::default() };
        for (target_at, target) in question.targets.look.iter().enumerate() {
            if target.count {
                let count = target
                    .sources
                    .iter()
                    .map(|source| count(store, *source, target, question))
                    .sum::<usize>();
                let view = self.push(count.to_string().as_bytes(), question, spend);
                self.join(&mut group, view);
                let source = target.sources.first().copied().unwrap_or(Source::Values(List::Tx));
                group.members.push(Member { view, source, at: usize::MAX, target: target_at });
                continue;
            }
            for source in target.sources {
                each(store, *source, target, question, &mut |at| {
                    let view = self.view(store, *source, at, question, spend);
                    self.join(&mut group, view);
                    group.members.push(Member { view, source: *source, at, target: target_at });
                });
            }
        }
        let group = Arc::new(group);
        if cached {
            self.groups.insert(key, Arc::clone(&group));
        }
        group
    }

    fn join(&self, group: &mut Group, view: usize) {
        if let Some(view) = self.views.get(view) {
            group.union.join(&view.slots);
        }
    }

    fn view(
        &mut self,
        store: &Store,
        source: Source,
        at: usize,
        question: &Question<'_>,
        spend: &mut dyn FnMut(usize) -> bool,
    ) -> usize {
        let key = (source, at, question.chain_at);
        if !source.changes() {
            if let Some(place) = self.places.get(&key) {
                return *place;
            }
            let place = self.push(store.value(source, at), question, spend);
            self.places.insert(key, place);
            return place;
        }
        self.push(store.value(source, at), question, spend)
    }

    /// Transforms a value; beyond the budget it is taken for empty.
    fn push(&mut self, value: &[u8], question: &Question<'_>, spend: &mut dyn FnMut(usize) -> bool) -> usize {
        let transforms = &question.chain.transforms;
        let steps = value.len().saturating_mul(transforms.len().saturating_add(1)).saturating_add(1);
        let value = if self.bytes.saturating_add(value.len()) <= MAX_BYTES && spend(steps) {
            value
        } else {
            spend_all(spend)
        };
        let mut bytes = Vec::new();
        transform::apply_all(transforms, value, &mut bytes, &mut self.scratch);
        let slots = if question.changes { Slots::default() } else { question.chain.find(&bytes) };
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.views.push(View { bytes, slots });
        self.views.len().saturating_sub(1)
    }

    /// How a value is called: `ARGS:name`.
    pub(crate) fn name(store: &Store, targets: &Targets, member: Member) -> Vec<u8> {
        let Some(target) = targets.look.get(member.target) else { return Vec::new() };
        if target.count {
            let mut name = [b"&", target.variable.as_bytes()].concat();
            if let Selector::Name(key) = &target.selector {
                name.push(b':');
                name.extend_from_slice(key);
            }
            return name;
        }
        match member.source {
            Source::One(_) => target.variable.as_bytes().to_vec(),
            Source::Values(List::XmlText | List::XmlAttributes) => target.variable.as_bytes().to_vec(),
            Source::Names(List::Matched) | Source::Values(List::Matched) => {
                store.name(member.source, member.at).to_vec()
            }
            source => [target.variable.as_bytes(), b":", store.name(source, member.at)].concat(),
        }
    }
}

/// Spends more than there is; what cannot be paid for is empty.
fn spend_all(spend: &mut dyn FnMut(usize) -> bool) -> &'static [u8] {
    spend(usize::MAX);
    &[]
}

/// Calls `take` with each value of a source that a target takes and nothing excepts.
fn each(
    store: &Store,
    source: Source,
    target: &Target,
    question: &Question<'_>,
    take: &mut dyn FnMut(usize),
) {
    if let (Source::Values(list), Selector::Name(name)) = (source, &target.selector)
        && list.changes()
        && list != List::Matched
    {
        if let Some(at) = store.place(list, name) {
            take(at);
        }
        return;
    }
    for at in 0..store.count(source) {
        let name = store.name(source, at);
        let excepted = question.targets.except.iter().chain(question.except);
        let excepted = excepted
            .filter(|except| except.sources.contains(&source))
            .any(|except| except.selector.takes(name));
        if !excepted && target.selector.takes(name) {
            take(at);
        }
    }
}

fn count(store: &Store, source: Source, target: &Target, question: &Question<'_>) -> usize {
    let mut count = 0_usize;
    each(store, source, target, question, &mut |_| count = count.saturating_add(1));
    count
}
