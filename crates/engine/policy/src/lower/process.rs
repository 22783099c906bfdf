//! Rows for programs: one table of whole paths, one of prefixes.

use std::collections::BTreeMap;

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::name::GroupName;
use nv_model::policy::NodePolicy;
use nv_model::profile::{EffectiveProfile, PathPattern, ProcessRule};
use nv_model::verdict::Action;
use serde::{Deserialize, Serialize};

use super::condition::{self, ConditionRow};

/// Numbers of profiles on this node. Data: keep it beside the pinned tables, whose rows are keyed by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileNumbers {
    numbers: BTreeMap<GroupName, u32>,
    next: u32,
}

impl ProfileNumbers {
    /// The number of a group's profile, from 1; the same for as long as the group has a profile.
    pub fn number(&mut self, group: &GroupName) -> u32 {
        if let Some(number) = self.numbers.get(group) {
            return *number;
        }
        while self.next == 0 || self.numbers.values().any(|taken| *taken == self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.numbers.insert(group.clone(), self.next);
        self.next
    }
    /// The number of a group's profile, when it has one.
    #[must_use]
    pub fn get(&self, group: &GroupName) -> Option<u32> {
        self.numbers.get(group).copied()
    }
    fn keep(&mut self, policy: &NodePolicy) {
        self.numbers.retain(|group, _| policy.profiles.contains_key(group));
    }
}

/// A profile as the kernel needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileRow {
    /// Profile mode; its number in the kernel is 1, 2 or 3.
    pub mode: Mode,
    /// Baseline; 0 is basic, 1 zero-drift.
    pub baseline: Baseline,
    /// What holds without a verdict.
    pub fault: Fault,
}

impl ProfileRow {
    /// 1 Discover, 2 Monitor, 3 Protect.
    #[must_use]
    pub const fn mode_number(self) -> u8 {
        mode_number(self.mode)
    }
    /// 0 basic, 1 zero-drift.
    #[must_use]
    pub const fn baseline_number(self) -> u8 {
        match self.baseline {
            Baseline::Basic => 0,
            Baseline::ZeroDrift => 1,
        }
    }
}

pub(super) const fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Discover => 1,
        Mode::Monitor => 2,
        Mode::Protect => 3,
    }
}

/// Key of a whole path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactKey {
    /// Number of the profile.
    pub profile: u32,
    /// The path, at most 255 bytes.
    pub path: String,
}

/// Key of a prefix; the longest that fits counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PatternKey {
    /// Number of the profile.
    pub profile: u32,
    /// FNV-1a 64 of the file name, 0 for any.
    pub name_hash: u64,
    /// What the path begins with, at most [`PatternKey::MAX_BYTES`] bytes; empty for any path.
    pub prefix: String,
}

impl PatternKey {
    /// Longest prefix that the kernel's table takes.
    pub const MAX_BYTES: usize = 244;
    /// Length of the key in bits, as the kernel counts it: profile and hash are always matched whole.
    #[must_use]
    pub fn prefix_bits(&self) -> u32 {
        u32::try_from(self.prefix.len()).unwrap_or(u32::MAX).saturating_add(12).saturating_mul(8)
    }
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    /// Allow (1) or deny (2).
    pub action: Action,
    /// The line excuses a changed file.
    pub allow_update: bool,
    /// The line was learned: it does not speak for processes that are not of the container's family.
    pub learned: bool,
    /// Place in the profile: of the rows that a lookup finds, the lowest counts.
    pub order: u32,
    /// Index of the line in [`ProcessTables::rules`].
    pub rule: u32,
    /// Number of the first rule of a list in [`ProcessTables::conditions`], of which the first that holds counts; then
    /// the fields above are that rule's. 0 where the row itself counts.
    pub conditional: u64,
}

/// The line behind a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The group it comes from.
    pub group: GroupName,
    /// Its id.
    pub uuid: String,
}

