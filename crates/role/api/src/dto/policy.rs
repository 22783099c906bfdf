//! Network rules and process profiles.

use nv_model::profile::{EffectiveProfile, ProcessRule};
use nv_model::rule::NetworkRule;
use nv_role_controller::View;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// A network rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PolicyRule {
    /// Its id; 0 for a new one.
    pub id: u32,
    /// A note.
    pub comment: String,
    /// Group that opens the connection.
    pub from: String,
    /// Group that accepts it.
    pub to: String,
    /// `any`, or a list such as `tcp/80,udp/53-60,icmp`.
    pub ports: String,
    /// allow or deny.
    pub action: String,
    /// Applications; `any`.
    pub applications: Vec<String>,
    /// It was learned.
    pub learned: bool,
    /// Not evaluated.
    pub disable: bool,
    /// When it was made, in seconds.
    pub created_timestamp: i64,
    /// When it was last changed, in seconds.
    pub last_modified_timestamp: i64,
    /// When it last decided, in seconds.
    pub last_match_timestamp: i64,
    /// How many sessions it decided.
    pub match_counter: u64,
    /// learned, user_created, ground or federal.
    pub cfg_type: String,
    /// Order among rules of custom resources, 0 to 100.
    pub priority: u32,
}
impl Named for PolicyRule {
    const ONE: &'static str = "rule";
    const MANY: &'static str = "rules";
}

impl PolicyRule {
    /// As the view has it.
    #[must_use]
    pub fn of(view: &View, rule: &NetworkRule) -> Self {
        let seen = view.matches.get(&rule.id).copied().unwrap_or_default();
        let mut applications: Vec<String> =
            rule.applications.iter().filter_map(|app| app.name()).map(str::to_owned).collect();
        if applications.is_empty() {
            applications.push("any".to_owned());
        }
        Self {
            id: rule.id.0,
            comment: rule.comment.clone(),
            from: rule.from.to_string(),
            to: rule.to.to_string(),
            ports: rule.ports.to_string(),
            action: rule.action.as_str().to_owned(),
            applications,
            learned: rule.origin == nv_model::group::Origin::Learned,
            disable: rule.disabled,
            created_timestamp: rule.created.seconds(),
            last_modified_timestamp: rule.modified.seconds(),
            last_match_timestamp: seen.last.seconds(),
            match_counter: seen.sessions,
            cfg_type: rule.origin.as_str().to_owned(),
            priority: rule.priority,
        }
    }
}

/// A rule goes elsewhere.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PolicyRuleMove {
    /// Which one.
    #[serde(default)]
    pub id: u32,
    /// Absent: last; 0: first; id: behind it; -id: before it.
    #[serde(default)]
    pub after: Option<i64>,
}

/// New rules.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PolicyRuleInsert {
    /// Absent: last; 0: first; id: behind it; -id: before it.
    #[serde(default)]
    pub after: Option<i64>,
    /// The rules; id 0 for the next free one.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// Changes to the list of rules: the first one given, of move, insert, rules and delete.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PolicyRuleActionData {
    /// A rule goes elsewhere.
    #[serde(rename = "move")]
    #[serde(default)]
    pub moved: Option<PolicyRuleMove>,
    /// New rules.
    #[serde(default)]
    pub insert: Option<PolicyRuleInsert>,
    /// The whole list.
    #[serde(default)]
    pub rules: Option<Vec<PolicyRule>>,
    /// Rules that go.
    #[serde(default)]
    pub delete: Option<Vec<u32>>,
}

/// Changes to a rule.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PolicyRuleConfig {
    /// Its id.
    #[serde(default)]
    pub id: u32,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// Group that opens the connection.
    #[serde(default)]
    pub from: Option<String>,
    /// Group that accepts it.
    #[serde(default)]
    pub to: Option<String>,
    /// Ports.
    #[serde(default)]
    pub ports: Option<String>,
    /// allow or deny.
    #[serde(default)]
    pub action: Option<String>,
    /// Applications.
    #[serde(default)]
    pub applications: Option<Vec<String>>,
    /// Not evaluated.
    #[serde(default)]
    pub disable: Option<bool>,
    /// Owner.
    #[serde(default)]
    pub cfg_type: String,
    /// Order among rules of custom resources.
    #[serde(default)]
    pub priority: Option<u32>,
}

/// Changes to a rule.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PolicyRuleConfigData {
    /// The changes.
    #[serde(default)]
    pub config: Option<PolicyRuleConfig>,
    /// A learned rule becomes a user's copy.
    #[serde(default)]
    pub replicate: bool,
}

