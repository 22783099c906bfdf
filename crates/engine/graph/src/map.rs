//! The graph on one screen: namespaces that open into groups that open into workloads, at most 500 marks in all.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::conversation::EndpointId;
use nv_model::verdict::Verdict;
use serde::Serialize;

use crate::graph::Graph;
use crate::layout::{pack, radius_of, rounded, seeds};

/// Most marks on a map.
pub const MAX_MARKS: usize = 500;
/// Most arrows on a map; the less severe and then the thinner ones give way.
pub const MAX_ARROWS: usize = 2000;

/// Where an end belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Namespace, or a word for what is outside of namespaces (`nodes`, `external`, …).
    pub namespace: String,
    /// Group.
    pub group: String,
    /// Name that is shown.
    pub name: String,
}

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// A whole namespace.
    Namespace,
    /// A group of a namespace.
    Group,
    /// One end.
    Endpoint,
    /// What there was no room for.
    Others,
}

/// A mark. Lengths have no unit: the radius of one endpoint is 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// Unique on the map, and the same for the same thing on every map.
    pub id: String,
    /// What it stands for.
    pub kind: MarkKind,
    /// Its name.
    pub label: String,
    /// The namespace it lies in.
    pub namespace: String,
    /// The group it belongs to; empty for namespaces.
    pub group: String,
    /// How many ends it stands for.
    pub members: usize,
    /// The most severe verdict of its conversations.
    pub verdict: Verdict,
    /// Bytes within it, which no arrow shows.
    pub inner_bytes: u64,
    /// Place of its centre.
    pub x: f32,
    /// Place of its centre.
    pub y: f32,
    /// Its radius.
    pub radius: f32,
}

/// The disc of a namespace that is open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hull {
    /// The namespace.
    pub namespace: String,
    /// Place of its centre.
    pub x: f32,
    /// Place of its centre.
    pub y: f32,
    /// Its radius.
    pub radius: f32,
}

/// All conversations from one mark to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arrow {
    /// Id of a mark.
    pub from: String,
    /// Id of a mark.
    pub to: String,
    /// How many conversations.
    pub conversations: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their sessions.
    pub sessions: u64,
    /// The most severe verdict.
    pub verdict: Verdict,
}

/// The graph on one screen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Map {
    /// At most [`MAX_MARKS`].
    pub marks: Vec<Mark>,
    /// Discs around the marks of open namespaces.
    pub hulls: Vec<Hull>,
    /// At most [`MAX_ARROWS`].
    pub arrows: Vec<Arrow>,
    /// Arrows that gave way.
    pub arrows_left_out: usize,
}

/// What to show open. What is not named opens by itself as long as there is room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// Namespaces to open first.
    pub namespaces: BTreeSet<String>,
    /// Groups to open first.
    pub groups: BTreeSet<String>,
    /// Nothing opens by itself.
    pub closed: bool,
}

impl Graph {
    /// The map of all conversations; `place` says where an end belongs. The same graph gives the same map.
    #[must_use]
    pub fn map(&self, place: impl Fn(&EndpointId) -> Place, focus: &Focus) -> Map {
        let ends: BTreeMap<&EndpointId, Place> =
            self.endpoints().into_iter().map(|end| (end, place(end))).collect();
        let open = Open::choose(&ends, focus);
        let mut marks: BTreeMap<String, Mark> = BTreeMap::new();
        let mut mark_of: BTreeMap<&EndpointId, String> = BTreeMap::new();
        for (end, place) in &ends {
            let mark = open.mark(end, place);
            mark_of.insert(*end, mark.id.clone());
            marks.entry(mark.id.clone()).or_insert(mark).members += 1;
        }
        let (arrows, arrows_left_out) = self.arrows(&mark_of, &mut marks);
        let (marks, hulls) = placed(marks.into_values().collect());
        Map { marks, hulls, arrows, arrows_left_out }
    }

    fn arrows(
        &self,
        mark_of: &BTreeMap<&EndpointId, String>,
        marks: &mut BTreeMap<String, Mark>,
    ) -> (Vec<Arrow>, usize) {
        let mut arrows: BTreeMap<(&str, &str), Arrow> = BTreeMap::new();
        for (from, to, link) in self.links() {
            let (Some(a), Some(b)) = (mark_of.get(from), mark_of.get(to)) else { continue };
            let (volume, verdict) = (link.volume(), link.verdict());
            for id in [a, b] {
                if let Some(mark) = marks.get_mut(id) {
                    mark.verdict = mark.verdict.max(verdict);
                }
            }
            if a == b {
                if let Some(mark) = marks.get_mut(a) {
                    mark.inner_bytes = mark.inner_bytes.saturating_add(volume.bytes);
                }
                continue;
            }
            let arrow = arrows.entry((a, b)).or_insert_with(|| Arrow {
                from: a.clone(),
                to: b.clone(),
                conversations: 0,
                bytes: 0,
                sessions: 0,
                verdict: Verdict::Open,
            });
            arrow.conversations += 1;
            arrow.bytes = arrow.bytes.saturating_add(volume.bytes);
            arrow.sessions = arrow.sessions.saturating_add(volume.sessions);
            arrow.verdict = arrow.verdict.max(verdict);
        }
        let mut arrows: Vec<Arrow> = arrows.into_values().collect();
        let left_out = arrows.len().saturating_sub(MAX_ARROWS);
        if left_out > 0 {
            arrows.sort_by_key(|arrow| std::cmp::Reverse((arrow.verdict, arrow.bytes)));
            arrows.truncate(MAX_ARROWS);
            arrows.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        }
        (arrows, left_out)
    }
}

