//! Modes of groups: changing them, and what a group looks like to operators.

use std::collections::BTreeSet;

use nv_model::group::{Group, GroupKind, Origin};
use nv_model::mode::{Baseline, Fault, Mode, Modes};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::rule::RuleId;
use nv_model::workload::PlatformRole;

use crate::change::Change;
use crate::membership;
use crate::state::State;

/// What to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeChange {
    /// Network mode (`policy_mode`).
    pub network: Option<Mode>,
    /// Mode of processes and files (`profile_mode`).
    pub profile: Option<Mode>,
    /// Baseline of processes (`baseline_profile`).
    pub baseline: Option<Baseline>,
    /// Where a verdict cannot be found in time (`fail_mode`).
    pub fault: Option<Fault>,
}

/// Why modes cannot be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModeError {
    /// No group has this name.
    #[error("group {0} does not exist")]
    Unknown(GroupName),
    /// Only learned groups and `nodes` have modes.
    #[error("group {0} has no mode; only learned groups (nv.…) and nodes have one")]
    NoMode(GroupName),
    /// A custom resource owns it.
    #[error("group {0} belongs to a custom resource and can be changed only there")]
    ReadOnly(GroupName),
    /// Hosts have no image to drift from.
    #[error("group nodes is always measured by its list alone (basic)")]
    NodesBaseline,
}

/// Changes the modes of these groups, all or none. Groups that have the wanted modes already give no change.
///
/// # Errors
/// [`ModeError`] for the first group that cannot be changed.
pub fn set(state: &State, names: &[GroupName], wanted: ModeChange) -> Result<Vec<Change>, ModeError> {
    let mut changes = Vec::new();
    for name in names.iter().collect::<BTreeSet<_>>() {
        let group = state.groups.get(name).ok_or_else(|| ModeError::Unknown(name.clone()))?;
        if !name.has_mode() {
            return Err(ModeError::NoMode(name.clone()));
        }
        if group.origin == Origin::Ground {
            return Err(ModeError::ReadOnly(name.clone()));
        }
        if *name == GroupName::nodes() && wanted.baseline == Some(Baseline::ZeroDrift) {
            return Err(ModeError::NodesBaseline);
        }
        changes.extend(changed(state, group, wanted));
    }
    Ok(changes)
}

/// Changes the modes of every group that has some and is not owned by a custom resource; `nodes` keeps its baseline.
#[must_use]
pub fn set_all(state: &State, wanted: ModeChange) -> Vec<Change> {
    state
        .groups
        .values()
        .filter(|group| group.name.has_mode() && group.origin != Origin::Ground)
        .filter_map(|group| {
            let nodes = group.kind == GroupKind::Node;
            let wanted = ModeChange { baseline: wanted.baseline.filter(|_| !nodes), ..wanted };
            changed(state, group, wanted)
        })
        .collect()
}

fn changed(state: &State, group: &Group, wanted: ModeChange) -> Option<Change> {
    let held = group.modes.unwrap_or(state.settings.new_service);
    let modes = Modes {
        network: wanted.network.unwrap_or(held.network),
        profile: wanted.profile.unwrap_or(held.profile),
        baseline: wanted.baseline.unwrap_or(held.baseline),
        fault: wanted.fault.unwrap_or(held.fault),
    };
    (group.modes != Some(modes))
        .then(|| Change::PutGroup(Box::new(Group { modes: Some(modes), ..group.clone() })))
}

/// A group as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView<'a> {
    /// The group.
    pub group: &'a Group,
    /// Modes that hold, with the cluster-wide network mode applied; `None` for groups without.
    pub modes: Option<Modes>,
    /// Its live workloads, sorted.
    pub members: Vec<WorkloadId>,
    /// Rules that name it, in order.
    pub rules: Vec<RuleId>,
    /// Its modes can be changed.
    pub can_change_mode: bool,
    /// It can be left out of the risk score.
    pub can_be_scored: bool,
    /// It cannot be edited or deleted.
    pub reserved: bool,
    /// All of its workloads are part of the platform, or an add-on.
    pub role: PlatformRole,
}

/// One group as operators see it.
#[must_use]
pub fn view<'a>(state: &'a State, name: &GroupName) -> Option<GroupView<'a>> {
    state.groups.get(name).map(|group| with_members(state, group, membership::members(state, name)))
}

/// Every group as operators see it; one pass over the workloads.
#[must_use]
pub fn views(state: &State) -> Vec<GroupView<'_>> {
    let mut members = membership::all_members(state);
    state
        .groups
        .values()
        .map(|group| with_members(state, group, members.remove(&group.name).unwrap_or_default()))
        .collect()
}

