//! From resources to an import. What is wrong is named by its line, its group and its field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use nv_model::condition::Conditions;
use nv_model::file::{FileBehavior, FileRule};
use nv_model::group::{Criterion, CriterionOp, Origin};
use nv_model::name::GroupName;
use nv_model::profile::ProcessRule;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::sensor::{SensorKind, SensorSetting, SensorUse};
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_policy::modes::ModeChange;
use nv_role_controller::{GroupPolicy, Import};

use crate::change::{baseline, fault, mode};
use crate::dto::resource::At;
use crate::dto::security_rule::{
    FileEntry, KINDS, NO_MODE, ProcessEntry, RuleEntry, SecurityRuleSpec, Selector, SensorUseEntry,
};
use crate::error::ApiError;
use crate::routes::policy::applications;
use crate::routes::sensor::MAX_SENSORS;
use crate::routes::transfer::resources;

/// Most groups of a file, and network rules.
const MAX_GROUPS: usize = 10_000;
const MAX_RULES: usize = 10_000;

/// Where in a file something is.
struct Place<'a> {
    group: &'a str,
    line: u64,
    field: &'static str,
}

impl Place<'_> {
    fn wrong(&self, why: impl Display) -> ApiError {
        ApiError::format(format!("{self}: {why}"))
    }
    /// Reads a text of a type.
    fn parse<T: FromStr<Err: Display>>(&self, raw: &str) -> Result<T, ApiError> {
        raw.parse().map_err(|error: T::Err| self.wrong(error))
    }
    /// Reads a text of a type; empty for none.
    fn optional<T: FromStr<Err: Display>>(&self, raw: &str) -> Result<Option<T>, ApiError> {
        (!raw.is_empty()).then(|| self.parse(raw)).transpose()
    }
    fn action(&self, raw: &str) -> Result<Action, ApiError> {
        Action::parse(raw).ok_or_else(|| self.wrong(format!("the action {raw:?} is neither allow nor deny")))
    }
    /// A refusal from elsewhere, with this place.
    fn of<T>(&self, read: Result<T, ApiError>) -> Result<T, ApiError> {
        read.map_err(|error| self.wrong(error.message()))
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, group {}, {}", self.line, self.group, self.field)
    }
}

/// The import that a file asks for.
///
/// # Errors
/// Code 6, with the first thing that is wrong.
pub(super) fn import(file: &[u8]) -> Result<Import, ApiError> {
    let all = resources::<SecurityRuleSpec>(file, &KINDS)?;
    let mut read = Reading::default();
    for At { line, value: resource } in all {
        let spec = resource.spec.unwrap_or_default();
        read.resource(line, spec)?;
    }
    // In the order that they had among each other, as far as the file says it.
    read.rules.sort_by_key(|(order, ..)| *order);
    let targets: BTreeSet<GroupName> = read.groups.iter().map(|policy| policy.name.clone()).collect();
    let peers = read.peers.into_values().filter(|peer| !targets.contains(&peer.name)).collect();
    let rules = read.rules.into_iter().map(|(_, place, rule)| (place, rule)).collect();
    Ok(Import { groups: read.groups, peers, rules })
}

#[derive(Default)]
struct Reading {
    names: BTreeSet<GroupName>,
    groups: Vec<GroupPolicy>,
    peers: BTreeMap<GroupName, GroupPolicy>,
    rules: Vec<(u32, String, NetworkRule)>,
}

impl Reading {
    fn resource(&mut self, line: u64, spec: SecurityRuleSpec) -> Result<(), ApiError> {
        let Some(At { line, value: target }) = spec.target else {
            return Err(ApiError::format(format!(
                "Invalid security rule(s): line {line}: the resource has no spec.target"
            )));
        };
        let raw = target.selector.value.name.clone();
        let at = |line, field| Place { group: &raw, line, field };
        let mut policy = selector(&target.selector, "spec.target.selector")?;
        if !self.names.insert(policy.name.clone()) {
            return Err(
                at(target.selector.line, "spec.target.selector").wrong("the group is in the file twice")
            );
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err(ApiError::format(format!("the file has more than {MAX_GROUPS} groups")));
        }
        let place = at(line, "spec.target");
        let said = target.policymode.as_deref().filter(|raw| !raw.is_empty() && *raw != NO_MODE);
        policy.modes.network = place.of(mode("policymode", said))?;
        policy.modes.fault = place.of(fault(target.fail_mode.as_deref()))?;
        // Files of before both modes had a key of their own say one for the two.
        policy.modes.profile = policy.modes.network.filter(|_| spec.process_profile.is_some());
        if let Some(At { line, value: profile }) = spec.process_profile {
            let place = at(line, "spec.process_profile");
            let said = profile.mode.as_deref().filter(|raw| !raw.is_empty());
            let own = place.of(mode("mode", said))?;
            policy.modes = ModeChange {
                profile: own.or(policy.modes.profile),
                baseline: place.of(baseline(profile.baseline.as_deref().filter(|raw| !raw.is_empty())))?,
                ..policy.modes
            };
            policy.alert_disabled = Some(profile.alert_disabled);
            policy.hash_enabled = Some(profile.hash_enabled);
        }
        if let Some(lines) = spec.process {
            let read = lines.iter().map(|one| process(&at(one.line, "spec.process"), &one.value));
            policy.processes = Some(read.collect::<Result<_, _>>()?);
        }
        if let Some(lines) = spec.file {
            let read = lines.iter().map(|one| file_rule(&at(one.line, "spec.file"), &one.value));
            policy.files = Some(read.collect::<Result<_, _>>()?);
        }
        for (kind, field, given) in
            [(SensorKind::Dlp, "spec.dlp", spec.dlp), (SensorKind::Waf, "spec.waf", spec.waf)]
        {
            if let Some(given) = given {
                policy.sensors.push((kind, sensors(&at(given.line, field), &given.value)?));
            }
        }
        if let Some(first) = spec.response.as_ref().and_then(|all| all.first()) {
            return Err(at(first.line, "spec.response").wrong("response rules are not imported"));
        }
        for (field, given) in [("spec.ingress", spec.ingress), ("spec.egress", spec.egress)] {
            for one in given.into_iter().flatten() {
                self.rule(&at(one.line, field), &policy.name, one.value)?;
            }
        }
        self.groups.push(policy);
        Ok(())
    }

