//! Processes of a workload or of a host itself, as the node sees them at this moment.

use nv_identity::permission::{Category, Operation};
use nv_model::name::{NodeId, WorkloadId};
use nv_model::question::{Answer, Question};

use crate::answer::List;
use crate::ask::strange;
use crate::call::Call;
use crate::dto::process::ProcessInfo;
use crate::error::ApiError;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Infra, RtPolicies};
    vec![
        Route::get("/v1/workload/:id/process", RtPolicies, "List the processes of a workload", living),
        Route::get(
            "/v1/workload/:id/process_history",
            RtPolicies,
            "List the processes of a workload with those that have ended",
            history,
        ),
        Route::get(
            "/v1/host/:id/process",
            Infra,
            "List the processes of a host, containers apart",
            host_living,
        ),
        Route::get(
            "/v1/host/:id/process_history",
            Infra,
            "List the processes of a host with those that have ended, containers apart",
            host_history,
        ),
    ]
}

async fn living(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    of_workload(&call, false).await
}

async fn history(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    of_workload(&call, true).await
}

async fn host_living(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    of_host(&call, false).await
}

async fn host_history(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    of_host(&call, true).await
}

async fn of_workload(call: &Call, history: bool) -> Result<List<ProcessInfo>, ApiError> {
    let view = call.app.controller.view();
    let workload = super::workload::find(call, &view, Operation::Read)?;
    processes(call, &workload.node, Some(workload.id.clone()), history).await
}

/// Programs of the host belong to no namespace, so whoever sees one namespace alone does not see them.
async fn of_host(call: &Call, history: bool) -> Result<List<ProcessInfo>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    let node = view.state.nodes.get(id).ok_or_else(|| ApiError::not_found("host", id))?;
    if !call.sees_all() {
        return Err(ApiError::denied());
    }
    processes(call, &node.id, None, history).await
}

async fn processes(
    call: &Call,
    node: &NodeId,
    workload: Option<WorkloadId>,
    history: bool,
) -> Result<List<ProcessInfo>, ApiError> {
    match call.ask(node, Question::Processes { workload, history }).await? {
        Answer::Processes(processes) => Ok(List::new(processes.into_iter().map(ProcessInfo::from))),
        _ => Err(strange()),
    }
}
