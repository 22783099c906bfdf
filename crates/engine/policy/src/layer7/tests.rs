use std::collections::BTreeSet;

use super::*;
use crate::decide::{Flow, Reason};
use crate::lower;
use crate::names::{NamedIdentities, Names, expand};
use crate::testing::name;
use nv_model::mode::Mode;
use nv_model::port::Ports;
use nv_model::rule::RuleId;
use nv_model::verdict::Verdict;
use proptest::prelude::*;

const POD: IdentityId = IdentityId(16);
const SHARED: &str = "192.0.2.1";
const SHARED_6: &str = "2001:db8::1";

fn identity(kind: IdentityKind, mode: Option<Mode>, names: &[&str]) -> Identity {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Identity { kind, group: name("g"), mode, names }
}

fn rule(id: u32, to: u32, applications: &[u32], action: Action) -> ResolvedRule {
    ResolvedRule {
        id: RuleId(id),
        from: vec![POD],
        to: vec![IdentityId(to)],
        ports: Ports::Any,
        applications: applications.iter().copied().map(ApplicationId).collect(),
        action,
        learned: false,
    }
}

/// A pod in this mode; `a.example` is 17, `*.b.example` is 18, the virtual host `v.example` is 19, the pod `db` is 20.
fn policy(mode: Mode, rules: Vec<ResolvedRule>) -> NodePolicy {
    NodePolicy {
        identities: BTreeMap::from([
            (POD, identity(IdentityKind::Workload, Some(mode), &[])),
            (IdentityId(17), identity(IdentityKind::Address, None, &["a.example"])),
            (IdentityId(18), identity(IdentityKind::Address, None, &["*.b.example"])),
            (IdentityId(19), identity(IdentityKind::Address, None, &["vh:v.example"])),
            (IdentityId(20), identity(IdentityKind::Workload, Some(mode), &[])),
        ]),
        rules,
        ..NodePolicy::default()
    }
}

/// `a.example` and `x.b.example` live at one address, IPv4 and IPv6.
fn shared() -> Names {
    let mut names = Names::default();
    for address in [SHARED, SHARED_6] {
        for name in ["a.example", "x.b.example"] {
            names.learn(name, address.parse().unwrap(), 0, 60, true);
        }
    }
    names
}

fn layer7(policy: &NodePolicy, names: &Names) -> (Layer7, NodePolicy) {
    let mut identities = NamedIdentities::default();
    let expanded = expand(policy, names, 0, &mut identities);
    (Layer7::new(policy, identities.all(), expanded.addresses.clone()), expanded)
}

