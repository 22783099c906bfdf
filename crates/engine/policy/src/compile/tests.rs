use nv_model::mode::Mode;
use nv_model::policy::{IdentityId, IdentityKind, NodePolicy};
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::verdict::{Action, Verdict};
use nv_model::workload::PlatformRole;

use super::*;
use crate::decide::{self, Decision, Flow, Reason};
use crate::state::BOUNDARY_LABEL;
use crate::testing::{at, group, name, node, rule, state, workload};

/// web on n1, db on n2, other on n3; all in Protect, except what a test changes.
fn shop() -> State {
    let mut state = state(&[
        at(workload("web", "n1", "web", "shop"), "10.0.1.2/24"),
        at(workload("db", "n2", "db", "shop"), "10.0.2.2/24"),
        at(workload("other", "n3", "other", "lab"), "10.0.3.2/24"),
    ]);
    for (id, address) in [("n1", "192.168.0.1/24"), ("n2", "192.168.0.2/24"), ("n3", "192.168.0.3/24")] {
        let node = node(id, address);
        state.nodes.insert(node.id.clone(), node);
    }
    protect(&mut state);
    state
}

fn protect(state: &mut State) {
    for modes in state.groups.values_mut().filter_map(|group| group.modes.as_mut()) {
        modes.network = Mode::Protect;
    }
}

fn on(state: &State, id: &str) -> NodePolicy {
    compile(state, &mut Identities::default(), &id.parse().unwrap())
}

fn who(policy: &NodePolicy, ip: &str) -> IdentityId {
    let ip: std::net::IpAddr = ip.parse().unwrap();
    policy
        .addresses
        .iter()
        .filter(|(net, _)| net.contains(&ip))
        .max_by_key(|(net, _)| net.prefix_len())
        .map_or(IdentityId::EXTERNAL, |(_, id)| *id)
}

fn asked(policy: &NodePolicy, client: &str, server: &str, port: u16) -> Decision {
    let flow = Flow {
        client: who(policy, client),
        server: who(policy, server),
        protocol: Protocol::Tcp,
        port,
        application: None,
        quarantined: false,
    };
    decide::connection(policy, flow)
}

const WEB: &str = "10.0.1.2";
const DB: &str = "10.0.2.2";
const OTHER: &str = "10.0.3.2";
const OUT: &str = "1.1.1.1";