/// All rows for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessTables {
    /// By number of profile.
    pub profiles: BTreeMap<u32, ProfileRow>,
    /// Whole paths.
    pub exact: BTreeMap<ExactKey, ProcessRow>,
    /// Prefixes.
    pub patterns: BTreeMap<PatternKey, ProcessRow>,
    /// Rules with conditions, by number.
    pub conditions: BTreeMap<u64, ConditionRow>,
    /// What `rule` of a row means: the profile's number and the place in it give the line.
    pub rules: BTreeMap<(u32, u32), RuleRef>,
    /// Lines that the kernel's tables cannot hold (a prefix beyond 244 bytes); they have no effect.
    pub left_out: Vec<RuleRef>,
}

/// FNV-1a, 64 bits. Never 0, which stands for any name.
#[must_use]
pub fn name_hash(name: &[u8]) -> u64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    if hash == 0 { 1 } else { hash }
}

/// Rows for every profile of the node.
#[must_use]
pub fn processes(policy: &NodePolicy, numbers: &mut ProfileNumbers) -> ProcessTables {
    numbers.keep(policy);
    let mut tables = ProcessTables::default();
    for (group, profile) in &policy.profiles {
        let number = numbers.number(group);
        tables.profiles.insert(
            number,
            ProfileRow { mode: profile.mode, baseline: profile.baseline, fault: profile.fault },
        );
        lower_profile(&mut tables, number, profile);
    }
    tables
}

fn lower_profile(tables: &mut ProcessTables, profile: u32, effective: &EffectiveProfile) {
    type Lines<'a> = Vec<(u32, &'a ProcessRule)>;
    let mut paths: BTreeMap<&str, Lines<'_>> = BTreeMap::new();
    // Prefixes of one file name, each with its rules.
    let mut prefixes: BTreeMap<(u64, &str), Lines<'_>> = BTreeMap::new();
    for (order, (group, rule)) in (0_u32..).zip(&effective.rules) {
        let origin = || RuleRef { group: group.clone(), uuid: rule.uuid.clone() };
        match place(rule) {
            Place::Nowhere => continue,
            Place::TooLong => {
                tables.left_out.push(origin());
                continue;
            }
            Place::Exact(path) => paths.entry(path).or_default().push((order, rule)),
            Place::Pattern(hash, prefix) => prefixes.entry((hash, prefix)).or_default().push((order, rule)),
        }
        tables.rules.insert((profile, order), origin());
    }
    for (path, lines) in paths {
        let row = condition::row(&mut tables.conditions, lines);
        tables.exact.extend(row.map(|row| (ExactKey { profile, path: path.to_owned() }, row)));
    }
    // The kernel finds only the longest prefix, so it has to carry the rules of all shorter ones.
    for (hash, prefix) in prefixes.keys() {
        let shorter = prefixes
            .range((*hash, "")..=(*hash, prefix))
            .filter(|((_, shorter), _)| prefix.starts_with(shorter));
        let mut lines: Lines<'_> = shorter.flat_map(|(_, lines)| lines.iter().copied()).collect();
        lines.sort_by_key(|(order, _)| *order);
        let row = condition::row(&mut tables.conditions, lines);
        let key = PatternKey { profile, name_hash: *hash, prefix: (*prefix).to_owned() };
        tables.patterns.extend(row.map(|row| (key, row)));
    }
}

