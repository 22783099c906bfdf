//! Scans of what runs: what is scanned by itself, how far scans are, reports of containers, nodes and images.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use nv_identity::access::Scope;
use nv_identity::permission::Category::{NvResource, RtScan};
use nv_identity::permission::Operation;
use nv_model::name::NodeId;
use nv_model::scan::{ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject};
use nv_model::workload::Workload;
use nv_policy::state::{is_host, is_live};
use nv_role_controller::View;
use nv_role_controller::scan::AutoScan;

use crate::answer::{Empty, List, One};
use crate::call::Call;
use crate::dto::scan::{
    ScanConfig, ScanConfigConfig, ScanImageSummary, ScanPlatformSummary, ScanReport, ScanStatus, Scanner,
};
use crate::dto::{Config, ScanBrief};
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::scanned::{Place, settings_error, shown};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/scan/config", RtScan, "Show what is scanned when it starts", config),
        Route::patch("/v1/scan/config", RtScan, "Change what is scanned when it starts", set_config),
        Route::get("/v1/scan/status", RtScan, "Show how far the scans of what runs are", status),
        Route::get("/v1/scan/scanner", NvResource, "List scanners", scanners),
        Route::get("/v1/scan/workload/:id", RtScan, "Show what is vulnerable in a container", workload),
        Route::plain(Method::POST, "/v1/scan/workload/:id", RtScan, "Scan a container", scan_workload),
        Route::get("/v1/scan/host/:id", RtScan, "Show what is vulnerable on a host", host),
        Route::plain(Method::POST, "/v1/scan/host/:id", RtScan, "Scan a host", scan_host),
        Route::get("/v1/scan/image", RtScan, "List images that containers run of", images),
        Route::get("/v1/scan/image/:id", RtScan, "Show what is vulnerable in such an image", image),
        Route::get("/v1/scan/platform", RtScan, "List platforms", platforms),
    ]
}

async fn config(call: Call) -> Result<One<ScanConfig>, ApiError> {
    let AutoScan { workloads, hosts } = call.app.controller.scans().settings().auto;
    Ok(One(ScanConfig {
        auto_scan: workloads && hosts,
        enable_auto_scan_workload: workloads,
        enable_auto_scan_host: hosts,
    }))
}

async fn set_config(call: Call, body: Config<ScanConfigConfig>) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let given = body.content()?;
    let scans = call.app.controller.scans();
    let before = scans.settings().auto;
    let auto = AutoScan {
        workloads: given.enable_auto_scan_workload.or(given.auto_scan).unwrap_or(before.workloads),
        hosts: given.enable_auto_scan_host.or(given.auto_scan).unwrap_or(before.hosts),
    };
    scans.set_auto_scan(auto).await.map_err(|error| settings_error(&error))?;
    Ok(Empty)
}

/// Containers that run and that the caller sees.
pub(crate) fn running<'a>(call: &'a Call, view: &'a View) -> impl Iterator<Item = &'a Workload> {
    view.state.workloads.values().map(AsRef::as_ref).filter(|workload: &&Workload| {
        is_live(workload)
            && !is_host(workload)
            && !workload.is_sandbox
            && call.sees(workload.domain.as_ref().map(|domain| domain.as_str()))
    })
}

/// Nodes that the caller sees.
pub(crate) fn nodes<'a>(call: &Call, view: &'a View) -> impl Iterator<Item = &'a NodeId> {
    view.state.nodes.keys().filter(|_| call.sees_all()).collect::<Vec<_>>().into_iter()
}

async fn status(call: Call) -> Result<One<ScanStatus>, ApiError> {
    let view = call.app.controller.view();
    let database = call.app.controller.scans().database().unwrap_or_default();
    let mut shown = ScanStatus {
        cvedb_version: database.shown_version(),
        cvedb_create_time: database.shown_created(),
        ..ScanStatus::default()
    };
    let of_nodes = nodes(&call, &view).map(|node| view.scan(&ScanSubject::Node(node.clone())));
    for known in running(&call, &view).map(|workload| view.scan_of(workload)).chain(of_nodes) {
        match known.state {
            ScanState::Idle => {}
            ScanState::Scheduled => shown.scheduled += 1,
            ScanState::Scanning => shown.scanning += 1,
            ScanState::Finished => shown.scanned += 1,
            ScanState::Failed => shown.failed += 1,
        }
    }
    Ok(One(shown))
}

