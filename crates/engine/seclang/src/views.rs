//! Values as rules see them: transformed once for all rules that ask for the same.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::finder::{Finders, Realm, Slots};
use crate::store::Store;
use crate::transform::Transform;
use crate::variable::{List, Selector, Source, Target, Targets};

/// Bytes that a value is, before or after transformations.
#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    realm: Realm,
    /// Which rules may find something; looked for when it is asked for first.
    slots: Option<Slots>,
    /// What becomes of it by each transformation, as far as it was asked for.
    next: Option<Box<[u32; Transform::ALL.len()]>>,
}

/// What is not known yet.
const UNKNOWN: u32 = u32::MAX;

/// One value that a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its content.
    pub(crate) content: u32,
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

/// All of a transaction. Transformations mostly change nothing, and then the content is the same one: it is looked
/// through once for all rules.
#[derive(Debug, Default)]
pub(crate) struct Views {
    contents: Vec<Content>,
    places: HashMap<(Source, usize), u32, foldhash::fast::RandomState>,
    groups: HashMap<(u32, u32), Arc<Group>, foldhash::fast::RandomState>,
    /// Of all contents, and how many there may be.
    bytes: usize,
    most: usize,
    scratch: Vec<u8>,
}

/// What a group is made of.
pub(crate) struct Question<'q> {
    /// Its targets, and their place in the rule set.
    pub(crate) targets: &'q Targets,
    pub(crate) targets_at: u32,
    /// Transformations, and their place in the rule set.
    pub(crate) chain: &'q [Transform],
    pub(crate) chain_at: u32,
    pub(crate) finders: &'q Finders,
    /// Whether rules change the values.
    pub(crate) changes: bool,
    /// What a rule took away from the targets meanwhile.
    pub(crate) except: &'q [Target],
}

/// Is told of bytes that are looked at, and says whether there is budget for them.
type Spend<'s> = &'s mut dyn FnMut(usize) -> bool;

impl Views {
    /// None yet, and so many bytes of them at most.
    pub(crate) fn within(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Bytes of all contents.
    pub(crate) fn held(&self) -> usize {
        self.bytes
    }

    /// Forgets what may have changed between phases: lists only grow, scalars change.
    pub(crate) fn next_phase(&mut self) {
        self.groups.clear();
        self.places.retain(|(source, _), _| !matches!(source, Source::One(_)));
    }

    fn content(&self, at: u32) -> Option<&Content> {
        usize::try_from(at).ok().and_then(|at| self.contents.get(at))
    }

    fn content_mut(&mut self, at: u32) -> Option<&mut Content> {
        usize::try_from(at).ok().and_then(|at| self.contents.get_mut(at))
    }

    pub(crate) fn bytes(&self, content: u32) -> &[u8] {
        self.content(content).map(|content| content.bytes.as_slice()).unwrap_or_default()
    }

    /// Whether a content has one of the literals of a slot.
    pub(crate) fn has(&self, content: u32, slot: u32) -> bool {
        self.content(content).and_then(|content| content.slots.as_ref()).is_some_and(|slots| slots.has(slot))
    }

    /// The values that a link looks at.
    pub(crate) fn group(&mut self, store: &Store, question: &Question<'_>, spend: Spend<'_>) -> Arc<Group> {
        let cached = !question.changes && question.except.is_empty();
        let key = (question.targets_at, question.chain_at);
        if cached && let Some(group) = self.groups.get(&key) {
            return Arc::clone(group);
        }
        let mut group = Group { filtered: !question.changes, ..Group::default() };
        for (target_at, target) in question.targets.look.iter().enumerate() {
            if target.count {
                let count: usize =
                    target.sources.iter().map(|source| count(store, *source, target, question)).sum();
                let source = target.sources.first().copied().unwrap_or(Source::Values(List::Tx));
                let base = self.push(count.to_string().into_bytes(), Realm::of(source), spend);
                let content = self.transformed(base, question, spend);
                self.look_through(content, question, &mut group, spend);
                group.members.push(Member { content, source, at: usize::MAX, target: target_at });
                continue;
            }
            for source in target.sources {
                each(store, *source, target, question, &mut |at| {
                    let base = self.base(store, *source, at, spend);
                    let content = self.transformed(base, question, spend);
                    self.look_through(content, question, &mut group, spend);
                    group.members.push(Member { content, source: *source, at, target: target_at });
                });
            }
        }
        let group = Arc::new(group);
        if cached {
            self.groups.insert(key, Arc::clone(&group));
        }
        group
    }

    /// A value as it is.
    fn base(&mut self, store: &Store, source: Source, at: usize, spend: Spend<'_>) -> u32 {
        let keeps = !source.changes();
        if keeps && let Some(place) = self.places.get(&(source, at)) {
            return *place;
        }
        let content = self.push(store.value(source, at).to_vec(), Realm::of(source), spend);
        if keeps {
            self.places.insert((source, at), content);
        }
        content
    }

    /// Keeps bytes; what there is no budget for is empty.
    fn push(&mut self, mut bytes: Vec<u8>, realm: Realm, spend: Spend<'_>) -> u32 {
        let fits = self.bytes.saturating_add(bytes.len()) <= self.most;
        if !spend(if fits { bytes.len().saturating_add(1) } else { usize::MAX }) {
            bytes.clear();
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.contents.push(Content { bytes, realm, slots: None, next: None });
        u32::try_from(self.contents.len().saturating_sub(1)).unwrap_or(UNKNOWN)
    }

    fn transformed(&mut self, mut content: u32, question: &Question<'_>, spend: Spend<'_>) -> u32 {
        for transform in question.chain {
            let known =
                self.content(content).and_then(|content| content.next.as_ref()?.get(transform.index()));
            content = match known.copied().filter(|known| *known != UNKNOWN) {
                Some(known) => known,
                None => self.transform(content, *transform, spend),
            };
        }
        content
    }

    fn transform(&mut self, from: u32, transform: Transform, spend: Spend<'_>) -> u32 {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let Some(content) = self.content(from) else { return from };
        let realm = content.realm;
        if spend(content.bytes.len()) {
            transform.apply(&content.bytes, &mut scratch);
        }
        let to = if content.bytes == scratch { from } else { self.push(scratch.clone(), realm, spend) };
        self.scratch = scratch;
        if let Some(content) = self.content_mut(from) {
            let next = content.next.get_or_insert_with(|| Box::new([UNKNOWN; Transform::ALL.len()]));
            if let Some(place) = next.get_mut(transform.index()) {
                *place = to;
            }
        }
        to
    }

    /// Adds the slots of a content to its group's.
    fn look_through(&mut self, at: u32, question: &Question<'_>, group: &mut Group, spend: Spend<'_>) {
        if question.changes {
            return;
        }
        let Some(content) = self.content_mut(at) else { return };
        if content.slots.is_none() && spend(content.bytes.len()) {
            content.slots = Some(question.finders.find(content.realm, &content.bytes));
        }
        if let Some(slots) = &content.slots {
            group.union.join(slots);
        }
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
