//! Vulnerabilities with what has them: all at once, and page by page.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use nv_identity::permission::Category::RtScan;

use nv_model::scan::ScanSubject;
use nv_role_controller::scan::Tally;

use super::registry_image::seen_images;
use super::scan::nodes;
use crate::answer::Json;
use crate::asset_view::{asset_view, image_view};
use crate::assets::{gather, is_asked_for};
use crate::call::Call;
use crate::dto::asset::{
    AssetCveCount, HostAsset, IdName, VulAssetCount, VulAssetSummary, VulQueryFilter, VulQueryStats,
    VulnerabilityAsset, VulnerabilityAssetData, VulnerabilityAssetDataV2, VulnerabilityAssetV2,
};
use crate::dto::asset_view::{
    AssetQuery, AssetQueryStats, AssetSessionSummary, AssetView, ImageAssetPage, ImageAssetViewV2,
};
use crate::error::ApiError;
use crate::route::Route;

/// How many things with most vulnerabilities are told.
const TOP: usize = 5;
/// Vulnerabilities of one page where none is given, and at most.
const PAGE: (usize, usize) = (100, 1000);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/scan/asset", RtScan, "Show all vulnerabilities and what has them", assets),
        Route::taking(Method::POST, "/v1/vulasset", RtScan, "Ask for vulnerabilities", ask)
            .reading()
            .silent(),
        Route::get("/v1/vulasset", RtScan, "Show a page of what was asked for", page),
        Route::plain(
            Method::POST,
            "/v1/assetvul",
            RtScan,
            "Show what has the vulnerabilities asked for",
            view,
        )
        .reading()
        .silent(),
        Route::post("/v1/scan/asset/images", RtScan, "Ask for images of registries", ask_images)
            .reading()
            .silent(),
        Route::get("/v1/scan/asset/images", RtScan, "Show a page of images that were asked for", images),
    ]
}

fn rank(severity: &str) -> u8 {
    match severity {
        "Critical" => 0,
        "High" => 1,
        "Medium" => 2,
        "Low" => 3,
        _ => 4,
    }
}

fn sort(found: &mut [VulnerabilityAssetV2], filter: &VulQueryFilter) {
    match filter.orderby_column.as_str() {
        "name" => found.sort_by(|one, other| one.name.cmp(&other.name)),
        "score" => found.sort_by(|one, other| one.score.total_cmp(&other.score)),
        "score_v3" => found.sort_by(|one, other| one.score_v3.total_cmp(&other.score_v3)),
        "published_timestamp" => found.sort_by_key(|one| one.published_timestamp),
        // The most severe first, then the highest score.
        _ => found.sort_by(|one, other| {
            (rank(&one.severity), other.score_v3)
                .partial_cmp(&(rank(&other.severity), one.score_v3))
                .unwrap_or(std::cmp::Ordering::Equal)
        }),
    }
    if filter.orderby == "desc" && !filter.orderby_column.is_empty() {
        found.reverse();
    }
}

async fn ask(call: Call, filter: VulQueryFilter) -> Result<Json<VulQueryStats>, ApiError> {
    let mut found = gather(&call, &filter).await?;
    let total_records = found.len();
    found.retain(|one| is_asked_for(&filter, one));
    sort(&mut found, &filter);
    let stats = stats(&call, total_records, &found);
    let query_id = call.app.queries.keep(call.app.clock.monotonic(), found);
    Ok(Json(VulQueryStats { query_id, ..stats }))
}

/// How many different things there are.
fn distinct<'a>(ids: impl Iterator<Item = &'a str>) -> usize {
    ids.collect::<BTreeSet<&str>>().len()
}

fn stats(call: &Call, total_records: usize, found: &[VulnerabilityAssetV2]) -> VulQueryStats {
    let of = |severity: &str| found.iter().filter(|one| one.severity == severity).count();
    let hosts = |of: fn(&VulnerabilityAssetV2) -> &Vec<HostAsset>| {
        distinct(found.iter().flat_map(of).map(|one| one.id.as_str()))
    };
    let count_distribution = VulAssetCount {
        critical: of("Critical"),
        high: of("High"),
        medium: of("Medium"),
        low: of("Low"),
        container: distinct(found.iter().flat_map(|one| &one.workloads).map(|one| one.id.as_str())),
        node: hosts(|one| &one.nodes),
        image: hosts(|one| &one.images),
        platform: hosts(|one| &one.platforms),
    };
    VulQueryStats {
        total_records,
        total_matched_records: found.len(),
        query_id: String::new(),
        status: "ready".to_owned(),
        summary: VulAssetSummary {
            count_distribution,
            top_images: top(image_counts(call)),
            top_nodes: top(node_counts(call)),
        },
    }
}

