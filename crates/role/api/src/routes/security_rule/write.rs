//! From groups to resources.

use std::collections::BTreeSet;

use nv_model::group::{Group, GroupKind, Origin};
use nv_model::name::GroupName;
use nv_model::profile::PathPattern;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::sensor::{SensorKind, SensorUse};
use nv_policy::state::State;

use crate::change::mode;
use crate::dto::group::CriteriaEntry;
use crate::dto::resource::{At, Metadata, Resource};
use crate::dto::security_rule::{
    FileEntry, GroupExport, KINDS, NO_MODE, ProcessEntry, ProcessProfileEntry, RuleEntry, SecurityRuleSpec,
    Selector, SensorUseEntry, SettingEntry, Target,
};
use crate::error::ApiError;

/// What a file is to say otherwise than it is.
pub(super) struct Options {
    policy_mode: Option<String>,
    profile_mode: Option<String>,
    by_name: bool,
}

impl Options {
    /// # Errors
    /// Code 6 for a mode that is none.
    pub(super) fn of(given: &GroupExport) -> Result<Self, ApiError> {
        let word = |what: &str, raw: &Option<String>| {
            let raw = raw.as_deref().filter(|raw| !raw.is_empty());
            Ok::<_, ApiError>(mode(what, raw)?.map(|mode| mode.as_str().to_owned()))
        };
        Ok(Self {
            policy_mode: word("policy_mode", &given.policy_mode)?,
            profile_mode: word("profile_mode", &given.profile_mode)?,
            by_name: given.use_name_referral,
        })
    }
}

/// The resources of these groups. A rule is at the first of them that it names.
pub(super) fn resources(
    state: &State,
    groups: &[&Group],
    options: &Options,
) -> Vec<Resource<SecurityRuleSpec>> {
    let mut written = BTreeSet::new();
    groups.iter().map(|group| resource(state, group, options, &mut written)).collect()
}

fn resource(
    state: &State,
    group: &Group,
    options: &Options,
    written: &mut BTreeSet<RuleId>,
) -> Resource<SecurityRuleSpec> {
    let domain = group.criteria.iter().find(|criterion| criterion.key == "domain");
    let [in_namespace, of_cluster] = KINDS;
    let kind = if domain.is_some() { in_namespace } else { of_cluster };
    let metadata = Metadata {
        name: object_name(group.name.as_str()),
        namespace: domain.map(|criterion| criterion.value.clone()),
    };
    let (ingress, egress) = rules(state, &group.name, options, written);
    let spec = SecurityRuleSpec {
        target: Some(target(state, group, options).into()),
        ingress: Some(ingress),
        egress: Some(egress),
        process_profile: process_profile(state, group, options).map(At::from),
        process: Some(processes(state, &group.name)),
        file: Some(files(state, &group.name)),
        dlp: sensors(state, group, SensorKind::Dlp).map(At::from),
        waf: sensors(state, group, SensorKind::Waf).map(At::from),
        response: None,
    };
    Resource::new(kind, metadata, spec)
}