/// Which namespaces and groups are shown open, and which namespaces at all.
struct Open {
    shown: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    groups: BTreeSet<(String, String)>,
}

impl Open {
    fn choose(ends: &BTreeMap<&EndpointId, Place>, focus: &Focus) -> Self {
        let mut tree: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for place in ends.values() {
            *tree.entry(&place.namespace).or_default().entry(&place.group).or_default() += 1;
        }
        // The namespaces in focus and then the larger ones are shown, the rest is one mark.
        let mut order: Vec<(&str, usize)> =
            tree.iter().map(|(namespace, groups)| (*namespace, groups.values().sum())).collect();
        order.sort_by_key(|(namespace, size)| {
            (!focus.namespaces.contains(*namespace), std::cmp::Reverse(*size), *namespace)
        });
        let most = if order.len() > MAX_MARKS { MAX_MARKS - 1 } else { MAX_MARKS };
        let shown: BTreeSet<String> =
            order.iter().take(most).map(|(namespace, _)| (*namespace).to_owned()).collect();
        let mut open = Self { namespaces: BTreeSet::new(), groups: BTreeSet::new(), shown };
        let mut used = order.len().min(MAX_MARKS);

        // A namespace that opens gives its mark for one a group; small ones first, so that as many as can be open.
        let mut sizes: Vec<(&str, usize)> = tree
            .iter()
            .filter(|(namespace, _)| open.shown.contains(**namespace))
            .map(|(namespace, groups)| (*namespace, groups.len()))
            .collect();
        sizes.sort_by_key(|(namespace, size)| (!focus.namespaces.contains(*namespace), *size, *namespace));
        for (namespace, size) in sizes {
            let more = size.saturating_sub(1);
            let wanted = focus.namespaces.contains(namespace) || !focus.closed;
            if wanted && used.saturating_add(more) <= MAX_MARKS {
                used = used.saturating_add(more);
                open.namespaces.insert(namespace.to_owned());
            }
        }
        let mut groups: Vec<(&str, &str, usize)> = tree
            .iter()
            .filter(|(namespace, _)| open.namespaces.contains(**namespace))
            .flat_map(|(namespace, groups)| groups.iter().map(|(group, size)| (*namespace, *group, *size)))
            .collect();
        groups.sort_by_key(|(namespace, group, size)| {
            (!focus.groups.contains(*group), *size, *namespace, *group)
        });
        for (namespace, group, size) in groups {
            let more = size.saturating_sub(1);
            let wanted = focus.groups.contains(group) || !focus.closed;
            if wanted && used.saturating_add(more) <= MAX_MARKS {
                used = used.saturating_add(more);
                open.groups.insert((namespace.to_owned(), group.to_owned()));
            }
        }
        open
    }

    fn mark(&self, end: &EndpointId, place: &Place) -> Mark {
        let Place { namespace, group, name } = place;
        let (id, kind, label, group) = if !self.shown.contains(namespace) {
            ("others".to_owned(), MarkKind::Others, "others".to_owned(), "")
        } else if !self.namespaces.contains(namespace) {
            (format!("n/{namespace}"), MarkKind::Namespace, namespace.clone(), "")
        } else if !self.groups.contains(&(namespace.clone(), group.clone())) {
            (format!("g/{namespace}/{group}"), MarkKind::Group, group.clone(), group.as_str())
        } else {
            (format!("e/{end}"), MarkKind::Endpoint, name.clone(), group.as_str())
        };
        Mark {
            id,
            label,
            namespace: if kind == MarkKind::Others { String::new() } else { namespace.clone() },
            group: group.to_owned(),
            kind,
            members: 0,
            verdict: Verdict::Open,
            inner_bytes: 0,
            x: 0.0,
            y: 0.0,
            radius: 1.0,
        }
    }
}

/// Marks of one namespace lie in one disc, sorted by group and name; discs are packed, the largest in the middle.
fn placed(marks: Vec<Mark>) -> (Vec<Mark>, Vec<Hull>) {
    let mut by_namespace: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        by_namespace.entry(mark.namespace.clone()).or_default().push(mark);
    }
    let mut discs: Vec<(String, Vec<Mark>, f32, f32)> = by_namespace
        .into_iter()
        .map(|(namespace, mut marks)| {
            marks.sort_by(|a, b| (&a.group, &a.label, &a.id).cmp(&(&b.group, &b.label, &b.id)));
            let largest = marks.iter().map(|mark| radius_of(mark.members)).fold(1.0, f32::max);
            let (_, radius) = seeds(marks.len());
            (namespace, marks, largest, radius * largest)
        })
        .collect();
    discs.sort_by(|a, b| b.3.total_cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
    let radii: Vec<f32> = discs.iter().map(|disc| disc.3).collect();
    let (mut all, mut hulls) = (Vec::new(), Vec::new());
    for ((namespace, marks, scale, radius), (cx, cy)) in discs.into_iter().zip(pack(&radii)) {
        let (places, _) = seeds(marks.len());
        if marks.iter().any(|mark| matches!(mark.kind, MarkKind::Group | MarkKind::Endpoint)) {
            hulls.push(Hull { namespace, x: rounded(cx), y: rounded(cy), radius: rounded(radius) });
        }
        for (mut mark, (x, y)) in marks.into_iter().zip(places) {
            mark.x = rounded(x.mul_add(scale, cx));
            mark.y = rounded(y.mul_add(scale, cy));
            mark.radius = rounded(radius_of(mark.members));
            all.push(mark);
        }
    }
    (all, hulls)
}

#[cfg(test)]
mod tests;
