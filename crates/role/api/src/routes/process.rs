//! Processes of a workload, as its node sees them at this moment.

use nv_identity::permission::{Category, Operation};
use nv_model::question::{Answer, Question};

use crate::answer::List;
use crate::call::Call;
use crate::dto::process::ProcessInfo;
use crate::error::{ApiError, Code};
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies;
    vec![
        Route::get("/v1/workload/:id/process", RtPolicies, "List the processes of a workload", living),
        Route::get(
            "/v1/workload/:id/process_history",
            RtPolicies,
            "List the processes of a workload with those that have ended",
            history,
        ),
    ]
}

async fn living(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    processes(&call, false).await
}

async fn history(call: Call) -> Result<List<ProcessInfo>, ApiError> {
    processes(&call, true).await
}

async fn processes(call: &Call, history: bool) -> Result<List<ProcessInfo>, ApiError> {
    let view = call.app.controller.view();
    let workload = super::workload::find(call, &view, Operation::Read)?;
    let question = Question::Processes { workload: Some(workload.id.clone()), history };
    match call.ask(&workload.node, question).await? {
        Answer::Processes(processes) => Ok(List::new(processes.into_iter().map(ProcessInfo::from))),
        Answer::Sessions { .. } | Answer::Cleared { .. } | Answer::Counters(_) => {
            Err(ApiError::new(Code::Enforcer, "the enforcer answered another question"))
        }
    }
}
