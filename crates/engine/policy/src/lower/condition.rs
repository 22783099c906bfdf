//! Rows for rules with conditions: a row by path leads to a list of them, which the kernel asks one after the other.

use std::collections::BTreeMap;

use nv_model::condition::Conditions;
use nv_model::group::Origin;
use nv_model::profile::ProcessRule;
use nv_model::verdict::Action;

use super::process::{ProcessRow, name_hash};

/// Most rules that the kernel asks for one row. Beyond it a denial holds whatever its conditions, and an allowance never.
pub const MAX_LIST: usize = 16;

/// One rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRow {
    /// Allow or deny.
    pub action: Action,
    /// The line excuses a changed file.
    pub allow_update: bool,
    /// The line was learned.
    pub learned: bool,
    /// Place in the profile; it rises along a list.
    pub order: u32,
    /// Index of the line in [`super::ProcessTables::rules`].
    pub rule: u32,
    /// What must be so; nothing at the end of a list that ends with a rule for every case.
    pub conditions: Conditions,
    /// The rule that is asked when this one does not hold; 0 for none.
    pub next: u64,
}

/// By what they say and lead to, so that a number never means something else in a later policy, while tables change.
pub(super) type ConditionRows = BTreeMap<u64, ConditionRow>;

/// The row for rules that the same key leads to, in their order; `None` without any.
pub(super) fn row<'a>(
    rows: &mut ConditionRows,
    lines: impl IntoIterator<Item = (u32, &'a ProcessRule)>,
) -> Option<ProcessRow> {
    let mut list: Vec<(u32, &ProcessRule, Conditions)> = Vec::new();
    for (order, rule) in lines {
        let last = list.len() >= MAX_LIST - 1;
        match (rule.conditions.is_empty(), rule.action) {
            (true, _) => list.push((order, rule, Conditions::default())),
            (false, _) if !last => list.push((order, rule, rule.conditions.clone())),
            (false, Action::Deny) => list.push((order, rule, Conditions::default())),
            (false, Action::Allow) => {}
        }
        if list.last().is_some_and(|(.., conditions)| conditions.is_empty()) {
            break;
        }
    }
    let (order, first, conditions) = list.first().cloned()?;
    let conditional = if conditions.is_empty() { 0 } else { chain(rows, list) };
    Some(ProcessRow {
        action: first.action,
        allow_update: first.allow_update,
        learned: first.origin == Origin::Learned,
        order,
        rule: order,
        conditional,
    })
}

/// Puts a list into the table; gives the number of its first rule.
fn chain(rows: &mut ConditionRows, list: Vec<(u32, &ProcessRule, Conditions)>) -> u64 {
    list.into_iter().rev().fold(0, |next, (order, rule, conditions)| {
        let row = ConditionRow {
            action: rule.action,
            allow_update: rule.allow_update,
            learned: rule.origin == Origin::Learned,
            order,
            rule: order,
            conditions,
            next,
        };
        let number = name_hash(format!("{row:?}").as_bytes());
        rows.insert(number, row);
        number
    })
}
