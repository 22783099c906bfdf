//! A file of groups with all that holds for them, as one change: the whole of it, or nothing.

use std::collections::BTreeSet;

use nv_model::application::ApplicationId;
use nv_model::file::{FileProfile, FileRule};
use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::name::{Domain, GroupName, ServiceName};
use nv_model::profile::ProcessRule;
use nv_model::rule::NetworkRule;
use nv_model::sensor::{SensorId, SensorKind, SensorProfile, SensorUse};
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_policy::change::Change as PolicyChange;
use nv_policy::modes::{self, ModeChange};
use nv_policy::order::{self, Place};
use nv_policy::state::{State, plain_group};
use nv_policy::validate;

use crate::change::ChangeError;
use crate::plan::{self, Changes};

/// Groups, their policy, and the rules between them.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Groups with what holds for them. They are made, or become what is said here.
    pub groups: Vec<GroupPolicy>,
    /// Groups that rules name: made where they are not there, and left as they are otherwise.
    pub peers: Vec<GroupPolicy>,
    /// Network rules in their order, each with where it stands in the file. They come before other rules that are not of
    /// custom resources or the federation; one that says what a rule says already is left out.
    pub rules: Vec<(String, NetworkRule)>,
}

/// A group, and what holds for it. What is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct GroupPolicy {
    /// Where it stands in the file, for refusals: `line 12, group web`.
    pub place: String,
    /// Its name.
    pub name: GroupName,
    /// A note.
    pub comment: Option<String>,
    /// Its conditions.
    pub criteria: Option<Vec<Criterion>>,
    /// The thresholds raise events.
    pub monitor_metric: Option<bool>,
    /// Most sessions at one time.
    pub session_limit: Option<u32>,
    /// Most new sessions a second.
    pub session_rate_limit: Option<u32>,
    /// Most megabits a second.
    pub bandwidth_limit_mbps: Option<u32>,
    /// Left out of the risk score.
    pub not_scored: Option<bool>,
    /// Its modes.
    pub modes: ModeChange,
    /// All lines of its process profile.
    pub processes: Option<Vec<ProcessRule>>,
    /// No incidents are logged.
    pub alert_disabled: Option<bool>,
    /// Hashes are recorded.
    pub hash_enabled: Option<bool>,
    /// All lines of its file profile.
    pub files: Option<Vec<FileRule>>,
    /// All its sensors of a kind.
    pub sensors: Vec<(SensorKind, SensorUse)>,
}

impl GroupPolicy {
    /// A group of which nothing is said but its name.
    #[must_use]
    pub const fn new(place: String, name: GroupName) -> Self {
        Self {
            place,
            name,
            comment: None,
            criteria: None,
            monitor_metric: None,
            session_limit: None,
            session_rate_limit: None,
            bandwidth_limit_mbps: None,
            not_scored: None,
            modes: ModeChange { network: None, profile: None, baseline: None, fault: None },
            processes: None,
            alert_disabled: None,
            hash_enabled: None,
            files: None,
            sensors: Vec::new(),
        }
    }

    /// What is said of it, over `group`.
    fn over(&self, group: &mut Group) {
        if let Some(comment) = &self.comment {
            group.comment.clone_from(comment);
        }
        if let Some(criteria) = &self.criteria {
            group.criteria.clone_from(criteria);
        }
        group.monitor_metric = self.monitor_metric.unwrap_or(group.monitor_metric);
        group.session_limit = self.session_limit.unwrap_or(group.session_limit);
        group.session_rate_limit = self.session_rate_limit.unwrap_or(group.session_rate_limit);
        group.bandwidth_limit_mbps = self.bandwidth_limit_mbps.unwrap_or(group.bandwidth_limit_mbps);
        group.not_scored = self.not_scored.unwrap_or(group.not_scored);
    }
}

/// The state as it becomes, and the steps to it.
struct Work {
    state: State,
    steps: Vec<PolicyChange>,
}

