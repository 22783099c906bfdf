//! Scans of what runs: what is scanned by itself, how far scans are, reports of containers, nodes and images.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use nv_identity::access::Scope;
use nv_identity::permission::Category::{NvResource, RtScan};
use nv_identity::permission::Operation;
use nv_model::name::{NodeId, ScannerId};
use nv_model::scan::{
    LayerCacheFacts, LayerCacheRecord, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_model::workload::Workload;
use nv_policy::state::{is_host, is_live};
use nv_role_controller::View;
use nv_role_controller::scan::{AutoScan, CacheError, platform_of};
use nv_role_scanner::{SeenProgram, program_inventory};

use crate::answer::{Empty, Json, List, One};
use crate::call::Call;
use crate::dto::scan::{
    ScanCacheData, ScanCacheRecord, ScanCacheStat, ScanConfig, ScanConfigConfig, ScanImageSummary,
    ScanPlatformSummary, ScanReport, ScanStatus, Scanner,
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
        Route::get("/v1/scan/cache_stat/:id", RtScan, "Show how much a scanner keeps of layers", cache_stat),
        Route::get("/v1/scan/cache_data/:id", RtScan, "Show what a scanner keeps of layers", cache_data),
        Route::get("/v1/scan/workload/:id", RtScan, "Show what is vulnerable in a container", workload),
        Route::plain(Method::POST, "/v1/scan/workload/:id", RtScan, "Scan a container", scan_workload),
        Route::get("/v1/scan/host/:id", RtScan, "Show what is vulnerable on a host", host),
        Route::plain(Method::POST, "/v1/scan/host/:id", RtScan, "Scan a host", scan_host),
        Route::get("/v1/scan/image", RtScan, "List images that containers run of", images),
        Route::get("/v1/scan/image/:id", RtScan, "Show what is vulnerable in such an image", image),
        Route::get("/v1/scan/platform", RtScan, "List platforms", platforms),
        Route::get("/v1/scan/platform/platform", RtScan, "Show what is vulnerable in the platform", platform),
        Route::plain(Method::POST, "/v1/scan/platform/platform", RtScan, "Scan the platform", scan_platform),
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
    let of_platform = call.sees_all().then(|| view.scan(&ScanSubject::Platform));
    let all = running(&call, &view).map(|workload| view.scan_of(workload)).chain(of_nodes).chain(of_platform);
    for known in all {
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

/// What the scanner of the path keeps of layers.
async fn cache(call: &Call, records: bool) -> Result<LayerCacheFacts, ApiError> {
    call.need(Operation::Read, Scope::Cluster)?;
    let raw = call.parameter("id");
    let id = raw.parse::<ScannerId>().map_err(|_no_id| ApiError::not_found("scanner", raw))?;
    call.app.controller.scans().layer_cache(&id, records).await.map_err(|error| match error {
        CacheError::Unknown { .. } => ApiError::not_found("scanner", raw),
        other => ApiError::new(Code::ReadFailed, other.to_string()),
    })
}

async fn cache_stat(call: Call) -> Result<Json<ScanCacheStat>, ApiError> {
    let facts = cache(&call, false).await?;
    Ok(Json(ScanCacheStat {
        record_count: facts.count,
        record_total_size: facts.bytes,
        cache_misses: facts.misses,
        cache_hits: facts.hits,
    }))
}

async fn cache_data(call: Call) -> Result<Json<ScanCacheData>, ApiError> {
    let facts = cache(&call, true).await?;
    let record = |record: LayerCacheRecord| ScanCacheRecord {
        layer_id: record.layer,
        size: record.bytes,
        reference_count: record.references,
        last_referred: record.last_used.rfc3339(),
    };
    Ok(Json(ScanCacheData {
        cache_records: facts.records.into_iter().map(record).collect(),
        record_total_size: facts.bytes,
        cache_misses: facts.misses,
        cache_hits: facts.hits,
    }))
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
            brief: ScanBrief::of(&view, &view.scan_of(workload), &Place::of(workload)),
            ..ScanImageSummary::default()
        })
        .collect();
    let shown = call.query.by_severity("image").inventory(summaries, Clone::clone);
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
    let visible = platform_of(&view).filter(|_| call.sees_all());
    let shown: Vec<ScanPlatformSummary> = visible
        .into_iter()
        .map(|platform| ScanPlatformSummary {
            platform: platform.name,
            kube_version: platform.version,
            brief: ScanBrief::of(&view, &view.scan(&ScanSubject::Platform), &Place::default()),
            ..ScanPlatformSummary::default()
        })
        .collect();
    Ok(List::new(shown.into_iter()))
}

async fn platform(call: Call) -> Result<One<ScanReport>, ApiError> {
    call.need(Operation::Read, Scope::Cluster)?;
    let known = call.app.controller.view().scan(&ScanSubject::Platform);
    if known.report.is_none() {
        return Err(ApiError::not_found("report", "platform"));
    }
    shown(&call, &known, &Place::default()).await.map(One)
}

/// The components that are seen are judged by the versions in their images' tags. Nothing of them is read.
async fn scan_platform(call: Call) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let platform =
        platform_of(&call.app.controller.view()).filter(|platform| !platform.components.is_empty());
    let Some(platform) = platform else {
        let why = "no container runs of an image of Kubernetes' own components, by whose version a platform is judged";
        return Err(ApiError::new(Code::ObjectNotFound, why));
    };
    let programs: Vec<SeenProgram<'_>> = platform
        .components
        .iter()
        .map(|found| SeenProgram {
            module: found.module,
            name: found.program,
            version: &found.version,
            place: &found.image,
        })
        .collect();
    let unkept = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the platform's components cannot be kept");
        ApiError::new(Code::WriteFailed, "the platform's components cannot be kept")
    };
    let document = program_inventory(&platform.name, &programs).map_err(|error| unkept(&error))?;
    let kept = call.app.controller.scans().put_inventory(document).await;
    let inventory = kept.map_err(|error| unkept(&error))?;
    begin(&call, ScanSubject::Platform, ScanSource::Inventory(inventory))
}
