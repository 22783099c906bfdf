//! Workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::Method;
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::application::ApplicationId;
use nv_model::conversation::EndpointId;
use nv_model::name::WorkloadId;
use nv_model::port::Protocol;
use nv_model::workload::Workload as Model;
use nv_policy::membership;
use nv_policy::state::{is_host, pod_of};
use nv_role_controller::{Change, View};

use crate::answer::{Either, Empty, Json, List, Named, One};
use crate::call::Call;
use crate::dto::Config;
use crate::dto::infrastructure::StatsData;
use crate::dto::workload::{
    Workload, WorkloadBrief, WorkloadConfig, WorkloadConfigCfg, WorkloadDetail, WorkloadIds,
};
use crate::dto::workload_v2::{WorkloadDetailMiscV2, WorkloadDetailV2, WorkloadV2};
use crate::error::{ApiError, Code};
use crate::query::Query;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{RtPolicies, Workload as Wl};
    vec![
        Route::get("/v1/workload", Wl, "List workloads", list),
        Route::get("/v2/workload", Wl, "List workloads", list_v2),
        Route::post("/v2/workload", Wl, "List workloads by id", list_by_id).reading().silent(),
        Route::get("/v1/workload/:id", Wl, "Show a workload", get),
        Route::get("/v2/workload/:id", Wl, "Show a workload", get_v2),
        Route::taking(Method::PATCH, "/v1/workload/:id", RtPolicies, "Change a workload", update),
        Route::get("/v1/workload/:id/stats", Wl, "Show what a workload uses", stats),
        Route::get("/v1/workload/:id/config", Wl, "Show what is configured for a workload", config),
    ]
}

/// A pod's containers, by its sandbox.
pub(crate) type Pods = BTreeMap<WorkloadId, Vec<WorkloadId>>;

pub(crate) fn pods(view: &View) -> Pods {
    let mut pods = Pods::new();
    for workload in view.state.workloads.values() {
        if let Some(sandbox) = &workload.pod_sandbox
            && view.state.workloads.contains_key(sandbox)
        {
            pods.entry(sandbox.clone()).or_default().push(workload.id.clone());
        }
    }
    pods
}

/// The containers that the caller may see, by name; with `by_pod` those of pods stand below their sandboxes.
fn visible(call: &Call, view: &View, wanted: Option<&BTreeSet<String>>) -> (Vec<Arc<Model>>, Pods) {
    let pods = if call.query.by_pod() { pods(view) } else { Pods::new() };
    let nested: BTreeSet<&WorkloadId> = pods.values().flatten().collect();
    let mut workloads: Vec<Arc<Model>> = view
        .state
        .workloads
        .values()
        .filter(|workload| !is_host(workload) && !nested.contains(&workload.id))
        .filter(|workload| wanted.is_none_or(|ids| ids.contains(workload.id.as_str())))
        .filter(|workload| call.sees(workload.domain.as_ref().map(|domain| domain.as_str())))
        .cloned()
        .collect();
    workloads.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    (workloads, pods)
}

/// Selects by the query and shows the selected ones one after the other.
fn shown<D: Named>(
    query: &Query,
    view: &Arc<View>,
    (workloads, pods): (Vec<Arc<Model>>, Pods),
    show: impl Fn(&View, &Model, &[WorkloadId]) -> D + Send + 'static,
) -> List<D> {
    // Filters and sorts are always on the keys of the first version's long form.
    let selected = query.inventory(workloads, |workload| Workload::of(view, workload, &[]));
    let view = Arc::clone(view);
    List::new(selected.into_iter().map(move |workload| {
        let children = pods.get(&workload.id).map(Vec::as_slice).unwrap_or_default();
        show(&view, &workload, children)
    }))
}

/// What pods serve, by the workload that holds their network.
struct Served(BTreeMap<WorkloadId, BTreeSet<String>>);

impl Served {
    fn of(call: &Call) -> Self {
        let graph = call.app.controller.graph();
        let view = call.app.controller.view();
        let mut served: BTreeMap<WorkloadId, BTreeSet<String>> = BTreeMap::new();
        for (end, ports) in graph.served() {
            let EndpointId::Workload(id) = end else { continue };
            // A connection's end may be a container, where its pod was not known yet.
            let pod = view.state.workloads.get(id).map_or(id, |workload| pod_of(workload));
            served.entry(pod.clone()).or_default().extend(ports.into_iter().map(application));
        }
        Self(served)
    }
    fn fill(&self, workload: &Model, shown: Workload) -> Workload {
        let names = self.0.get(pod_of(workload)).into_iter().flatten().cloned();
        Workload { applications: names.collect(), ..shown }
    }
}

/// The application's name, `TCP/8080` where it is not known.
fn application((protocol, port, known): (Protocol, u16, ApplicationId)) -> String {
    match known.name().filter(|_| known != ApplicationId::ANY) {
        Some(name) => name.to_owned(),
        None if matches!(protocol, Protocol::Tcp | Protocol::Udp) => {
            format!("{}/{port}", protocol.as_str().to_uppercase())
        }
        None => protocol.as_str().to_uppercase(),
    }
}