enum Place<'a> {
    Exact(&'a str),
    Pattern(u64, &'a str),
    TooLong,
    /// The line can match no path: its name is not the last part of its path.
    Nowhere,
}

fn place(rule: &ProcessRule) -> Place<'_> {
    let hash = if rule.name == "*" { 0 } else { name_hash(rule.name.as_bytes()) };
    match &rule.path {
        PathPattern::Exact(path) if rule.name == "*" || path.rsplit('/').next() == Some(&rule.name) => {
            Place::Exact(path)
        }
        PathPattern::Exact(_) => Place::Nowhere,
        PathPattern::Any => Place::Pattern(hash, ""),
        PathPattern::Prefix(prefix) if prefix.len() > PatternKey::MAX_BYTES => Place::TooLong,
        PathPattern::Prefix(prefix) => Place::Pattern(hash, prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::lets_speak;
    use crate::decide::{self, Arguments, Call, Caller, ProgramFacts};
    use crate::testing::{name, process};
    use nv_model::condition::Conditions;
    use nv_model::group::Origin;
    use nv_model::verdict::Verdict;
    use proptest::prelude::*;

    /// What the kernel does with the rows, in the kernel's words.
    fn lookup(tables: &ProcessTables, profile: u32, path: &str, call: Call<'_>) -> Option<ProcessRow> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let longest = |hash: u64| {
            tables
                .patterns
                .iter()
                .filter(|(key, _)| {
                    key.profile == profile && key.name_hash == hash && path.starts_with(&key.prefix)
                })
                .max_by_key(|(key, _)| key.prefix_bits())
                .map(|(_, row)| *row)
        };
        [
            tables.exact.get(&ExactKey { profile, path: path.to_owned() }).copied(),
            longest(name_hash(file.as_bytes())),
            longest(0),
        ]
        .into_iter()
        .flatten()
        .filter_map(|row| first_that_holds(tables, row, call))
        .min_by_key(|row| row.order)
    }

    fn first_that_holds(tables: &ProcessTables, row: ProcessRow, call: Call<'_>) -> Option<ProcessRow> {
        let mut number = row.conditional;
        if number == 0 {
            return Some(row);
        }
        for _ in 0..super::super::MAX_LIST {
            let rule = tables.conditions.get(&number)?;
            let line =
                ProcessRule { conditions: rule.conditions.clone(), ..process("", "*", "*", rule.action) };
            if lets_speak(&line, call) {
                let ConditionRow { action, allow_update, learned, order, rule, .. } = *rule;
                return Some(ProcessRow { action, allow_update, learned, order, rule, conditional: 0 });
            }
            number = rule.next;
        }
        None
    }

    fn kernel(tables: &ProcessTables, profile: u32, path: &str, facts: ProgramFacts<'_>) -> Verdict {
        let head = tables.profiles[&profile];
        let (row, drifted) = (lookup(tables, profile, path, facts.call), facts.drifted);
        let zero_drift = head.baseline_number() == 1;
        let excepted = if zero_drift { drifted } else { facts.foreign };
        let (allowed, explicit) = match row {
            Some(row) if row.action == Action::Deny => (false, true),
            _ if zero_drift && facts.stranger && row.is_none_or(|row| row.learned) => (false, true),
            Some(row) if excepted && !row.allow_update => (false, false),
            Some(_) => (true, true),
            None => (zero_drift && !drifted && !decide::is_loader(path), false),
        };
        if facts.script && !zero_drift && row.is_none_or(|row| row.action == Action::Allow) {
            return Verdict::Open;
        }
        match (allowed, head.mode_number()) {
            (true, _) => Verdict::Allow,
            (false, 1) if !explicit => Verdict::Learn,
            (false, 1 | 2) => Verdict::Violate,
            (false, _) => Verdict::Deny,
        }
    }

    fn any_conditions() -> impl Strategy<Value = Conditions> {
        let of = |some: &'static [&'static str]| prop::option::weighted(0.2, prop::sample::select(some));
        (of(&["-a *", "-a", "* b *"]), of(&["/p", "/q*"]), prop::option::weighted(0.2, 0_u32..2)).prop_map(
            |(arguments, parent, uid)| Conditions {
                arguments: arguments.map(|raw| raw.parse().unwrap()),
                parent: parent.map(|raw| raw.parse().unwrap()),
                uid,
            },
        )
    }

    fn any_call() -> impl Strategy<Value = Call<'static>> {
        let callers = vec![Caller::Unknown, Caller::Outside, Caller::Program("/p"), Caller::Program("/qq")];
        let arguments = vec![
            Arguments::Unknown,
            Arguments::Whole(" -a "),
            Arguments::Whole(" b "),
            Arguments::Head(" -a x "),
        ];
        (prop::option::of(0_u32..2), prop::sample::select(callers), prop::sample::select(arguments))
            .prop_map(|(uid, caller, arguments)| Call { uid, caller, arguments })
    }

    fn any_rule() -> impl Strategy<Value = ProcessRule> {
        (
            prop::sample::select(vec!["*", "a", "b", "sh"]),
            prop::sample::select(vec![
                "*", "/*", "/a", "/a*", "/a/*", "/a/a", "/a/b", "/a/a*", "/sh", "/a/sh",
            ]),
            any::<bool>(),
            any::<(bool, bool)>(),
            any_conditions(),
        )
            .prop_map(|(name, path, allow, (update, learned), conditions)| {
                let mut rule = process("", name, path, if allow { Action::Allow } else { Action::Deny });
                rule.allow_update = update;
                rule.origin = if learned { Origin::Learned } else { Origin::UserCreated };
                rule.conditions = conditions;
                rule
            })
    }

    proptest! {
        #[test]
        fn a_lookup_as_the_kernel_does_it_equals_the_decision(
            rules in prop::collection::vec(any_rule(), 0..12),
            mode in prop::sample::select(vec![Mode::Discover, Mode::Monitor, Mode::Protect]),
            baseline in prop::sample::select(vec![Baseline::Basic, Baseline::ZeroDrift]),
            path in "(/a|/b|/sh|/ab|/ld.so){1,3}",
            (drifted, foreign, script, stranger) in any::<(bool, bool, bool, bool)>(),
            call in any_call(),
        ) {
            let facts = ProgramFacts { drifted, foreign, script, stranger, call };
            let group = name("nv.x");
            let rules = rules.into_iter().enumerate().map(|(at, mut rule)| {
                rule.uuid = at.to_string();
                (group.clone(), rule)
            }).collect();
            let effective = EffectiveProfile { group: group.clone(), mode, baseline, rules, files: Vec::new(), alert_disabled: false, fault: Fault::default() };
            let policy = NodePolicy { profiles: BTreeMap::from([(group, effective.clone())]), ..NodePolicy::default() };
            let tables = processes(&policy, &mut ProfileNumbers::default());
            let decision = decide::process(&effective, &path, facts);
            prop_assert_eq!(kernel(&tables, 1, &path, facts), decision.verdict);
            let row = lookup(&tables, 1, &path, call);
            if decision.verdict == Verdict::Open || decision.reason == decide::ProcessReason::NotFamily {
                return Ok(());
            }
            prop_assert_eq!(row.map(|row| row.order as usize), decision.rule.as_ref().map(|rule| rule.0));
            let uuid = row.map(|row| tables.rules[&(1, row.rule)].uuid.clone());
            prop_assert_eq!(uuid, decision.rule.map(|rule| rule.2));
        }
    }

    #[test]
    fn a_profile_keeps_its_number_while_it_exists() {
        let policy = |groups: &[&str]| NodePolicy {
            profiles: groups
                .iter()
                .map(|group| {
                    let profile = EffectiveProfile {
                        group: name(group),
                        mode: Mode::Discover,
                        baseline: Baseline::Basic,
                        rules: vec![],
                        files: vec![],
                        alert_disabled: false,
                        fault: Fault::default(),
                    };
                    (name(group), profile)
                })
                .collect(),
            ..NodePolicy::default()
        };
        let mut numbers = ProfileNumbers::default();
        drop(processes(&policy(&["nv.a", "nv.b"]), &mut numbers));
        let b = numbers.get(&name("nv.b"));
        drop(processes(&policy(&["nv.b", "nv.c"]), &mut numbers));
        assert_eq!((numbers.get(&name("nv.a")), numbers.get(&name("nv.b"))), (None, b));
        assert_ne!(numbers.get(&name("nv.c")), b);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(name_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(name_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
