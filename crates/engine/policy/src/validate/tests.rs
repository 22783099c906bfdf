use nv_model::profile::ProcessProfile;
use nv_model::rule::RuleId;
use nv_model::verdict::Action;

use super::*;
use crate::state::State;
use crate::testing::{group, name, process, rule as net, state, workload};

fn shop() -> State {
    let mut state = state(&[workload("w", "n", "web", "shop")]);
    for held in [group("mine", &[("service", "=", "web")]), group("nets", &[("address", "=", "10.0.0.1")])] {
        state.groups.insert(held.name.clone(), held);
    }
    let mut crd = group("crd", &[("service", "=", "x")]);
    crd.origin = Origin::Ground;
    state.groups.insert(crd.name.clone(), crd);
    state
}

fn said<T>(result: Result<T, Refusal>) -> (Option<RefusalKind>, String) {
    match result {
        Ok(_) => (None, String::new()),
        Err(refusal) => (Some(refusal.kind()), refusal.to_string()),
    }
}

#[test]
fn a_group_is_created_only_under_a_free_name_and_with_usable_criteria() {
    use RefusalKind::{Duplicate, Invalid, ReadOnly};
    let long = "x".repeat(1025);
    for (group, want, word) in [
        (group("new", &[("service", "=", "a")]), None, ""),
        (group("new", &[("address", "=", "10.0.0.0/8"), ("address", "=", "*.a.io")]), None, ""),
        (group("new", &[("tier", "=", "")]), None, ""),
        (group("mine", &[("service", "=", "a")]), Some(Duplicate), "exists already"),
        (group("containers", &[("service", "=", "a")]), Some(ReadOnly), "reserved"),
        (group("nv.a", &[("service", "=", "a")]), Some(Invalid), "cannot be created"),
        (group("Host:x", &[("service", "=", "a")]), Some(Invalid), "cannot be created"),
        (group("fed.a", &[("service", "=", "a")]), Some(Invalid), "fed."),
        (group("new", &[]), Some(Invalid), "no criteria"),
        (group("new", &[("address", "=", "10.0.0.1"), ("service", "=", "a")]), Some(Invalid), "combined"),
        (group("new", &[("address", "contains", "10.0.0.1")]), Some(Invalid), "only the operator ="),
        (group("new", &[("address", "=", "10.0.0")]), Some(Invalid), "no IP"),
        (group("new", &[("image", "regex", "(")]), Some(Invalid), "regular expression"),
        (group("new", &[("image", "=", "")]), Some(Invalid), "empty"),
        (group("new", &[("", "=", "a")]), Some(Invalid), "empty"),
        (group("new", &[("image", "=", &long)]), Some(Invalid), "1024"),
        (group("new", &[("image", "=", "a"), ("image", "=", "a")]), Some(Invalid), "twice"),
    ] {
        let (kind, text) = said(create_group(&shop(), &group));
        assert_eq!(kind, want, "{group:?}: {text}");
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_group_is_changed_and_deleted_only_by_its_owner_and_while_nothing_needs_it() {
    let mut state = shop();
    state.rules = vec![net(1, "mine", "external", "any", Action::Allow)];
    for (name_, want) in [
        ("external", Some(RefusalKind::ReadOnly)),
        ("crd", Some(RefusalKind::ReadOnly)),
        ("mine", Some(RefusalKind::InUse)),
        ("nv.web.shop", Some(RefusalKind::InUse)),
        ("gone", Some(RefusalKind::NotFound)),
        ("nets", None),
    ] {
        assert_eq!(said(delete_group(&state, &name(name_), Origin::UserCreated)).0, want, "{name_}");
    }
    let text = said(delete_group(&state, &name("mine"), Origin::UserCreated)).1;
    assert_eq!(text, "group mine is used by network rules 1");
    let mut learned = state.groups[&name("nv.web.shop")].clone();
    learned.comment = "note".into();
    assert_eq!(said(update_group(&state, &learned)).0, None);
    learned.comment = "é".repeat(257);
    assert_eq!(said(update_group(&state, &learned)).0, Some(RefusalKind::Invalid));
    let mut crd = state.groups[&name("crd")].clone();
    assert_eq!(said(update_group(&state, &crd)).0, None);
    crd.origin = Origin::UserCreated;
    assert_eq!(said(update_group(&state, &crd)).0, Some(RefusalKind::ReadOnly));
}

#[test]
fn a_rule_has_an_id_of_its_range_and_groups_that_exist() {
    let state = shop();
    let mut reserved = net(1, "mine", "external", "any", Action::Allow);
    reserved.id = RuleId(10_000);
    let mut long = net(1, "mine", "external", "any", Action::Allow);
    long.comment = "x".repeat(257);
    let mut priority = net(1, "mine", "external", "any", Action::Allow);
    priority.priority = 101;
    for (rule, want) in [
        (net(1, "mine", "external", "any", Action::Allow), None),
        (net(1, "Workload:10.0.0.1", "nodes", "tcp/80", Action::Deny), None),
        (net(1, "gone", "external", "any", Action::Allow), Some(RefusalKind::Invalid)),
        (net(1, "fed.nodes", "external", "any", Action::Allow), Some(RefusalKind::Invalid)),
        (net(110_001, "mine", "external", "any", Action::Allow), Some(RefusalKind::ReadOnly)),
        (net(10_001, "mine", "external", "any", Action::Allow), None),
        (reserved, Some(RefusalKind::Invalid)),
        (long, Some(RefusalKind::Invalid)),
        (priority, Some(RefusalKind::Invalid)),
    ] {
        let (kind, text) = said(super::rule(&state, &rule, Origin::UserCreated));
        assert_eq!(kind, want, "{rule:?}: {text}");
    }
    assert_eq!(said(delete_rule(&state, RuleId(5), Origin::UserCreated)).0, Some(RefusalKind::NotFound));
}

#[test]
fn a_line_of_a_profile_names_a_program_and_never_denies_all() {
    let deep = format!("/{}/*", "x".repeat(245));
    for (name, path, action, want) in [
        ("sh", "/bin/sh", Action::Deny, ""),
        ("*", "*", Action::Allow, ""),
        ("*", "/tmp/*", Action::Deny, ""),
        ("*", "*", Action::Deny, "every program"),
        ("*", "", Action::Deny, "every program"),
        ("", "/bin/sh", Action::Allow, "empty"),
        ("a/b", "*", Action::Allow, "slash"),
        ("a*", "*", Action::Allow, "wildcard"),
        ("sh", "bin/sh", Action::Allow, "absolute"),
        ("sh", &deep, Action::Allow, "244"),
    ] {
        let text = said(process_rule(&process("u", name, path, action))).1;
        assert!(text.contains(want) && want.is_empty() == text.is_empty(), "{name} {path}: {text}");
    }
}

#[test]
fn a_profile_belongs_to_a_group_of_programs() {
    let state = shop();
    for (group, want) in [
        ("nv.web.shop", None),
        ("nodes", None),
        ("mine", None),
        ("nets", Some(RefusalKind::Invalid)),
        ("external", Some(RefusalKind::Invalid)),
        ("gone", Some(RefusalKind::NotFound)),
        ("crd", Some(RefusalKind::ReadOnly)),
    ] {
        let held =
            ProcessProfile { group: name(group), rules: vec![], alert_disabled: false, hash_enabled: false };
        assert_eq!(said(profile(&state, &held, Origin::UserCreated)).0, want, "{group}");
    }
}

#[test]
fn of_one_program_there_are_no_more_lines_with_conditions_than_a_node_asks() {
    let state = shop();
    let line = |number: u32, path: &str| {
        let mut line = process(&format!("u{number}"), "sh", path, Action::Allow);
        line.conditions.uid = Some(number);
        line
    };
    let held = |rules| ProcessProfile {
        group: name("nv.web.shop"),
        rules,
        alert_disabled: false,
        hash_enabled: false,
    };
    let fifteen: Vec<_> = (0..15).map(|number| line(number, "/bin/sh")).collect();
    let mut both = fifteen.clone();
    both.push(line(15, "/bin/bash"));
    both.push(process("any", "sh", "/bin/sh", Action::Deny));
    assert_eq!(said(profile(&state, &held(both), Origin::UserCreated)).0, None);
    let mut sixteen = fifteen;
    sixteen.push(line(15, "/bin/sh"));
    let (kind, text) = said(profile(&state, &held(sixteen), Origin::UserCreated));
    assert_eq!(kind, Some(RefusalKind::Invalid));
    assert!(text.contains("15 lines with conditions"), "{text}");
}
