//! Groups and services.

use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::conversation::EndpointId;
use nv_model::group::{Criterion, CriterionOp, Group as Model, GroupKind, Origin};
use nv_model::mode::Modes;
use nv_model::name::{Domain, GroupName, ServiceName, WorkloadId};
use nv_model::rule::RuleId;
use nv_policy::change::Change as PolicyChange;
use nv_policy::modes::{self, GroupView};
use nv_policy::state::{is_host, plain_group};
use nv_policy::validate::kind_of;
use nv_role_controller::{Change, ChangeError, Edit, Planner, View};

use crate::answer::{Either, Empty, Json, List, One};
use crate::call::Call;
use crate::change::{baseline, fault, mode};
use crate::dto::Config;
use crate::dto::group::{
    CriteriaEntry, Group, GroupBrief, GroupConfig, GroupDetail, Service, ServiceBatchConfig, ServiceConfig,
    rules_of,
};
use crate::dto::infrastructure::{GroupStatsData, Stats};
use crate::dto::workload::WorkloadBrief;
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::routes::workload::{Pods, pods};

pub(crate) fn routes() -> Vec<Route> {
    use Category::Group as G;
    vec![
        Route::get("/v1/group", G, "List groups", list),
        Route::post("/v1/group", G, "Create a group", create),
        Route::get("/v1/group/:name", G, "Show a group", get),
        Route::patch("/v1/group/:name", G, "Change a group", update),
        Route::delete("/v1/group/:name", G, "Delete a group", delete),
        Route::get("/v1/group/:name/stats", G, "Show what the workloads of a group use together", stats),
        Route::get("/v1/service", G, "List services", services),
        Route::post("/v1/service", G, "Create a service", create_service),
        Route::get("/v1/service/:name", G, "Show a service", service),
        Route::patch("/v1/service/config", G, "Set the modes of services", set_modes),
        Route::patch("/v1/service/config/network", G, "Set the network modes of services", set_network_modes),
        Route::patch("/v1/service/config/profile", G, "Set the process modes of services", set_profile_modes),
    ]
}

/// Whether the caller may do `operation` to a group. Learned groups belong to their namespace; address groups and
/// those that are always there can be read from any namespace.
pub(crate) fn may(call: &Call, operation: Operation, group: &Model) -> bool {
    match (&group.domain, group.origin) {
        (_, Origin::Federal) => call.may(operation, Scope::Federal),
        (Some(domain), _) => call.may(operation, Scope::Domains(&[domain.as_str()])),
        (None, Origin::UserCreated | Origin::SystemDefined) => call.may(operation, Scope::Shared),
        (None, Origin::Learned | Origin::Ground) => call.may(operation, Scope::Cluster),
    }
}

fn members(call: &Call, view: &View, ids: &[WorkloadId], pods: Option<&Pods>) -> Vec<WorkloadBrief> {
    ids.iter()
        .filter_map(|id| view.state.workloads.get(id))
        .filter(|workload| !is_host(workload))
        .filter(|workload| {
            pods.is_none_or(|_| workload.pod_sandbox.as_ref().is_none_or(|sandbox| !ids.contains(sandbox)))
        })
        .filter(|workload| call.sees(workload.domain.as_ref().map(Domain::as_str)))
        .map(|workload| {
            let children =
                pods.and_then(|pods| pods.get(&workload.id)).map(Vec::as_slice).unwrap_or_default();
            WorkloadBrief::of(view, workload, children)
        })
        .collect()
}

fn criteria(group: &Model) -> Vec<CriteriaEntry> {
    group.criteria.iter().map(CriteriaEntry::from).collect()
}

async fn list(call: Call) -> Result<Either<List<Group>, List<GroupBrief>>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let with_cap = call.query.switch("with_cap");
    let seen: Vec<GroupView<'_>> = modes::views(&view.state)
        .into_iter()
        .filter(|seen| scope.admits(seen.group.origin) && may(&call, Operation::Read, seen.group))
        .collect();
    let seen = call.query.inventory(seen, |seen| GroupBrief::of(seen, with_cap));
    if call.query.switch("brief") {
        let briefs: Vec<GroupBrief> = seen.iter().map(|seen| GroupBrief::of(seen, with_cap)).collect();
        return Ok(Either::That(List::new(briefs.into_iter())));
    }
    let pods = call.query.by_pod().then(|| pods(&view));
    // Members are shown group by group as the answer is written; only names and ids are held.
    let held: Vec<_> = seen
        .into_iter()
        .map(|seen| {
            let rules: Vec<u32> = seen.rules.iter().map(|id| id.0).collect();
            (GroupBrief::of(&seen, with_cap), criteria(seen.group), seen.members, rules)
        })
        .collect();
    let view = Arc::clone(&view);
    Ok(Either::This(List::new(held.into_iter().map(move |(brief, criteria, ids, policy_rules)| Group {
        brief,
        criteria,
        members: members(&call, &view, &ids, pods.as_ref()),
        policy_rules,
        response_rules: Vec::new(),
    }))))
}

