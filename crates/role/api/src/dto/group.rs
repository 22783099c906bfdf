//! Groups and services.

use std::collections::BTreeSet;

use nv_model::group::Criterion;
use nv_model::rule::RuleId;
use nv_policy::modes::GroupView;
use nv_role_controller::View;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::policy::PolicyRule;
use super::workload::WorkloadBrief;
use crate::answer::Named;

/// A condition of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CriteriaEntry {
    /// What is looked at.
    pub key: String,
    /// What it is compared with.
    pub value: String,
    /// `=`, `!=`, contains, prefix, regex or `!regex`.
    pub op: String,
}

impl From<&Criterion> for CriteriaEntry {
    fn from(criterion: &Criterion) -> Self {
        Self {
            key: criterion.key.clone(),
            value: criterion.value.clone(),
            op: criterion.op.as_str().to_owned(),
        }
    }
}

/// A group in short.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct GroupBrief {
    /// Its name.
    pub name: String,
    /// A note.
    pub comment: String,
    /// It was learned.
    pub learned: bool,
    /// It is always there.
    pub reserved: bool,
    /// Network mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_mode: String,
    /// Process mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub profile_mode: String,
    /// Left out of the risk score.
    pub not_scored: bool,
    /// Namespace.
    pub domain: String,
    /// Namespaces of who made it.
    pub creater_domains: Vec<String>,
    /// container, address, ip_service, external or node.
    pub kind: String,
    /// Empty, `core` or `addon`.
    pub platform_role: String,
    /// Its mode can be changed; shown when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_change_mode: Option<bool>,
    /// It can be scored; shown when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_scorable: Option<bool>,
    /// Owner.
    pub cfg_type: String,
    /// basic or zero-drift.
    pub baseline_profile: String,
    /// open or closed: what holds where a verdict cannot be found in time; empty for groups without modes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fail_mode: String,
    /// The thresholds raise events.
    pub monitor_metric: bool,
    /// Most sessions at one time; 0 for no limit.
    pub group_sess_cur: u32,
    /// Most new sessions a second; 0 for no limit.
    pub group_sess_rate: u32,
    /// Most megabits a second; 0 for no limit.
    pub group_band_width: u32,
}
impl Named for GroupBrief {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";
}

impl GroupBrief {
    /// As the view has it.
    #[must_use]
    pub fn of(seen: &GroupView<'_>, with_cap: bool) -> Self {
        let group = seen.group;
        let mode = |mode: nv_model::mode::Mode| mode.as_str().to_owned();
        Self {
            name: group.name.to_string(),
            comment: group.comment.clone(),
            learned: group.origin == nv_model::group::Origin::Learned,
            reserved: seen.reserved,
            policy_mode: seen.modes.map(|modes| mode(modes.network)).unwrap_or_default(),
            profile_mode: seen.modes.map(|modes| mode(modes.profile)).unwrap_or_default(),
            not_scored: group.not_scored,
            domain: group.domain.as_ref().map(ToString::to_string).unwrap_or_default(),
            creater_domains: Vec::new(),
            kind: group.kind.as_str().to_owned(),
            platform_role: seen.role.as_str().to_owned(),
            cap_change_mode: with_cap.then_some(seen.can_change_mode),
            cap_scorable: with_cap.then_some(seen.can_be_scored),
            cfg_type: group.origin.as_str().to_owned(),
            baseline_profile: seen.modes.map(|modes| modes.baseline.as_str().to_owned()).unwrap_or_default(),
            fail_mode: seen.modes.map(|modes| modes.fault.as_str().to_owned()).unwrap_or_default(),
            monitor_metric: group.monitor_metric,
            group_sess_cur: group.session_limit,
            group_sess_rate: group.session_rate_limit,
            group_band_width: group.bandwidth_limit_mbps,
        }
    }
}

/// A group.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Group {
    /// In short.
    #[serde(flatten)]
    pub brief: GroupBrief,
    /// Its conditions.
    pub criteria: Vec<CriteriaEntry>,
    /// Workloads in it.
    pub members: Vec<WorkloadBrief>,
    /// Network rules that name it.
    pub policy_rules: Vec<u32>,
    /// Response rules that name it.
    pub response_rules: Vec<u32>,
}
impl Named for Group {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";
}