/// The steps for an import on top of `state`, made at `now`.
pub(crate) fn plan(state: &State, import: &Import, now: Timestamp) -> Changes {
    let mut work = Work { state: state.clone(), steps: Vec::new() };
    for policy in &import.groups {
        let steps = group(&work.state, policy).map_err(|error| error.within(&policy.place))?;
        work.take(steps);
    }
    for peer in &import.peers {
        if !work.state.groups.contains_key(&peer.name) {
            let steps = group(&work.state, peer).map_err(|error| error.within(&peer.place))?;
            work.take(steps);
        }
    }
    for policy in &import.groups {
        for part in [modes_of, processes, files, sensors] {
            let steps = part(&work.state, policy, now).map_err(|error| error.within(&policy.place))?;
            work.take(steps);
        }
    }
    let steps = rules(&work.state, &import.rules, now)?;
    work.take(steps);
    Ok(work.steps)
}

impl Work {
    fn take(&mut self, steps: Vec<PolicyChange>) {
        self.state.apply_all(&steps);
        self.steps.extend(steps);
    }
}

/// Makes a group, or makes it what is said. Groups that are always there stay what they are.
fn group(state: &State, policy: &GroupPolicy) -> Changes {
    if let Some(held) = state.groups.get(&policy.name) {
        if policy.name.is_reserved() {
            return Ok(Vec::new());
        }
        let mut next = held.clone();
        policy.over(&mut next);
        if next == *held {
            return Ok(Vec::new());
        }
        return plan::update_group(state, &next);
    }
    let mut new = plain_group(policy.name.clone(), GroupKind::Container, Origin::UserCreated);
    policy.over(&mut new);
    if policy.name.is_learned() { learned(new) } else { plan::create_group(state, &new) }
}

/// The group of a service that does not run here yet: its name must be the one that learning would give it.
fn learned(mut group: Group) -> Changes {
    let of = |key: &str| {
        let is = |one: &&Criterion| one.key == key && one.op == CriterionOp::Equal;
        group.criteria.iter().find(is).map(|one| one.value.as_str())
    };
    let service: Option<ServiceName> = of("service").and_then(|raw| raw.parse().ok());
    let domain: Option<Domain> = of("domain").and_then(|raw| raw.parse().ok());
    let named = service.map(|service| GroupName::learned(&service, domain.as_ref()));
    if named.as_ref() != Some(&group.name) {
        let what = format!(
            "group {} is named as learned ones are, and its criteria are not the service and the domain of that name",
            group.name
        );
        return Err(ChangeError::Invalid { what });
    }
    (group.origin, group.domain) = (Origin::Learned, domain);
    Ok(vec![PolicyChange::PutGroup(Box::new(group))])
}

fn modes_of(state: &State, policy: &GroupPolicy, _now: Timestamp) -> Changes {
    if policy.modes == ModeChange::default() {
        return Ok(Vec::new());
    }
    Ok(modes::set(state, std::slice::from_ref(&policy.name), policy.modes)?)
}

/// Lines that say what is there already keep their owner, id and times.
fn processes(state: &State, policy: &GroupPolicy, now: Timestamp) -> Changes {
    let held = state.profiles.get(&policy.name);
    let mut next = held.cloned().unwrap_or_else(|| plan::empty_profile(&policy.name));
    next.alert_disabled = policy.alert_disabled.unwrap_or(next.alert_disabled);
    next.hash_enabled = policy.hash_enabled.unwrap_or(next.hash_enabled);
    if let Some(given) = &policy.processes {
        let before = std::mem::take(&mut next.rules);
        for line in given {
            if let Some(twice) = next.rules.iter().find(|known| plan::same_line(known, line)) {
                if twice.action == line.action && twice.allow_update == line.allow_update {
                    continue;
                }
                let what =
                    format!("process {:?} at {} is allowed and denied, or given twice", line.name, line.path);
                return Err(ChangeError::Duplicate { what });
            }
            let same = before.iter().find(|known| plan::same_line(known, line));
            next.rules.push(match same {
                Some(held) if held.action == line.action && held.allow_update == line.allow_update => {
                    held.clone()
                }
                Some(held) => ProcessRule {
                    uuid: held.uuid.clone(),
                    created: held.created,
                    modified: now,
                    ..line.clone()
                },
                None => ProcessRule { created: now, modified: now, ..line.clone() },
            });
        }
    }
    if held.map_or_else(|| next == plan::empty_profile(&policy.name), |held| *held == next) {
        return Ok(Vec::new());
    }
    validate::profile(state, &next, Origin::UserCreated)?;
    Ok(vec![PolicyChange::PutProfile(Box::new(next))])
}

