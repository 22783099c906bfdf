//! Rows of the tables as the agent writes them, and their bytes.

use std::collections::BTreeMap;

use nv_model::condition::{ArgumentPattern, Conditions};
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::profile::PathPattern;
use nv_model::verdict::Action;

use crate::layout::{
    self, CGROUP_CONTAINER, CGROUP_WATCHED, PATH_BYTES, PREFIX_BYTES, PROFILE_FAIL_CLOSED, PROFILE_PATTERNS,
    RULE_ALLOW_UPDATE, RULE_LEARNED, condition,
};
use crate::tables::TableError;

/// Which profile holds in a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CgroupRow {
    /// Number of the profile, from 1.
    pub profile: u32,
    /// A container (or below one), whose files come from an image; false for the host's own cgroups.
    pub container: bool,
}

/// How strictly a profile holds. Writing it is the whole of a change of mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileRow {
    /// Discover, Monitor or Protect.
    pub mode: Mode,
    /// What counts where no rule speaks.
    pub baseline: Baseline,
    /// Whether Protect stops what there is no memory to judge.
    pub fault: Fault,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleRow {
    /// Allow or deny.
    pub action: Action,
    /// Under zero-drift it excuses a changed file too.
    pub allow_update: bool,
    /// Learned, not written: under zero-drift it does not speak for processes that are not of the container's family.
    pub learned: bool,
    /// Place in the profile; of several rows that match, the lowest counts.
    pub order: u32,
    /// Number that events name this rule by; below `u32::MAX`.
    pub rule: u32,
    /// Number of the first of [`Rows::conditions`] of which one counts instead; 0 for none.
    pub conditional: u64,
}

/// A rule that holds in some cases only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRow {
    /// What it says; `conditional` is the rule that is asked when this one does not hold.
    pub rule: RuleRow,
    /// What must be so.
    pub conditions: Conditions,
}

/// A rule for one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExactKey {
    /// Number of the profile.
    pub profile: u32,
    /// Absolute path, at most 255 bytes.
    pub path: String,
}

/// A rule for every path that begins with `prefix` and whose file has the name of `name_hash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatternKey {
    /// Number of the profile.
    pub profile: u32,
    /// [`name_hash`] of the file name; 0 for any.
    pub name_hash: u64,
    /// What the path begins with, at most 244 bytes; empty for anywhere.
    pub prefix: String,
}

/// Every row but those of cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// By number.
    pub profiles: BTreeMap<u32, ProfileRow>,
    /// Rules by path.
    pub exact: BTreeMap<ExactKey, RuleRow>,
    /// Rules by prefix and name.
    pub patterns: BTreeMap<PatternKey, RuleRow>,
    /// Rules with conditions, by number, from 1.
    pub conditions: BTreeMap<u64, ConditionRow>,
}

impl Rows {
    /// Whether a rule asks what ran a program.
    #[must_use]
    pub fn ask_for_callers(&self) -> bool {
        self.conditions.values().any(|row| row.conditions.parent.is_some())
    }
}

/// FNV-1a (64 bits) of a file name, as the kernel side computes it. Never 0, which stands for any name.
#[must_use]
pub fn name_hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    if hash == 0 { 1 } else { hash }
}

/// `held` is the row that is there: who made it stays known. The programs write a row only where there is none.
pub(crate) fn cgroup_row(row: CgroupRow, held: Option<layout::CgroupRow>) -> layout::CgroupRow {
    let flags = if row.container { CGROUP_CONTAINER } else { 0 };
    let held = held.map_or(0, |held| held.flags);
    layout::CgroupRow { profile: row.profile, flags: flags | held & CGROUP_WATCHED }
}

pub(crate) fn read_cgroup(row: layout::CgroupRow) -> CgroupRow {
    CgroupRow { profile: row.profile, container: row.flags & CGROUP_CONTAINER != 0 }
}

