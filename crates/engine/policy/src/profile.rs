//! The programs of a group as a node is told them: the rules of every group, in the order of their precedence.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::file::FileRule;
use nv_model::group::Origin;
use nv_model::mode::{Baseline, Modes};
use nv_model::name::GroupName;
use nv_model::profile::{EffectiveProfile, PathPattern, ProcessRule};
use nv_model::verdict::Action;

use crate::state::State;

/// Whether the rule says "any program, anywhere, whoever runs it".
#[must_use]
pub fn is_total(rule: &ProcessRule) -> bool {
    rule.name == "*" && rule.path == PathPattern::Any && rule.conditions.is_empty()
}

/// The profile of `home` (a learned group or `nodes`) for the workloads whose groups are `members`.
///
/// There is one profile a service and node. A denial of a user's group holds as soon as one of the service's workloads
/// is in that group; an allowance only if all of them are, as it would reach the others otherwise.
#[must_use]
pub fn effective(state: &State, home: &GroupName, members: &[&[GroupName]]) -> EffectiveProfile {
    let modes = state.modes_of(home).unwrap_or(Modes { ..state.settings.new_service });
    let mut counts: BTreeMap<&GroupName, usize> = BTreeMap::new();
    for group in members.iter().flat_map(|groups| groups.iter().collect::<BTreeSet<_>>()) {
        *counts.entry(group).or_default() += 1;
    }
    let mut groups: Vec<(&GroupName, bool)> = counts
        .into_iter()
        .filter(|(group, _)| *group != home)
        .map(|(group, count)| (group, count == members.len()))
        .collect();
    groups.sort_by_key(|(group, _)| (rank(state, group), *group));
    let mut rules: Vec<(GroupName, ProcessRule)> = Vec::new();
    // A file rule only takes or reports, so one member of its group is enough.
    let mut files: Vec<(GroupName, FileRule)> = Vec::new();
    for (group, all) in groups.into_iter().chain([(home, true)]) {
        let lines = state.files.get(group).map(|profile| profile.rules.as_slice()).unwrap_or_default();
        files.extend(lines.iter().map(|rule| (group.clone(), rule.clone())));
        let Some(profile) = state.profiles.get(group) else { continue };
        let mut lines: Vec<&ProcessRule> =
            profile.rules.iter().filter(|rule| all || rule.action == Action::Deny).collect();
        // What speaks of some cases would never be asked behind what speaks of all of them.
        lines.sort_by_key(|rule| {
            (rule.conditions.is_empty(), !rule.conditions.is_empty() && rule.action == Action::Allow)
        });
        rules.extend(lines.into_iter().map(|rule| (group.clone(), rule.clone())));
    }
    EffectiveProfile {
        group: home.clone(),
        mode: modes.profile,
        baseline: if *home == GroupName::nodes() { Baseline::Basic } else { modes.baseline },
        rules: by_precedence(rules),
        files,
        alert_disabled: state.profiles.get(home).is_some_and(|profile| profile.alert_disabled),
        fault: modes.fault,
    }
}

/// Federal groups first, then custom resources', then users', then built-in ones; the learned one comes behind all.
fn rank(state: &State, group: &GroupName) -> u8 {
    if group.is_reserved() {
        return if group.as_str().starts_with("fed.") { 0 } else { 3 };
    }
    match state.groups.get(group).map(|group| group.origin) {
        Some(Origin::Federal) => 0,
        Some(Origin::Ground) => 1,
        Some(Origin::UserCreated) | None => 2,
        Some(Origin::SystemDefined) => 3,
        Some(Origin::Learned) => 4,
    }
}