fn files(state: &State, policy: &GroupPolicy, now: Timestamp) -> Changes {
    let Some(given) = &policy.files else { return Ok(Vec::new()) };
    let held = state.files.get(&policy.name);
    let before = held.map(|held| held.rules.as_slice()).unwrap_or_default();
    let line = |line: &FileRule| match before.iter().find(|known| known.filter == line.filter) {
        Some(held) => {
            let same = FileRule {
                origin: held.origin,
                created: held.created,
                modified: held.modified,
                ..line.clone()
            };
            if same == *held {
                same
            } else {
                FileRule { created: held.created, modified: now, ..line.clone() }
            }
        }
        None => FileRule { created: now, modified: now, ..line.clone() },
    };
    let next = FileProfile { group: policy.name.clone(), rules: given.iter().map(line).collect() };
    if next.rules == before {
        return Ok(Vec::new());
    }
    validate::files(state, &next, Origin::UserCreated)?;
    Ok(vec![PolicyChange::PutFiles(Box::new(next))])
}

fn sensors(state: &State, policy: &GroupPolicy, _now: Timestamp) -> Changes {
    let held = state.sensor_profiles.get(&policy.name);
    let none = SensorProfile::new(policy.name.clone());
    let mut next = held.unwrap_or(&none).clone();
    for (kind, using) in &policy.sensors {
        for setting in &using.sensors {
            if state.sensor(&SensorId { kind: *kind, name: setting.name.clone() }).is_none() {
                let what = format!("{} sensor {} does not exist", kind.as_str(), setting.name);
                return Err(ChangeError::NotFound { what });
            }
        }
        next.of_mut(*kind).clone_from(using);
    }
    if next == *held.unwrap_or(&none) {
        return Ok(Vec::new());
    }
    let of_workloads = state.groups.get(&policy.name).is_some_and(|group| group.kind == GroupKind::Container);
    if !of_workloads {
        let what = format!("group {} has no sensors: they are for groups of containers", policy.name);
        return Err(ChangeError::Invalid { what });
    }
    Ok(vec![PolicyChange::PutSensors(Box::new(next))])
}

/// What a rule decides: two that are equal in this decide the same.
type Decides = (GroupName, GroupName, String, bool, bool, Vec<ApplicationId>);

fn decides(rule: &NetworkRule) -> Decides {
    let mut applications = rule.applications.clone();
    applications.sort_unstable();
    let denies = rule.action == Action::Deny;
    (rule.from.clone(), rule.to.clone(), rule.ports.to_string(), denies, rule.disabled, applications)
}

fn rules(state: &State, given: &[(String, NetworkRule)], now: Timestamp) -> Changes {
    let mut taken = state.rules.clone();
    let mut known: BTreeSet<Decides> = taken.iter().map(decides).collect();
    let mut new: Vec<NetworkRule> = Vec::new();
    for (place, rule) in given {
        if !known.insert(decides(rule)) {
            continue;
        }
        let rule = plan::number(&mut taken, rule, now).map_err(|error| error.within(place))?;
        validate::rule(state, &rule, Origin::UserCreated)
            .map_err(|refusal| ChangeError::from(refusal).within(place))?;
        new.push(rule);
    }
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let order = order::insert(&state.rules, new.clone(), Place::First)?;
    let mut steps: Vec<PolicyChange> =
        new.into_iter().map(|rule| PolicyChange::PutRule(Box::new(rule))).collect();
    steps.push(plan::order_of(&order));
    Ok(steps)
}
