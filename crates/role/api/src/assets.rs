//! Vulnerabilities of all that runs and of images of registries, each once with what has it, out of the reports on the
//! disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nv_model::scan::{BlobId, ScanSubject};
use nv_model::scan_report::Vulnerability;
use nv_role_controller::scan::platform_of;

use crate::call::Call;
use crate::dto::asset::{HostAsset, VulQueryFilter, VulnPackageVersion, VulnerabilityAssetV2, WorkloadAsset};
use crate::dto::workload::WorkloadHead;
use crate::error::ApiError;
use crate::routes::registry_image::seen_images;
use crate::routes::scan::{nodes, running};
use crate::scanned::{Place, is_accepted, read};

/// Queries whose pages may be asked for at one time; the oldest is forgotten.
const MAX_QUERIES: usize = 32;
/// How long one may be asked for.
const LIFE: Duration = Duration::from_secs(600);
/// Most vulnerabilities that are gathered; beyond it, those of further things are only told of those.
const MAX_VULNERABILITIES: usize = 200_000;

/// Vulnerabilities by id.
pub(crate) type Found = Vec<VulnerabilityAssetV2>;

/// What a query found: the name by which its pages are asked for, when, and all of it.
type Query<T> = (String, Duration, Arc<[T]>);

/// Queries whose pages are asked for.
pub(crate) struct Queries<T>(Mutex<Vec<Query<T>>>);

impl<T> Default for Queries<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Queries<T> {
    /// Keeps what a query found, and gives the name by which its pages are asked for.
    pub(crate) fn keep(&self, now: Duration, found: Vec<T>) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, at, _)| now.saturating_sub(*at) < LIFE);
        if held.len() >= MAX_QUERIES {
            held.remove(0);
        }
        held.push((id.clone(), now, found.into()));
        id
    }

    /// What a query found.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<[T]>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|(known, ..)| known == id).map(|(.., found)| Arc::clone(found))
    }
}

/// Something with a report.
enum Thing {
    Workload(WorkloadAsset, String),
    Node(HostAsset),
    Image(HostAsset),
    Platform(HostAsset),
}

impl Thing {
    fn place(&self) -> Place {
        match self {
            Self::Workload(asset, _) => Place { image: asset.image.clone(), domain: asset.domain.clone() },
            Self::Image(asset) => Place { image: asset.display_name.clone(), domain: String::new() },
            Self::Node(_) | Self::Platform(_) => Place::default(),
        }
    }
}

fn is_like(wanted: &str, how: &str, name: &str) -> bool {
    wanted.is_empty() || if how == "equals" { name == wanted } else { name.contains(wanted) }
}

/// Whether a thing is one that the filter asks for.
fn is_wanted(filter: &VulQueryFilter, thing: &Thing) -> bool {
    let of_view = |view: &str| ["", "all", view].contains(&filter.view_type.as_str());
    let no_container = filter.selected_domains.is_empty()
        && filter.service_name.is_empty()
        && filter.container_name.is_empty();
    match thing {
        Thing::Workload(asset, host) => {
            of_view("containers")
                && (filter.selected_domains.is_empty() || filter.selected_domains.contains(&asset.domain))
                && is_like(&filter.service_name, &filter.match_type_service, &asset.service)
                && is_like(&filter.image_name, &filter.match_type_image, &asset.image)
                && is_like(&filter.container_name, &filter.match_type_container, &asset.display_name)
                && is_like(&filter.node_name, &filter.match_type_node, host)
        }
        Thing::Node(asset) => {
            of_view("infrastructure")
                && no_container
                && filter.image_name.is_empty()
                && is_like(&filter.node_name, &filter.match_type_node, &asset.display_name)
        }
        Thing::Image(asset) => {
            of_view("registry")
                && no_container
                && filter.node_name.is_empty()
                && is_like(&filter.image_name, &filter.match_type_image, &asset.display_name)
        }
        Thing::Platform(_) => {
            of_view("infrastructure")
                && no_container
                && filter.image_name.is_empty()
                && filter.node_name.is_empty()
        }
    }
}

/// Whether a vulnerability is one that the filter asks for.
pub(crate) fn is_asked_for(filter: &VulQueryFilter, found: &VulnerabilityAssetV2) -> bool {
    let fixed = found.packages.values().flatten().any(|version| !version.fixed_version.is_empty());
    let within = |range: &[f64], score: f64| match range {
        [low, high] => (*low..=*high).contains(&score),
        _ => true,
    };
    let severity = filter.severity_type.to_ascii_lowercase();
    (match filter.package_type.as_str() {
        "withFix" | "withFixAll" => fixed,
        "withoutFix" => !fixed,
        _ => true,
    }) && (!["critical", "high", "medium", "low"].contains(&severity.as_str())
        || found.severity.eq_ignore_ascii_case(&severity))
        && (match filter.score_type.as_str() {
            "v2" => within(&filter.score_v2, found.score),
            "v3" => within(&filter.score_v3, found.score_v3),
            _ => true,
        })
        && (match filter.published_type.as_str() {
            "before" => found.published_timestamp < filter.published_time,
            "after" => found.published_timestamp > filter.published_time,
            _ => true,
        })
        && found.last_modified_timestamp >= filter.last_modified_time
        && (filter.quick_filter.is_empty()
            || found.name.to_ascii_lowercase().contains(&filter.quick_filter.to_ascii_lowercase()))
}

