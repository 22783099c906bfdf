//! The system: summary, requests, and the small documents around them.

use std::collections::BTreeSet;

use axum::http::Method;
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation, Permissions};
use nv_model::application::APPLICATIONS;
use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::node::ConnectionState;
use nv_policy::membership;
use nv_policy::state::{is_host, is_live};
use nv_role_controller::{Change, View};
use nv_store::Transaction;

use crate::accounts::store_failed;
use crate::answer::{Empty, Json, One};
use crate::call::{Call, Caller};
use crate::change::{baseline, mode};
use crate::dto::system::{
    ApplicationList, Eula, EulaData, FedMembership, Health, SystemRequestData, SystemSummary,
};
use crate::error::{ApiError, Code};
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Anonymous, AnyUser, Fed, RtPolicies};
    vec![
        Route::get("/v1/system/summary", AnyUser, "Show the system in numbers", summary),
        Route::post(
            "/v1/system/request",
            RtPolicies,
            "Set the modes of all groups, or end quarantines",
            request,
        ),
        Route::get("/v1/eula", Anonymous, "Show whether the licence agreement was accepted", eula),
        Route::taking(Method::POST, "/v1/eula", AnyUser, "Accept the licence agreement", accept_eula),
        Route::get("/v1/list/application", RtPolicies, "List applications that rules may name", applications),
        Route::get("/v1/fed/member", Fed, "Show the cluster's place in a federation", fed_member),
        Route::get("/healthz", Anonymous, "Tell that the server answers", healthz),
        Route::get("/readyz", Anonymous, "Tell that the server can do its work", readyz),
    ]
}

fn count(items: impl Iterator) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

async fn summary(call: Call) -> Result<One<SystemSummary>, ApiError> {
    let view = call.app.controller.view();
    let sees = |required, domain: Option<&str>| match domain {
        Some(domain) => call.holds(required, Operation::Read, Scope::Domains(&[domain])),
        None => call.holds(required, Operation::Read, Scope::Cluster),
    };
    let containers: Vec<_> = view
        .state
        .workloads
        .values()
        .filter(|workload| !is_host(workload))
        .filter(|workload| sees(Permissions::WORKLOAD_BASIC, workload.domain.as_ref().map(|d| d.as_str())))
        .collect();
    let live = || containers.iter().filter(|workload| is_live(workload));
    let services = view.state.groups.values().filter(|group| {
        group.name.is_learned() && sees(Permissions::GROUP_BASIC, group.domain.as_ref().map(|d| d.as_str()))
    });
    let mut shown = SystemSummary {
        workloads: count(containers.iter().filter(|workload| !workload.is_sandbox)),
        running_workloads: count(live().filter(|workload| !workload.is_sandbox)),
        running_pods: count(live().filter(|workload| workload.is_sandbox)),
        services: count(services),
        policy_rules: if call.holds(Permissions::NW_POLICY_BASIC, Operation::Read, Scope::Cluster) {
            count(view.state.rules.iter())
        } else {
            0
        },
        platform: view
            .state
            .nodes
            .values()
            .map(|node| node.platform.clone())
            .find(|p| !p.is_empty())
            .unwrap_or_default(),
        ..SystemSummary::default()
    };
    let scans = call.app.controller.scans();
    let database = scans.database().unwrap_or_default();
    (shown.cvedb_version, shown.cvedb_create_time) = (database.shown_version(), database.shown_created());
    if call.holds(Permissions::CONFIG, Operation::Read, Scope::Cluster) {
        shown.scanners = count(scans.scanners().iter());
        let domains: BTreeSet<&str> =
            containers.iter().filter_map(|w| w.domain.as_ref().map(|d| d.as_str())).collect();
        let disconnected = view.enforcers.values().filter(|e| e.state == ConnectionState::Disconnected);
        let versions: BTreeSet<&str> = (view.enforcers.values().map(|e| e.version.as_str()))
            .chain(view.controllers.iter().map(|c| c.version.as_str()))
            .collect();
        shown.hosts = count(view.state.nodes.iter());
        shown.controllers = count(view.controllers.iter());
        shown.enforcers = count(view.enforcers.iter());
        shown.disconnected_enforcers = count(disconnected);
        shown.domains = count(domains.iter());
        shown.component_versions = versions.into_iter().map(str::to_owned).collect();
    }
    Ok(One(shown))
}