/// The group of the path, if the caller may do `operation` to it.
pub(crate) fn find<'a>(call: &Call, view: &'a View, operation: Operation) -> Result<&'a Model, ApiError> {
    let name = call.parameter("name");
    let group = view.state.groups.get(name).ok_or_else(|| ApiError::not_found("group", name))?;
    if may(call, operation, group) { Ok(group) } else { Err(ApiError::denied()) }
}

async fn get(call: Call) -> Result<One<GroupDetail>, ApiError> {
    let view = call.app.controller.view();
    let group = find(&call, &view, Operation::Read)?;
    let seen = modes::view(&view.state, &group.name)
        .ok_or_else(|| ApiError::not_found("group", group.name.as_str()))?;
    let pods = call.query.by_pod().then(|| pods(&view));
    Ok(One(GroupDetail {
        brief: GroupBrief::of(&seen, call.query.switch("with_cap")),
        criteria: criteria(group),
        members: members(&call, &view, &seen.members, pods.as_ref()),
        policy_rules: rules_of(&view, &seen.rules),
        response_rules: Vec::new(),
    }))
}

/// Members that have reported nothing yet count for nothing.
async fn stats(call: Call) -> Result<Json<GroupStatsData>, ApiError> {
    let view = call.app.controller.view();
    let group = find(&call, &view, Operation::Read)?;
    let members = view.members().get(&group.name).map(Vec::as_slice).unwrap_or_default();
    let history = call.app.history();
    let used = members.iter().filter_map(|id| history.of_workload(&view, id));
    let stats = used.fold(Stats::default(), Stats::plus);
    Ok(Json(GroupStatsData { name: group.name.to_string(), read_at: call.app.clock.now().rfc3339(), stats }))
}

fn read_criteria(given: &[CriteriaEntry]) -> Result<Vec<Criterion>, ApiError> {
    given
        .iter()
        .map(|entry| {
            let op = CriterionOp::parse(&entry.op).ok_or_else(|| {
                ApiError::format(format!("criterion {:?} has an unknown operator", entry.key))
            })?;
            Ok(Criterion { key: entry.key.clone(), value: entry.value.clone(), op })
        })
        .collect()
}

/// Puts what is given over what is there.
fn over(group: &mut Model, given: GroupConfig) -> Result<(), ApiError> {
    if let Some(comment) = given.comment {
        group.comment = comment;
    }
    if let Some(criteria) = given.criteria {
        group.criteria = read_criteria(&criteria)?;
    }
    group.monitor_metric = given.monitor_metric.unwrap_or(group.monitor_metric);
    group.session_limit = given.group_sess_cur.unwrap_or(group.session_limit);
    group.session_rate_limit = given.group_sess_rate.unwrap_or(group.session_rate_limit);
    group.bandwidth_limit_mbps = given.group_band_width.unwrap_or(group.bandwidth_limit_mbps);
    Ok(())
}

fn local(cfg_type: &str) -> Result<(), ApiError> {
    match cfg_type {
        "" | "user_created" | "learned" => Ok(()),
        "federal" => Err(ApiError::new(Code::NotAllowed, "this cluster is no federation's primary")),
        _ => Err(ApiError::format("cfg_type is not accepted")),
    }
}

