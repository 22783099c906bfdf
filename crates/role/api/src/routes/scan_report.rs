//! Reports of many containers or nodes at once, finding by finding, a page at a time.

use nv_identity::permission::Category::RtScan;
use nv_model::scan::ScanSubject;
use nv_model::scan_report::Vulnerability;
use nv_role_controller::scan::ScanStatus;

use super::scan::{nodes, running};
use crate::answer::Json;
use crate::call::Call;
use crate::dto::scan_report::{
    AssetScanData, AssetScanReportData, AssetsScanReportFilter, AssetsScanReportQuery, ScanReportCursor,
    VulScoreFilter,
};
use crate::dto::workload::WorkloadHead;
use crate::error::ApiError;
use crate::route::Route;
use crate::scanned::{Place, apply, read};

/// Findings of a page where none is given, and at most.
const PAGE: (usize, usize) = (3_000, 10_000);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post(
            "/v1/scan/workloads/scan_report",
            RtScan,
            "Show findings of containers, page by page",
            workloads,
        )
        .reading()
        .silent(),
        Route::post("/v1/scan/hosts/scan_report", RtScan, "Show findings of hosts, page by page", hosts)
            .reading()
            .silent(),
    ]
}

/// Something with a report.
struct Asset {
    at: ScanReportCursor,
    data: AssetScanData,
    known: ScanStatus,
    place: Place,
}

impl AssetsScanReportFilter {
    fn takes(&self, value: &str) -> Result<bool, ApiError> {
        let any = || self.value.iter().any(|wanted| wanted == value);
        let first = || self.value.first().is_some_and(|wanted| wanted == value);
        match self.op.as_str() {
            "eq" => Ok(first()),
            "neq" => Ok(!first()),
            "in" => Ok(any()),
            "notin" => Ok(!any()),
            other => Err(ApiError::format(format!("op {other} is none of eq, neq, in, notin"))),
        }
    }
}

impl VulScoreFilter {
    fn checked(&self) -> Result<(), ApiError> {
        if !["v2", "v3"].contains(&self.score_version.as_str()) {
            return Err(ApiError::format("score_version is none of v2 and v3"));
        }
        let ordered =
            0.0 <= self.score_bottom && self.score_bottom <= self.score_top && self.score_top <= 10.0;
        if ordered { Ok(()) } else { Err(ApiError::format("scores are from 0 to 10, the lowest first")) }
    }
    fn takes(&self, found: &Vulnerability) -> bool {
        let score = if self.score_version == "v2" { found.score } else { found.score_v3 };
        (self.score_bottom..=self.score_top).contains(&score)
    }
}

/// Whether all filters take something whose fields these are. Filters on other fields filter nothing.
fn is_wanted(query: &AssetsScanReportQuery, fields: &[(&str, &str)]) -> Result<bool, ApiError> {
    for filter in query.filters.iter().filter(|filter| !filter.value.is_empty()) {
        let field = fields.iter().find(|(name, _)| *name == filter.name);
        if let Some((_, value)) = field
            && !filter.takes(value)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn workloads(call: Call, query: AssetsScanReportQuery) -> Result<Json<AssetScanReportData>, ApiError> {
    let view = call.app.controller.view();
    let mut assets = Vec::new();
    for workload in running(&call, &view) {
        let head = WorkloadHead::of(&view, workload);
        if !is_wanted(&query, &[("domain", &head.domain), ("host_name", &head.host_name)])? {
            continue;
        }
        assets.push(Asset {
            at: ScanReportCursor {
                name: head.display_name.clone(),
                domain: head.domain.clone(),
                host_name: head.host_name.clone(),
                ..ScanReportCursor::default()
            },
            data: AssetScanData {
                host_name: head.host_name,
                workload_name: head.display_name,
                workload_domain: head.domain,
                workload_image: head.image,
                workload_image_id: head.image_id,
                workload_image_digest: head.image_digest,
                workload_image_repo_digests: head.image_repo_digests,
                found: Vulnerability::default(),
            },
            known: view.scan_of(workload),
            place: Place::of(workload),
        });
    }
    page(&call, &query, assets).await
}

async fn hosts(call: Call, query: AssetsScanReportQuery) -> Result<Json<AssetScanReportData>, ApiError> {
    let view = call.app.controller.view();
    let mut assets = Vec::new();
    for id in nodes(&call, &view) {
        let name = view.state.nodes.get(id).map(|node| node.name.clone()).unwrap_or_default();
        if !is_wanted(&query, &[("name", &name)])? {
            continue;
        }
        assets.push(Asset {
            at: ScanReportCursor { name: name.clone(), ..ScanReportCursor::default() },
            data: AssetScanData { host_name: name, ..AssetScanData::default() },
            known: view.scan(&ScanSubject::Node(id.clone())),
            place: Place::default(),
        });
    }
    page(&call, &query, assets).await
}

/// The findings behind the cursor, in order.
async fn page(
    call: &Call,
    query: &AssetsScanReportQuery,
    mut assets: Vec<Asset>,
) -> Result<Json<AssetScanReportData>, ApiError> {
    if let Some(scores) = &query.vul_score_filter {
        scores.checked()?;
    }
    let severity = query.severity_filter.as_deref().unwrap_or_default();
    let severity =
        ["critical", "high", "medium", "low"].into_iter().find(|known| severity.eq_ignore_ascii_case(known));
    let most = if query.max_cve_records == 0 { PAGE.0 } else { query.max_cve_records.min(PAGE.1) };
    let settings = call.app.controller.scans().settings();
    let now = call.app.clock.now().seconds();
    assets.sort_by(|one, other| one.at.thing().cmp(&other.at.thing()));
    let mut shown = AssetScanReportData::default();
    // Containers of one pod have one name: their findings are in one order.
    for alike in assets.chunk_by(|one, other| one.at.thing() == other.at.thing()) {
        let Some(first) = alike.first().filter(|first| first.at.thing() >= query.cursor.thing()) else {
            continue;
        };
        let mut found = Vec::new();
        for asset in alike {
            let Some(kept) = &asset.known.report else { continue };
            let Some(mut report) = read(call, kept.report).await? else { continue };
            apply(&settings, &mut report.vulnerabilities, &asset.place, now, query.show_accepted);
            found.extend(
                report
                    .vulnerabilities
                    .into_iter()
                    .filter(|found| {
                        severity.is_none_or(|wanted| found.severity.eq_ignore_ascii_case(wanted))
                            && query.vul_score_filter.as_ref().is_none_or(|scores| scores.takes(found))
                    })
                    .map(|found| AssetScanData { found, ..asset.data.clone() }),
            );
        }
        let key = |data: &AssetScanData| (data.found.name.clone(), data.found.package_name.clone());
        found.sort_by_cached_key(key);
        for same in found.chunk_by(|one, other| key(one) == key(other)) {
            let Some((cve_name, cve_package)) = same.first().map(key) else { continue };
            let at = ScanReportCursor { cve_name, cve_package, ..first.at.clone() };
            if at <= query.cursor {
                continue;
            }
            if shown.scan_data.len() >= most {
                return Ok(Json(shown));
            }
            shown.cursor = at;
            shown.scan_data.extend_from_slice(same);
        }
    }
    // Nothing is behind this page.
    shown.cursor = ScanReportCursor::default();
    Ok(Json(shown))
}
