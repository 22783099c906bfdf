//! The order of network rules: federal first, then custom resources' by priority, then user's and learned ones.

use std::collections::BTreeSet;

use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::verdict::Action;

/// Where rules are put: the contract's `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind all (no `after`).
    Last,
    /// Before all that may be moved (`after: 0`).
    First,
    /// Behind this rule (`after: id`).
    After(RuleId),
    /// Before this rule (`after: -id`).
    Before(RuleId),
}

impl Place {
    /// From the contract's `after`; `None` for a number that is no rule id.
    #[must_use]
    pub fn from_after(after: Option<i64>) -> Option<Self> {
        match after {
            None => Some(Self::Last),
            Some(0) => Some(Self::First),
            Some(id) => {
                let number = u32::try_from(id.unsigned_abs()).ok()?;
                Some(if id > 0 { Self::After(RuleId(number)) } else { Self::Before(RuleId(number)) })
            }
        }
    }
}

/// Why rules cannot be put there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderError {
    /// No rule has this id.
    #[error("rule {id} does not exist", id = .0.0)]
    Unknown(RuleId),
    /// Two rules would have this id.
    #[error("rule {id} exists already", id = .0.0)]
    Duplicate(RuleId),
    /// Rules of custom resources are ordered by their priority.
    #[error("rule {id} belongs to a custom resource and is ordered by its priority", id = .0.0)]
    Ground(RuleId),
    /// Federal rules stay before all others, and among themselves.
    #[error("rule {moved} cannot be placed at rule {at}: federal rules come first, then those of custom resources, then all others", moved = .moved.0, at = .at.0)]
    Section {
        /// The rule to be placed.
        moved: RuleId,
        /// Where.
        at: RuleId,
    },
    /// Every id of the range is taken.
    #[error("all rule ids for {origin} rules are taken", origin = .0.as_str())]
    Exhausted(Origin),
}

fn section(rule: &NetworkRule) -> u8 {
    match rule.origin {
        Origin::Federal => 0,
        Origin::Ground => 1,
        Origin::Learned | Origin::UserCreated | Origin::SystemDefined => 2,
    }
}

/// Puts the sections in order and custom resources' rules by priority, the higher first; keeps the order otherwise.
pub fn normalise(rules: &mut [NetworkRule]) {
    rules.sort_by_key(|rule| {
        let priority = if rule.origin == Origin::Ground { rule.priority } else { 0 };
        (section(rule), std::cmp::Reverse(priority))
    });
}

/// The next free id for a rule of `origin`: one above the highest, or the lowest free one when that is taken.
///
/// # Errors
/// [`OrderError::Exhausted`].
pub fn next_id(rules: &[NetworkRule], origin: Origin) -> Result<RuleId, OrderError> {
    let (low, high) = RuleId::range(origin);
    let taken: BTreeSet<u32> =
        rules.iter().map(|rule| rule.id.0).filter(|id| (low..=high).contains(id)).collect();
    let next = taken.last().map_or(low, |last| last.saturating_add(1));
    if next <= high {
        return Ok(RuleId(next));
    }
    (low..=high).find(|id| !taken.contains(id)).map(RuleId).ok_or(OrderError::Exhausted(origin))
}

/// Puts new rules, in their order, at `place`.
///
/// # Errors
/// [`OrderError`]; nothing was changed then.
pub fn insert(
    rules: &[NetworkRule],
    new: Vec<NetworkRule>,
    place: Place,
) -> Result<Vec<NetworkRule>, OrderError> {
    let mut ids: BTreeSet<RuleId> = rules.iter().map(|rule| rule.id).collect();
    for rule in &new {
        if !ids.insert(rule.id) {
            return Err(OrderError::Duplicate(rule.id));
        }
    }
    put(rules.to_vec(), new, place)
}

/// Moves a rule to `place`.
///
/// # Errors
/// [`OrderError`]; nothing was changed then.
pub fn move_rule(rules: &[NetworkRule], id: RuleId, place: Place) -> Result<Vec<NetworkRule>, OrderError> {
    let at = rules.iter().position(|rule| rule.id == id).ok_or(OrderError::Unknown(id))?;
    let mut rest = rules.to_vec();
    let moved = rest.remove(at);
    if moved.origin == Origin::Ground {
        return Err(OrderError::Ground(id));
    }
    if matches!(place, Place::After(other) | Place::Before(other) if other == id) {
        return Ok(rules.to_vec());
    }
    put(rest, vec![moved], place)
}

fn put(
    mut rules: Vec<NetworkRule>,
    new: Vec<NetworkRule>,
    place: Place,
) -> Result<Vec<NetworkRule>, OrderError> {
    let Some(first) = new.first() else { return Ok(rules) };
    let (wanted, moved) = (section(first), first.id);
    let find = |id: RuleId| rules.iter().position(|rule| rule.id == id).ok_or(OrderError::Unknown(id));
    // Custom resources' rules are between: behind the last of them is where the movable ones begin.
    let begin = rules.iter().take_while(|rule| section(rule) < wanted).count();
    let end = rules.iter().take_while(|rule| section(rule) <= wanted).count();
    let at = match place {
        Place::Last => end,
        Place::First => begin,
        Place::After(id) => find(id)?.saturating_add(1),
        Place::Before(id) => find(id)?,
    };
    if !(begin..=end).contains(&at) {
        let (Place::After(id) | Place::Before(id)) = place else { return Ok(rules) };
        return Err(OrderError::Section { moved, at: id });
    }
    rules.splice(at..at, new);
    normalise(&mut rules);
    Ok(rules)
}

fn names_node(name: &GroupName) -> bool {
    matches!(name.as_str(), "nodes" | "fed.nodes") || name.as_str().starts_with("Host:")
}

