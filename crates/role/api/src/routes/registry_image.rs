//! Images of registries: where their scans are, and what was found in them.

use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::registry::{ListedImage, RegistryConfig as Model};
use nv_model::scan::{ScanState, ScanSubject};
use nv_model::scan_report::ScanReport;
use nv_role_controller::View;
use nv_role_controller::registry::{Held, subject};
use nv_role_controller::scan::ScanStatus;

use super::registry::{REPOSITORY_SCANS, domains, find, scope};
use crate::answer::{List, One};
use crate::call::Call;
use crate::dto::registry::{RegistryImageSummary, ScanLayersReport};
use crate::dto::scan::ScanReport as Shown;
use crate::error::ApiError;
use crate::route::Route;
use crate::scanned::{Place, apply, read, show_accepted};

pub(crate) fn routes() -> Vec<Route> {
    use Category::RegScan;
    vec![
        Route::get("/v1/scan/registry/:name/images", RegScan, "List a registry's images", images),
        Route::get("/v1/scan/registry/:name/image/:id", RegScan, "Show an image's report", image),
        Route::get("/v1/scan/registry/:name/layers/:id", RegScan, "Show an image's layers", layers),
    ]
}

async fn images(call: Call) -> Result<List<RegistryImageSummary>, ApiError> {
    let all = if call.parameter("name") == REPOSITORY_SCANS { asked_for(&call)? } else { listed(&call)? };
    Ok(List::new(call.query.by_severity("repository").inventory(all, Clone::clone).into_iter()))
}

/// Images that somebody asked for by their place, or that builds handed in.
fn asked_for(call: &Call) -> Result<Vec<RegistryImageSummary>, ApiError> {
    call.need(Operation::Read, Scope::Cluster)?;
    let scans = call.app.controller.scans();
    let view = call.app.controller.view();
    let reports = scans.reports();
    let of_place = reports.iter().filter_map(|kept| {
        let ScanSubject::Repository { registry, repository, reference } = &kept.subject else { return None };
        let image = kept.image.clone()?;
        let summary = RegistryImageSummary {
            domain: registry.clone(),
            repository: repository.clone(),
            tag: reference.clone(),
            image_id: bare(&image.id).to_owned(),
            digest: image.digest,
            size: image.size,
            author: image.author,
            created_at: image.created,
            run_as_root: image.run_as_root,
            ..RegistryImageSummary::default()
        };
        Some(shown(&view, summary, &scans.status(&kept.subject), &format!("{repository}:{reference}")))
    });
    Ok(of_place.collect())
}

/// Images that a registry lists.
fn listed(call: &Call) -> Result<Vec<RegistryImageSummary>, ApiError> {
    let held = find(call, Operation::Read)?;
    let (scans, name) = (call.app.controller.scans().clone(), held.value.name.clone());
    let images = call.app.controller.registries().images(&name);
    let view = call.app.controller.view();
    let all = images
        .iter()
        .map(|image| {
            let status = scans.status(&subject(&name, &image.id));
            shown(&view, RegistryImageSummary::from(image), &status, &image_name(image))
        })
        .collect();
    Ok(all)
}

/// An image of a registry that the caller sees.
pub(crate) struct SeenImage {
    pub(crate) registry: Arc<Held<Model>>,
    pub(crate) listed: ListedImage,
}

impl SeenImage {
    pub(crate) fn subject(&self) -> ScanSubject {
        subject(&self.registry.value.name, &self.listed.id)
    }
    /// Its place, as images are named.
    pub(crate) fn name(&self) -> String {
        image_name(&self.listed)
    }
}

/// Images of all registries that the caller sees, whatever the route is about.
pub(crate) fn seen_images(call: &Call) -> impl Iterator<Item = SeenImage> {
    let registries = call.app.controller.registries().clone();
    let required = Category::RegScan.required(Operation::Read);
    let book = registries.book();
    let seen: Vec<Arc<Held<Model>>> = book
        .registries
        .values()
        .filter(|held| call.holds(required, Operation::Read, scope(&domains(&held.value.domains))))
        .cloned()
        .collect();
    seen.into_iter().flat_map(move |registry| {
        let images = registries.images(&registry.value.name);
        let listed: Vec<ListedImage> = images.to_vec();
        listed.into_iter().map(move |listed| SeenImage { registry: Arc::clone(&registry), listed })
    })
}

