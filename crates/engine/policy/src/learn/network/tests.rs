use std::sync::Arc;

use super::*;
use crate::testing::{name, rule, state, workload};
use nv_model::workload::ListeningPort;
use proptest::prelude::*;

fn shop() -> State {
    let mut member = workload("web-c", "n", "web", "shop");
    member.pod_sandbox = Some("web".parse().unwrap());
    state(&[workload("web", "n", "web", "shop"), member, workload("db", "n", "db", "shop")])
}

fn end(raw: &str) -> EndpointId {
    match raw {
        "external" => EndpointId::External,
        "address" => EndpointId::Address(name("my-net")),
        "host" => EndpointId::Host("n".parse().unwrap()),
        "unmanaged" => EndpointId::UnmanagedWorkload("10.0.0.9".parse().unwrap()),
        id => EndpointId::Workload(id.parse().unwrap()),
    }
}

fn link(client: &str, server: &str, protocol: Protocol, port: u16) -> Link {
    Link {
        client: end(client),
        server: end(server),
        protocol,
        port,
        application: None,
        verdict: Verdict::Learn,
    }
}

fn learn(state: &mut State, links: &[Link]) -> Vec<Change> {
    let changes = connections(state, links, Timestamp::from_seconds(7));
    state.apply_all(&changes);
    changes
}

fn shown(state: &State) -> Vec<String> {
    state
        .rules
        .iter()
        .map(|rule| {
            let apps: Vec<_> = rule.applications.iter().filter_map(|app| app.name()).collect();
            format!("{} {}>{} {} {}", rule.id.0, rule.from, rule.to, rule.ports, apps.join("+"))
        })
        .collect()
}

#[test]
fn a_connection_becomes_a_rule_between_the_groups_of_its_ends() {
    for (client, server, want) in [
        ("web", "db", Some("10001 nv.web.shop>nv.db.shop tcp/80 ")),
        ("web-c", "db", Some("10001 nv.web.shop>nv.db.shop tcp/80 ")),
        ("web", "external", Some("10001 nv.web.shop>external tcp/80 ")),
        ("address", "web", Some("10001 external>nv.web.shop tcp/80 ")),
        ("host", "web", Some("10001 nodes>nv.web.shop tcp/80 ")),
        ("web", "unmanaged", Some("10001 nv.web.shop>Workload:10.0.0.9 tcp/80 ")),
        ("host", "host", None),
        ("external", "host", None),
        ("web", "gone", None),
    ] {
        let mut state = shop();
        learn(&mut state, &[link(client, server, Protocol::Tcp, 80)]);
        assert_eq!(shown(&state), Vec::from_iter(want.map(str::to_owned)), "{client}>{server}");
    }
}

#[test]
fn only_what_was_let_through_to_be_learned_is_learned() {
    for (verdict, want) in [
        (Verdict::Learn, 1),
        (Verdict::Allow, 0),
        (Verdict::Violate, 0),
        (Verdict::Deny, 0),
        (Verdict::Open, 0),
    ] {
        let mut state = shop();
        learn(&mut state, &[Link { verdict, ..link("web", "db", Protocol::Tcp, 80) }]);
        assert_eq!(state.rules.len(), want, "{verdict:?}");
    }
}

#[test]
fn an_end_in_quarantine_is_not_learned() {
    let mut state = shop();
    state.quarantined.insert("db".parse().unwrap());
    assert_eq!(learn(&mut state, &[link("web", "db", Protocol::Tcp, 80)]), []);
}

#[test]
fn udp_is_learned_only_where_a_managed_server_listens() {
    let mut state = shop();
    let dns = link("web", "db", Protocol::Udp, 53);
    assert_eq!(learn(&mut state, std::slice::from_ref(&dns)), []);
    let mut db = workload("db", "n", "db", "shop");
    db.ports.push(ListeningPort { protocol: Protocol::Udp, port: 53, host_ip: None, host_port: 0 });
    state.workloads.insert(db.id.clone(), Arc::new(db));
    learn(&mut state, &[dns, link("web", "external", Protocol::Udp, 123)]);
    assert_eq!(
        shown(&state),
        ["10001 nv.web.shop>nv.db.shop udp/53 ", "10002 nv.web.shop>external udp/123 "]
    );
}

