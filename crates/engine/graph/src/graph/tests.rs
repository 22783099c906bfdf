use super::*;
use crate::link::{DROPPED_AT_ONCE, MAX_ENTRIES};
use crate::testing::{end, resolve, seen};
use nv_model::application::ApplicationId;
use nv_model::verdict::Verdict;
use proptest::prelude::*;

fn graph(list: &[ConnectionObservation]) -> Graph {
    let mut graph = Graph::default();
    for one in list {
        graph.observe(one, resolve);
    }
    graph
}

fn volume(graph: &Graph, from: &str, to: &str) -> (u64, u64) {
    let volume = graph.link(&end(from), &end(to)).unwrap().volume();
    (volume.bytes, volume.sessions)
}

#[test]
fn a_connection_that_both_ends_report_counts_once() {
    let mut at_server = seen("a", "b", 80, 3, 1);
    at_server.ingress = true;
    let at_client = seen("a", "b", 80, 3, 2);
    for order in [[&at_client, &at_server], [&at_server, &at_client]] {
        let graph = graph(&order.map(Clone::clone));
        assert_eq!(volume(&graph, "a", "b"), (300, 3));
    }
    let mut from_outside = seen("external", "b", 80, 3, 1);
    from_outside.ingress = true;
    assert_eq!(volume(&graph(&[from_outside]), "external", "b"), (300, 3));
}

#[test]
fn later_observations_add_up() {
    let graph = graph(&[seen("a", "b", 80, 1, 1), seen("a", "b", 80, 2, 2), seen("a", "b", 81, 5, 2)]);
    assert_eq!(volume(&graph, "a", "b"), (800, 8));
    assert_eq!((graph.len(), graph.entries()), (1, 2));
}

#[test]
fn the_action_of_a_link_is_the_most_severe_of_the_latest() {
    let with = |port, at, verdict| ConnectionObservation { verdict, ..seen("a", "b", port, 1, at) };
    for (list, want) in [
        (vec![with(80, 1, Verdict::Deny), with(80, 2, Verdict::Allow)], Verdict::Allow),
        (vec![with(80, 2, Verdict::Allow), with(80, 1, Verdict::Deny)], Verdict::Allow),
        (vec![with(80, 1, Verdict::Deny), with(81, 2, Verdict::Allow)], Verdict::Deny),
        (vec![with(80, 1, Verdict::Allow), with(80, 1, Verdict::Violate)], Verdict::Violate),
    ] {
        assert_eq!(graph(&list).link(&end("a"), &end("b")).unwrap().verdict(), want, "{list:?}");
    }
    // Another client address under the same port: the later one holds.
    let mut other = with(80, 3, Verdict::Learn);
    other.client.address = "10.0.0.9".parse().unwrap();
    let graph = graph(&[with(80, 1, Verdict::Deny), other]);
    assert_eq!(graph.link(&end("a"), &end("b")).unwrap().verdict(), Verdict::Learn);
}

#[test]
fn a_full_link_drops_its_oldest_entries_and_keeps_their_bytes() {
    let mut graph = Graph::default();
    for n in 0..=MAX_ENTRIES {
        graph.observe(&seen("a", "b", u16::try_from(n).unwrap(), 1, i64::try_from(n).unwrap()), resolve);
    }
    assert_eq!(graph.entries(), MAX_ENTRIES + 1 - DROPPED_AT_ONCE);
    assert_eq!(graph.drops().entries, 100);
    assert_eq!(volume(&graph, "a", "b"), (100_100, 1001));
    let link = graph.link(&end("a"), &end("b")).unwrap();
    assert!(link.entries().all(|(key, _)| key.port >= 100));
}

#[test]
fn a_full_graph_drops_the_least_recently_seen_links() {
    let mut graph = Graph::with_limits(Limits { links: 10, entries: 1000 });
    for n in 0..11 {
        graph.observe(&seen(&format!("w{n}"), "b", 80, 1, 100 - n), resolve);
    }
    assert_eq!((graph.len(), graph.drops().links), (10, 1));
    assert!(graph.link(&end("w9"), &end("b")).is_none());
    assert!(graph.link(&end("w10"), &end("b")).is_some());
}

#[test]
fn what_is_removed_is_gone_in_both_directions() {
    let list = [seen("a", "b", 80, 1, 1), seen("b", "a", 80, 1, 1), seen("c", "b", 80, 1, 1)];
    let mut held = graph(&list);
    assert!(held.remove_pair(&end("a"), &end("b")));
    assert!(!held.remove_pair(&end("a"), &end("b")));
    assert_eq!((held.len(), held.entries()), (2, 2));
    let mut held = graph(&list);
    assert_eq!(held.remove_endpoint(&end("b")), 3);
    assert!(held.is_empty() && held.entries() == 0 && held.endpoints().is_empty());
}