/// A line of a process profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProcessProfileEntry {
    /// Name of the program; `*` for any.
    pub name: String,
    /// Where it lies.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// allow or deny.
    pub action: String,
    /// Owner.
    pub cfg_type: String,
    /// Unique id.
    pub uuid: String,
    /// The rule holds only with these arguments; `*` at the ends for more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// The rule holds only where this executable runs the program; `*` at the end for a folder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// The rule holds only for this real user id, in the host's numbering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group that it comes from, in a workload's profile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The file may change.
    pub allow_update: bool,
    /// When it was made, in seconds.
    pub created_timestamp: i64,
    /// When it was last changed, in seconds.
    pub last_modified_timestamp: i64,
}

impl ProcessProfileEntry {
    /// A stored line; `group` only where several groups' lines stand together.
    #[must_use]
    pub fn of(rule: &ProcessRule, group: &str) -> Self {
        Self {
            name: rule.name.clone(),
            path: rule.path.to_string(),
            action: rule.action.as_str().to_owned(),
            cfg_type: rule.origin.as_str().to_owned(),
            uuid: rule.uuid.clone(),
            arguments: rule.conditions.arguments.as_ref().map(ToString::to_string).unwrap_or_default(),
            parent: rule.conditions.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            uid: rule.conditions.uid,
            group: group.to_owned(),
            allow_update: rule.allow_update,
            created_timestamp: rule.created.seconds(),
            last_modified_timestamp: rule.modified.seconds(),
        }
    }
}

/// A process profile.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ProcessProfile {
    /// Whose.
    pub group: String,
    /// basic or zero-drift.
    pub baseline: String,
    /// No incidents are logged.
    pub alert_disabled: bool,
    /// Hashes are recorded.
    pub hash_enabled: bool,
    /// Discover, Monitor or Protect; empty for groups without one.
    pub mode: String,
    /// The lines.
    pub process_list: Vec<ProcessProfileEntry>,
}
impl Named for ProcessProfile {
    const ONE: &'static str = "process_profile";
    const MANY: &'static str = "process_profiles";
}

impl ProcessProfile {
    /// What holds for a workload or a host.
    #[must_use]
    pub fn effective(profile: &EffectiveProfile) -> Self {
        Self {
            group: profile.group.to_string(),
            baseline: profile.baseline.as_str().to_owned(),
            alert_disabled: profile.alert_disabled,
            hash_enabled: false,
            mode: profile.mode.as_str().to_owned(),
            process_list: profile
                .rules
                .iter()
                .map(|(group, rule)| ProcessProfileEntry::of(rule, group.as_str()))
                .collect(),
        }
    }
}

/// A line as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ProcessProfileEntryConfig {
    /// Name of the program; `*` for any.
    #[serde(default)]
    pub name: String,
    /// Where it lies.
    #[serde(default)]
    pub path: String,
    /// allow or deny.
    #[serde(default)]
    pub action: String,
    /// The file may change.
    #[serde(default)]
    pub allow_update: bool,
    /// Only with these arguments (without the program's name), one space between them: `-m *` is how they begin, `*help`
    /// how they end, `* -e *` that one of them is `-e`; without `*` they are all there are. At most 62 bytes.
    #[serde(default)]
    pub arguments: String,
    /// Only where this executable runs the program: an absolute path, `*` at its end for all below a folder.
    #[serde(default)]
    pub parent: String,
    /// Only for this real user id, in the host's numbering.
    #[serde(default)]
    pub uid: Option<u32>,
}

/// Changes to a process profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ProcessProfileConfig {
    /// Whose.
    #[serde(default)]
    pub group: String,
    /// basic or zero-drift.
    #[serde(default)]
    pub baseline: Option<String>,
    /// No incidents are logged.
    #[serde(default)]
    pub alert_disabled: Option<bool>,
    /// Hashes are recorded.
    #[serde(default)]
    pub hash_enabled: Option<bool>,
    /// New and changed lines.
    #[serde(default)]
    pub process_change_list: Option<Vec<ProcessProfileEntryConfig>>,
    /// Lines that go.
    #[serde(default)]
    pub process_delete_list: Option<Vec<ProcessProfileEntryConfig>>,
}

/// Changes to a process profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ProcessProfileConfigData {
    /// The changes.
    #[serde(default)]
    pub process_profile_config: Option<ProcessProfileConfig>,
}

/// A line found by its id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProcessUuidEntry {
    /// 1: it is in a profile now.
    pub active: i64,
    /// Whose.
    pub group: String,
    /// The line.
    pub rule: ProcessProfileEntry,
}
impl Named for ProcessUuidEntry {
    const ONE: &'static str = "process_rule";
    const MANY: &'static str = "process_rules";
}
