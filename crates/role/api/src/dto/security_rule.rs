//! Groups with their policy as custom resources. Keys are the contract's; those that are ours are left out where they
//! say nothing, so that other readers of such files find what they know.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::group::CriteriaEntry;
use super::resource::At;

/// Kind of a resource in a namespace, and of one of the cluster.
pub const KINDS: [&str; 2] = ["NvSecurityRule", "NvClusterSecurityRule"];
/// The mode of what has none.
pub const NO_MODE: &str = "N/A";

/// Which groups are exported.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct GroupExport {
    /// Their names.
    pub groups: Vec<String>,
    /// Groups that rules name are given by name alone.
    pub use_name_referral: bool,
    /// The network mode that the file says, for each group that has one.
    pub policy_mode: Option<String>,
    /// The process mode that the file says, for each group that has one.
    pub profile_mode: Option<String>,
    /// Where else the file goes; not supported.
    pub remote_export_options: Option<serde_json::Value>,
}

/// What a resource says: one group, and all that holds for it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityRuleSpec {
    /// The group.
    pub target: Option<At<Target>>,
    /// Who may open connections to it.
    pub ingress: Option<Vec<At<RuleEntry>>>,
    /// To whom it may open connections.
    pub egress: Option<Vec<At<RuleEntry>>>,
    /// How its processes are held to the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_profile: Option<At<ProcessProfileEntry>>,
    /// Programs.
    pub process: Option<Vec<At<ProcessEntry>>>,
    /// Files.
    pub file: Option<Vec<At<FileEntry>>>,
    /// Its DLP sensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlp: Option<At<SensorUseEntry>>,
    /// Its WAF sensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waf: Option<At<SensorUseEntry>>,
    /// Response rules, which are not taken.
    #[serde(skip_serializing)]
    pub response: Option<Vec<At<serde_json::Value>>>,
}

/// The group, and its mode.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Network mode; `N/A` for a group without.
    pub policymode: Option<String>,
    /// The group.
    pub selector: At<Selector>,
    /// `open` or `closed`: what holds where a verdict cannot be found in time. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_mode: Option<String>,
}

/// A group.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// Its name.
    pub name: String,
    /// A note.
    pub comment: String,
    /// Its name where it was made, when that was another one.
    pub original_name: String,
    /// It is given by its name alone, and is there already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub name_referral: bool,
    /// Its conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criteria: Option<Vec<At<CriteriaEntry>>>,
    /// The thresholds raise events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mon_metric: Option<bool>,
    /// Most sessions at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grp_sess_cur: Option<u32>,
    /// Most new sessions a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grp_sess_rate: Option<u32>,
    /// Most megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grp_band_width: Option<u32>,
    /// Left out of the risk score. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_scored: bool,
}

/// A network rule, but for the group that it is listed at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleEntry {
    /// The other group.
    pub selector: At<Selector>,
    /// Applications; `any`.
    pub applications: Option<Vec<String>>,
    /// `any`, or a list such as `tcp/80`.
    pub ports: String,
    /// allow or deny.
    pub action: String,
    /// What it is called in the file.
    pub name: String,
    /// Order among rules of custom resources.
    pub priority: u32,
    /// Its place among all rules of the file. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// A note. Ours.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Not evaluated. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable: bool,
}

/// How processes are held to the list.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessProfileEntry {
    /// basic or zero-drift.
    pub baseline: Option<String>,
    /// Process mode; the network mode where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// No incidents are logged. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alert_disabled: bool,
    /// Hashes are recorded. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hash_enabled: bool,
}

/// A program.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessEntry {
    /// Name; `*` for any.
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// allow or deny.
    pub action: String,
    /// The file may change.
    pub allow_update: bool,
    /// Only with these arguments. Ours.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// Only where this executable runs it. Ours.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Only for this real user id. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// A file, or several.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileEntry {
    /// Path with `*` inside of components.
    pub filter: String,
    /// Everything below a matching folder too.
    pub recursive: bool,
    /// `monitor_change` or `block_access`.
    pub behavior: String,
    /// Executables that may, for `block_access`.
    pub app: Option<Vec<String>>,
}

/// The sensors of a kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorUseEntry {
    /// They are looked at.
    pub status: bool,
    /// Which ones.
    pub settings: Option<Vec<At<SettingEntry>>>,
}

/// A sensor of a group.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingEntry {
    /// Name.
    pub name: String,
    /// allow or deny.
    pub action: String,
}
