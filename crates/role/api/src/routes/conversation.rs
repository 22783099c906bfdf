//! Conversations.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::conversation::EndpointId;
use nv_model::name::GroupName;
use nv_policy::membership;
use nv_policy::state::{is_host, only_containers};
use nv_role_controller::View;

use crate::answer::{Either, Empty, Json, List, One};
use crate::call::Call;
use crate::dto::network::{
    Conversation, ConversationCompact, ConversationDetail, ConversationEndpoint, ConversationEntry,
    ConversationReport, ConversationReportEntry, ConversationsData, ConversationsVerboseData,
};
use crate::error::ApiError;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Debug, RtPolicies as P};
    vec![
        Route::get("/v1/conversation", P, "List conversations", list),
        Route::delete("/v1/conversation", Debug, "Forget all conversations", forget_all),
        Route::get("/v1/conversation/:from/:to", P, "Show a conversation", get),
        Route::delete("/v1/conversation/:from/:to", P, "Forget a conversation", forget),
        Route::get("/v1/conversation_endpoint", P, "List ends of conversations", endpoints),
        Route::delete(
            "/v1/conversation_endpoint/:id",
            Debug,
            "Forget the conversations of an end",
            forget_endpoint,
        ),
    ]
}

/// Namespace of an end; only workloads and learned services have one.
fn domain_of<'a>(view: &'a View, end: &EndpointId) -> Option<&'a str> {
    match end {
        EndpointId::Workload(id) => view.workload(id)?.domain.as_ref().map(|domain| domain.as_str()),
        EndpointId::IpService(group) => {
            view.state.groups.get(group)?.domain.as_ref().map(|domain| domain.as_str())
        }
        EndpointId::Host(_)
        | EndpointId::UnmanagedWorkload(_)
        | EndpointId::UnmanagedHost(_)
        | EndpointId::Address(_)
        | EndpointId::External => None,
    }
}

fn may(call: &Call, view: &View, operation: Operation, from: &EndpointId, to: &EndpointId) -> bool {
    let (from, to) = (domain_of(view, from), domain_of(view, to));
    call.may(operation, Scope::Sides(from.as_slice(), to.as_slice()))
}

/// Ends that a filter by group or namespace keeps; `None` for all.
fn wanted(call: &Call, view: &View) -> Result<Option<BTreeSet<EndpointId>>, ApiError> {
    let mut query = call.query.clone();
    let (group, domain) = (query.take_filter("group"), query.take_filter("domain"));
    let mut ends: Option<BTreeSet<EndpointId>> = None;
    if let Some(raw) = group {
        let group: GroupName = raw.parse().map_err(|_error| ApiError::not_found("group", &raw))?;
        let mut members: BTreeSet<EndpointId> =
            membership::members(&view.state, &group).into_iter().map(EndpointId::Workload).collect();
        match group.as_str() {
            "nodes" => members.extend(view.state.nodes.keys().cloned().map(EndpointId::Host)),
            "external" => drop(members.insert(EndpointId::External)),
            _ => members.extend([EndpointId::Address(group.clone()), EndpointId::IpService(group)]),
        }
        ends = Some(members);
    }
    if let Some(domain) = domain {
        let inside = view.state.workloads.values().chain(view.removed.values());
        let inside = inside.filter(|workload| workload.domain.as_ref().is_some_and(|d| d.as_str() == domain));
        let inside: BTreeSet<EndpointId> =
            inside.map(|workload| EndpointId::Workload(workload.id.clone())).collect();
        ends = Some(match ends {
            Some(ends) => ends.intersection(&inside).cloned().collect(),
            None => inside,
        });
    }
    Ok(ends)
}