    fn rule(&mut self, place: &Place<'_>, target: &GroupName, given: RuleEntry) -> Result<(), ApiError> {
        if self.rules.len() >= MAX_RULES {
            return Err(place.wrong(format!("the file has more than {MAX_RULES} network rules")));
        }
        let other = selector(&given.selector, place.field)?;
        let (from, to) = match place.field {
            "spec.ingress" => (other.name.clone(), target.clone()),
            _ => (target.clone(), other.name.clone()),
        };
        // What is named with its conditions can be made; what is not must be there.
        if other.criteria.as_ref().is_some_and(|criteria| !criteria.is_empty())
            && !given.selector.value.name_referral
        {
            self.peers.entry(other.name.clone()).or_insert(other);
        }
        let rule = NetworkRule {
            id: RuleId::DEFAULT,
            comment: given.comment,
            from,
            to,
            ports: place.parse(&given.ports)?,
            applications: place.of(applications(given.applications.as_deref().unwrap_or_default()))?,
            action: place.action(&given.action)?,
            origin: Origin::UserCreated,
            disabled: given.disable,
            priority: given.priority,
            created: Timestamp::NEVER,
            modified: Timestamp::NEVER,
        };
        self.rules.push((given.order.unwrap_or(u32::MAX), place.to_string(), rule));
        Ok(())
    }
}

fn selector(given: &At<Selector>, field: &'static str) -> Result<GroupPolicy, ApiError> {
    let At { line, value: given } = given;
    let place = Place { group: &given.name, line: *line, field };
    let name: GroupName = place.parse(&given.name)?;
    let criteria = given.criteria.as_ref().filter(|_| !given.name_referral);
    let criteria = criteria.map(|list| list.iter().map(|one| criterion(&given.name, one)).collect());
    let criteria: Option<Vec<Criterion>> = criteria.transpose()?;
    Ok(GroupPolicy {
        comment: Some(given.comment.clone()),
        criteria: criteria.filter(|criteria| !criteria.is_empty()),
        monitor_metric: given.mon_metric,
        session_limit: given.grp_sess_cur,
        session_rate_limit: given.grp_sess_rate,
        bandwidth_limit_mbps: given.grp_band_width,
        not_scored: Some(given.not_scored),
        ..GroupPolicy::new(format!("line {line}, group {name}"), name)
    })
}

fn criterion(group: &str, given: &At<crate::dto::group::CriteriaEntry>) -> Result<Criterion, ApiError> {
    let place = Place { group, line: given.line, field: "criteria" };
    let given = &given.value;
    let op = CriterionOp::parse(&given.op)
        .ok_or_else(|| place.wrong(format!("{:?} has an unknown operator, {:?}", given.key, given.op)))?;
    Ok(Criterion { key: given.key.clone(), value: given.value.clone(), op })
}

fn process(place: &Place<'_>, given: &ProcessEntry) -> Result<ProcessRule, ApiError> {
    Ok(ProcessRule {
        uuid: uuid::Uuid::new_v4().to_string(),
        name: given.name.clone(),
        path: place.parse(&given.path)?,
        action: place.action(&given.action)?,
        origin: Origin::UserCreated,
        allow_update: given.allow_update,
        conditions: Conditions {
            arguments: place.optional(&given.arguments)?,
            parent: place.optional(&given.parent)?,
            uid: given.uid,
        },
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    })
}

fn file_rule(place: &Place<'_>, given: &FileEntry) -> Result<FileRule, ApiError> {
    let behavior = FileBehavior::parse(&given.behavior).ok_or_else(|| {
        place.wrong(format!("the behavior {:?} is neither monitor_change nor block_access", given.behavior))
    })?;
    Ok(FileRule {
        filter: place.parse(&given.filter)?,
        recursive: given.recursive,
        behavior,
        applications: given.app.clone().unwrap_or_default(),
        origin: Origin::UserCreated,
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    })
}

fn sensors(place: &Place<'_>, given: &SensorUseEntry) -> Result<SensorUse, ApiError> {
    let settings = given.settings.as_deref().unwrap_or_default();
    if settings.len() > MAX_SENSORS {
        return Err(place.wrong(format!("a group uses {MAX_SENSORS} sensors at most")));
    }
    let mut using = SensorUse { enabled: given.status, sensors: Vec::new() };
    for one in settings {
        let place = Place { line: one.line, ..*place };
        let name = place.parse(&one.value.name)?;
        if using.sensors.iter().any(|known| known.name == name) {
            return Err(place.wrong(format!("sensor {name} is given twice")));
        }
        using.sensors.push(SensorSetting { name, action: place.action(&one.value.action)? });
    }
    Ok(using)
}
