//! The logs.

use std::collections::BTreeMap;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation, Permissions};
use nv_model::name::WorkloadId;
use nv_model::record::{Audit, Event, Incident, Record, Threat, Topic, Violation};
use serde::Serialize;

use crate::accounts::store_failed;
use crate::answer::{Json, List, One};
use crate::call::Call;
use crate::dto::log::{SecurityLog, ViolationWorkload};
use crate::dto::workload::{WorkloadBrief, WorkloadHead};
use crate::error::{ApiError, Code};
use crate::query::Query;
use crate::route::Route;

/// Most records that one answer holds, and that a sort or count looks at: what the contract's ring holds.
const MOST: usize = 4_096;
/// Records that are read at one time.
const PAGE: usize = 512;
/// Most records that are read for one answer, however few pass its filters.
const MOST_READ: usize = 200_000;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{AuditEvents, Events, SecurityEvents as Sec};
    vec![
        Route::get("/v1/log/event", Events, "List events", events),
        Route::get("/v1/log/activity", Events, "List comings and goings of containers", activities),
        Route::get("/v1/log/audit", AuditEvents, "List audits", audits),
        Route::get("/v1/log/threat", Sec, "List threats", threats),
        Route::get("/v1/log/threat/:id", Sec, "Show a threat with its packet", threat),
        Route::get("/v1/log/violation", Sec, "List violations", violations),
        Route::get("/v1/log/violation/workload", Sec, "Count violations by workload", by_workload),
        Route::get("/v1/log/incident", Sec, "List incidents", incidents),
        Route::get("/v1/log/security", Sec, "List threats, incidents and violations", security),
    ]
}

fn domains<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| !name.is_empty()).collect()
}

/// Whether the caller may see a record: by the rights of its log, in the namespaces that it names.
pub(crate) fn visible(call: &Call, record: &Record) -> bool {
    let may = |required, scope: Scope<'_>| call.holds(required, Operation::Read, scope);
    let one = |required, domain: &str| {
        if domain.is_empty() {
            may(required, Scope::Cluster)
        } else {
            may(required, Scope::Domains(&[domain]))
        }
    };
    match record {
        Record::Threat(threat) => may(
            Permissions::SECURITY_EVENTS,
            Scope::Sides(
                &domains(&[&threat.client_workload_domain]),
                &domains(&[&threat.server_workload_domain]),
            ),
        ),
        Record::Violation(violation) => may(
            Permissions::SECURITY_EVENTS,
            Scope::Sides(&domains(&[&violation.client_domain]), &domains(&[&violation.server_domain])),
        ),
        Record::Incident(incident) => one(Permissions::SECURITY_EVENTS, &incident.workload_domain),
        Record::Event(event) | Record::Activity(event) => one(Permissions::EVENTS, &event.workload_domain),
        Record::Audit(audit) => one(Permissions::AUDIT_EVENTS, &audit.workload_domain),
    }
}

/// Records of a log, the newest first, as the query asks for them. `take` reads a record as the log's own type.
async fn read<T: Serialize>(
    call: &Call,
    query: &Query,
    topic: Topic,
    take: impl Fn(Record) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let mut query = query.clone();
    let since = query.take_filter("since").and_then(|value| value.parse::<i64>().ok());
    let sorted = !query.sorts.is_empty();
    let most = if query.limit == 0 { MOST } else { query.limit.min(MOST) };
    let mut skip = query.start;
    let mut before = None;
    let mut found = Vec::new();
    let mut looked_at = 0_usize;
    'log: while looked_at < MOST_READ {
        let page = call.app.controller.events().read(topic, before, PAGE);
        let page = page.await.map_err(|error| store_failed(&error))?;
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        looked_at = looked_at.saturating_add(page.len());
        for (_, record) in page {
            if since.is_some_and(|since| record.common().reported_timestamp < since) {
                break 'log;
            }
            if !visible(call, &record) {
                continue;
            }
            let Some(item) = take(record) else { continue };
            if !query.passes(&item) {
                continue;
            }
            // Sorted lists are cut after the sort, others as they come.
            if !sorted && skip > 0 {
                skip = skip.saturating_sub(1);
                continue;
            }
            found.push(item);
            if found.len() >= if sorted { MOST } else { most } {
                break 'log;
            }
        }
    }
    if sorted {
        query.filters.clear();
        query.limit = most;
        found = query.log(found);
    }
    Ok(found)
}