async fn list(
    call: Call,
) -> Result<Either<Json<ConversationsData>, Json<ConversationsVerboseData>>, ApiError> {
    let view = call.app.controller.view();
    let wanted = wanted(&call, &view)?;
    let all = call.sees_all();
    let keep = |from: &EndpointId, to: &EndpointId| {
        wanted.as_ref().is_none_or(|ends| ends.contains(from) || ends.contains(to))
            && (all || may(&call, &view, Operation::Read, from, to))
    };
    let mut ends: BTreeSet<EndpointId> = BTreeSet::new();
    let mut conversations: Vec<(EndpointId, EndpointId, ConversationReport, Vec<ConversationReportEntry>)> =
        Vec::new();
    {
        let graph = call.app.controller.graph();
        for seen in graph.conversations(keep) {
            ends.extend([seen.from.clone(), seen.to.clone()]);
            let report = ConversationReport::from(&seen);
            conversations.push((
                seen.from.clone(),
                seen.to.clone(),
                report,
                ConversationReportEntry::all(&seen),
            ));
        }
    }
    // Running containers are shown though they have not talked to anyone yet.
    let quiet = view.state.workloads.values().filter(|workload| {
        workload.running
            && !workload.is_sandbox
            && !is_host(workload)
            && call.sees(workload.domain.as_ref().map(|domain| domain.as_str()))
    });
    ends.extend(
        quiet
            .map(|workload| EndpointId::Workload(workload.id.clone()))
            .filter(|end| wanted.as_ref().is_none_or(|ends| ends.contains(end))),
    );
    let pods = only_containers(&view.state);
    let endpoints = ends.iter().map(|end| ConversationEndpoint::of(&view, &pods, end)).collect();
    if call.query.switch("verbose") {
        let conversations = conversations
            .into_iter()
            .map(|(from, to, report, entries)| Conversation {
                from: ConversationEndpoint::of(&view, &pods, &from),
                to: ConversationEndpoint::of(&view, &pods, &to),
                report,
                entries,
            })
            .collect();
        return Ok(Either::That(Json(ConversationsVerboseData { endpoints, conversations })));
    }
    let conversations = conversations
        .into_iter()
        .map(|(from, to, report, entries)| ConversationCompact {
            from: from.to_string(),
            to: to.to_string(),
            report,
            entries,
        })
        .collect();
    Ok(Either::This(Json(ConversationsData { endpoints, conversations })))
}

/// Reads an end's id.
fn endpoint(view: &View, raw: &str) -> Option<EndpointId> {
    if raw == "external" {
        return Some(EndpointId::External);
    }
    if let Some(rest) = raw.strip_prefix("Host:") {
        return match rest.parse::<IpAddr>() {
            Ok(ip) => Some(EndpointId::UnmanagedHost(ip)),
            Err(_no_address) => rest.parse().ok().map(EndpointId::Host),
        };
    }
    if let Some(rest) = raw.strip_prefix("Workload:") {
        return rest.parse().ok().map(EndpointId::UnmanagedWorkload);
    }
    if let Ok(group) = raw.parse::<GroupName>()
        && view.state.groups.contains_key(&group)
    {
        let service = raw.starts_with("nv.ip.");
        return Some(if service { EndpointId::IpService(group) } else { EndpointId::Address(group) });
    }
    raw.parse().ok().map(EndpointId::Workload)
}

fn ends(call: &Call, view: &View, operation: Operation) -> Result<(EndpointId, EndpointId), ApiError> {
    let read = |name: &str| {
        let raw = call.parameter(name);
        endpoint(view, raw).ok_or_else(|| ApiError::not_found("endpoint", raw))
    };
    let (from, to) = (read("from")?, read("to")?);
    if may(call, view, operation, &from, &to) { Ok((from, to)) } else { Err(ApiError::denied()) }
}

async fn get(call: Call) -> Result<One<ConversationDetail>, ApiError> {
    let view = call.app.controller.view();
    let (from, to) = ends(&call, &view, Operation::Read)?;
    let graph = call.app.controller.graph();
    let seen = graph
        .conversation(&from, &to)
        .ok_or_else(|| ApiError::not_found("conversation", &format!("{from} to {to}")))?;
    let pods = only_containers(&view.state);
    Ok(One(ConversationDetail {
        from: ConversationEndpoint::of(&view, &pods, &from),
        to: ConversationEndpoint::of(&view, &pods, &to),
        report: ConversationReport::from(&seen),
        entries: ConversationEntry::all(&seen),
    }))
}

async fn forget(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let (from, to) = ends(&call, &view, Operation::Write)?;
    call.app.controller.edit_graph(|graph| graph.remove_pair(&from, &to));
    Ok(Empty)
}

async fn forget_all(call: Call) -> Result<Empty, ApiError> {
    call.app.controller.edit_graph(|graph| graph.clear());
    Ok(Empty)
}

async fn endpoints(call: Call) -> Result<List<ConversationEndpoint>, ApiError> {
    let view = call.app.controller.view();
    let ends: Vec<EndpointId> = {
        let graph = call.app.controller.graph();
        graph.endpoints().into_iter().filter(|end| call.sees(domain_of(&view, end))).cloned().collect()
    };
    let pods = only_containers(&view.state);
    let ends = call.query.inventory(ends, |end| ConversationEndpoint::of(&view, &pods, end));
    let ends: Vec<_> = ends.iter().map(|end| ConversationEndpoint::of(&view, &pods, end)).collect();
    Ok(List::new(ends.into_iter()))
}

async fn forget_endpoint(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let raw = call.parameter("id");
    let end = endpoint(&view, raw).ok_or_else(|| ApiError::not_found("endpoint", raw))?;
    call.app.controller.edit_graph(|graph| graph.remove_endpoint(&end));
    Ok(Empty)
}