fn begin(found: &Vulnerability) -> VulnerabilityAssetV2 {
    VulnerabilityAssetV2 {
        name: found.name.clone(),
        severity: found.severity.clone(),
        description: found.description.clone(),
        link: found.link.clone(),
        score: found.score,
        vectors: found.vectors.clone(),
        score_v3: found.score_v3,
        vectors_v3: found.vectors_v3.clone(),
        published_timestamp: found.published_timestamp,
        last_modified_timestamp: found.last_modified_timestamp,
        feed_rating: found.feed_rating.clone(),
        ..VulnerabilityAssetV2::default()
    }
}

fn add(all: &mut BTreeMap<String, VulnerabilityAssetV2>, found: &Vulnerability, thing: &Thing) {
    if all.len() >= MAX_VULNERABILITIES && !all.contains_key(&found.name) {
        return;
    }
    let asset = all.entry(found.name.clone()).or_insert_with(|| begin(found));
    let version = VulnPackageVersion {
        package_version: found.package_version.clone(),
        fixed_version: found.fixed_version.clone(),
    };
    let versions = asset.packages.entry(found.package_name.clone()).or_default();
    if !versions.contains(&version) {
        versions.push(version);
    }
    match thing {
        Thing::Workload(workload, _) if asset.workloads.last() != Some(workload) => {
            asset.workloads.push(workload.clone());
        }
        Thing::Node(node) if asset.nodes.last() != Some(node) => asset.nodes.push(node.clone()),
        Thing::Image(image) if asset.images.last() != Some(image) => asset.images.push(image.clone()),
        Thing::Platform(platform) if asset.platforms.is_empty() => asset.platforms.push(platform.clone()),
        Thing::Workload(..) | Thing::Node(_) | Thing::Image(_) | Thing::Platform(_) => {}
    }
}

/// All vulnerabilities of what the caller sees and the filter asks for, by id. What is accepted is left out. A report is
/// read once, however many containers it is about.
///
/// # Errors
/// Code 9 when the disk fails.
pub(crate) async fn gather(call: &Call, filter: &VulQueryFilter) -> Result<Found, ApiError> {
    let view = call.app.controller.view();
    let mut by_report: HashMap<BlobId, Vec<Thing>> = HashMap::new();
    for workload in running(call, &view) {
        let Some(kept) = view.scan_of(workload).report else { continue };
        let head = WorkloadHead::of(&view, workload);
        let asset = WorkloadAsset {
            id: head.id,
            domain: head.domain,
            display_name: head.display_name,
            policy_mode: head.policy_mode,
            service: head.service,
            image: head.image,
        };
        by_report.entry(kept.report).or_default().push(Thing::Workload(asset, head.host_name));
    }
    for id in nodes(call, &view) {
        let Some(kept) = view.scan(&ScanSubject::Node(id.clone())).report else { continue };
        let name = view.state.nodes.get(id).map(|node| node.name.clone()).unwrap_or_default();
        let asset = HostAsset { id: id.to_string(), display_name: name, policy_mode: String::new() };
        by_report.entry(kept.report).or_default().push(Thing::Node(asset));
    }
    for image in seen_images(call) {
        let Some(kept) = view.scan(&image.subject()).report else { continue };
        let asset =
            HostAsset { id: image.listed.id.clone(), display_name: image.name(), policy_mode: String::new() };
        by_report.entry(kept.report).or_default().push(Thing::Image(asset));
    }
    if let Some(platform) = platform_of(&view).filter(|_| call.sees_all())
        && let Some(kept) = view.scan(&ScanSubject::Platform).report
    {
        let asset =
            HostAsset { id: platform.name.clone(), display_name: platform.name, policy_mode: String::new() };
        by_report.entry(kept.report).or_default().push(Thing::Platform(asset));
    }
    let settings = call.app.controller.scans().settings();
    let now = call.app.clock.now().seconds();
    let mut all = BTreeMap::new();
    for (id, things) in by_report {
        let things: Vec<Thing> = things.into_iter().filter(|thing| is_wanted(filter, thing)).collect();
        if things.is_empty() {
            continue;
        }
        let Some(report) = read(call, id).await? else { continue };
        for thing in &things {
            let place = thing.place();
            for found in &report.vulnerabilities {
                if !is_accepted(&settings, found, &place, now) {
                    add(&mut all, found, thing);
                }
            }
        }
    }
    Ok(all.into_values().collect())
}
