//! From what nodes have seen to rules and profiles. Idempotent: what is learned already leads to no change.

mod file;
mod network;
mod process;

use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::name::GroupName;
use nv_model::workload::Workload;

pub use file::{FileAccess, files};
pub use network::{Link, MAX_PORTS, connections};
pub use process::{MAX_ENTRIES, MAX_PATHS_OF_NAME, Program, SUSPICIOUS, is_suspicious, processes};

use crate::change::Change;
use crate::state::{State, is_host, is_live, plain_group};

/// The learned group of a workload's service, when it is not stored yet; with the modes of new services.
#[must_use]
pub fn group(state: &State, workload: &Workload) -> Option<Change> {
    if is_host(workload) || !is_live(workload) {
        return None;
    }
    let name = workload.learned_group();
    if state.groups.contains_key(&name) {
        return None;
    }
    let equal = |key: &str, value: &str| Criterion {
        key: key.to_owned(),
        value: value.to_owned(),
        op: CriterionOp::Equal,
    };
    let mut criteria = vec![equal("service", workload.service.as_str())];
    criteria.extend(workload.domain.as_ref().map(|domain| equal("domain", domain.as_str())));
    Some(Change::PutGroup(Box::new(Group {
        domain: workload.domain.clone(),
        criteria,
        modes: Some(state.settings.new_service),
        ..plain_group(name, GroupKind::Container, Origin::Learned)
    })))
}

/// The learned groups of every live workload that are not stored yet, each once.
#[must_use]
pub fn groups(state: &State) -> Vec<Change> {
    let mut seen = std::collections::BTreeSet::new();
    state
        .workloads
        .values()
        .filter_map(|workload| group(state, workload))
        .filter(|change| match change {
            Change::PutGroup(group) => seen.insert(group.name.clone()),
            _ => true,
        })
        .collect()
}

/// What was learned about a group or an unmanaged end (`Workload:<ip>`, `Host:<ip>`) goes with it: its learned rules,
/// and the group itself where it is stored.
#[must_use]
pub fn forget(state: &State, name: &GroupName) -> Vec<Change> {
    state
        .rules
        .iter()
        .filter(|rule| rule.origin == Origin::Learned && (rule.from == *name || rule.to == *name))
        .map(|rule| Change::DeleteRule(rule.id))
        .chain(state.groups.contains_key(name).then(|| Change::DeleteGroup(name.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{name, workload};
    use nv_model::mode::{Baseline, Mode, Modes};
    use std::sync::Arc;

    #[test]
    fn every_service_gets_one_learned_group_with_the_modes_of_new_services() {
        let mut state = State::default();
        state.settings.new_service = Modes {
            network: Mode::Monitor,
            profile: Mode::Protect,
            baseline: Baseline::ZeroDrift,
            fault: Default::default(),
        };
        for id in ["w1", "w2"] {
            let workload = workload(id, "n", "web", "shop");
            state.workloads.insert(workload.id.clone(), Arc::new(workload));
        }
        let host = workload("host:n", "n", "n", "");
        state.workloads.insert(host.id.clone(), Arc::new(host));
        let changes = groups(&state);
        assert_eq!(changes.len(), 1);
        state.apply_all(&changes);
        let group = &state.groups[&name("nv.web.shop")];
        assert_eq!(group.modes, Some(state.settings.new_service));
        assert_eq!((group.origin, group.criteria.len()), (Origin::Learned, 2));
        assert_eq!(groups(&state), []);
    }

    #[test]
    fn what_was_learned_about_a_group_goes_with_it_and_written_rules_stay() {
        use crate::testing::rule;
        use nv_model::verdict::Action;
        let mut state = crate::testing::state(&[workload("w", "n", "web", "shop")]);
        state.rules = vec![
            rule(1, "nv.web.shop", "external", "any", Action::Allow),
            rule(10_001, "nv.web.shop", "external", "any", Action::Allow),
            rule(10_002, "external", "nodes", "any", Action::Allow),
        ];
        state.apply_all(&forget(&state.clone(), &name("nv.web.shop")));
        assert_eq!(state.rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [1, 10_002]);
        assert!(!state.groups.contains_key(&name("nv.web.shop")));
        assert_eq!(forget(&state, &name("Workload:10.0.0.1")), []);
    }
}