/// As an object of Kubernetes can be named (RFC 1123): small letters, digits, `-` and `.`.
fn object_name(group: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let lower = group.to_ascii_lowercase();
    let name: String = lower.chars().map(|c| if fits(c) { c } else { '-' }).take(253).collect();
    name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn target(state: &State, group: &Group, options: &Options) -> Target {
    let modes = group.name.has_mode().then(|| group.modes.unwrap_or(state.settings.new_service));
    let said = options.policy_mode.clone();
    let own = modes.map(|modes| said.unwrap_or_else(|| modes.network.as_str().to_owned()));
    Target {
        policymode: Some(own.unwrap_or_else(|| NO_MODE.to_owned())),
        selector: selector(group).into(),
        fail_mode: modes
            .map(|modes| modes.fault)
            .filter(|fault| *fault != Default::default())
            .map(|fault| fault.as_str().to_owned()),
    }
}

fn selector(group: &Group) -> Selector {
    Selector {
        name: group.name.to_string(),
        comment: group.comment.clone(),
        criteria: Some(criteria(group)),
        mon_metric: Some(group.monitor_metric),
        grp_sess_cur: Some(group.session_limit),
        grp_sess_rate: Some(group.session_rate_limit),
        grp_band_width: Some(group.bandwidth_limit_mbps),
        not_scored: group.not_scored,
        ..Selector::default()
    }
}

fn criteria(group: &Group) -> Vec<At<CriteriaEntry>> {
    group.criteria.iter().map(|criterion| CriteriaEntry::from(criterion).into()).collect()
}

fn process_profile(state: &State, group: &Group, options: &Options) -> Option<ProcessProfileEntry> {
    if !group.name.has_mode() {
        return None;
    }
    let modes = group.modes.unwrap_or(state.settings.new_service);
    let profile = state.profiles.get(&group.name);
    let said = options.profile_mode.clone();
    Some(ProcessProfileEntry {
        baseline: Some(modes.baseline.as_str().to_owned()),
        mode: Some(said.unwrap_or_else(|| modes.profile.as_str().to_owned())),
        alert_disabled: profile.is_some_and(|profile| profile.alert_disabled),
        hash_enabled: profile.is_some_and(|profile| profile.hash_enabled),
    })
}

fn processes(state: &State, group: &GroupName) -> Vec<At<ProcessEntry>> {
    let rules = state.profiles.get(group).map(|profile| profile.rules.as_slice()).unwrap_or_default();
    let line = |rule: &nv_model::profile::ProcessRule| ProcessEntry {
        name: rule.name.clone(),
        path: rule.path.to_string(),
        action: rule.action.as_str().to_owned(),
        allow_update: rule.allow_update,
        arguments: rule.conditions.arguments.as_ref().map(ToString::to_string).unwrap_or_default(),
        parent: rule.conditions.parent.as_ref().map(PathPattern::to_string).unwrap_or_default(),
        uid: rule.conditions.uid,
    };
    rules.iter().map(|rule| line(rule).into()).collect()
}

fn files(state: &State, group: &GroupName) -> Vec<At<FileEntry>> {
    let rules = state.files.get(group).map(|profile| profile.rules.as_slice()).unwrap_or_default();
    let line = |rule: &nv_model::file::FileRule| FileEntry {
        filter: rule.filter.to_string(),
        recursive: rule.recursive,
        behavior: rule.behavior.as_str().to_owned(),
        app: Some(rule.applications.clone()),
    };
    rules.iter().map(|rule| line(rule).into()).collect()
}

/// Only groups of workloads have sensors; those without are said to have none.
fn sensors(state: &State, group: &Group, kind: SensorKind) -> Option<SensorUseEntry> {
    if group.kind != GroupKind::Container {
        return None;
    }
    let none = SensorUse { enabled: true, sensors: Vec::new() };
    let using = state.sensor_profiles.get(&group.name).map_or(&none, |profile| profile.of(kind));
    let setting = |setting: &nv_model::sensor::SensorSetting| SettingEntry {
        name: setting.name.to_string(),
        action: setting.action.as_str().to_owned(),
    };
    Some(SensorUseEntry {
        status: using.enabled,
        settings: Some(using.sensors.iter().map(|held| setting(held).into()).collect()),
    })
}

/// Whether a group means something elsewhere: hosts and workloads by their address do not, nor does what is federal.
fn is_portable(state: &State, name: &GroupName) -> bool {
    let raw = name.as_str();
    let by_address = raw.starts_with("Host:") || (raw.starts_with("Workload:") && raw != "Workload:ingress");
    !by_address && state.groups.get(name).is_none_or(|group| group.origin != Origin::Federal)
}

/// The rules that name a group and are not written yet: those to it, and the others.
fn rules(
    state: &State,
    name: &GroupName,
    options: &Options,
    written: &mut BTreeSet<RuleId>,
) -> (Vec<At<RuleEntry>>, Vec<At<RuleEntry>>) {
    let (mut ingress, mut egress) = (Vec::new(), Vec::new());
    for (place, rule) in state.rules.iter().enumerate() {
        let (is_to, names) = (rule.to == *name, rule.to == *name || rule.from == *name);
        let other = if is_to { &rule.from } else { &rule.to };
        if !names || !is_portable(state, other) || rule.origin == Origin::Federal || !written.insert(rule.id)
        {
            continue;
        }
        let list = if is_to { &mut ingress } else { &mut egress };
        let way = if is_to { "ingress" } else { "egress" };
        let name = format!("{}-{way}-{}", rule.to, list.len());
        list.push(entry(state, rule, other, name, place, options).into());
    }
    (ingress, egress)
}

fn entry(
    state: &State,
    rule: &NetworkRule,
    other: &GroupName,
    name: String,
    place: usize,
    options: &Options,
) -> RuleEntry {
    let held = state.groups.get(other);
    let selector = Selector {
        name: other.to_string(),
        comment: held.map(|held| held.comment.clone()).unwrap_or_default(),
        criteria: held.filter(|_| !options.by_name).map(criteria),
        name_referral: options.by_name && held.is_some(),
        ..Selector::default()
    };
    let mut applications: Vec<String> =
        rule.applications.iter().filter_map(|app| app.name()).map(str::to_owned).collect();
    if applications.is_empty() {
        applications.push("any".to_owned());
    }
    RuleEntry {
        selector: selector.into(),
        applications: Some(applications),
        ports: rule.ports.to_string(),
        action: rule.action.as_str().to_owned(),
        name,
        priority: rule.priority,
        order: u32::try_from(place).ok(),
        comment: rule.comment.clone(),
        disable: rule.disabled,
    }
}