pub(crate) fn profile_row(row: ProfileRow, patterns: bool) -> layout::ProfileRow {
    let mode = match row.mode {
        Mode::Discover => 1,
        Mode::Monitor => 2,
        Mode::Protect => 3,
    };
    let baseline = match row.baseline {
        Baseline::Basic => 0,
        Baseline::ZeroDrift => 1,
    };
    let closed = if row.fault == Fault::Closed { PROFILE_FAIL_CLOSED } else { 0 };
    let flags = closed | if patterns { PROFILE_PATTERNS } else { 0 };
    layout::ProfileRow { mode, baseline, flags }
}

pub(crate) fn read_profile(row: layout::ProfileRow) -> ProfileRow {
    let mode = match row.mode {
        3 => Mode::Protect,
        2 => Mode::Monitor,
        _ => Mode::Discover,
    };
    let closed = row.flags & PROFILE_FAIL_CLOSED != 0;
    ProfileRow {
        mode,
        baseline: if row.baseline == 1 { Baseline::ZeroDrift } else { Baseline::Basic },
        fault: if closed { Fault::Closed } else { Fault::Open },
    }
}

pub(crate) fn rule_row(row: RuleRow) -> layout::RuleRow {
    let action = match row.action {
        Action::Allow => 1,
        Action::Deny => 2,
    };
    let flags =
        if row.allow_update { RULE_ALLOW_UPDATE } else { 0 } | if row.learned { RULE_LEARNED } else { 0 };
    layout::RuleRow {
        action,
        flags,
        reserved: 0,
        order: row.order,
        rule: row.rule,
        reserved2: 0,
        conditional: row.conditional,
    }
}

/// Matching of a text of n bytes is a word of n bits: bit i is set where the first i + 1 bytes of it have just been seen.
/// A byte's mask has a bit for each place where the text has that byte.
pub(crate) fn condition_row(row: &ConditionRow) -> Result<layout::ConditionRow, TableError> {
    let rule = rule_row(row.rule);
    let mut bytes = layout::ConditionRow {
        action: rule.action,
        flags: rule.flags,
        has: 0,
        argument_bytes: 0,
        order: rule.order,
        rule: rule.rule,
        uid: 0,
        next: rule.conditional,
        caller_bytes: 0,
        reserved: 0,
        caller: [0; PATH_BYTES],
        argument_masks: [0; 256],
    };
    if let Some(uid) = row.conditions.uid {
        bytes.has |= condition::UID;
        bytes.uid = uid;
    }
    match &row.conditions.parent {
        None | Some(PathPattern::Any) => {}
        Some(PathPattern::Exact(path)) => {
            bytes.has |= condition::CALLER;
            bytes.caller = padded("conditions", path, PATH_BYTES - 1)?;
            bytes.caller_bytes = (path.len() as u32).saturating_add(1);
        }
        Some(PathPattern::Prefix(path)) => {
            bytes.has |= condition::CALLER;
            bytes.caller = padded("conditions", path, PATH_BYTES - 1)?;
            bytes.caller_bytes = path.len() as u32;
        }
    }
    if let Some(pattern) = &row.conditions.arguments {
        let (borders, anchors) = match pattern {
            ArgumentPattern::Exact(_) => ([" ", " "], condition::FROM_BEGIN | condition::TO_END),
            ArgumentPattern::Prefix(_) => ([" ", ""], condition::FROM_BEGIN),
            ArgumentPattern::Suffix(_) => (["", " "], condition::TO_END),
            ArgumentPattern::Contains(_) => (["", ""], 0),
        };
        let text = [borders[0], pattern.text(), borders[1]].concat();
        bytes.has |= condition::ARGUMENTS | anchors;
        // At most 64.
        bytes.argument_bytes = (text.len() as u8).saturating_sub(1);
        for (at, byte) in (0_u32..64).zip(text.bytes()) {
            // Arguments end with NUL where the text has a space.
            for byte in if byte == b' ' { [b' ', 0] } else { [byte; 2] } {
                if let Some(mask) = bytes.argument_masks.get_mut(usize::from(byte)) {
                    *mask |= 1 << at;
                }
            }
        }
    }
    Ok(bytes)
}