/// Groups that have modes which this cluster decides on: the services, and whether `nodes` is among them.
fn moded(view: &View) -> (Vec<GroupName>, Option<GroupName>) {
    let mut services = Vec::new();
    let mut nodes = None;
    for group in view.state.groups.values().filter(|group| group.origin != Origin::Ground) {
        if group.name.is_learned() {
            services.push(group.name.clone());
        } else if group.name.has_mode() {
            nodes = Some(group.name.clone());
        }
    }
    (services, nodes)
}

async fn request(call: Call, body: SystemRequestData) -> Result<Empty, ApiError> {
    let given = body.request.ok_or_else(|| ApiError::format("the body has no request"))?;
    call.need(Operation::Write, Scope::Cluster)?;
    let network = mode("policy_mode", given.policy_mode.as_deref())?;
    let profile = mode("profile_mode", given.profile_mode.as_deref())?;
    let baseline = baseline(given.baseline_profile.as_deref())?;
    let view = call.app.controller.view();
    if network.is_some() || profile.is_some() || baseline.is_some() {
        let (services, nodes) = moded(&view);
        // Hosts are measured by their list alone, so the baseline is for services.
        if let Some(nodes) = nodes
            && (network.is_some() || profile.is_some())
        {
            call.change(Change::SetModes {
                groups: vec![nodes],
                network,
                profile,
                baseline: None,
                fault: None,
            })
            .await?;
        }
        if !services.is_empty() {
            call.change(Change::SetModes { groups: services, network, profile, baseline, fault: None })
                .await?;
        }
    }
    if let Some(end) = given.unquarantine {
        if end.response_rule.is_some_and(|rule| rule != 0) {
            return Err(ApiError::new(Code::NotAllowed, "no response rule has quarantined anything"));
        }
        let members = match end.group.as_deref().filter(|group| !group.is_empty()) {
            Some(raw) => {
                let group = view.state.groups.get(raw).ok_or_else(|| ApiError::not_found("group", raw))?;
                Some(membership::members(&view.state, &group.name))
            }
            None => None,
        };
        for id in view.state.quarantined.iter().filter(|id| members.as_ref().is_none_or(|m| m.contains(id))) {
            call.change(Change::Quarantine { workload: id.clone(), on: false }).await?;
        }
    }
    Ok(Empty)
}

const EULA: &str = "eula";

async fn eula(call: Call) -> Result<Json<EulaData>, ApiError> {
    let held = call.app.store.get(EULA).await.map_err(|error| store_failed(&error))?;
    let eula = held.and_then(|entry| serde_json::from_slice::<Eula>(&entry.value).ok()).unwrap_or_default();
    Ok(Json(EulaData { eula }))
}

async fn accept_eula(call: Call, body: EulaData) -> Result<Empty, ApiError> {
    if matches!(call.caller, Caller::Nobody) {
        return Err(ApiError::unauthorized());
    }
    let value =
        serde_json::to_vec(&body.eula).map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
    let transaction = Transaction::new().put(EULA, value);
    call.app.store.commit(transaction).await.map_err(|error| store_failed(&error))?;
    Ok(Empty)
}

async fn applications(_call: Call) -> Result<One<ApplicationList>, ApiError> {
    let application = std::iter::once("any").chain(APPLICATIONS.iter().map(|(_, name)| *name));
    Ok(One(ApplicationList { application: application.map(str::to_owned).collect() }))
}

async fn fed_member(_call: Call) -> Result<Json<FedMembership>, ApiError> {
    Ok(Json(FedMembership::default()))
}

async fn healthz(_call: Call) -> Result<Json<Health>, ApiError> {
    Ok(Json(Health { status: "ok" }))
}

async fn readyz(call: Call) -> Result<Json<Health>, ApiError> {
    let unready = |why: String| {
        ApiError::new(Code::Server, why).with_status(axum::http::StatusCode::SERVICE_UNAVAILABLE)
    };
    call.app.store.revision().await.map_err(|error| unready(error.to_string()))?;
    if call.app.controller.view().controllers.is_empty() {
        return Err(unready("the controller has not started yet".to_owned()));
    }
    Ok(Json(Health { status: "ok" }))
}
