//! Images that somebody asks for by their place, and results that builds hand in.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::scan::{
    RegistryAccess, RegistryImage, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_registry::{Options, Registry};
use nv_role_controller::registry::Reach;

use super::registry::MAX_TEXT;
use super::registry_image::report_of;
use crate::answer::{Either, Empty, One, Raw};
use crate::call::Call;
use crate::dto::registry::{ScanRepoReport, ScanRepoReq, ScanRepoReqData};
use crate::dto::submitted::ScanRepoSubmitData;
use crate::error::{ApiError, Code};
use crate::route::Route;

/// How long a scan of an image by its place is waited for before the client is told to ask again.
const WAIT: Duration = Duration::from_secs(25);
/// Largest result of a build's scanner.
const MAX_RESULT: usize = 64 * 1024 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    use Category::CiScan;
    vec![
        Route::post("/v1/scan/result/repository", CiScan, "Hand in what a scanner of a build found", submit)
            .up_to(MAX_RESULT),
        Route::post("/v1/scan/repository", CiScan, "Scan an image by its place", repository),
    ]
}

/// The place of an image as it is asked for; without a registry, in a runtime of a scanner's machine.
fn place(request: &ScanRepoReq) -> Result<(ScanSubject, RegistryImage), ApiError> {
    if request.repository.is_empty() {
        return Err(ApiError::format("the request has no repository"));
    }
    let reference = if request.tag.is_empty() { "latest" } else { &request.tag };
    let hub = ["docker.io", "registry-1.docker.io", "registry.hub.docker.com", "index.docker.io"];
    let of_hub = hub.iter().any(|host| request.registry.contains(host)) && !request.repository.contains('/');
    let repository =
        if of_hub { format!("library/{}", request.repository) } else { request.repository.clone() };
    let wrong = |error: &dyn std::fmt::Display| ApiError::format(error.to_string());
    reference.parse::<nv_registry::Reference>().map_err(|error| wrong(&error))?;
    if request.registry.is_empty() {
        // A runtime of a scanner's machine has it, under a name that begins with a registry's.
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        if repository.len() > MAX_TEXT || !repository.bytes().all(known) {
            return Err(ApiError::format("the repository is no name of an image"));
        }
    } else {
        repository.parse::<nv_registry::Repository>().map_err(|error| wrong(&error))?;
        let options = Options { url: request.registry.clone(), ..Options::default() };
        Registry::new(options).map_err(|error| wrong(&error))?;
    }
    let subject = ScanSubject::Repository {
        registry: request.registry.clone(),
        repository: repository.clone(),
        reference: reference.to_owned(),
    };
    let access = RegistryAccess {
        url: request.registry.clone(),
        username: request.username.clone(),
        password: request.password.clone(),
        ..RegistryAccess::default()
    };
    let image = RegistryImage {
        access,
        repository,
        reference: reference.to_owned(),
        layers: request.scan_layers,
        base_image: request.base_image.clone(),
        roots_of_trust: Vec::new(),
    };
    Ok((subject, image))
}

/// Scans an image and waits for the report; 304 when it takes longer: the same request again waits on.
async fn repository(call: Call, body: ScanRepoReqData) -> Result<Either<One<ScanRepoReport>, Raw>, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let request = body.request.ok_or_else(|| ApiError::format("the body has no request"))?;
    let (subject, mut image) = place(&request)?;
    let controller = &call.app.controller;
    let reach = Reach::of(&controller.view().config, &image.access.url, request.ignore_proxy);
    image.access = reach.access(image.access);
    image.roots_of_trust = controller.registries().roots();
    let scans = controller.scans();
    let known = scans.status(&subject);
    let under_way = matches!(known.state, ScanState::Scheduled | ScanState::Scanning);
    // A report of some moments ago is the one that an earlier request has waited for.
    let now = call.app.clock.now();
    let fresh = known.report.as_ref().is_some_and(|kept| now.since(kept.at) < WAIT * 2);
    if !under_way && !fresh {
        let request = ScanRequest {
            subject: subject.clone(),
            source: ScanSource::Image(Box::new(image)),
            priority: ScanPriority::OnDemand,
        };
        scans.enqueue(request).map_err(|error| {
            ApiError::new(Code::RepositoryScan, error.to_string()).with_status(StatusCode::TOO_MANY_REQUESTS)
        })?;
    }
    let Ok(status) = tokio::time::timeout(WAIT, scans.ended(&subject)).await else {
        let mut again = Response::new(Body::empty());
        *again.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Either::That(Raw(again)));
    };
    if let Some(failure) = status.failure {
        return Err(ApiError::new(Code::RepositoryScan, failure.message));
    }
    let report = report_of(&call, &subject, &request.repository).await?;
    let facts = report.image.clone().unwrap_or_default();
    let shown = ScanRepoReport {
        image_id: facts.id,
        registry: request.registry,
        repository: request.repository,
        tag: request.tag,
        digest: facts.digest,
        author: facts.author,
        created_at: facts.created,
        size: facts.size,
        base_os: report.base_os.clone(),
        cvedb_version: report.database_version.clone(),
        cvedb_create_time: report.database_created.clone(),
        layers: report.layers.clone(),
        found: report.into(),
    };
    Ok(Either::This(One(shown)))
}

/// Keeps what a scanner of a build found in an image, as if the image had been scanned by its place. No later database
/// judges it again: what it has is not known by the file.
async fn submit(call: Call, body: ScanRepoSubmitData) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let result = body.result.ok_or_else(|| ApiError::format("the body has no result"))?;
    for (what, value) in [
        ("ImageID", &result.image_id),
        ("Digest", &result.digest),
        ("Repository", &result.repository),
        ("Tag", &result.tag),
    ] {
        if value.is_empty() {
            return Err(ApiError::format(format!("the result has no {what}")));
        }
    }
    if result.error != 0 {
        return Err(ApiError::format(format!("the scan failed with error {}", result.error)));
    }
    for (what, value) in
        [("Registry", &result.registry), ("Repository", &result.repository), ("Tag", &result.tag)]
    {
        if value.len() > MAX_TEXT {
            return Err(ApiError::format(format!("{what} is longer than {MAX_TEXT} bytes")));
        }
    }
    let subject = ScanSubject::Repository {
        registry: result.registry.clone(),
        repository: result.repository.clone(),
        reference: result.tag.clone(),
    };
    call.app.controller.scans().submit(subject, result.into()).await.map_err(|error| {
        tracing::error!(%error, "a result that was handed in cannot be kept");
        ApiError::new(Code::WriteFailed, "the result cannot be kept")
    })?;
    Ok(Empty)
}