/// Enabled rules in the order of evaluation. Denials that speak of hosts and were not learned come last: pods in the
/// host's network share its address, and the platform's own traffic would be cut off by them.
#[must_use]
pub fn evaluation(rules: &[NetworkRule]) -> Vec<&NetworkRule> {
    let late = |rule: &NetworkRule| {
        rule.action == Action::Deny
            && rule.origin != Origin::Learned
            && (names_node(&rule.from) || names_node(&rule.to))
    };
    let enabled = || rules.iter().filter(|rule| !rule.disabled);
    enabled().filter(|rule| !late(rule)).chain(enabled().filter(|rule| late(rule))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rule;
    use proptest::prelude::*;

    fn list(ids: &[u32]) -> Vec<NetworkRule> {
        ids.iter().map(|id| rule(*id, "a", "b", "any", Action::Allow)).collect()
    }
    fn ids(rules: &[NetworkRule]) -> Vec<u32> {
        rules.iter().map(|rule| rule.id.0).collect()
    }

    #[test]
    fn after_says_where_rules_are_put() {
        for (after, want) in [
            (None, vec![100_001, 110_001, 1, 2, 9]),
            (Some(0), vec![100_001, 110_001, 9, 1, 2]),
            (Some(1), vec![100_001, 110_001, 1, 9, 2]),
            (Some(-1), vec![100_001, 110_001, 9, 1, 2]),
            (Some(-2), vec![100_001, 110_001, 1, 9, 2]),
            (Some(110_001), vec![100_001, 110_001, 9, 1, 2]),
        ] {
            let place = Place::from_after(after).unwrap();
            let held = list(&[100_001, 110_001, 1, 2]);
            assert_eq!(ids(&insert(&held, list(&[9]), place).unwrap()), want, "insert after={after:?}");
            let with = list(&[100_001, 110_001, 1, 2, 9]);
            assert_eq!(ids(&move_rule(&with, RuleId(9), place).unwrap()), want, "move after={after:?}");
        }
    }

    #[test]
    fn what_cannot_be_placed_is_refused_with_the_reason() {
        let held = list(&[100_001, 110_001, 1]);
        for (got, want) in [
            (insert(&held, list(&[1]), Place::Last), OrderError::Duplicate(RuleId(1))),
            (insert(&held, list(&[9, 9]), Place::Last), OrderError::Duplicate(RuleId(9))),
            (insert(&held, list(&[9]), Place::After(RuleId(7))), OrderError::Unknown(RuleId(7))),
            (
                insert(&held, list(&[9]), Place::Before(RuleId(110_001))),
                OrderError::Section { moved: RuleId(9), at: RuleId(110_001) },
            ),
            (move_rule(&held, RuleId(110_001), Place::Last), OrderError::Ground(RuleId(110_001))),
            (
                move_rule(&held, RuleId(100_001), Place::After(RuleId(1))),
                OrderError::Section { moved: RuleId(100_001), at: RuleId(1) },
            ),
            (move_rule(&held, RuleId(5), Place::Last), OrderError::Unknown(RuleId(5))),
        ] {
            assert_eq!(got, Err(want));
        }
        assert_eq!(Place::from_after(Some(i64::MAX)), None);
    }

    #[test]
    fn ids_are_handed_out_from_base_plus_one_and_gaps_only_when_the_end_is_reached() {
        assert_eq!(next_id(&[], Origin::Learned), Ok(RuleId(10_001)));
        assert_eq!(next_id(&[], Origin::UserCreated), Ok(RuleId(1)));
        assert_eq!(next_id(&[], Origin::Federal), Ok(RuleId(100_001)));
        assert_eq!(next_id(&[], Origin::Ground), Ok(RuleId(110_001)));
        assert_eq!(next_id(&list(&[1, 7]), Origin::UserCreated), Ok(RuleId(8)));
        assert_eq!(next_id(&list(&[1, 9_999]), Origin::UserCreated), Ok(RuleId(2)));
        let full: Vec<u32> = (110_001..=119_999).collect();
        assert_eq!(next_id(&list(&full), Origin::Ground), Err(OrderError::Exhausted(Origin::Ground)));
    }

    #[test]
    fn rules_of_custom_resources_stand_by_priority_higher_first() {
        let mut rules = list(&[1, 110_001, 110_002, 100_001]);
        rules[2].priority = 50;
        normalise(&mut rules);
        assert_eq!(ids(&rules), [100_001, 110_002, 110_001, 1]);
    }

    #[test]
    fn denials_that_speak_of_hosts_are_evaluated_last_unless_learned() {
        let rules = [
            rule(1, "nodes", "b", "any", Action::Deny),
            rule(2, "a", "Host:n1", "any", Action::Deny),
            rule(3, "nodes", "b", "any", Action::Allow),
            rule(10_001, "nodes", "b", "any", Action::Deny),
            rule(4, "a", "b", "any", Action::Deny),
        ];
        let order: Vec<u32> = evaluation(&rules).iter().map(|rule| rule.id.0).collect();
        assert_eq!(order, [3, 10_001, 4, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_move_keeps_every_rule_and_the_order_of_the_others(
            order in Just(vec![1_u32, 2, 3, 10_001, 10_002]).prop_shuffle(), which in 0_usize..5, after in -3_i64..4,
        ) {
            let rules = list(&order);
            let moved = rules[which].id;
            if let Ok(next) = move_rule(&rules, moved, Place::from_after(Some(after)).unwrap()) {
                let others = |rules: &[NetworkRule]| ids(rules).into_iter().filter(|id| *id != moved.0).collect::<Vec<_>>();
                prop_assert_eq!(others(&rules), others(&next));
                prop_assert_eq!(rules.len(), next.len());
            }
        }
    }
}