/// The five with most vulnerabilities.
fn top(mut all: Vec<AssetCveCount>) -> Vec<AssetCveCount> {
    all.retain(|one| one.critical + one.high + one.medium + one.low > 0);
    all.sort_by_key(|one| std::cmp::Reverse((one.critical, one.high, one.medium, one.low)));
    all.truncate(TOP);
    all
}

fn count(id: String, display_name: String, tally: Tally) -> AssetCveCount {
    let Tally { critical, high, medium, low } = tally;
    AssetCveCount { id, display_name, critical, high, medium, low }
}

fn image_counts(call: &Call) -> Vec<AssetCveCount> {
    let view = call.app.controller.view();
    let counted = seen_images(call).filter_map(|image| {
        let kept = view.scan(&image.subject()).report?;
        let name = image.name();
        let tally = view.tally(&kept, &name, "");
        Some(count(image.listed.id, name, tally))
    });
    counted.collect()
}

fn node_counts(call: &Call) -> Vec<AssetCveCount> {
    let view = call.app.controller.view();
    let counted = nodes(call, &view).filter_map(|id| {
        let kept = view.scan(&ScanSubject::Node(id.clone())).report?;
        let name = view.state.nodes.get(id).map(|node| node.name.clone()).unwrap_or_default();
        Some(count(id.to_string(), name, view.tally(&kept, "", "")))
    });
    counted.collect()
}

async fn page(call: Call) -> Result<Json<VulnerabilityAssetDataV2>, ApiError> {
    let other = |key: &str| call.query.others.get(key).map(String::as_str).unwrap_or_default();
    let number = |key: &str, default: usize| other(key).parse().unwrap_or(default);
    let found = match other("token") {
        "" => gather(&call, &VulQueryFilter::default()).await?.into(),
        token => call.app.queries.get(token).ok_or_else(|| ApiError::not_found("query", token))?,
    };
    let quick = other("qf").to_ascii_lowercase();
    let since: i64 = other("lastmtime").parse().unwrap_or(0);
    let matched = || {
        found.iter().filter(|one| {
            (quick.is_empty() || one.name.to_ascii_lowercase().contains(&quick))
                && one.last_modified_timestamp >= since
        })
    };
    let page = matched().skip(call.query.start).take(number("row", PAGE.0).clamp(1, PAGE.1));
    Ok(Json(VulnerabilityAssetDataV2 {
        vulnerabilities: page.cloned().collect(),
        qf_matched_records: matched().count(),
    }))
}

/// The names of things that have a vulnerability, each once, and their ids.
fn named(shown: &mut BTreeMap<String, Vec<IdName>>, things: Vec<HostAsset>) -> Vec<String> {
    let mut ids = Vec::with_capacity(things.len());
    for HostAsset { id, display_name, policy_mode } in things {
        let name = IdName { id: id.clone(), display_name, policy_mode, domains: Vec::new() };
        let names = shown.entry(id.clone()).or_default();
        if !names.iter().any(|known| known.display_name == name.display_name) {
            names.push(name);
        }
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }
    ids
}

async fn assets(call: Call) -> Result<Json<VulnerabilityAssetData>, ApiError> {
    let mut shown = VulnerabilityAssetData::default();
    for mut found in gather(&call, &VulQueryFilter::default()).await? {
        let workloads = std::mem::take(&mut found.workloads);
        for workload in &workloads {
            shown.workloads.entry(workload.id.clone()).or_insert_with(|| {
                vec![IdName {
                    id: workload.id.clone(),
                    display_name: workload.display_name.clone(),
                    policy_mode: workload.policy_mode.clone(),
                    domains: vec![workload.domain.clone()],
                }]
            });
        }
        let nodes = named(&mut shown.nodes, std::mem::take(&mut found.nodes));
        let images = named(&mut shown.images, std::mem::take(&mut found.images));
        let platforms = named(&mut shown.platforms, std::mem::take(&mut found.platforms));
        shown.vulnerabilities.push(VulnerabilityAsset {
            vulnerability: found,
            workloads: workloads.into_iter().map(|workload| workload.id).collect(),
            nodes,
            images,
            platforms,
        });
    }
    Ok(Json(shown))
}