fn with_members<'a>(state: &'a State, group: &'a Group, members: Vec<WorkloadId>) -> GroupView<'a> {
    let roles: Vec<PlatformRole> =
        members.iter().filter_map(|id| state.workloads.get(id)).map(|workload| workload.role).collect();
    let role = match roles.first() {
        Some(first) if roles.iter().all(|role| role == first) => *first,
        _ => PlatformRole::None,
    };
    GroupView {
        modes: state.modes_of(&group.name),
        rules: state
            .rules
            .iter()
            .filter(|rule| rule.from == group.name || rule.to == group.name)
            .map(|rule| rule.id)
            .collect(),
        can_change_mode: group.name.has_mode() && group.origin != Origin::Ground,
        can_be_scored: group.name.is_learned(),
        reserved: group.name.is_reserved(),
        members,
        role,
        group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, name, rule, state, workload};
    use nv_model::verdict::Action;

    const PROTECT: ModeChange = ModeChange {
        network: Some(Mode::Protect),
        profile: Some(Mode::Protect),
        baseline: None,
        fault: None,
    };

    #[test]
    fn modes_are_set_for_one_several_or_all_groups_and_only_where_they_differ() {
        let mut state = state(&[workload("a", "n", "a", "d"), workload("b", "n", "b", "d")]);
        state.groups.insert(name("mine"), group("mine", &[("service", "=", "a")]));
        let one = set(&state, &[name("nv.a.d"), name("nv.a.d")], PROTECT).unwrap();
        assert_eq!(one.len(), 1);
        state.apply_all(&one);
        assert_eq!(state.modes_of(&name("nv.a.d")).unwrap().network, Mode::Protect);
        assert_eq!(set(&state, &[name("nv.a.d")], PROTECT), Ok(vec![]));
        let zero = ModeChange { baseline: Some(Baseline::ZeroDrift), ..PROTECT };
        let all = set_all(&state, zero);
        state.apply_all(&all);
        for group in ["nv.a.d", "nv.b.d", "nodes"] {
            assert_eq!(state.modes_of(&name(group)).unwrap().network, Mode::Protect, "{group}");
        }
        assert_eq!(state.modes_of(&name("nodes")).unwrap().baseline, Baseline::Basic);
        assert_eq!(state.modes_of(&name("nv.b.d")).unwrap().baseline, Baseline::ZeroDrift);
        assert_eq!(set_all(&state, zero), []);
    }

    #[test]
    fn a_change_is_refused_whole() {
        let mut state = state(&[workload("a", "n", "a", "d")]);
        state.groups.insert(name("mine"), group("mine", &[("service", "=", "a")]));
        let zero = ModeChange { baseline: Some(Baseline::ZeroDrift), ..PROTECT };
        for (names, wanted, want) in [
            (vec!["nv.a.d", "nv.x"], PROTECT, ModeError::Unknown(name("nv.x"))),
            (vec!["mine"], PROTECT, ModeError::NoMode(name("mine"))),
            (vec!["containers"], PROTECT, ModeError::NoMode(name("containers"))),
            (vec!["nodes"], zero, ModeError::NodesBaseline),
        ] {
            let names: Vec<GroupName> = names.into_iter().map(name).collect();
            assert_eq!(set(&state, &names, wanted), Err(want));
        }
        state.groups.get_mut(&name("nv.a.d")).unwrap().origin = Origin::Ground;
        assert_eq!(set(&state, &[name("nv.a.d")], PROTECT), Err(ModeError::ReadOnly(name("nv.a.d"))));
    }

    #[test]
    fn the_cluster_wide_network_mode_holds_over_every_groups_own() {
        let mut state = state(&[workload("a", "n", "a", "d")]);
        state.network_mode = Some(Mode::Monitor);
        let modes = state.modes_of(&name("nv.a.d")).unwrap();
        assert_eq!((modes.network, modes.profile), (Mode::Monitor, Mode::Discover));
        assert_eq!(state.modes_of(&name("containers")), None);
    }

    #[test]
    fn a_view_says_who_is_in_a_group_and_what_can_be_done_with_it() {
        let mut state = state(&[workload("a", "n", "a", "d")]);
        state.rules = vec![
            rule(1, "nv.a.d", "external", "any", Action::Allow),
            rule(2, "external", "nodes", "any", Action::Allow),
        ];
        let view = view(&state, &name("nv.a.d")).unwrap();
        assert_eq!((view.members.len(), view.rules.clone()), (1, vec![RuleId(1)]));
        assert!(view.can_change_mode && view.can_be_scored && !view.reserved);
        for one in views(&state) {
            assert_eq!(super::view(&state, &one.group.name).as_ref(), Some(&one));
        }
    }
}