/// Puts rules in the order in which the first match decides: an allowance of everything beats all others; a denial of
/// any name beats an allowance of any name; else the order stays.
#[must_use]
pub fn by_precedence(rules: Vec<(GroupName, ProcessRule)>) -> Vec<(GroupName, ProcessRule)> {
    let (mut ordered, rest): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|(_, rule)| is_total(rule) && rule.action == Action::Allow);
    // Rules for any name keep the places that such rules have, but the denials among them take the first of these.
    let any_name = |rule: &ProcessRule| rule.name == "*";
    let (denials, allowances): (Vec<_>, Vec<_>) = rest
        .iter()
        .filter(|(_, rule)| any_name(rule))
        .cloned()
        .partition(|(_, rule)| rule.action == Action::Deny);
    let mut sorted = denials.into_iter().chain(allowances);
    for line in rest {
        if any_name(&line.1) { ordered.extend(sorted.next()) } else { ordered.push(line) }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, name, process, state, workload};
    use nv_model::mode::Fault;
    use nv_model::profile::ProcessProfile;

    fn profile(group: &str, rules: Vec<ProcessRule>) -> ProcessProfile {
        ProcessProfile { group: name(group), rules, alert_disabled: false, hash_enabled: false }
    }
    fn uuids(profile: &EffectiveProfile) -> Vec<&str> {
        profile.rules.iter().map(|(_, rule)| rule.uuid.as_str()).collect()
    }

    #[test]
    fn user_groups_come_before_the_learned_one_and_wildcards_have_their_precedence() {
        let mut state = state(&[workload("w", "n", "web", "shop")]);
        state.groups.insert(name("zoo"), group("zoo", &[("service", "=", "web")]));
        for held in [
            profile(
                "nv.web.shop",
                vec![
                    process("l1", "sh", "*", Action::Allow),
                    process("l2", "*", "/opt/*", Action::Allow),
                    process("l3", "*", "/opt/x/*", Action::Deny),
                    process("l4", "*", "*", Action::Allow),
                ],
            ),
            profile("zoo", vec![process("u1", "sh", "*", Action::Deny)]),
        ] {
            state.profiles.insert(held.group.clone(), held);
        }
        let groups = [name("zoo"), name("nv.web.shop")];
        let effective = effective(&state, &name("nv.web.shop"), &[&groups]);
        assert_eq!(uuids(&effective), ["l4", "u1", "l1", "l3", "l2"]);
    }

    #[test]
    fn in_a_group_lines_with_conditions_come_before_the_others_and_their_denials_first() {
        let mut state = state(&[workload("w", "n", "web", "shop")]);
        let with = |mut rule: ProcessRule, uid| {
            rule.conditions.uid = Some(uid);
            rule
        };
        let lines = vec![
            process("all", "sh", "*", Action::Allow),
            with(process("some", "sh", "*", Action::Allow), 1),
            with(process("root", "sh", "*", Action::Deny), 0),
        ];
        state.profiles.insert(name("nv.web.shop"), profile("nv.web.shop", lines));
        let groups = [name("nv.web.shop")];
        assert_eq!(uuids(&effective(&state, &name("nv.web.shop"), &[&groups])), ["root", "some", "all"]);
    }

    #[test]
    fn an_allowance_of_a_group_needs_all_workloads_of_the_service_and_a_denial_one() {
        let mut state = state(&[workload("w", "n", "web", "shop")]);
        state.profiles.insert(
            name("some"),
            profile(
                "some",
                vec![process("allow", "a", "*", Action::Allow), process("deny", "b", "*", Action::Deny)],
            ),
        );
        let (with, without) = ([name("nv.web.shop"), name("some")], [name("nv.web.shop")]);
        let home = name("nv.web.shop");
        assert_eq!(uuids(&effective(&state, &home, &[&with, &without])), ["deny"]);
        assert_eq!(uuids(&effective(&state, &home, &[&with, &with])), ["allow", "deny"]);
        assert_eq!(uuids(&effective(&state, &home, &[&without])), [""; 0]);
    }

    #[test]
    fn nodes_are_always_measured_by_their_list_alone() {
        let mut state = state(&[]);
        state.settings.new_service.baseline = Baseline::ZeroDrift;
        if let Some(modes) = state.groups.get_mut(&name("nodes")).and_then(|group| group.modes.as_mut()) {
            modes.baseline = Baseline::ZeroDrift;
        }
        assert_eq!(effective(&state, &name("nodes"), &[]).baseline, Baseline::Basic);
    }

    #[test]
    fn a_profile_fails_as_its_group_or_else_as_new_services_do() {
        let mut state = state(&[workload("w", "n", "web", "shop")]);
        let home = name("nv.web.shop");
        state.settings.new_service.fault = Fault::Closed;
        assert_eq!(effective(&state, &name("nv.other.shop"), &[]).fault, Fault::Closed);
        if let Some(group) = state.groups.get_mut(&home) {
            group.modes = Some(Modes::default());
        }
        assert_eq!(effective(&state, &home, &[]).fault, Fault::Open);
    }
}
