use super::*;
use crate::testing::{resolve, seen};
use proptest::prelude::*;

/// `<namespace>/<group>/<n>` as a workload's id says where it belongs.
fn place(end: &EndpointId) -> Place {
    let raw = end.to_string();
    let mut parts = raw.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Place { namespace: next(), group: next(), name: next() }
}

fn graph(pairs: &[(String, String)]) -> Graph {
    let mut graph = Graph::default();
    for (from, to) in pairs {
        graph.observe(&seen(from, to, 80, 1, 1), resolve);
    }
    graph
}

/// A ring over `namespaces` x `groups` x `members` workloads.
fn ring(namespaces: usize, groups: usize, members: usize) -> Graph {
    let all: Vec<String> = (0..namespaces)
        .flat_map(|n| (0..groups).flat_map(move |g| (0..members).map(move |m| format!("n{n}/g{g}/m{m}"))))
        .collect();
    let next = all.iter().cycle().skip(1).cloned();
    graph(&all.iter().cloned().zip(next).collect::<Vec<_>>())
}

fn kinds(map: &Map) -> [usize; 4] {
    [MarkKind::Namespace, MarkKind::Group, MarkKind::Endpoint, MarkKind::Others]
        .map(|kind| map.marks.iter().filter(|mark| mark.kind == kind).count())
}

#[test]
fn as_much_is_open_as_there_is_room_for() {
    for (graph, focus, want) in [
        (ring(2, 2, 2), Focus::default(), [0, 0, 8, 0]),
        (ring(2, 2, 2), Focus { closed: true, ..Focus::default() }, [2, 0, 0, 0]),
        (ring(10, 10, 10), Focus::default(), [0, 56, 440, 0]),
        (ring(100, 10, 1), Focus::default(), [56, 0, 440, 0]),
        (ring(600, 1, 1), Focus::default(), [0, 0, 499, 1]),
        (
            ring(10, 10, 10),
            Focus { namespaces: ["n3".into()].into(), groups: ["g1".into()].into(), closed: true },
            [9, 9, 10, 0],
        ),
    ] {
        let map = graph.map(place, &focus);
        assert_eq!(kinds(&map), want, "{focus:?}");
    }
}

#[test]
fn an_arrow_sums_the_conversations_between_two_marks_and_inner_ones_stay_inside() {
    let map = ring(2, 2, 2).map(place, &Focus { closed: true, ..Focus::default() });
    let said: Vec<_> = map
        .arrows
        .iter()
        .map(|arrow| (arrow.from.as_str(), arrow.to.as_str(), arrow.conversations))
        .collect();
    assert_eq!(said, [("n/n0", "n/n1", 1), ("n/n1", "n/n0", 1)]);
    assert_eq!(
        map.marks.iter().map(|mark| (mark.members, mark.inner_bytes)).collect::<Vec<_>>(),
        [(4, 300), (4, 300)]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_map_is_bounded_complete_and_always_the_same(
        pairs in prop::collection::vec(((0_u8..30, 0_u8..6, 0_u8..9), (0_u8..30, 0_u8..6, 0_u8..9)), 0..900),
        closed: bool,
    ) {
        let name = |(n, g, m): (u8, u8, u8)| format!("n{n}/g{g}/m{m}");
        let graph = graph(&pairs.into_iter().map(|(a, b)| (name(a), name(b))).collect::<Vec<_>>());
        let focus = Focus { closed, ..Focus::default() };
        let map = graph.map(place, &focus);
        prop_assert!(map.marks.len() <= MAX_MARKS && map.arrows.len() <= MAX_ARROWS);
        prop_assert_eq!(map.marks.iter().map(|mark| mark.members).sum::<usize>(), graph.endpoints().len());
        let ids: BTreeSet<&str> = map.marks.iter().map(|mark| mark.id.as_str()).collect();
        prop_assert_eq!(ids.len(), map.marks.len());
        prop_assert!(map.arrows.iter().all(|arrow| ids.contains(arrow.from.as_str()) && ids.contains(arrow.to.as_str())));
        for (at, a) in map.marks.iter().enumerate() {
            for b in map.marks.iter().skip(at + 1) {
                prop_assert!((a.x - b.x).hypot(a.y - b.y) > 1.0, "{} and {} lie on one another", a.id, b.id);
            }
        }
        prop_assert_eq!(graph.map(place, &focus), map);
    }
}
