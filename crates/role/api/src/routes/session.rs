//! Sessions: the connections that are open on a node, as its kernel has them at this moment; and what is counted over
//! many of them.

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::name::{NodeId, WorkloadId};
use nv_model::question::{Answer, Question};
use nv_policy::state::is_host;

use crate::answer::{Empty, List, One};
use crate::ask::strange;
use crate::call::Call;
use crate::dto::session::{Meter, Session, SessionSummary};
use crate::error::{ApiError, Code};
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Debug, RtPolicies};
    vec![
        Route::get("/v1/session", RtPolicies, "List open connections of an enforcer or a workload", list),
        Route::delete("/v1/session", Debug, "Have connections judged anew", clear),
        Route::get("/v1/meter", Debug, "List the meters of an enforcer or a workload", meters),
        Route::get("/v1/session/summary", Debug, "Count the open connections of an enforcer", summary),
    ]
}

/// Whose sessions: `f_workload`, or `f_enforcer` for all of its node.
pub(crate) fn whose(call: &mut Call, operation: Operation) -> Result<(NodeId, Option<WorkloadId>), ApiError> {
    let view = call.app.controller.view();
    let enforcer = call.query.take_filter("enforcer");
    if let Some(raw) = call.query.take_filter("workload") {
        let found = raw.parse::<WorkloadId>().ok().and_then(|id| view.workload(&id).cloned());
        let workload =
            found.filter(|one| !is_host(one)).ok_or_else(|| ApiError::not_found("workload", &raw))?;
        match &workload.domain {
            Some(domain) => call.need(operation, Scope::Domains(&[domain.as_str()]))?,
            None => call.need(operation, Scope::Cluster)?,
        }
        return Ok((workload.node.clone(), Some(workload.id.clone())));
    }
    let raw = enforcer.ok_or_else(|| {
        ApiError::new(Code::MoreCriteria, "name an enforcer or a workload: f_enforcer or f_workload")
    })?;
    // A node has connections of every namespace.
    call.need(operation, Scope::Cluster)?;
    let found = view.enforcers.get(raw.as_str()).ok_or_else(|| ApiError::not_found("enforcer", &raw))?;
    Ok((found.node.clone(), None))
}

async fn list(mut call: Call) -> Result<List<Session>, ApiError> {
    let (node, workload) = whose(&mut call, Operation::Read)?;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let question =
        Question::Sessions { workload, start: number(call.query.start), limit: number(call.query.limit) };
    match call.ask(&node, question).await? {
        Answer::Sessions { sessions, .. } => {
            let sessions: Vec<Session> = sessions.into_iter().map(Session::from).collect();
            let query = &call.query;
            let passing: Vec<Session> = sessions.into_iter().filter(|one| query.passes(one)).collect();
            Ok(List::new(passing.into_iter()))
        }
        _ => Err(strange()),
    }
}

async fn clear(mut call: Call) -> Result<Empty, ApiError> {
    let (node, workload) = whose(&mut call, Operation::Write)?;
    let id = match call.query.take_filter("id") {
        Some(raw) => {
            Some(raw.parse().map_err(|_error| ApiError::format(format!("{raw} is no session's number")))?)
        }
        None => None,
    };
    match call.ask(&node, Question::ClearSessions { workload, id }).await? {
        Answer::Cleared { .. } => Ok(Empty),
        _ => Err(strange()),
    }
}

async fn summary(mut call: Call) -> Result<One<SessionSummary>, ApiError> {
    let (node, workload) = whose(&mut call, Operation::Read)?;
    if workload.is_some() {
        return Err(ApiError::new(
            Code::MoreCriteria,
            "connections are counted by node: name an enforcer, f_enforcer",
        ));
    }
    let Answer::Counters(counters) = call.ask(&node, Question::Counters).await? else {
        return Err(strange());
    };
    let count = |protocol: &str| {
        let name = format!("sessions.{protocol}");
        counters.get(&name).map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX))
    };
    let (tcp, udp, icmp, other) = (count("tcp"), count("udp"), count("icmp"), count("other"));
    Ok(One(SessionSummary {
        cur_sessions: tcp.saturating_add(udp).saturating_add(icmp).saturating_add(other),
        cur_tcp_sessions: tcp,
        cur_udp_sessions: udp,
        cur_icmp_sessions: icmp,
        cur_ip_sessions: other,
    }))
}

async fn meters(mut call: Call) -> Result<List<Meter>, ApiError> {
    let (node, workload) = whose(&mut call, Operation::Read)?;
    match call.ask(&node, Question::Meters { workload }).await? {
        Answer::Meters(meters) => {
            let meters: Vec<Meter> = meters.into_iter().map(Meter::from).collect();
            Ok(List::new(call.query.inventory(meters, Clone::clone).into_iter()))
        }
        _ => Err(strange()),
    }
}