async fn create(call: Call, body: Config<GroupConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    local(&given.cfg_type)?;
    // A group of one namespace alone may be made by who may write there, any other by who may write everywhere.
    let name: GroupName = given
        .name
        .parse()
        .map_err(|error: nv_model::name::NameError| ApiError::new(Code::Name, error.to_string()))?;
    let mut group = plain_group(name, GroupKind::Container, Origin::UserCreated);
    over(&mut group, given)?;
    group.kind = kind_of(&group.criteria);
    let domains: Vec<&str> = group
        .criteria
        .iter()
        .filter(|c| matches!(c.key.as_str(), "domain" | "namespace") && c.op == CriterionOp::Equal)
        .map(|c| c.value.as_str())
        .collect();
    let scope = if domains.is_empty() { Scope::Cluster } else { Scope::Domains(&domains) };
    call.need(Operation::Own, scope)?;
    call.change(Change::CreateGroup(Box::new(group))).await?;
    Ok(Empty)
}

async fn update(call: Call, body: Config<GroupConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let view = call.app.controller.view();
    let mut group = find(&call, &view, Operation::Write)?.clone();
    let has_criteria = given.criteria.is_some();
    over(&mut group, given)?;
    if has_criteria && matches!(group.kind, GroupKind::Container | GroupKind::Address) {
        group.kind = kind_of(&group.criteria);
    }
    call.change(Change::UpdateGroup(Box::new(group))).await?;
    Ok(Empty)
}

async fn delete(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let group = find(&call, &view, Operation::Own)?;
    call.change(Change::DeleteGroup(group.name.clone())).await?;
    Ok(Empty)
}

/// Whether workloads of a group are reached from, or reach, what lies outside.
fn exposure(call: &Call, members: &[WorkloadId]) -> (bool, bool) {
    let graph = call.app.controller.graph();
    let external = EndpointId::External;
    members.iter().fold((false, false), |(ingress, egress), id| {
        let end = EndpointId::Workload(id.clone());
        (ingress || graph.link(&external, &end).is_some(), egress || graph.link(&end, &external).is_some())
    })
}

/// What a service's answer is made of; small, so that many can be held while an answer is written.
struct Held {
    brief: GroupBrief,
    members: Vec<WorkloadId>,
    rules: Vec<RuleId>,
}

impl Held {
    fn of(call: &Call, seen: GroupView<'_>) -> Self {
        let brief = GroupBrief::of(&seen, call.query.switch("with_cap"));
        Self { brief, members: seen.members, rules: seen.rules }
    }
    fn show(&self, call: &Call, view: &View, pods: Option<&Pods>) -> Service {
        let brief = self.brief.clone();
        let (ingress_exposure, egress_exposure) = exposure(call, &self.members);
        Service {
            name: brief.name.strip_prefix("nv.").map(str::to_owned).unwrap_or(brief.name),
            comment: brief.comment,
            policy_mode: brief.policy_mode,
            profile_mode: brief.profile_mode,
            not_scored: brief.not_scored,
            domain: brief.domain,
            platform_role: brief.platform_role,
            members: members(call, view, &self.members, pods),
            policy_rules: rules_of(view, &self.rules),
            response_rules: Vec::new(),
            ingress_exposure,
            egress_exposure,
            cap_change_mode: brief.cap_change_mode,
            cap_scorable: brief.cap_scorable,
            baseline_profile: brief.baseline_profile,
            fail_mode: brief.fail_mode,
        }
    }
}

async fn services(call: Call) -> Result<List<Service>, ApiError> {
    let view = call.app.controller.view();
    let pods = call.query.by_pod().then(|| pods(&view));
    let held: Vec<Held> = modes::views(&view.state)
        .into_iter()
        .filter(|seen| seen.group.name.is_learned() && may(&call, Operation::Read, seen.group))
        .map(|seen| Held::of(&call, seen))
        .collect();
    let selected = call.query.inventory(held, |held| held.show(&call, &view, None));
    Ok(List::new(selected.into_iter().map(move |held| held.show(&call, &view, pods.as_ref()))))
}

async fn service(call: Call) -> Result<One<Service>, ApiError> {
    let view = call.app.controller.view();
    let raw = call.parameter("name");
    let missing = || ApiError::not_found("service", raw);
    let name = group_of_service(raw).ok_or_else(missing)?;
    let seen = modes::view(&view.state, &name).ok_or_else(missing)?;
    if !may(&call, Operation::Read, seen.group) {
        return Err(ApiError::denied());
    }
    let pods = call.query.by_pod().then(|| pods(&view));
    Ok(One(Held::of(&call, seen).show(&call, &view, pods.as_ref())))
}