fn as_event(record: Record) -> Option<Event> {
    match record {
        Record::Event(event) | Record::Activity(event) => Some(*event),
        _ => None,
    }
}
fn as_audit(record: Record) -> Option<Audit> {
    if let Record::Audit(audit) = record { Some(*audit) } else { None }
}
fn as_incident(record: Record) -> Option<Incident> {
    if let Record::Incident(incident) = record { Some(*incident) } else { None }
}
fn as_violation(record: Record) -> Option<Violation> {
    if let Record::Violation(violation) = record { Some(*violation) } else { None }
}
/// Packets are shown one at a time.
fn as_threat(record: Record) -> Option<Threat> {
    match record {
        Record::Threat(mut threat) => {
            threat.packet.clear();
            Some(*threat)
        }
        _ => None,
    }
}

async fn events(call: Call) -> Result<List<Event>, ApiError> {
    let found = read(&call, &call.query, Topic::Event, as_event).await?;
    Ok(List::new(found.into_iter()))
}
async fn activities(call: Call) -> Result<List<Event>, ApiError> {
    let found = read(&call, &call.query, Topic::Activity, as_event).await?;
    Ok(List::new(found.into_iter()))
}
async fn audits(call: Call) -> Result<List<Audit>, ApiError> {
    let found = read(&call, &call.query, Topic::Audit, as_audit).await?;
    Ok(List::new(found.into_iter()))
}
async fn threats(call: Call) -> Result<List<Threat>, ApiError> {
    let found = read(&call, &call.query, Topic::Threat, as_threat).await?;
    Ok(List::new(found.into_iter()))
}
async fn violations(call: Call) -> Result<List<Violation>, ApiError> {
    let found = read(&call, &call.query, Topic::Violation, as_violation).await?;
    Ok(List::new(found.into_iter()))
}
async fn incidents(call: Call) -> Result<List<Incident>, ApiError> {
    let found = read(&call, &call.query, Topic::Incident, as_incident).await?;
    Ok(List::new(found.into_iter()))
}

async fn threat(call: Call) -> Result<One<Threat>, ApiError> {
    let id = call.parameter("id");
    let query = Query { limit: 1, ..Query::default() };
    let take = |record| match record {
        Record::Threat(threat) if threat.id == id => Some(*threat),
        _ => None,
    };
    let found = read(&call, &query, Topic::Threat, take).await?;
    found.into_iter().next().map(One).ok_or_else(|| ApiError::not_found("threat", id))
}

async fn security(call: Call) -> Result<Json<SecurityLog>, ApiError> {
    Ok(Json(SecurityLog {
        threats: read(&call, &call.query, Topic::Threat, as_threat).await?,
        incidents: read(&call, &call.query, Topic::Incident, as_incident).await?,
        violations: read(&call, &call.query, Topic::Violation, as_violation).await?,
    }))
}

async fn by_workload(call: Call) -> Result<List<ViolationWorkload>, ApiError> {
    let [client, server] =
        ["client", "server"].map(|side| call.query.sorts.iter().find(|(key, _)| key == side).cloned());
    let (by_client, descending) = match (client, server) {
        (Some((_, descending)), None) => (true, descending),
        (None, Some((_, descending))) => (false, descending),
        _ => return Err(ApiError::new(Code::MoreCriteria, "exactly one of s_client and s_server is needed")),
    };
    let page = Query { start: call.query.start, limit: call.query.limit, ..Query::default() };
    let view = call.app.controller.view();
    let found = read(&call, &Query::default(), Topic::Violation, as_violation).await?;
    let mut counts: BTreeMap<String, (Violation, i64)> = BTreeMap::new();
    for violation in found {
        let id = if by_client { violation.client_id.clone() } else { violation.server_id.clone() };
        let entry = counts.entry(id).or_insert((violation, 0));
        entry.1 = entry.1.saturating_add(1);
    }
    let mut counted: Vec<ViolationWorkload> = counts
        .into_iter()
        .map(|(id, (violation, count))| {
            let known = id.parse::<WorkloadId>().ok().and_then(|id| view.workload(&id).cloned());
            let workload = match known {
                Some(workload) => WorkloadBrief::of(&view, &workload, &[]),
                // An end that is no workload, or one that is gone: what the record says of it.
                None => {
                    let (name, domain, service_group) = if by_client {
                        (violation.client_name, violation.client_domain, violation.client_service)
                    } else {
                        (violation.server_name, violation.server_domain, violation.server_service)
                    };
                    let head = WorkloadHead {
                        id,
                        display_name: name,
                        domain,
                        service_group,
                        ..WorkloadHead::default()
                    };
                    WorkloadBrief { head, children: Vec::new() }
                }
            };
            ViolationWorkload { workload, count }
        })
        .collect();
    counted.sort_by_key(|entry| if descending { entry.count.saturating_neg() } else { entry.count });
    Ok(List::new(page.log(counted).into_iter()))
}
