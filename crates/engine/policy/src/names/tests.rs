use super::*;
use crate::testing::group;
use nv_model::application::ApplicationId;
use nv_model::mode::Mode;
use nv_model::port::Ports;
use nv_model::rule::RuleId;

const SECOND: u64 = 1_000_000_000;

fn address(raw: &str) -> IpAddr {
    raw.parse().unwrap()
}

fn of(names: &Names, at: u64) -> Vec<&str> {
    let mut found: Vec<&str> = names.of(address("192.0.2.1"), at).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_name_holds_for_its_time_and_while_somebody_talks_to_its_address() {
    let mut names = Names::default();
    let one = address("192.0.2.1");
    assert!(names.learn("a.example", one, SECOND, 60, true));
    assert!(!names.learn("a.example", one, 2 * SECOND, 60, true), "it is only longer");
    assert_eq!(of(&names, SECOND - 1), Vec::<&str>::new(), "before it was answered");
    assert_eq!(of(&names, 62 * SECOND), ["a.example"]);
    assert_eq!(of(&names, 63 * SECOND), Vec::<&str>::new());
    assert!(!names.forget(63 * SECOND, |address| address == one) && !names.is_empty());
    assert_eq!(of(&names, 63 * SECOND), ["a.example"]);
    assert!(names.is_due(64 * SECOND) && names.forget(64 * SECOND, |_| false) && names.is_empty());
}

#[test]
fn what_no_rule_names_never_fills_the_room_of_what_one_does() {
    let mut names = Names::default();
    for n in 0..u32::try_from(MAX_NAMES).unwrap() {
        names.learn("other.example", IpAddr::from(n.to_be_bytes()), 0, 60, false);
    }
    assert_eq!((names.len(), names.dropped()), (MAX_NAMES / 2, (MAX_NAMES / 2) as u64));
    assert!(names.learn("a.example", address("192.0.2.1"), 0, 60, true));
    let mut one = Names::default();
    for n in 0..40 {
        one.learn(&format!("{n}.example"), address("::ffff:192.0.2.1"), 0, 60 + n, true);
    }
    assert_eq!((of(&one, 0).len(), one.dropped()), (MAX_NAMES_OF_ADDRESS, 8));
    assert!(!of(&one, 0).contains(&"0.example"), "the one that ends first makes room");
}

#[test]
fn ports_and_last_dots_are_no_part_of_a_name_and_an_address_is_none() {
    for (raw, want) in [
        ("Shop.example:8080", Some("shop.example")),
        ("shop.example.", Some("shop.example")),
        ("[::1]:80", None),
        ("192.0.2.1", None),
        ("", None),
    ] {
        assert_eq!(host(raw).as_deref(), want, "{raw}");
    }
    for (name, meant, want) in [
        ("a.example", "a.example", true),
        ("*.example", "a.b.example", true),
        ("*.example", "example", false),
        ("*.example", "badexample", false),
    ] {
        assert_eq!(is_meant(name, meant), want, "{name} {meant}");
    }
}

#[test]
fn only_criteria_that_are_names_make_a_group_one_by_names() {
    let mut held = group("g", &[("address", "=", "10.0.0.0/8"), ("address", "=", "WWW.example.com")]);
    held.kind = GroupKind::Address;
    assert_eq!(of_group(&held), ["www.example.com"]);
    assert_eq!(of_group(&group("g", &[("service", "=", "a.example")])), Vec::<String>::new());
}

fn identity(kind: IdentityKind, mode: Option<Mode>, names: &[&str]) -> Identity {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Identity { kind, group: "g".parse().unwrap(), mode, names }
}

fn rule(id: u32, to: u32, action: Action) -> ResolvedRule {
    ResolvedRule {
        id: RuleId(id),
        from: vec![IdentityId(16)],
        to: vec![IdentityId(to)],
        ports: Ports::Any,
        applications: Vec::<ApplicationId>::new(),
        action,
        learned: false,
    }
}

fn policy() -> NodePolicy {
    NodePolicy {
        identities: BTreeMap::from([
            (IdentityId(16), identity(IdentityKind::Workload, Some(Mode::Protect), &[])),
            (IdentityId(17), identity(IdentityKind::Address, None, &["a.example"])),
            (IdentityId(18), identity(IdentityKind::Address, None, &["b.example", "*.c.example"])),
        ]),
        addresses: BTreeMap::from([("10.0.0.5/32".parse().unwrap(), IdentityId(16))]),
        rules: vec![rule(1, 17, Action::Allow), rule(2, 18, Action::Deny)],
        ..NodePolicy::default()
    }
}

#[test]
fn an_address_gets_the_groups_of_its_names_and_what_a_workload_has_stays_its_own() {
    let (policy, mut names, mut identities) = (policy(), Names::default(), NamedIdentities::default());
    let (one, other, sixth) = (address("192.0.2.1"), address("192.0.2.2"), address("2001:db8::1"));
    for (name, at) in [
        ("a.example", one),
        ("b.example", one),
        ("x.c.example", other),
        ("a.example", sixth),
        ("a.example", address("10.0.0.5")),
        ("none.example", address("192.0.2.9")),
    ] {
        names.learn(name, at, 0, 60, true);
    }
    let expanded = expand(&policy, &names, 0, &mut identities);
    assert_eq!(identity_of(&expanded, address("10.0.0.5")), IdentityId(16));
    assert_eq!(identity_of(&expanded, address("192.0.2.9")), IdentityId::EXTERNAL);
    let (both, second, first) =
        (identity_of(&expanded, one), identity_of(&expanded, other), identity_of(&expanded, sixth));
    let [allowed, denied] = &expanded.rules[..] else { panic!("two rules") };
    // At the shared address the allowance holds and the denial waits for what the connection says.
    for (id, is_allowed, is_denied) in [(both, true, false), (second, false, true), (first, true, false)] {
        let found = (allowed.to.contains(&id), denied.to.contains(&id));
        assert_eq!(found, (is_allowed, is_denied), "{id:?}");
    }
    let again = expand(&policy, &names, 0, &mut identities);
    assert_eq!(again, expanded, "numbers stay as long as they are used");
    let later = expand(&policy, &names, 61 * SECOND, &mut identities);
    assert_eq!((later, identities.all().len()), (policy, 0));
}

#[test]
fn identities_that_names_make_are_bounded() {
    let mut policy = policy();
    let mut names = Names::default();
    for n in 0..u32::try_from(MAX_NAMED).unwrap() + 5 {
        let name = format!("n{n}.example");
        policy.identities.insert(IdentityId(100 + n), identity(IdentityKind::Address, None, &[&name]));
        names.learn(&name, IpAddr::from((0xC000_0200 + n).to_be_bytes()), 0, 60, true);
    }
    let mut identities = NamedIdentities::default();
    let expanded = expand(&policy, &names, 0, &mut identities);
    assert_eq!(expanded.addresses.len(), MAX_NAMED + 1);
    assert_eq!((identities.all().len(), identities.refused()), (MAX_NAMED, 5));
}