async fn scanners(call: Call) -> Result<List<Scanner>, ApiError> {
    let scanners = call.app.controller.scans().scanners();
    Ok(List::new(scanners.into_iter().map(Scanner::from)))
}

async fn workload(call: Call) -> Result<One<ScanReport>, ApiError> {
    let view = call.app.controller.view();
    let workload = super::workload::find(&call, &view, Operation::Read)?;
    let known = view.scan_of(&workload);
    shown(&call, &known, &Place::of(&workload)).await.map(One)
}

async fn scan_workload(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let workload = super::workload::find(&call, &view, Operation::Write)?;
    if !workload.running || workload.is_sandbox {
        return Err(ApiError::new(Code::NotAllowed, "only a container that runs is scanned"));
    }
    begin(&call, ScanSubject::Workload(workload.id.clone()), ScanSource::Workload(workload.id.clone()))
}

fn begin(call: &Call, subject: ScanSubject, source: ScanSource) -> Result<Empty, ApiError> {
    let request = ScanRequest { subject, source, priority: ScanPriority::OnDemand };
    let taken = call.app.controller.scans().enqueue(request);
    taken.map(|_id| Empty).map_err(|full| {
        ApiError::new(Code::NotAllowed, full.to_string()).with_status(StatusCode::TOO_MANY_REQUESTS)
    })
}

fn node(call: &Call, view: &View, operation: Operation) -> Result<NodeId, ApiError> {
    let raw = call.parameter("id");
    let found = raw.parse::<NodeId>().ok().filter(|id| view.state.nodes.contains_key(id));
    let node = found.ok_or_else(|| ApiError::not_found("host", raw))?;
    call.need(operation, Scope::Cluster)?;
    Ok(node)
}

async fn host(call: Call) -> Result<One<ScanReport>, ApiError> {
    let view = call.app.controller.view();
    let node = node(&call, &view, Operation::Read)?;
    shown(&call, &view.scan(&ScanSubject::Node(node)), &Place::default()).await.map(One)
}

async fn scan_host(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let node = node(&call, &view, Operation::Write)?;
    begin(&call, ScanSubject::Node(node.clone()), ScanSource::Node(node))
}

/// Images of running containers that the caller sees, by id, each with one of its containers.
fn running_images<'a>(call: &'a Call, view: &'a View) -> BTreeMap<&'a str, &'a Workload> {
    let with_image = running(call, view).filter(|workload| !workload.image_id.is_empty());
    with_image.map(|workload| (workload.image_id.as_str(), workload)).collect()
}

async fn images(call: Call) -> Result<List<ScanImageSummary>, ApiError> {
    let view = call.app.controller.view();
    let summaries: Vec<ScanImageSummary> = running_images(&call, &view)
        .into_iter()
        .map(|(id, workload)| ScanImageSummary {
            image: workload.image.clone(),
            image_id: id.to_owned(),
            brief: ScanBrief::of(&view.scan_of(workload)),
            ..ScanImageSummary::default()
        })
        .collect();
    let shown = call.query.inventory(summaries, Clone::clone);
    Ok(List::new(shown.into_iter()))
}

async fn image(call: Call) -> Result<One<ScanReport>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    let images = running_images(&call, &view);
    let workload = images.get(id).copied().ok_or_else(|| ApiError::not_found("image", id))?;
    let known = view.scan_of(workload);
    shown(&call, &known, &Place::of(workload)).await.map(One)
}

async fn platforms(call: Call) -> Result<List<ScanPlatformSummary>, ApiError> {
    let view = call.app.controller.view();
    let named = view.state.nodes.values().map(|node| node.platform.clone()).find(|name| !name.is_empty());
    let visible = named.filter(|_| call.sees_all());
    Ok(List::new(
        visible
            .into_iter()
            .map(|platform| ScanPlatformSummary { platform, ..ScanPlatformSummary::default() }),
    ))
}