#[test]
fn a_node_is_told_its_workloads_the_rules_they_are_in_and_the_peers_these_name() {
    let mut state = shop();
    state.rules = vec![
        rule(10_001, "nv.web.shop", "nv.db.shop", "tcp/5432", Action::Allow),
        rule(10_002, "nv.other.lab", "external", "tcp/443", Action::Allow),
    ];
    let policy = on(&state, "n1");
    assert_eq!(policy.workloads.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!(policy.profiles.keys().collect::<Vec<_>>(), [&name("nodes"), &name("nv.web.shop")]);
    assert_eq!(policy.rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [10_001]);
    assert_eq!(policy.identities[&who(&policy, DB)].group, name("nv.db.shop"));
    assert_eq!(who(&policy, OTHER), IdentityId::UNMANAGED);
    assert_eq!(who(&policy, "192.168.0.3"), IdentityId::NODES);
    assert_eq!(who(&policy, OUT), IdentityId::EXTERNAL);
    for (client, server, port, verdict, rule) in [
        (WEB, DB, 5432, Verdict::Allow, 10_001),
        (WEB, DB, 80, Verdict::Deny, 0),
        (DB, WEB, 5432, Verdict::Deny, 0),
        (WEB, OTHER, 80, Verdict::Deny, 0),
        (WEB, OUT, 443, Verdict::Deny, 0),
    ] {
        let got = asked(&policy, client, server, port);
        assert_eq!((got.verdict, got.rule), (verdict, RuleId(rule)), "{client}>{server}:{port}");
    }
    // The other end judges the same.
    assert_eq!(asked(&on(&state, "n2"), WEB, DB, 5432).verdict, Verdict::Allow);
    assert_eq!(asked(&on(&state, "n3"), OTHER, OUT, 443).verdict, Verdict::Allow);
}

#[test]
fn a_peer_without_a_rule_is_known_where_its_mode_counts() {
    for (strict, other, want) in [
        (false, Mode::Discover, Verdict::Learn),
        (false, Mode::Monitor, Verdict::Violate),
        (false, Mode::Protect, Verdict::Deny),
        (true, Mode::Discover, Verdict::Deny),
    ] {
        let mut state = shop();
        state.settings.strict_group_mode = strict;
        let modes = state.groups.get_mut(&name("nv.other.lab")).unwrap().modes.as_mut().unwrap();
        modes.network = other;
        assert_eq!(asked(&on(&state, "n1"), WEB, OTHER, 80).verdict, want, "strict={strict} {other:?}");
        assert_eq!(asked(&on(&state, "n3"), WEB, OTHER, 80).verdict, want, "strict={strict} {other:?}");
    }
}

#[test]
fn a_workload_outside_of_every_inner_network_is_never_taken_for_external() {
    let mut state = shop();
    let alone = at(workload("other", "n3", "other", "lab"), "100.64.0.9/32");
    state.workloads.insert(alone.id.clone(), alone.into());
    state.rules = vec![rule(1, "nv.web.shop", "external", "any", Action::Allow)];
    assert_eq!(asked(&on(&state, "n1"), WEB, OUT, 80).verdict, Verdict::Allow);
    assert_eq!(asked(&on(&state, "n1"), WEB, "100.64.0.9", 80).verdict, Verdict::Deny);
}

#[test]
fn an_address_group_is_matched_by_its_longest_prefix_whoever_has_the_address() {
    let mut state = shop();
    for (group_name, net) in [("wide", "10.0.0.0/8"), ("narrow", "10.0.2.0/30"), ("far", "8.8.8.8-8.8.8.9")] {
        let held = group(group_name, &[("address", "=", net)]);
        state.groups.insert(held.name.clone(), held);
    }
    for (to, server, want) in [
        ("wide", DB, Verdict::Allow),
        ("narrow", DB, Verdict::Allow),
        ("narrow", OTHER, Verdict::Deny),
        ("wide", OTHER, Verdict::Allow),
        ("wide", "10.200.0.1", Verdict::Allow),
        ("far", "8.8.8.9", Verdict::Allow),
        ("far", "8.8.8.10", Verdict::Deny),
        ("external", "8.8.8.9", Verdict::Allow),
        ("external", "10.0.2.1", Verdict::Deny),
        ("Workload:10.0.1.77", "10.0.1.77", Verdict::Allow),
        ("Workload:10.0.1.77", "10.0.1.78", Verdict::Deny),
        ("Host:n2", "192.168.0.2", Verdict::Allow),
        ("Host:n2-name", "192.168.0.2", Verdict::Allow),
        ("nodes", "192.168.0.2", Verdict::Allow),
    ] {
        state.rules = vec![rule(1, "nv.web.shop", to, "any", Action::Allow)];
        let policy = on(&state, "n1");
        assert_eq!(asked(&policy, WEB, server, 80).verdict, want, "{to} {server}");
    }
    state.rules = vec![rule(1, "nv.web.shop", "Host:n2", "any", Action::Allow)];
    let verdict = asked(&on(&state, "n1"), WEB, "192.168.0.3", 80).verdict;
    assert_eq!(verdict, Verdict::Violate, "another host is not meant, and hosts are never cut off");
}

#[test]
fn members_of_a_pod_use_the_networks_identity_and_count_for_it() {
    let mut state = shop();
    let mut member = workload("web-c", "n1", "web", "shop");
    member.pod_sandbox = Some("web".parse().unwrap());
    member.image = "nginx".into();
    state.workloads.insert(member.id.clone(), member.into());
    let held = group("nginxes", &[("image", "=", "nginx")]);
    state.groups.insert(held.name.clone(), held);
    state.rules = vec![rule(1, "nginxes", "nv.db.shop", "any", Action::Allow)];
    let policy = on(&state, "n1");
    let identity = |id: &str| policy.workloads[id].identity;
    assert_eq!(identity("web"), identity("web-c"));
    assert_eq!(asked(&policy, WEB, DB, 80).verdict, Verdict::Allow);
}

#[test]
fn a_workload_on_the_hosts_network_is_itself_where_it_runs_and_its_host_by_address() {
    let mut state = shop();
    let mut proxy = at(workload("proxy", "n1", "proxy", "sys"), "192.168.0.1/24");
    proxy.host_network = true;
    state.workloads.insert(proxy.id.clone(), proxy.into());
    state.rules = vec![rule(1, "nv.web.shop", "nv.proxy.sys", "tcp/80", Action::Allow)];
    let policy = on(&state, "n1");
    let identity = policy.workloads["proxy"].identity;
    assert_eq!(policy.workloads["proxy"].group, name("nv.proxy.sys"));
    assert_eq!(policy.identities[&identity].kind, IdentityKind::Workload);
    assert_eq!(policy.rules[0].to, [identity]);
    assert_eq!(who(&policy, "192.168.0.1"), IdentityId::NODES);
    assert_eq!(policy.identities[&IdentityId::NODES].kind, IdentityKind::Node);
    // Its interface says nothing about what is inside of the cluster.
    assert_eq!(who(&policy, "192.168.0.99"), IdentityId::EXTERNAL);
}

#[test]
fn quarantine_of_a_pod_reaches_its_members() {
    let mut state = shop();
    let mut member = workload("web-c", "n1", "web", "shop");
    member.pod_sandbox = Some("web".parse().unwrap());
    state.workloads.insert(member.id.clone(), member.into());
    state.quarantined.insert("web".parse().unwrap());
    let policy = on(&state, "n1");
    assert!(policy.workloads["web"].quarantined && policy.workloads["web-c"].quarantined);
    assert!(!on(&state, "n2").workloads["db"].quarantined);
    // A container has its pod's network, so that its quarantine is the pod's.
    state.quarantined = ["web-c".parse().unwrap()].into();
    let policy = on(&state, "n1");
    assert!(policy.workloads["web"].quarantined && policy.workloads["web-c"].quarantined);
}

#[test]
fn denials_about_hosts_stand_last_and_a_blanket_rule_ends_the_rules_between_containers() {
    let mut state = shop();
    state.rules = vec![
        rule(1, "nodes", "nv.web.shop", "any", Action::Deny),
        rule(2, "containers", "containers", "any", Action::Deny),
        rule(3, "nv.web.shop", "nv.db.shop", "tcp/1", Action::Allow),
        rule(4, "nv.web.shop", "external", "tcp/1", Action::Allow),
        rule(5, "nodes", "nv.web.shop", "tcp/1", Action::Allow),
    ];
    let policy = on(&state, "n1");
    assert_eq!(policy.rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [2, 4, 5, 1]);
    assert_eq!(asked(&policy, WEB, DB, 1).rule, RuleId(2));
    assert_eq!(asked(&policy, "192.168.0.1", WEB, 1).verdict, Verdict::Allow);
}

#[test]
fn disabled_rules_and_rules_of_empty_groups_are_not_sent() {
    let mut state = shop();
    state.rules = vec![
        rule(1, "nv.web.shop", "nv.gone.shop", "any", Action::Allow),
        rule(2, "nv.web.shop", "nv.db.shop", "any", Action::Allow),
    ];
    state.rules[1].disabled = true;
    assert_eq!(on(&state, "n1").rules, []);
}

fn bounded() -> State {
    let mut state = shop();
    let mut dns = at(workload("dns", "n3", "dns", "kube-system"), "10.0.3.53/24");
    dns.role = PlatformRole::Core;
    state.workloads.insert(dns.id.clone(), dns.into());
    let labels = [(BOUNDARY_LABEL.to_owned(), "enabled".to_owned())].into();
    state.namespaces.insert("shop".parse().unwrap(), labels);
    for modes in state.groups.values_mut().filter_map(|group| group.modes.as_mut()) {
        modes.network = Mode::Discover;
    }
    state
}

#[test]
fn a_namespaces_boundary_holds_against_learning_and_learned_rules_but_not_against_written_ones() {
    let mut state = bounded();
    state.rules = vec![
        rule(10_001, "nv.web.shop", "external", "any", Action::Allow),
        rule(10_002, "nv.web.shop", "nv.db.shop", "any", Action::Allow),
        rule(10_003, "nv.other.lab", "nv.web.shop", "any", Action::Allow),
        rule(10_004, "nv.web.shop", "nv.dns.kube-system", "any", Action::Allow),
    ];
    for (client, server, on_node, want) in [
        (WEB, OUT, "n1", (Verdict::Violate, Reason::Boundary)),
        (OUT, WEB, "n1", (Verdict::Violate, Reason::Boundary)),
        (WEB, OTHER, "n1", (Verdict::Violate, Reason::Boundary)),
        (OTHER, WEB, "n1", (Verdict::Violate, Reason::Boundary)),
        (OTHER, WEB, "n3", (Verdict::Violate, Reason::Boundary)),
        (WEB, "10.0.1.99", "n1", (Verdict::Violate, Reason::Boundary)),
        (WEB, DB, "n1", (Verdict::Learn, Reason::LearnedRule)),
        (WEB, "10.0.3.53", "n1", (Verdict::Learn, Reason::LearnedRule)),
        (DB, "10.0.3.53", "n2", (Verdict::Learn, Reason::NoRule)),
        (WEB, "192.168.0.3", "n1", (Verdict::Learn, Reason::NoRule)),
        (OTHER, OUT, "n3", (Verdict::Learn, Reason::NoRule)),
    ] {
        let got = asked(&on(&state, on_node), client, server, 80);
        assert_eq!((got.verdict, got.reason), want, "{client}>{server}");
    }
    assert_eq!(asked(&on(&state, "n1"), DB, WEB, 80).verdict, Verdict::Learn);
    state.rules.insert(0, rule(1, "nv.web.shop", "external", "any", Action::Allow));
    assert_eq!(asked(&on(&state, "n1"), WEB, OUT, 80).verdict, Verdict::Allow);
    protect(&mut state);
    assert_eq!(asked(&on(&state, "n1"), OTHER, WEB, 80).verdict, Verdict::Deny);
}

#[test]
fn workloads_of_one_service_share_an_identity_that_outlives_them() {
    let mut state = shop();
    let mut identities = Identities::default();
    let n1 = "n1".parse().unwrap();
    let first = compile(&state, &mut identities, &n1).workloads["web"].identity;
    let second = at(workload("web2", "n1", "web", "shop"), "10.0.1.3/24");
    state.workloads.insert(second.id.clone(), second.into());
    state.workloads.remove("web");
    let policy = compile(&state, &mut identities, &n1);
    assert_eq!(policy.workloads["web2"].identity, first);
    assert_eq!(who(&policy, "10.0.1.3"), first);
}

#[test]
fn a_node_hears_of_sensors_that_a_group_with_a_member_there_uses_and_of_the_groups_other_members() {
    use nv_model::sensor::{SensorProfile, SensorSetting};
    let mut state = shop();
    let group = name("nv.web.shop");
    let mut profile = SensorProfile::new(group.clone());
    for sensor in ["sensor.creditcard", "sensor.nobody"] {
        profile.dlp.sensors.push(SensorSetting { name: sensor.parse().unwrap(), action: Action::Deny });
    }
    state.sensor_profiles.insert(group.clone(), profile.clone());
    let policy = on(&state, "n1");
    let [(id, sensor)] = policy.sensors.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", policy.sensors)
    };
    assert_eq!((id.to_string().as_str(), sensor.predefined), ("dlp/sensor.creditcard", true));
    let using = &policy.sensor_groups[&group];
    assert_eq!(using.settings, [(id.clone(), Action::Deny)]);
    assert!(
        !using.members.is_empty()
            && using.members.iter().all(|member| policy.identities.contains_key(member))
    );
    let elsewhere = on(&state, "n2");
    assert!(elsewhere.sensors.is_empty() && elsewhere.sensor_groups.is_empty());
    profile.dlp.enabled = false;
    state.sensor_profiles.insert(group, profile);
    assert!(on(&state, "n1").sensor_groups.is_empty(), "switched off");
}

#[test]
fn a_group_by_names_is_an_identity_without_addresses_and_reaches_the_nodes_that_its_rules_concern() {
    let mut state = shop();
    let before = on(&state, "n1");
    let mut names = group("names", &[("address", "=", "*.Example.com"), ("address", "=", "vh:shop.io")]);
    names.kind = nv_model::group::GroupKind::Address;
    state.groups.insert(names.name.clone(), names);
    state.rules = vec![rule(1, "nv.web.shop", "names", "tcp/443", Action::Allow)];
    let after = on(&state, "n1");
    let [rule] = &after.rules[..] else { panic!("{:?}", after.rules) };
    let [id] = rule.to[..] else { panic!("{rule:?}") };
    let identity = &after.identities[&id];
    assert_eq!((identity.kind, identity.group.as_str()), (IdentityKind::Address, "names"));
    assert_eq!(identity.names, ["*.example.com", "vh:shop.io"]);
    assert!(after.addresses.values().all(|held| *held != id));
    assert!(after.addresses.keys().eq(before.addresses.keys()));
    assert!(on(&state, "n3").identities.values().all(|held| held.names.is_empty()));
}