/// `registry.example:5000/shop/web:1.0`.
fn image_name(image: &ListedImage) -> String {
    let host = image.domain.split_once("://").map_or(image.domain.as_str(), |(_, host)| host);
    format!("{}/{}:{}", host.trim_end_matches('/'), image.repository, image.tag)
}

/// Where an image is, for the vulnerability profile: by the first name that the registry has for it.
fn place_of(call: &Call, of: &ScanSubject) -> Place {
    let image = match of {
        ScanSubject::RegistryImage { registry, image } => {
            let images = call.app.controller.registries().images(registry);
            images.iter().find(|listed| listed.id == *image).map(image_name)
        }
        ScanSubject::Repository { repository, reference, .. } => Some(format!("{repository}:{reference}")),
        _ => None,
    };
    Place { image: image.unwrap_or_default(), domain: String::new() }
}

fn shown(
    view: &View,
    mut summary: RegistryImageSummary,
    status: &ScanStatus,
    name: &str,
) -> RegistryImageSummary {
    status.state.as_str().clone_into(&mut summary.status);
    if let Some(failure) = &status.failure {
        summary.result.clone_from(&failure.message);
    }
    if let Some(kept) = &status.report {
        if status.state == ScanState::Finished {
            "succeeded".clone_into(&mut summary.result);
        }
        summary.scanned_at = kept.at.rfc3339();
        summary.scanned_timestamp = kept.at.seconds();
        summary.base_os.clone_from(&kept.base_os);
        summary.scanner_version.clone_from(&kept.database_version);
        summary.cvedb_create_time.clone_from(&kept.database_created);
        summary.os_scan_status.clone_from(&kept.os_scan_status);
        let tally = view.tally(kept, name, "");
        (summary.critical, summary.high, summary.medium) = (tally.critical, tally.high, tally.medium);
    }
    summary
}

/// The report of an image; what is accepted is left out, or marked where the caller asks for it.
pub(super) async fn report_of(call: &Call, of: &ScanSubject, id: &str) -> Result<ScanReport, ApiError> {
    let missing = || ApiError::not_found("report of image", id);
    let kept = call.app.controller.scans().status(of).report.ok_or_else(missing)?;
    let mut report = read(call, kept.report).await?.ok_or_else(missing)?;
    let (settings, now) = (call.app.controller.scans().settings(), call.app.clock.now().seconds());
    let (place, show) = (place_of(call, of), show_accepted(call));
    let layers = report.layers.iter_mut().map(|layer| &mut layer.vulnerabilities);
    for found in layers.chain([&mut report.vulnerabilities]) {
        apply(&settings, found, &place, now, show);
    }
    Ok(report)
}

/// The id of an image without the beginning that digests have.
fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// The report of the image that a route names.
async fn wanted(call: &Call) -> Result<ScanReport, ApiError> {
    let id = bare(call.parameter("id"));
    if call.parameter("name") != REPOSITORY_SCANS {
        let held = find(call, Operation::Read)?;
        return report_of(call, &subject(&held.value.name, id), id).await;
    }
    call.need(Operation::Read, Scope::Cluster)?;
    let mut reports = call.app.controller.scans().reports();
    reports.retain(|kept| {
        let is_it = kept.image.as_ref().is_some_and(|image| bare(&image.id) == id);
        is_it && matches!(kept.subject, ScanSubject::Repository { .. })
    });
    // One image may have been asked for at several places.
    let newest = reports.iter().max_by_key(|kept| kept.at);
    let newest = newest.ok_or_else(|| ApiError::not_found("report of image", id))?;
    report_of(call, &newest.subject, id).await
}

async fn image(call: Call) -> Result<One<Shown>, ApiError> {
    Ok(One(wanted(&call).await?.into()))
}

async fn layers(call: Call) -> Result<One<ScanLayersReport>, ApiError> {
    Ok(One(ScanLayersReport { layers: wanted(&call).await?.layers }))
}
