//! Things with the vulnerabilities that they have, of those that a query found.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::scan::ScanSubject;
use nv_role_controller::View;
use nv_role_controller::scan::{KeptReport, Tally, platform_of};

use crate::call::Call;
use crate::dto::asset::VulnerabilityAssetV2;
use crate::dto::asset_view::{
    AssetView, Counts, HostAssetView, ImageAssetView, ImageAssetViewV2, NoVulImageAsset, PlatformAssetView,
    WorkloadAssetView,
};
use crate::dto::infrastructure::{Host, Running};
use crate::dto::workload::WorkloadHead;
use crate::routes::registry_image::{SeenImage, seen_images};
use crate::routes::scan::{nodes, running};
use crate::scanned::Place;

impl From<Tally> for Counts {
    fn from(Tally { critical, high, medium, low }: Tally) -> Self {
        Self { critical, high, medium, low }
    }
}

/// Ids of things, each with the names of what it has.
type ByThing<'a> = BTreeMap<&'a str, Vec<String>>;

/// `H_CVE-2024-1`, as the contract's clients take it apart.
fn marked(found: &VulnerabilityAssetV2) -> String {
    let letter = match found.severity.as_str() {
        "Critical" => 'C',
        "High" => 'H',
        "Medium" => 'M',
        _ => 'L',
    };
    format!("{letter}_{}", found.name)
}

fn by_thing<'a>(
    found: &'a [VulnerabilityAssetV2],
    ids: impl Fn(&'a VulnerabilityAssetV2) -> Vec<&'a str>,
) -> ByThing<'a> {
    let mut all = ByThing::new();
    for one in found {
        // An image of two tags has each vulnerability once.
        for id in ids(one).into_iter().collect::<BTreeSet<&str>>() {
            all.entry(id).or_default().push(marked(one));
        }
    }
    all
}

/// An image of a registry; none before its first report.
pub(crate) fn image_view(view: &View, image: &SeenImage) -> Option<ImageAssetViewV2> {
    let kept = view.scan(&image.subject()).report?;
    let tally = view.tally(&kept, &image.name(), "");
    let (config, listed) = (&image.registry.value, &image.listed);
    Some(ImageAssetViewV2 {
        image_id: listed.id.clone(),
        repository: listed.repository.clone(),
        created_at: listed.created.clone(),
        scanned_at: kept.at.rfc3339(),
        digest: listed.digest.clone(),
        base_os: kept.base_os.clone(),
        os_scan_status: kept.os_scan_status.clone(),
        reg_name: config.name.clone(),
        repo_url: listed.domain.clone(),
        tag: listed.tag.clone(),
        cvedb_version: kept.database_version.clone(),
        cvedb_create_time: kept.database_created.clone(),
        critical: tally.critical,
        high: tally.high,
        medium: tally.medium,
        size: listed.size,
    })
}

fn is_clean(kept: &KeptReport) -> bool {
    kept.critical + kept.high + kept.medium + kept.low == 0
}

/// What has what was found. The caller sees it all: the query was the caller's, and only what is seen now is looked up.
pub(crate) fn asset_view(call: &Call, found: Vec<VulnerabilityAssetV2>) -> AssetView {
    let view = call.app.controller.view();
    let mut shown = AssetView::default();
    let by_workload = by_thing(&found, |one| one.workloads.iter().map(|thing| thing.id.as_str()).collect());
    for workload in running(call, &view) {
        let Some(names) = by_workload.get(workload.id.as_str()) else { continue };
        let Some(kept) = view.scan_of(workload).report else { continue };
        let (head, place) = (WorkloadHead::of(&view, workload), Place::of(workload));
        shown.workloads.push(WorkloadAssetView {
            counts: view.tally(&kept, &place.image, &place.domain).into(),
            id: head.id,
            name: head.display_name,
            domain: head.domain,
            image: head.image,
            applications: Vec::new(),
            policy_mode: head.policy_mode,
            service_group: head.service_group,
            scanned_at: kept.at.rfc3339(),
            vulnerabilities: names.clone(),
        });
    }
    let by_node = by_thing(&found, |one| one.nodes.iter().map(|thing| thing.id.as_str()).collect());
    let counted = Running::of(&view);
    for id in nodes(call, &view) {
        let Some(names) = by_node.get(id.as_str()) else { continue };
        let Some(kept) = view.scan(&ScanSubject::Node(id.clone())).report else { continue };
        let Some(node) = view.state.nodes.get(id) else { continue };
        let host = Host::of(&view, node, &counted);
        shown.nodes.push(HostAssetView {
            id: host.id,
            name: host.name,
            policy_mode: host.policy_mode,
            os: host.os,
            kernel: host.kernel,
            cpus: node.cpus,
            memory: host.memory,
            containers: usize::try_from(host.containers).unwrap_or(0),
            scanned_at: kept.at.rfc3339(),
            counts: view.tally(&kept, "", "").into(),
            vulnerabilities: names.clone(),
        });
    }
    let by_image = by_thing(&found, |one| one.images.iter().map(|thing| thing.id.as_str()).collect());
    for image in seen_images(call) {
        let Some(kept) = view.scan(&image.subject()).report else { continue };
        let (id, name, digest) = (image.listed.id.clone(), image.name(), image.listed.digest.clone());
        let (cvedb_version, cvedb_create_time) =
            (kept.database_version.clone(), kept.database_created.clone());
        if let Some(names) = by_image.get(id.as_str()) {
            let counts = view.tally(&kept, &name, "").into();
            let vulnerabilities = names.clone();
            let one = ImageAssetView {
                id,
                name,
                digest,
                cvedb_version,
                cvedb_create_time,
                counts,
                vulnerabilities,
            };
            shown.images.push(one);
        } else if is_clean(&kept) {
            shown.no_vul_images.push(NoVulImageAsset { id, name, digest, cvedb_version, cvedb_create_time });
        }
    }
    let of_platform: Vec<String> = found.iter().filter(|one| !one.platforms.is_empty()).map(marked).collect();
    if let Some(platform) = platform_of(&view).filter(|_| call.sees_all() && !of_platform.is_empty())
        && let Some(kept) = view.scan(&ScanSubject::Platform).report
    {
        shown.platforms.push(PlatformAssetView {
            id: platform.name.clone(),
            name: platform.name,
            version: platform.version,
            base_os: String::new(),
            counts: view.tally(&kept, "", "").into(),
            vulnerabilities: of_platform,
        });
    }
    drop((by_workload, by_node, by_image));
    shown.vulnerabilities = found;
    shown
}