pub(crate) fn read_rule(row: layout::RuleRow) -> RuleRow {
    RuleRow {
        action: if row.action == 2 { Action::Deny } else { Action::Allow },
        allow_update: row.flags & RULE_ALLOW_UPDATE != 0,
        learned: row.flags & RULE_LEARNED != 0,
        order: row.order,
        rule: row.rule,
        conditional: row.conditional,
    }
}

/// `path` padded with NUL to `N` bytes, of which at most `max` may be used.
fn padded<const N: usize>(table: &'static str, path: &str, max: usize) -> Result<[u8; N], TableError> {
    let mut bytes = [0_u8; N];
    let fits = path.len() <= max && !path.bytes().any(|byte| byte == 0);
    match bytes.get_mut(..path.len()) {
        Some(head) if fits => head.copy_from_slice(path.as_bytes()),
        _ => return Err(TableError::Path { table, path: path.to_owned(), max }),
    }
    Ok(bytes)
}

/// A path as tables have it.
pub(crate) fn padded_path(table: &'static str, path: &str) -> Result<[u8; PATH_BYTES], TableError> {
    padded(table, path, PATH_BYTES - 1)
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(crate) fn exact_key(key: &ExactKey) -> Result<layout::ExactKey, TableError> {
    Ok(layout::ExactKey { profile: key.profile, path: padded("exact", &key.path, PATH_BYTES - 1)? })
}

pub(crate) fn read_exact(key: &layout::ExactKey) -> ExactKey {
    ExactKey { profile: key.profile, path: until_nul(&key.path) }
}

pub(crate) fn pattern_key(key: &PatternKey) -> Result<layout::PatternKey, TableError> {
    let path = padded("patterns", &key.prefix, PREFIX_BYTES)?;
    let name_hash = [key.name_hash as u32, (key.name_hash >> 32) as u32];
    // At most 96 + 8 × 244 bits.
    let prefixlen = 96_u32.saturating_add(8_u32.saturating_mul(key.prefix.len() as u32));
    Ok(layout::PatternKey { prefixlen, profile: key.profile, name_hash, path })
}

pub(crate) fn read_pattern(key: &layout::PatternKey) -> PatternKey {
    let [low, high] = key.name_hash;
    let bytes = key.prefixlen.saturating_sub(96) as usize / 8;
    let prefix = String::from_utf8_lossy(key.path.get(..bytes).unwrap_or_default()).into_owned();
    PatternKey { profile: key.profile, name_hash: u64::from(high) << 32 | u64::from(low), prefix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_hash_is_fnv_1a_with_its_published_values() {
        for (name, want) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(name_hash(name), want, "{name}");
        }
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused_and_not_cut() {
        let exact = |path: String| exact_key(&ExactKey { profile: 1, path });
        assert!(exact("a".repeat(255)).is_ok());
        assert!(matches!(exact("a".repeat(256)), Err(TableError::Path { max: 255, .. })));
        assert!(exact("/a\0b".to_owned()).is_err());
        let pattern = |prefix: String| pattern_key(&PatternKey { profile: 1, name_hash: 0, prefix });
        assert_eq!(pattern("a".repeat(244)).unwrap().prefixlen, 8 * (4 + 8 + 244));
        assert!(pattern("a".repeat(245)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(profile in any::<u32>(), name_hash in any::<u64>(), prefix in "[a-z/]{0,244}") {
            let key = PatternKey { profile, name_hash, prefix };
            prop_assert_eq!(read_pattern(&pattern_key(&key).unwrap()), key.clone());
            let key = ExactKey { profile, path: key.prefix };
            prop_assert_eq!(read_exact(&exact_key(&key).unwrap()), key);
        }
    }
}