/// A service's group: clients leave `nv.` out, and those who do not are understood too.
fn group_of_service(raw: &str) -> Option<GroupName> {
    if raw == "nodes" || raw.starts_with("nv.") { raw.parse().ok() } else { format!("nv.{raw}").parse().ok() }
}

async fn create_service(call: Call, body: Config<ServiceConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let bad_name = |error: nv_model::name::NameError| ApiError::new(Code::Name, error.to_string());
    let service: ServiceName = given.name.parse().map_err(bad_name)?;
    let domain: Option<Domain> =
        if given.domain.is_empty() { None } else { Some(given.domain.parse().map_err(bad_name)?) };
    match &domain {
        Some(domain) => call.need(Operation::Own, Scope::Domains(&[domain.as_str()]))?,
        None => call.need(Operation::Own, Scope::Cluster)?,
    }
    let view = call.app.controller.view();
    let usual = view.config.node_settings().new_service;
    let mut group =
        plain_group(GroupName::learned(&service, domain.as_ref()), GroupKind::Container, Origin::Learned);
    let equals = |key: &str, value: &str| Criterion {
        key: key.to_owned(),
        value: value.to_owned(),
        op: CriterionOp::Equal,
    };
    group.criteria.push(equals("service", service.as_str()));
    if let Some(domain) = &domain {
        group.criteria.push(equals("domain", domain.as_str()));
    }
    group.domain = domain;
    group.comment = given.comment.unwrap_or_default();
    group.not_scored = given.not_scored.unwrap_or(false);
    group.modes = Some(Modes {
        network: mode("policy_mode", given.policy_mode.as_deref())?.unwrap_or(usual.network),
        profile: mode("profile_mode", given.profile_mode.as_deref())?.unwrap_or(usual.profile),
        baseline: baseline(given.baseline_profile.as_deref())?.unwrap_or(usual.baseline),
        fault: fault(given.fail_mode.as_deref())?.unwrap_or(usual.fault),
    });
    // Learned groups are otherwise made by learning alone, so there is no change of its own for this.
    let planner: Planner = Box::new(move |view| {
        if view.state.groups.contains_key(&group.name) {
            return Err(ChangeError::Duplicate { what: format!("service {}", group.name) });
        }
        Ok(vec![Edit::Policy(PolicyChange::PutGroup(Box::new(group.clone())))])
    });
    call.transact(planner).await?;
    Ok(Empty)
}

async fn set_modes(call: Call, body: Config<ServiceBatchConfig>) -> Result<Empty, ApiError> {
    batch(&call, body.content()?).await
}

async fn set_network_modes(call: Call, body: Config<ServiceBatchConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    batch(&call, ServiceBatchConfig { profile_mode: None, baseline_profile: None, fail_mode: None, ..given })
        .await
}

async fn set_profile_modes(call: Call, body: Config<ServiceBatchConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    batch(&call, ServiceBatchConfig { policy_mode: None, ..given }).await
}

async fn batch(call: &Call, given: ServiceBatchConfig) -> Result<Empty, ApiError> {
    let network = mode("policy_mode", given.policy_mode.as_deref())?;
    let profile = mode("profile_mode", given.profile_mode.as_deref())?;
    let baseline = baseline(given.baseline_profile.as_deref())?;
    let fault = fault(given.fail_mode.as_deref())?;
    let names = given.services.ok_or_else(|| ApiError::format("the body names no services"))?;
    let view = call.app.controller.view();
    let mut groups = Vec::with_capacity(names.len());
    for raw in &names {
        let missing = || ApiError::not_found("service", raw);
        let name = group_of_service(raw).ok_or_else(missing)?;
        let group = view.state.groups.get(&name).ok_or_else(missing)?;
        if !may(call, Operation::Write, group) {
            return Err(ApiError::denied());
        }
        groups.push(name);
    }
    if network.is_some() || profile.is_some() || baseline.is_some() || fault.is_some() {
        call.change(Change::SetModes { groups: groups.clone(), network, profile, baseline, fault }).await?;
    }
    if let Some(not_scored) = given.not_scored {
        for name in groups {
            // Read again: the modes may just have been changed.
            let view = call.app.controller.view();
            if let Some(group) = view.state.groups.get(&name).filter(|group| group.not_scored != not_scored) {
                let group = Model { not_scored, ..group.clone() };
                call.change(Change::UpdateGroup(Box::new(group))).await?;
            }
        }
    }
    Ok(Empty)
}
