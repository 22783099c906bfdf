//! Vulnerabilities with what has them: all at once, and page by page.

use std::collections::BTreeMap;

use axum::http::Method;
use nv_identity::permission::Category::RtScan;

use crate::answer::Json;
use crate::assets::{gather, is_asked_for};
use crate::call::Call;
use crate::dto::asset::{
    IdName, VulAssetCount, VulAssetSummary, VulQueryFilter, VulQueryStats, VulnerabilityAsset,
    VulnerabilityAssetData, VulnerabilityAssetDataV2, VulnerabilityAssetV2,
};
use crate::error::ApiError;
use crate::route::Route;

/// Vulnerabilities of one page where none is given, and at most.
const PAGE: (usize, usize) = (100, 1000);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/scan/asset", RtScan, "Show all vulnerabilities and what has them", assets),
        Route::taking(Method::POST, "/v1/vulasset", RtScan, "Ask for vulnerabilities", ask)
            .reading()
            .silent(),
        Route::get("/v1/vulasset", RtScan, "Show a page of what was asked for", page),
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
    let of = |severity: &str| found.iter().filter(|one| one.severity == severity).count();
    let mut containers: Vec<&str> =
        found.iter().flat_map(|one| &one.workloads).map(|workload| workload.id.as_str()).collect();
    containers.sort_unstable();
    containers.dedup();
    let mut nodes: Vec<&str> = found.iter().flat_map(|one| &one.nodes).map(|node| node.id.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let count_distribution = VulAssetCount {
        critical: of("Critical"),
        high: of("High"),
        medium: of("Medium"),
        low: of("Low"),
        container: containers.len(),
        node: nodes.len(),
    };
    let total_matched_records = found.len();
    let query_id = call.app.queries.keep(call.app.clock.monotonic(), found);
    Ok(Json(VulQueryStats {
        total_records,
        total_matched_records,
        query_id,
        status: "ready".to_owned(),
        summary: VulAssetSummary { count_distribution },
    }))
}

async fn page(call: Call) -> Result<Json<VulnerabilityAssetDataV2>, ApiError> {
    let other = |key: &str| call.query.others.get(key).map(String::as_str).unwrap_or_default();
    let number = |key: &str, default: usize| other(key).parse().unwrap_or(default);
    let found = match other("token") {
        "" => gather(&call, &VulQueryFilter::default()).await?.into(),
        token => call.app.queries.get(token).ok_or_else(|| ApiError::not_found("query", token))?,
    };
    let quick = other("qf").to_ascii_lowercase();
    let matched =
        || found.iter().filter(|one| quick.is_empty() || one.name.to_ascii_lowercase().contains(&quick));
    let page = matched().skip(call.query.start).take(number("row", PAGE.0).clamp(1, PAGE.1));
    Ok(Json(VulnerabilityAssetDataV2 {
        vulnerabilities: page.cloned().collect(),
        qf_matched_records: matched().count(),
    }))
}

async fn assets(call: Call) -> Result<Json<VulnerabilityAssetData>, ApiError> {
    let mut shown = VulnerabilityAssetData::default();
    for mut found in gather(&call, &VulQueryFilter::default()).await? {
        let (workloads, nodes) = (std::mem::take(&mut found.workloads), std::mem::take(&mut found.nodes));
        let names = |map: &mut BTreeMap<String, Vec<IdName>>, name: IdName| {
            map.entry(name.id.clone()).or_insert_with(|| vec![name]);
        };
        for workload in &workloads {
            names(
                &mut shown.workloads,
                IdName {
                    id: workload.id.clone(),
                    display_name: workload.display_name.clone(),
                    policy_mode: workload.policy_mode.clone(),
                    domains: vec![workload.domain.clone()],
                },
            );
        }
        for node in &nodes {
            let (id, display_name) = (node.id.clone(), node.display_name.clone());
            names(&mut shown.nodes, IdName { id, display_name, ..IdName::default() });
        }
        shown.vulnerabilities.push(VulnerabilityAsset {
            vulnerability: found,
            workloads: workloads.into_iter().map(|workload| workload.id).collect(),
            nodes: nodes.into_iter().map(|node| node.id).collect(),
            ..VulnerabilityAsset::default()
        });
    }
    Ok(Json(shown))
}