#[test]
fn more_than_twenty_ports_become_any() {
    let mut state = shop();
    let links: Vec<Link> = (0..20).map(|n| link("web", "db", Protocol::Tcp, 1000 + n * 2)).collect();
    learn(&mut state, &links);
    assert_ne!(state.rules[0].ports, Ports::Any);
    learn(&mut state, &[link("web", "db", Protocol::Tcp, 5000)]);
    assert_eq!(state.rules[0].ports, Ports::Any);
    assert_eq!(learn(&mut state, &[link("web", "db", Protocol::Tcp, 6000)]), []);
}

#[test]
fn known_applications_have_a_rule_of_their_own_with_the_ports_that_they_were_seen_on() {
    let mut state = shop();
    learn(&mut state, &[link("web", "db", Protocol::Tcp, 6379), link("web", "db", Protocol::Tcp, 80)]);
    let redis = Link {
        application: Some(ApplicationId(2002)),
        verdict: Verdict::Allow,
        ..link("web", "db", Protocol::Tcp, 6379)
    };
    learn(&mut state, std::slice::from_ref(&redis));
    assert_eq!(
        shown(&state),
        ["10001 nv.web.shop>nv.db.shop tcp/80 ", "10002 nv.web.shop>nv.db.shop tcp/6379 Redis"]
    );
    assert_eq!(learn(&mut state, &[redis]), []);
    let http = Link { application: Some(ApplicationId(1001)), ..link("web", "db", Protocol::Tcp, 80) };
    learn(&mut state, &[http]);
    assert_eq!(shown(&state), ["10002 nv.web.shop>nv.db.shop tcp/80,tcp/6379 HTTP+Redis"]);
}

#[test]
fn learned_rules_stand_behind_all_others_and_a_denial_survives() {
    let mut state = shop();
    state.rules = vec![rule(1, "nv.web.shop", "nv.db.shop", "tcp/1", Action::Deny)];
    learn(&mut state, &[link("web", "db", Protocol::Tcp, 80), link("db", "web", Protocol::Tcp, 80)]);
    assert_eq!(state.rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [1, 10_001, 10_002]);
    state.rules[1].action = Action::Deny;
    assert_eq!(learn(&mut state, &[link("web", "db", Protocol::Tcp, 81)]), []);
    state.rules[2].disabled = true;
    assert_eq!(learn(&mut state, &[link("db", "web", Protocol::Tcp, 81)]), []);
}

fn any_link() -> impl Strategy<Value = Link> {
    let ends = || prop::sample::select(vec!["web", "web-c", "db", "external", "host", "unmanaged", "gone"]);
    (
        ends(),
        ends(),
        prop::sample::select(Protocol::ALL.to_vec()),
        0_u16..40,
        prop::option::of(prop::sample::select(vec![1001_u32, 2002, 0])),
        any::<bool>(),
    )
        .prop_map(|(client, server, protocol, port, application, learn)| Link {
            application: application.map(ApplicationId),
            verdict: if learn { Verdict::Learn } else { Verdict::Allow },
            ..link(client, server, protocol, port)
        })
}

proptest! {
    #[test]
    fn learning_is_idempotent_once_it_settled(links in prop::collection::vec(any_link(), 0..60)) {
        let mut state = shop();
        // An application that shows up for a learned port moves it; after that nothing is left to move.
        learn(&mut state, &links);
        let known: Vec<Link> = links
            .into_iter()
            .filter(|link| link.application.is_some_and(|application| application != ApplicationId::ANY))
            .collect();
        learn(&mut state, &known);
        prop_assert_eq!(learn(&mut state, &known), vec![]);
    }

    #[test]
    fn one_batch_learns_what_many_do(links in prop::collection::vec(any_link(), 0..40)) {
        let (mut once, mut apart) = (shop(), shop());
        learn(&mut once, &links);
        for link in &links {
            learn(&mut apart, std::slice::from_ref(link));
        }
        let said = |state: &State| {
            let mut said: Vec<_> = state.rules.iter()
                .map(|rule| (rule.from.clone(), rule.to.clone(), rule.ports.to_string(), rule.applications.clone())).collect();
            said.sort();
            said
        };
        prop_assert_eq!(said(&once), said(&apart));
    }

    #[test]
    fn ids_stay_in_the_learned_range_and_unique(links in prop::collection::vec(any_link(), 0..60)) {
        let mut state = shop();
        learn(&mut state, &links);
        let ids: std::collections::BTreeSet<_> = state.rules.iter().map(|rule| rule.id).collect();
        prop_assert_eq!(ids.len(), state.rules.len());
        prop_assert!(state.rules.iter().all(|rule| rule.id.origin() == Some(Origin::Learned)));
    }
}