#[test]
fn changing_a_rule_forgets_what_it_explained() {
    let with = |port, rule| ConnectionObservation { rule: RuleId(rule), ..seen("a", "b", port, 1, 1) };
    let mut held = graph(&[
        with(80, 1),
        with(81, 2),
        ConnectionObservation { rule: RuleId(1), ..seen("c", "b", 1, 1, 1) },
    ]);
    assert_eq!(held.forget_rule(RuleId(1)), 2);
    assert_eq!((held.len(), held.entries()), (1, 1));
}

#[test]
fn conversations_are_listed_by_what_their_ends_belong_to() {
    let mut http = seen("a", "b", 80, 1, 5);
    http.application = Some(ApplicationId(1001));
    let held = graph(&[http, seen("a", "b", 81, 2, 6), seen("c", "external", 443, 1, 1)]);
    let all = held.conversations(|_, _| true);
    assert_eq!(all.len(), 2);
    let one = held.conversation(&end("a"), &end("b")).unwrap();
    assert_eq!((one.bytes, one.sessions, one.last), (300, 3, Timestamp::from_seconds(6)));
    assert_eq!(one.applications.iter().collect::<Vec<_>>(), [&ApplicationId(1001)]);
    assert_eq!(one.ports.iter().map(|(_, port)| *port).collect::<Vec<_>>(), [81]);
    let of_c = held.conversations(|from, to| [from, to].contains(&&end("c")));
    assert_eq!(of_c.len(), 1);
    let entries = held.entries_between(&[end("a")].into(), &[end("b")].into(), 1);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].2.port, 81, "the last seen comes first");
}

#[test]
fn what_was_seen_before_its_application_was_known_is_told_with_it_and_served_by_its_end() {
    let known =
        |port| ConnectionObservation { application: Some(ApplicationId(1001)), ..seen("a", "b", port, 1, 5) };
    let denied = ConnectionObservation { verdict: Verdict::Deny, ..seen("a", "b", 22, 1, 1) };
    let held = graph(&[seen("a", "b", 80, 1, 1), known(80), seen("a", "b", 81, 1, 2), denied]);
    let link = held.link(&end("a"), &end("b")).unwrap();
    let entries: Vec<_> =
        link.entries().map(|(key, entry)| (key.port, key.application.0, entry.volume().sessions)).collect();
    assert_eq!(entries, [(22, 0, 1), (80, 1001, 2), (81, 0, 1)]);
    let served = held.served();
    assert_eq!(
        served[&end("b")].iter().map(|(_, port, known)| (*port, known.0)).collect::<Vec<_>>(),
        [(80, 1001), (81, 0)]
    );
}

prop_compose! {
    fn observation()(from in 0_u8..6, to in 0_u8..6, port in 0_u16..4, at in 0_i64..9, ingress: bool, rule in 0_u32..3)
        -> ConnectionObservation {
        ConnectionObservation {
            ingress,
            rule: RuleId(rule),
            ..seen(&format!("w{from}"), &format!("w{to}"), port, 1, at)
        }
    }
}

proptest! {
    #[test]
    fn a_checkpoint_gives_the_same_graph_back(list in prop::collection::vec(observation(), 0..40)) {
        let held = graph(&list);
        let stored = serde_json::to_string(&held.checkpoint()).unwrap();
        let back = Graph::restore(serde_json::from_str(&stored).unwrap(), Limits::default());
        prop_assert_eq!(back.checkpoint(), held.checkpoint());
        prop_assert_eq!((back.len(), back.entries()), (held.len(), held.entries()));
        prop_assert_eq!(back.endpoints(), held.endpoints());
        let other = Checkpoint { version: 99, ..held.checkpoint() };
        prop_assert!(Graph::restore(other, Limits::default()).is_empty());
    }

    #[test]
    fn counts_and_bounds_hold_whatever_comes(
        list in prop::collection::vec(observation(), 0..200), remove in 0_u8..6, rule in 0_u32..3,
    ) {
        let mut held = Graph::with_limits(Limits { links: 8, entries: 20 });
        for one in &list {
            held.observe(one, resolve);
            prop_assert!(held.len() <= 8 && held.entries() <= 21);
        }
        held.remove_endpoint(&end(&format!("w{remove}")));
        held.forget_rule(RuleId(rule));
        prop_assert_eq!(held.len(), held.links().count());
        prop_assert_eq!(held.entries(), held.links().map(|(.., link)| link.entries().len()).sum::<usize>());
        let ends: BTreeSet<_> = held.links().flat_map(|(from, to, _)| [from, to]).collect();
        prop_assert_eq!(held.endpoints(), ends);
    }
}