async fn list(call: Call) -> Result<Either<List<Workload>, List<WorkloadBrief>>, ApiError> {
    let view = call.app.controller.view();
    let visible = visible(&call, &view, None);
    Ok(if call.query.switch("brief") {
        Either::That(shown(&call.query, &view, visible, WorkloadBrief::of))
    } else {
        let served = Served::of(&call);
        Either::This(shown(&call.query, &view, visible, move |view, workload, children| {
            served.fill(workload, Workload::of(view, workload, children))
        }))
    })
}

async fn list_v2(call: Call) -> Result<Either<List<WorkloadV2>, List<WorkloadBrief>>, ApiError> {
    let view = call.app.controller.view();
    let visible = visible(&call, &view, None);
    Ok(if call.query.switch("brief") {
        Either::That(shown(&call.query, &view, visible, WorkloadBrief::of))
    } else {
        let served = Served::of(&call);
        Either::This(shown(&call.query, &view, visible, move |view, workload, children| {
            served.fill(workload, Workload::of(view, workload, children)).into()
        }))
    })
}

async fn list_by_id(call: Call, body: WorkloadIds) -> Result<List<WorkloadV2>, ApiError> {
    let view = call.app.controller.view();
    let ids: BTreeSet<String> = body.ids.into_iter().collect();
    let visible = visible(&call, &view, Some(&ids));
    let served = Served::of(&call);
    Ok(shown(&call.query, &view, visible, move |view, workload, children| {
        served.fill(workload, Workload::of(view, workload, children)).into()
    }))
}

/// The workload of the path, if the caller may do `operation` to it.
pub(crate) fn find(call: &Call, view: &View, operation: Operation) -> Result<Arc<Model>, ApiError> {
    let raw = call.parameter("id");
    let found = raw.parse::<WorkloadId>().ok().and_then(|id| view.workload(&id).cloned());
    let workload = found.filter(|w| !is_host(w)).ok_or_else(|| ApiError::not_found("workload", raw))?;
    match &workload.domain {
        Some(domain) => call.need(operation, Scope::Domains(&[domain.as_str()]))?,
        None => call.need(operation, Scope::Cluster)?,
    }
    Ok(workload)
}

fn detail(call: &Call) -> Result<(Arc<View>, Workload, Vec<String>), ApiError> {
    let view = call.app.controller.view();
    let workload = find(call, &view, Operation::Read)?;
    let pods = if call.query.by_pod() { pods(&view) } else { Pods::new() };
    let children = pods.get(&workload.id).map(Vec::as_slice).unwrap_or_default();
    let groups = membership::groups_of(&view.state, &workload.id).iter().map(ToString::to_string).collect();
    let shown = Served::of(call).fill(&workload, Workload::of(&view, &workload, children));
    Ok((view, shown, groups))
}

async fn get(call: Call) -> Result<One<WorkloadDetail>, ApiError> {
    let (_view, workload, groups) = detail(&call)?;
    Ok(One(WorkloadDetail { workload, groups, app_ports: BTreeMap::new() }))
}

async fn get_v2(call: Call) -> Result<One<WorkloadDetailV2>, ApiError> {
    let (_view, workload, groups) = detail(&call)?;
    let workload = WorkloadV2::from(workload);
    let children = workload.children.clone();
    Ok(One(WorkloadDetailV2 {
        workload,
        misc: WorkloadDetailMiscV2 { groups, app_ports: BTreeMap::new(), children },
    }))
}

async fn update(call: Call, body: Config<WorkloadConfigCfg>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let view = call.app.controller.view();
    let workload = find(&call, &view, Operation::Write)?;
    if given.wire.as_deref().is_some_and(|wire| wire != "default") {
        return Err(ApiError::new(
            Code::NotAllowed,
            "wire can only be default: mode alone decides how packets are judged",
        ));
    }
    if let Some(on) = given.quarantine {
        call.change(Change::Quarantine { workload: workload.id.clone(), on }).await?;
    }
    Ok(Empty)
}

async fn config(call: Call) -> Result<One<WorkloadConfig>, ApiError> {
    let view = call.app.controller.view();
    let workload = find(&call, &view, Operation::Read)?;
    let head = crate::dto::workload::WorkloadHead::of(&view, &workload);
    Ok(One(WorkloadConfig {
        wire: "default".to_owned(),
        quarantine: view.state.quarantined.contains(&workload.id),
        quarantine_reason: head.quarantine_reason,
    }))
}

async fn stats(call: Call) -> Result<Json<StatsData>, ApiError> {
    let view = call.app.controller.view();
    let workload = find(&call, &view, Operation::Read)?;
    let stats = call.app.history().of_workload(&view, &workload.id);
    let stats = stats.ok_or_else(|| ApiError::not_found("usage of workload", workload.id.as_str()))?;
    Ok(Json(StatsData { id: workload.id.to_string(), read_at: call.app.clock.now().rfc3339(), stats }))
}
