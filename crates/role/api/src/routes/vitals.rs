//! How controllers and enforcers themselves fare: how they were started, what they use, what they count.

use nv_identity::permission::Category::NvResource;
use nv_model::name::ControllerId;
use nv_model::node::Enforcer;
use nv_model::vitals::Vitals;
use nv_role_controller::View;

use crate::answer::{Json, One};
use crate::call::Call;
use crate::dto::infrastructure::StatsData;
use crate::dto::vitals::{AgentCounter, ControllerCounter, ProcessConfig};
use crate::error::ApiError;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/v1/enforcer/:id/config",
            NvResource,
            "Show how an enforcer was started",
            enforcer_config,
        ),
        Route::get(
            "/v1/enforcer/:id/counter",
            NvResource,
            "Show what an enforcer counts, uses and leaves out",
            enforcer_counter,
        ),
        Route::get(
            "/v1/enforcer/:id/stats",
            NvResource,
            "Show what the node of an enforcer uses",
            enforcer_stats,
        ),
        Route::get(
            "/v1/controller/:id/config",
            NvResource,
            "Show how a controller was started",
            controller_config,
        ),
        Route::get(
            "/v1/controller/:id/counter",
            NvResource,
            "Show what a controller counts",
            controller_counter,
        ),
        Route::get("/v1/controller/:id/stats", NvResource, "Show what a controller uses", controller_stats),
    ]
}

fn enforcer<'a>(call: &Call, view: &'a View) -> Result<&'a Enforcer, ApiError> {
    let id = call.parameter("id");
    view.enforcers.get(id).ok_or_else(|| ApiError::not_found("enforcer", id))
}

fn vitals<'a>(call: &Call, view: &'a View) -> Result<&'a Vitals, ApiError> {
    let node = &enforcer(call, view)?.node;
    view.vitals.get(node).ok_or_else(|| ApiError::not_found("sign of life of enforcer", node.as_str()))
}

async fn enforcer_config(call: Call) -> Result<One<ProcessConfig>, ApiError> {
    let view = call.app.controller.view();
    Ok(One(ProcessConfig { log_level: vitals(&call, &view)?.log_level.clone() }))
}

async fn enforcer_counter(call: Call) -> Result<One<AgentCounter>, ApiError> {
    let view = call.app.controller.view();
    Ok(One(AgentCounter::from(vitals(&call, &view)?)))
}

async fn enforcer_stats(call: Call) -> Result<Json<StatsData>, ApiError> {
    let view = call.app.controller.view();
    let found = enforcer(&call, &view)?;
    let stats = call.app.history().of_node(&view, &found.node);
    let stats = stats.ok_or_else(|| ApiError::not_found("usage of enforcer", found.id.as_str()))?;
    Ok(Json(StatsData { id: found.id.to_string(), read_at: call.app.clock.now().rfc3339(), stats }))
}

/// This controller, by its id: only itself can be asked here.
fn controller(call: &Call) -> Result<&ControllerId, ApiError> {
    let id = call.parameter("id");
    let own = call.app.controller.id();
    if own.as_str() == id { Ok(own) } else { Err(ApiError::not_found("controller", id)) }
}

async fn controller_config(call: Call) -> Result<One<ProcessConfig>, ApiError> {
    controller(&call)?;
    Ok(One(ProcessConfig { log_level: call.app.log_level.clone() }))
}

async fn controller_counter(call: Call) -> Result<One<ControllerCounter>, ApiError> {
    controller(&call)?;
    let links = call.app.controller.graph().len();
    Ok(One(ControllerCounter::of(call.app.controller.counters(), links)))
}

async fn controller_stats(call: Call) -> Result<Json<StatsData>, ApiError> {
    let own = controller(&call)?;
    let stats = call.app.history().of_own_process();
    let stats = stats.ok_or_else(|| ApiError::not_found("usage of controller", own.as_str()))?;
    Ok(Json(StatsData { id: own.to_string(), read_at: call.app.clock.now().rfc3339(), stats }))
}