fn seen<'a>(server: IdentityId, application: Option<u32>, names: &'a [&'a str]) -> Seen<'a> {
    Seen {
        client: POD,
        server,
        protocol: Protocol::Tcp,
        port: 443,
        application: application.map(ApplicationId),
        software: None,
        names,
        ended_probing: false,
    }
}

fn told(judgement: Judgement) -> Option<(Verdict, u32)> {
    match judgement {
        Judgement::Wait => None,
        Judgement::Decided(decision) => Some((decision.verdict, decision.rule.0)),
    }
}

#[test]
fn of_two_hosts_at_one_address_one_is_allowed_and_the_other_is_against_the_rules() {
    for (mode, against) in [(Mode::Monitor, Verdict::Violate), (Mode::Protect, Verdict::Deny)] {
        let (layer7, expanded) = layer7(&policy(mode, vec![rule(1, 17, &[], Action::Allow)]), &shared());
        for address in [SHARED, SHARED_6] {
            let server = layer7.identity_of(address.parse().unwrap());
            assert!(layer7.needs(POD, server, Protocol::Tcp, 443), "{address}");
            let flow = Flow {
                client: POD,
                server,
                protocol: Protocol::Tcp,
                port: 443,
                application: None,
                quarantined: false,
            };
            assert_eq!(decide::connection(&expanded, flow).verdict, Verdict::Allow, "until it has spoken");
            for (names, want) in [
                (&["a.example"][..], (Verdict::Allow, 1)),
                (&["A.example:443"], (Verdict::Allow, 1)),
                (&["x.b.example"], (against, 0)),
                (&["a.example", "x.b.example"], (against, 0)),
                (&["192.0.2.1"], (Verdict::Allow, 1)),
            ] {
                let got = told(layer7.judge(&seen(server, Some(1002), names)));
                assert_eq!(got, Some(want), "{address} {names:?}");
            }
            // What never names a host is judged by what the DNS said of the address.
            assert_eq!(told(layer7.judge(&seen(server, Some(2006), &[]))), Some((Verdict::Allow, 1)));
            assert_eq!(layer7.judge(&seen(server, Some(1002), &[])), Judgement::Wait);
        }
    }
}

#[test]
fn a_name_alone_allows_nothing_at_an_address_that_is_none_of_its() {
    let policy = policy(Mode::Protect, vec![rule(1, 17, &[], Action::Allow)]);
    let (layer7, _) = layer7(&policy, &shared());
    let elsewhere = layer7.identity_of("198.51.100.1".parse().unwrap());
    let got = layer7.judge(&seen(elsewhere, Some(1002), &["a.example"]));
    assert_eq!(told(got), Some((Verdict::Deny, 0)));
    assert!(!layer7.needs(POD, elsewhere, Protocol::Tcp, 443), "the kernel has denied it");
}

#[test]
fn a_denial_by_name_holds_wherever_the_name_is_meant() {
    let rules = vec![rule(1, 18, &[], Action::Deny), rule(2, IdentityId::EXTERNAL.0, &[], Action::Allow)];
    let (layer7, _) = layer7(&policy(Mode::Protect, rules), &shared());
    for address in [SHARED, "198.51.100.1"] {
        let server = layer7.identity_of(address.parse().unwrap());
        assert!(layer7.needs(POD, server, Protocol::Tcp, 443));
        for (name, want) in [("y.b.example", (Verdict::Deny, 1)), ("c.example", (Verdict::Allow, 2))] {
            let got = told(layer7.judge(&seen(server, Some(1001), &[name])));
            assert_eq!(got, Some(want), "{address} {name}");
        }
        let ended = Seen { ended_probing: true, ..seen(server, None, &[]) };
        assert_eq!(told(layer7.judge(&ended)), Some((Verdict::Allow, 2)));
    }
}

#[test]
fn a_virtual_host_is_meant_by_what_the_client_says_at_any_address_but_a_workloads() {
    let (layer7, expanded) =
        layer7(&policy(Mode::Protect, vec![rule(1, 19, &[], Action::Allow)]), &Names::default());
    let open = lower::network(&expanded, 100).unwrap().rules;
    assert!(open.keys().any(|key| key.server == IdentityId::EXTERNAL), "until it has spoken");
    for (server, name, want) in [
        (IdentityId::EXTERNAL, "v.example", (Verdict::Allow, 1)),
        (IdentityId::EXTERNAL, "w.example", (Verdict::Deny, 0)),
        (IdentityId(20), "v.example", (Verdict::Deny, 0)),
    ] {
        assert_eq!(told(layer7.judge(&seen(server, Some(1001), &[name]))), Some(want), "{server:?} {name}");
    }
}

#[test]
fn of_forwarded_addresses_the_one_that_a_trusted_proxy_has_written_counts() {
    let last = "198.51.100.9";
    for (list, hops, want) in [
        (last, 1, Some(last)),
        ("203.0.113.7, 198.51.100.9", 1, Some(last)),
        ("203.0.113.7, 198.51.100.9", 2, Some("203.0.113.7")),
        ("203.0.113.7", 2, None),
        ("[2001:db8::1]", 1, Some("2001:db8::1")),
        ("nonsense", 1, None),
        (last, 0, None),
    ] {
        assert_eq!(forwarded_client(list, hops), want.map(|want| want.parse().unwrap()), "{list} {hops}");
    }
}

#[test]
fn a_verdict_changes_as_more_becomes_known() {
    // nginx alone, spoken to by HTTP; SSH to nobody.
    let rules = vec![rule(1, 20, &[1003], Action::Deny), rule(2, 20, &[2022], Action::Allow)];
    let (layer7, _) = layer7(&policy(Mode::Monitor, rules), &Names::default());
    let server = IdentityId(20);
    assert!(layer7.needs(POD, server, Protocol::Tcp, 80));
    let judge = |application: Option<u32>, software: Option<u32>, ended_probing| {
        let software = software.map(ApplicationId);
        told(layer7.judge(&Seen { software, ended_probing, ..seen(server, application, &[]) }))
    };
    assert_eq!(judge(Some(1003), None, false), Some((Verdict::Violate, 1)));
    assert_eq!(judge(Some(1001), None, false), None, "its software may still be told");
    assert_eq!(judge(Some(1001), Some(2022), false), Some((Verdict::Allow, 2)));
    assert_eq!(judge(Some(1001), Some(2021), false), Some((Verdict::Violate, 0)));
    assert_eq!(judge(Some(1001), None, true), Some((Verdict::Violate, 0)));
    assert_eq!(judge(None, None, true), Some((Verdict::Violate, 0)));
}

#[test]
fn a_policy_without_applications_and_names_asks_for_nothing() {
    let (layer7, _) =
        layer7(&policy(Mode::Protect, vec![rule(1, 20, &[], Action::Allow)]), &Names::default());
    assert!(!layer7.asks() && !layer7.needs(POD, IdentityId(20), Protocol::Tcp, 80));
    let stored = serde_json::to_string(&layer7).unwrap();
    assert_eq!(serde_json::from_str::<Layer7>(&stored).unwrap(), layer7);
}

prop_compose! {
    fn any_rule()(from in prop::collection::btree_set(16_u32..21, 1..4), to in prop::collection::btree_set(1_u32..21, 1..8),
                  port in prop::sample::select(vec!["any", "tcp/80", "tcp/80-90,udp/53"]), allow: bool, learned: bool,
                  applications in prop::collection::vec(prop::sample::select(vec![1001_u32, 1002, 1003, 2022]), 0..3)) -> ResolvedRule {
        let ids = |set: BTreeSet<u32>| set.into_iter().map(IdentityId).collect();
        ResolvedRule {
            id: RuleId(0), from: ids(from), to: ids(to), ports: port.parse().unwrap(),
            applications: applications.into_iter().map(ApplicationId).collect(),
            action: if allow { Action::Allow } else { Action::Deny }, learned,
        }
    }
}

prop_compose! {
    fn any_policy()(rules in prop::collection::vec(any_rule(), 0..7), client in prop::sample::select(vec![Mode::Discover, Mode::Monitor, Mode::Protect]),
                    server in prop::option::of(Just(Mode::Monitor)), strict: bool) -> NodePolicy {
        let mut policy = policy(client, (1..).zip(rules).map(|(id, rule)| ResolvedRule { id: RuleId(id), ..rule }).collect());
        policy.settings.strict_group_mode = strict;
        policy.identities.insert(IdentityId(20), identity(IdentityKind::Node, server, &[]));
        policy
    }
}

fn plain(mut policy: NodePolicy) -> NodePolicy {
    policy.identities.values_mut().for_each(|identity| identity.names.clear());
    policy
}

fn flow(server: IdentityId, port: u16, application: Option<u32>) -> Flow {
    let application = application.map(ApplicationId);
    Flow { client: POD, server, protocol: Protocol::Tcp, port, application, quarantined: false }
}

proptest! {
    #[test]
    fn a_judgement_of_what_is_known_is_the_decision(
        policy in any_policy().prop_map(plain), server in prop::sample::select(vec![1_u32, 16, 17, 20]),
        port in prop::sample::select(vec![80_u16, 443]), application in prop::option::of(prop::sample::select(vec![1001_u32, 1002, 1003, 1004])),
    ) {
        let (layer7, _) = layer7(&policy, &Names::default());
        let server = IdentityId(server);
        let known = Seen { port, ended_probing: true, ..seen(server, application, &[]) };
        // An application that no rule names stands for one that nobody knows.
        let want = decide::connection(&policy, flow(server, port, application.or(Some(1))));
        prop_assert_eq!(layer7.judge(&known), Judgement::Decided(want));
        // What does not need to be looked at is as decided, whatever it turns out to be.
        if !layer7.needs(POD, server, Protocol::Tcp, port) {
            for application in [None, Some(1001), Some(1002), Some(1003), Some(2022), Some(1)] {
                let got = decide::connection(&policy, flow(server, port, application)).verdict;
                prop_assert_eq!(got, decide::connection(&policy, flow(server, port, None)).verdict);
            }
        }
    }

    #[test]
    fn what_the_kernel_denies_is_never_allowed_by_what_a_connection_says(
        policy in any_policy(), port in prop::sample::select(vec![80_u16, 443]),
        application in prop::option::of(prop::sample::select(vec![1001_u32, 1002, 1003, 2006])),
        named in prop::option::of(prop::sample::select(vec!["a.example", "x.b.example", "v.example", "other.example", "192.0.2.1"])),
        address in prop::sample::select(vec![SHARED, SHARED_6, "198.51.100.1"]), ended: bool,
    ) {
        let (layer7, expanded) = layer7(&policy, &shared());
        let server = layer7.identity_of(address.parse().unwrap());
        let names: Vec<&str> = named.into_iter().collect();
        let known = Seen { port, ended_probing: ended, ..seen(server, application, &names) };
        let kernel = decide::connection(&expanded, flow(server, port, None));
        if kernel.verdict == Verdict::Deny {
            match layer7.judge(&known) {
                Judgement::Wait => {}
                Judgement::Decided(decision) => prop_assert_eq!(decision.verdict, Verdict::Deny, "{:?}", decision.reason),
            }
            prop_assert_ne!(kernel.reason, Reason::Unmanaged);
        }
    }
}