async fn view(call: Call) -> Result<Json<AssetView>, ApiError> {
    let other = |key: &str| call.query.others.get(key).map(String::as_str).unwrap_or_default();
    let token = other("token");
    let all = call.app.queries.get(token).ok_or_else(|| ApiError::not_found("query", token))?;
    let since: i64 = other("lastmtime").parse().unwrap_or(0);
    let found: Vec<VulnerabilityAssetV2> =
        all.iter().filter(|one| one.last_modified_timestamp >= since).cloned().collect();
    let mut shown = asset_view(&call, found);
    shown.summary =
        VulQueryStats { query_id: token.to_owned(), ..stats(&call, all.len(), &shown.vulnerabilities) };
    // What has them is told once, above.
    for one in &mut shown.vulnerabilities {
        one.workloads.clear();
        one.nodes.clear();
        one.images.clear();
        one.platforms.clear();
    }
    Ok(Json(shown))
}

fn column(image: &ImageAssetViewV2, name: &str) -> (u64, String) {
    match name {
        "critical" => (image.critical.into(), String::new()),
        "high" => (image.high.into(), String::new()),
        "medium" => (image.medium.into(), String::new()),
        "size" => (image.size, String::new()),
        "createdAt" | "created_at" => (0, image.created_at.clone()),
        "scannedAt" | "scanned_at" => (0, image.scanned_at.clone()),
        "regName" | "reg_name" => (0, image.reg_name.clone()),
        "baseOS" | "base_os" => (0, image.base_os.clone()),
        "tag" => (0, image.tag.clone()),
        _ => (0, format!("{}:{}", image.repository, image.tag)),
    }
}

/// Images of registries that have a report and that the caller sees.
fn all_images(call: &Call) -> Vec<ImageAssetViewV2> {
    let view = call.app.controller.view();
    seen_images(call).filter_map(|image| image_view(&view, &image)).collect()
}

async fn ask_images(call: Call, query: AssetQuery) -> Result<Json<AssetQueryStats>, ApiError> {
    if !["", "image"].contains(&query.kind.as_str()) {
        return Err(ApiError::format("type is not image"));
    }
    let mut found = all_images(&call);
    let quick = query.quick_filter.to_ascii_lowercase();
    found.retain(|image| holds(image, &quick));
    found.sort_by_cached_key(|image| column(image, &query.orderby_column));
    if query.orderby == "desc" {
        found.reverse();
    }
    let total_records = found.len();
    let summary = AssetSessionSummary { top_images: top(image_counts(&call)) };
    let query_id = call.app.image_queries.keep(call.app.clock.monotonic(), found);
    Ok(Json(AssetQueryStats { total_records, query_id, summary }))
}

fn holds(image: &ImageAssetViewV2, quick: &str) -> bool {
    quick.is_empty()
        || [&image.repository, &image.tag, &image.reg_name, &image.base_os]
            .iter()
            .any(|text| text.to_ascii_lowercase().contains(quick))
}

async fn images(call: Call) -> Result<Json<ImageAssetPage>, ApiError> {
    let other = |key: &str| call.query.others.get(key).map(String::as_str).unwrap_or_default();
    let found = match other("token") {
        "" => all_images(&call).into(),
        token => call.app.image_queries.get(token).ok_or_else(|| ApiError::not_found("query", token))?,
    };
    let quick = other("qf").to_ascii_lowercase();
    let mut matched: Vec<&ImageAssetViewV2> = found.iter().filter(|image| holds(image, &quick)).collect();
    if !other("orderbyColumn").is_empty() {
        matched.sort_by_cached_key(|image| column(image, other("orderbyColumn")));
        if other("orderby") == "desc" {
            matched.reverse();
        }
    }
    let row = other("row").parse().unwrap_or(PAGE.0).clamp(1, PAGE.1);
    Ok(Json(ImageAssetPage {
        kind: "image".to_owned(),
        qf_matched_records: matched.len(),
        data: matched.into_iter().skip(call.query.start).take(row).cloned().collect(),
    }))
}
