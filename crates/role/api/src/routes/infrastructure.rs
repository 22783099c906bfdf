//! Hosts, controllers, enforcers, namespaces.

use std::collections::{BTreeMap, BTreeSet};

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::name::NodeId;
use nv_policy::state::{is_host, is_live};
use nv_role_controller::View;

use crate::answer::{Json, List, One};
use crate::call::Call;
use crate::dto::infrastructure::{Agent, Controller, Domain, DomainsData, Host, Running};
use crate::error::ApiError;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Infra, NvResource};
    vec![
        Route::get("/v1/host", Infra, "List hosts", hosts),
        Route::get("/v1/host/:id", Infra, "Show a host", host),
        Route::get("/v1/controller", NvResource, "List controllers", controllers),
        Route::get("/v1/controller/:id", NvResource, "Show a controller", controller),
        Route::get("/v1/enforcer", NvResource, "List enforcers", enforcers),
        Route::get("/v1/enforcer/:id", NvResource, "Show an enforcer", enforcer),
        Route::get("/v1/domain", Infra, "List namespaces", domains),
    ]
}

/// Namespaces that have workloads on a node: a user of one of them sees the node.
fn sees_node(call: &Call, view: &View, node: &NodeId) -> bool {
    if call.sees_all() {
        return true;
    }
    let domains: BTreeSet<&str> = view
        .state
        .workloads
        .values()
        .filter(|workload| workload.node == *node)
        .filter_map(|workload| workload.domain.as_ref().map(|domain| domain.as_str()))
        .collect();
    let domains: Vec<&str> = domains.into_iter().collect();
    call.may(Operation::Read, Scope::Domains(&domains))
}

async fn hosts(call: Call) -> Result<List<Host>, ApiError> {
    let view = call.app.controller.view();
    let mut ids: Vec<NodeId> =
        view.state.nodes.keys().filter(|id| sees_node(&call, &view, id)).cloned().collect();
    let name = |id: &NodeId| view.state.nodes.get(id).map(|node| node.name.clone());
    ids.sort_by_cached_key(name);
    let running = Running::of(&view);
    let show =
        move |view: &View, id: &NodeId| view.state.nodes.get(id).map(|node| Host::of(view, node, &running));
    let ids = call.query.inventory(ids, |id| show(&view, id));
    Ok(List::new(ids.into_iter().filter_map(move |id| show(&view, &id))))
}

async fn host(call: Call) -> Result<One<Host>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    let node = view.state.nodes.get(id).ok_or_else(|| ApiError::not_found("host", id))?;
    if !sees_node(&call, &view, &node.id) {
        return Err(ApiError::denied());
    }
    Ok(One(Host::of(&view, node, &Running::of(&view))))
}

async fn controllers(call: Call) -> Result<List<Controller>, ApiError> {
    let view = call.app.controller.view();
    let all: Vec<Controller> = view.controllers.iter().map(Controller::from).collect();
    Ok(List::new(call.query.inventory(all, Clone::clone).into_iter()))
}

async fn controller(call: Call) -> Result<One<Controller>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    let found = view.controllers.iter().find(|controller| controller.id.as_str() == id);
    found.map(|found| One(Controller::from(found))).ok_or_else(|| ApiError::not_found("controller", id))
}

async fn enforcers(call: Call) -> Result<List<Agent>, ApiError> {
    let view = call.app.controller.view();
    let mut all: Vec<Agent> = view.enforcers.values().map(|enforcer| Agent::of(&view, enforcer)).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(List::new(call.query.inventory(all, Clone::clone).into_iter()))
}

async fn enforcer(call: Call) -> Result<One<Agent>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    let found = view.enforcers.get(id).ok_or_else(|| ApiError::not_found("enforcer", id))?;
    Ok(One(Agent::of(&view, found)))
}

async fn domains(call: Call) -> Result<Json<DomainsData>, ApiError> {
    let view = call.app.controller.view();
    let mut found: BTreeMap<String, (Domain, BTreeSet<String>)> = BTreeMap::new();
    for (name, labels) in &view.state.namespaces {
        let entry = found.entry(name.to_string()).or_default();
        entry.0.labels = labels.clone();
        entry.0.nbe = view.state.is_bounded(name);
    }
    for workload in view.state.workloads.values().filter(|workload| !is_host(workload)) {
        let Some(name) = &workload.domain else { continue };
        let (domain, services) = found.entry(name.to_string()).or_default();
        let counts = if workload.is_sandbox {
            [None, None, is_live(workload).then_some(&mut domain.running_pods)]
        } else {
            [Some(&mut domain.workloads), is_live(workload).then_some(&mut domain.running_workloads), None]
        };
        for count in counts.into_iter().flatten() {
            *count = count.saturating_add(1);
        }
        services.insert(workload.service.to_string());
    }
    let all: Vec<Domain> = found
        .into_iter()
        .filter(|(name, _)| call.sees(Some(name)))
        .map(|(name, (domain, services))| Domain {
            name,
            services: i64::try_from(services.len()).unwrap_or(i64::MAX),
            ..domain
        })
        .collect();
    Ok(Json(DomainsData { domains: call.query.inventory(all, Clone::clone), tag_per_domain: false }))
}