/// A group with its rules.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupDetail {
    /// In short.
    #[serde(flatten)]
    pub brief: GroupBrief,
    /// Its conditions.
    pub criteria: Vec<CriteriaEntry>,
    /// Workloads in it.
    pub members: Vec<WorkloadBrief>,
    /// Network rules that name it.
    pub policy_rules: Vec<PolicyRule>,
    /// Response rules that name it.
    pub response_rules: Vec<u32>,
}
impl Named for GroupDetail {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";
}

/// A group as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct GroupConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// Its conditions.
    #[serde(default)]
    pub criteria: Option<Vec<CriteriaEntry>>,
    /// user_created, federal or empty.
    #[serde(default)]
    pub cfg_type: String,
    /// The thresholds raise events.
    #[serde(default)]
    pub monitor_metric: Option<bool>,
    /// Most sessions at one time.
    #[serde(default)]
    pub group_sess_cur: Option<u32>,
    /// Most new sessions a second.
    #[serde(default)]
    pub group_sess_rate: Option<u32>,
    /// Most megabits a second.
    #[serde(default)]
    pub group_band_width: Option<u32>,
}

/// A service.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Service {
    /// Its name with its namespace, without `nv.`.
    pub name: String,
    /// A note.
    pub comment: String,
    /// Network mode.
    pub policy_mode: String,
    /// Process mode.
    pub profile_mode: String,
    /// Left out of the risk score.
    pub not_scored: bool,
    /// Namespace.
    pub domain: String,
    /// Empty, `core` or `addon`.
    pub platform_role: String,
    /// Workloads of it.
    pub members: Vec<WorkloadBrief>,
    /// Network rules that name it.
    pub policy_rules: Vec<PolicyRule>,
    /// Response rules that name it.
    pub response_rules: Vec<u32>,
    /// Reached from outside.
    pub ingress_exposure: bool,
    /// Reaches outside.
    pub egress_exposure: bool,
    /// Its mode can be changed; shown when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_change_mode: Option<bool>,
    /// It can be scored; shown when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_scorable: Option<bool>,
    /// basic or zero-drift.
    pub baseline_profile: String,
    /// open or closed: what holds where a verdict cannot be found in time.
    pub fail_mode: String,
}
impl Named for Service {
    const ONE: &'static str = "service";
    const MANY: &'static str = "services";
}

/// A service as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ServiceConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace; empty for none.
    #[serde(default)]
    pub domain: String,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// Network mode.
    #[serde(default)]
    pub policy_mode: Option<String>,
    /// Process mode.
    #[serde(default)]
    pub profile_mode: Option<String>,
    /// basic or zero-drift.
    #[serde(default)]
    pub baseline_profile: Option<String>,
    /// open or closed: what holds where a verdict cannot be found in time.
    #[serde(default)]
    pub fail_mode: Option<String>,
    /// Left out of the risk score.
    #[serde(default)]
    pub not_scored: Option<bool>,
}

/// Changes to several services.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ServiceBatchConfig {
    /// Their names without `nv.`; `nodes` for the hosts.
    #[serde(default)]
    pub services: Option<Vec<String>>,
    /// Network mode.
    #[serde(default)]
    pub policy_mode: Option<String>,
    /// Process mode.
    #[serde(default)]
    pub profile_mode: Option<String>,
    /// basic or zero-drift.
    #[serde(default)]
    pub baseline_profile: Option<String>,
    /// open or closed: what holds where a verdict cannot be found in time.
    #[serde(default)]
    pub fail_mode: Option<String>,
    /// Left out of the risk score.
    #[serde(default)]
    pub not_scored: Option<bool>,
}

/// Rules by id, in their order; one walk, however many ids.
#[must_use]
pub fn rules_of(view: &View, ids: &[RuleId]) -> Vec<PolicyRule> {
    let wanted: BTreeSet<RuleId> = ids.iter().copied().collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let named = view.state.rules.iter().filter(|rule| wanted.contains(&rule.id));
    named.map(|rule| PolicyRule::of(view, rule)).collect()
}
