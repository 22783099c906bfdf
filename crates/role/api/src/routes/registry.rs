//! Registries that are scanned, their images, and images that somebody asks for by their place.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_model::registry::{INTERVAL, ListedImage, MAX_REGISTRIES, RegistryConfig as Model, RegistrySchedule};
use nv_model::scan::{
    RegistryAccess, RegistryImage, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_model::scan_report::ScanReport;
use nv_registry::{Filter, JFrogMode, Kind, Options, Registry};
use nv_role_controller::View;
use nv_role_controller::registry::{Held, subject, try_registry};
use nv_role_controller::scan::ScanStatus;

use super::signature::{name_of, refused};
use super::user::short;
use crate::answer::{Empty, Json, List, One};
use crate::call::Call;
use crate::dto::Config;
use crate::dto::registry::{
    RegistryConfig, RegistryConfigV2, RegistryImageSummary, RegistrySummary, RegistryTestResult,
    RegistryTestStep, ScanLayersReport, ScanRepoReport, ScanRepoReq, ScanRepoReqData, WordList,
};
use crate::dto::scan::ScanReport as Shown;
use crate::dto::submitted::ScanRepoSubmitData;
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::scanned::{Place, apply, read, show_accepted};

/// Names that the contract keeps for itself.
const RESERVED: [&str; 3] = ["_repo_scan", "fed._repo_scan", "_all_registry"];
/// How long a scan of an image by its place is waited for before the client is told to ask again.
const WAIT: Duration = Duration::from_secs(25);
/// Largest result of a build's scanner.
const MAX_RESULT: usize = 64 * 1024 * 1024;
/// Most scans of images by their places that are waited for at one time.
const MAX_FILTERS: usize = 256;
/// Longest address, user, password.
const MAX_TEXT: usize = 4_096;
/// Longest key of Google's.
const MAX_JSON_KEY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{CiScan, RegScan};
    vec![
        Route::get("/v1/list/registry_type", RegScan, "List kinds of registries", kinds),
        Route::get("/v1/scan/registry", RegScan, "List registries", registries),
        Route::post("/v1/scan/registry", RegScan, "Create a registry", create),
        Route::post("/v2/scan/registry", RegScan, "Create a registry", create_v2),
        Route::get("/v1/scan/registry/:name", RegScan, "Show a registry", get),
        Route::patch("/v1/scan/registry/:name", RegScan, "Change a registry", change),
        Route::patch("/v2/scan/registry/:name", RegScan, "Change a registry", change_v2),
        Route::delete("/v1/scan/registry/:name", RegScan, "Delete a registry", delete),
        Route::plain(
            axum::http::Method::POST,
            "/v1/scan/registry/:name/scan",
            RegScan,
            "Scan a registry's images",
            start,
        ),
        Route::delete("/v1/scan/registry/:name/scan", RegScan, "Stop a registry's scans", stop),
        Route::get("/v1/scan/registry/:name/images", RegScan, "List a registry's images", images),
        Route::get("/v1/scan/registry/:name/image/:id", RegScan, "Show an image's report", image),
        Route::get("/v1/scan/registry/:name/layers/:id", RegScan, "Show an image's layers", layers),
        Route::post("/v1/scan/registry/:name/test", RegScan, "Try a registry", test),
        Route::post("/v2/scan/registry/:name/test", RegScan, "Try a registry", test_v2),
        Route::delete("/v1/scan/registry/:name/test", RegScan, "Stop a trial", stop_test),
        Route::post("/v1/scan/result/repository", CiScan, "Hand in what a scanner of a build found", submit)
            .up_to(MAX_RESULT),
        Route::post("/v1/scan/repository", CiScan, "Scan an image by its place", repository),
    ]
}

async fn kinds(_call: Call) -> Result<One<WordList>, ApiError> {
    let registry_type = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    Ok(One(WordList { registry_type }))
}

/// Whether the caller may do this with a registry of these namespaces.
fn domains(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

const fn scope<'a>(domains: &'a [&'a str]) -> Scope<'a> {
    if domains.is_empty() { Scope::Cluster } else { Scope::Domains(domains) }
}

fn may(call: &Call, operation: Operation, names: &[String]) -> bool {
    call.may(operation, scope(&domains(names)))
}

fn find(call: &Call, operation: Operation) -> Result<Arc<Held<Model>>, ApiError> {
    let name = call.parameter("name");
    let book = call.app.controller.registries().book();
    let held = book.registries.get(name).cloned().ok_or_else(|| ApiError::not_found("registry", name))?;
    if may(call, operation, &held.value.domains) { Ok(held) } else { Err(ApiError::denied()) }
}

fn summary(call: &Call, config: &Model) -> RegistrySummary {
    let status = call.app.controller.registries().status(&config.name);
    let database = call.app.controller.scans().database().unwrap_or_default();
    RegistrySummary {
        status: if status.scanning { "scanning" } else { "idle" }.to_owned(),
        error_message: status.error,
        error_detail: status.detail,
        started_at: status.started.map(|at| at.rfc3339()).unwrap_or_default(),
        scanned: status.scanned,
        scheduled: status.scheduled,
        scanning: status.running,
        failed: status.failed,
        cvedb_version: database.shown_version(),
        cvedb_create_time: database.shown_created(),
        config: config.into(),
        cfg_type: "user_created".to_owned(),
    }
}

async fn registries(call: Call) -> Result<List<RegistrySummary>, ApiError> {
    let book = call.app.controller.registries().book();
    // The federation has none yet.
    let of_scope = call.query.scope()?.admits(Origin::UserCreated);
    let seen =
        book.registries.values().filter(|held| of_scope && may(&call, Operation::Read, &held.value.domains));
    let summaries: Vec<RegistrySummary> = seen.map(|held| summary(&call, &held.value)).collect();
    Ok(List::new(summaries.into_iter()))
}

async fn get(call: Call) -> Result<One<RegistrySummary>, ApiError> {
    let held = find(&call, Operation::Read)?;
    Ok(One(summary(&call, &held.value)))
}

/// Puts what is given into a registry, and checks what comes of it.
fn fill(config: &mut Model, given: RegistryConfig) -> Result<(), ApiError> {
    let kind =
        if given.place.registry_type.is_empty() { config.kind.clone() } else { given.place.registry_type };
    let kind = Kind::from_name(&kind).ok_or_else(|| {
        ApiError::format(format!("registry_type is none of GET /v1/list/registry_type: {kind}"))
    })?;
    if !config.kind.is_empty() && config.kind != kind.name() {
        return Err(ApiError::format("registry_type cannot be changed"));
    }
    kind.name().clone_into(&mut config.kind);
    let set = |field: &mut String, what: &str, value: Option<String>, most: usize| match value {
        Some(value) if value.len() > most => {
            Err(ApiError::format(format!("{what} is longer than {most} bytes")))
        }
        Some(value) => {
            *field = value;
            Ok(())
        }
        None => Ok(()),
    };
    set(&mut config.url, "registry", given.place.registry, MAX_TEXT)?;
    set(&mut config.username, "username", given.auth.username, MAX_TEXT)?;
    set(&mut config.password, "password", given.auth.password, MAX_TEXT)?;
    set(&mut config.auth_token, "auth_token", given.auth.auth_token, MAX_TEXT)?;
    set(&mut config.jfrog_mode, "jfrog_mode", given.integrations.jfrog_mode, MAX_TEXT)?;
    set(
        &mut config.gitlab_external_url,
        "gitlab_external_url",
        given.integrations.gitlab_external_url,
        MAX_TEXT,
    )?;
    set(
        &mut config.gitlab_private_token,
        "gitlab_private_token",
        given.integrations.gitlab_private_token,
        MAX_TEXT,
    )?;
    set(
        &mut config.ibm_cloud_token_url,
        "ibm_cloud_token_url",
        given.integrations.ibm_cloud_token_url,
        MAX_TEXT,
    )?;
    set(&mut config.ibm_cloud_account, "ibm_cloud_account", given.integrations.ibm_cloud_account, MAX_TEXT)?;
    if let Some(key) = given.auth.aws_key {
        // What is empty in a change is what answers show of a secret: it stays.
        let keep = |value: String| (!value.is_empty()).then_some(value);
        set(&mut config.aws_id, "aws_key.id", keep(key.id), MAX_TEXT)?;
        set(&mut config.aws_region, "aws_key.region", keep(key.region), MAX_TEXT)?;
        set(&mut config.aws_access_key_id, "aws_key.access_key_id", keep(key.access_key_id), MAX_TEXT)?;
        set(
            &mut config.aws_secret_access_key,
            "aws_key.secret_access_key",
            keep(key.secret_access_key),
            MAX_TEXT,
        )?;
    }
    if let Some(key) = given.auth.gcr_key.map(|key| key.json_key).filter(|key| !key.is_empty()) {
        set(&mut config.gcr_json_key, "gcr_key.json_key", Some(key), MAX_JSON_KEY)?;
    }
    config.auth_with_token = given.auth.auth_with_token.unwrap_or(config.auth_with_token);
    config.domains = given.place.domains.unwrap_or_else(|| config.domains.clone());
    config.rescan_after_db_update =
        given.scan.rescan_after_db_update.unwrap_or(config.rescan_after_db_update);
    config.scan_layers = given.scan.scan_layers.unwrap_or(config.scan_layers);
    config.repo_limit = given.scan.repo_limit.unwrap_or(config.repo_limit);
    config.tag_limit = given.scan.tag_limit.unwrap_or(config.tag_limit);
    config.ignore_proxy = given.scan.ignore_proxy.unwrap_or(config.ignore_proxy);
    config.jfrog_aql = given.integrations.jfrog_aql.unwrap_or(config.jfrog_aql);
    if let Some(filters) = given.place.filters {
        if filters.len() > MAX_FILTERS {
            return Err(ApiError::format(format!("there are more than {MAX_FILTERS} filters")));
        }
        for filter in &filters {
            filter.parse::<Filter>().map_err(|error| ApiError::format(error.to_string()))?;
        }
        config.filters = filters;
    }
    if let Some(schedule) = given.scan.schedule {
        config.schedule = RegistrySchedule::from_name(&schedule.schedule)
            .ok_or_else(|| ApiError::format("schedule is none of manual, auto and periodical"))?;
        let counts = config.schedule == RegistrySchedule::Periodical;
        if counts && !INTERVAL.contains(&schedule.interval) {
            let (low, high) = (INTERVAL.start(), INTERVAL.end());
            return Err(ApiError::format(format!(
                "interval is {} s, expected {low} to {high}",
                schedule.interval
            )));
        }
        config.interval = if counts { schedule.interval } else { 0 };
    }
    if JFrogMode::from_name(&config.jfrog_mode).is_none() {
        return Err(ApiError::format("jfrog_mode is none of Repository Path, Subdomain and Port"));
    }
    let needs_address = kind != Kind::Ecr || !config.url.is_empty();
    if needs_address {
        Registry::new(Options { url: config.url.clone(), ..Options::default() })
            .map_err(|error| ApiError::format(error.to_string()))?;
    }
    Ok(())
}

async fn make(call: Call, given: RegistryConfig) -> Result<Empty, ApiError> {
    let mut config = Model { name: name_of(&given.place.name)?, ..Model::default() };
    if RESERVED.contains(&config.name.as_str()) || config.name.starts_with("fed.") {
        return Err(ApiError::new(Code::NotAllowed, "the name is reserved"));
    }
    if given.place.filters.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::format(
            "filters say which images are meant: at least one is needed, * for all",
        ));
    }
    fill(&mut config, given)?;
    if !may(&call, Operation::Write, &config.domains) {
        return Err(ApiError::denied());
    }
    let registries = call.app.controller.registries();
    if registries.book().registries.len() >= MAX_REGISTRIES {
        return Err(ApiError::new(
            Code::NotAllowed,
            format!("there are {MAX_REGISTRIES} registries already"),
        ));
    }
    registries.put_registry(&config, None).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn create(call: Call, body: Config<RegistryConfig>) -> Result<Empty, ApiError> {
    make(call, body.content()?).await
}

async fn create_v2(call: Call, body: Config<RegistryConfigV2>) -> Result<Empty, ApiError> {
    make(call, body.content()?.into()).await
}

async fn alter(call: Call, given: RegistryConfig) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    let mut config = held.value.clone();
    fill(&mut config, given)?;
    if !may(&call, Operation::Write, &config.domains) {
        return Err(ApiError::denied());
    }
    let registries = call.app.controller.registries();
    registries.put_registry(&config, Some(held.modified)).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn change(call: Call, body: Config<RegistryConfig>) -> Result<Empty, ApiError> {
    alter(call, body.content()?).await
}

async fn change_v2(call: Call, body: Config<RegistryConfigV2>) -> Result<Empty, ApiError> {
    alter(call, body.content()?.into()).await
}

async fn delete(call: Call) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    call.app.controller.registries().delete_registry(&held).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn start(call: Call) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    call.app.controller.registries().start(&held.value.name, true);
    Ok(Empty)
}

async fn stop(call: Call) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    call.app.controller.registries().stop(&held.value.name);
    Ok(Empty)
}

async fn images(call: Call) -> Result<List<RegistryImageSummary>, ApiError> {
    let held = find(&call, Operation::Read)?;
    let (scans, name) = (call.app.controller.scans().clone(), held.value.name.clone());
    let images = call.app.controller.registries().images(&name);
    let view = call.app.controller.view();
    let all: Vec<RegistryImageSummary> = images
        .iter()
        .map(|image| {
            let status = scans.status(&subject(&name, &image.id));
            shown(&view, RegistryImageSummary::from(image), &status, &image_name(image))
        })
        .collect();
    Ok(List::new(call.query.by_severity("repository").inventory(all, Clone::clone).into_iter()))
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
async fn report_of(call: &Call, of: &ScanSubject, id: &str) -> Result<ScanReport, ApiError> {
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

/// The id of an image, also with the beginning that digests have.
fn image_id(call: &Call) -> String {
    let id = call.parameter("id");
    id.strip_prefix("sha256:").unwrap_or(id).to_owned()
}

async fn image(call: Call) -> Result<One<Shown>, ApiError> {
    let held = find(&call, Operation::Read)?;
    let id = image_id(&call);
    let report = report_of(&call, &subject(&held.value.name, &id), &id).await?;
    Ok(One(report.into()))
}

async fn layers(call: Call) -> Result<One<ScanLayersReport>, ApiError> {
    let held = find(&call, Operation::Read)?;
    let id = image_id(&call);
    let report = report_of(&call, &subject(&held.value.name, &id), &id).await?;
    Ok(One(ScanLayersReport { layers: report.layers }))
}

/// Tries a registry as it is given, over what is stored under its name.
async fn attempt(call: Call, given: RegistryConfig) -> Result<Json<RegistryTestResult>, ApiError> {
    let name = call.parameter("name").to_owned();
    let stored = call.app.controller.registries().book().registries.get(&name).cloned();
    let mut config = match stored {
        Some(held) if may(&call, Operation::Write, &held.value.domains) => held.value.clone(),
        Some(_) => return Err(ApiError::denied()),
        None => {
            call.need(Operation::Write, Scope::Cluster)?;
            Model { name: short("name", name)?, ..Model::default() }
        }
    };
    fill(&mut config, given)?;
    let steps = try_registry(&config, call.app.clock.now()).await;
    let steps = steps.into_iter();
    Ok(Json(RegistryTestResult {
        steps: steps.map(|(step_type, step_content)| RegistryTestStep { step_type, step_content }).collect(),
    }))
}

async fn test(call: Call, body: Config<RegistryConfig>) -> Result<Json<RegistryTestResult>, ApiError> {
    attempt(call, body.content()?).await
}

async fn test_v2(call: Call, body: Config<RegistryConfigV2>) -> Result<Json<RegistryTestResult>, ApiError> {
    attempt(call, body.content()?.into()).await
}

/// A trial ends with its answer: nothing is left to be stopped.
async fn stop_test(call: Call) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    Ok(Empty)
}

/// The place of an image as it is asked for.
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
    repository.parse::<nv_registry::Repository>().map_err(|error| wrong(&error))?;
    reference.parse::<nv_registry::Reference>().map_err(|error| wrong(&error))?;
    let options = Options { url: request.registry.clone(), ..Options::default() };
    Registry::new(options).map_err(|error| wrong(&error))?;
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
async fn repository(
    call: Call,
    body: ScanRepoReqData,
) -> Result<crate::answer::Either<One<ScanRepoReport>, crate::answer::Raw>, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let request = body.request.ok_or_else(|| ApiError::format("the body has no request"))?;
    let (subject, mut image) = place(&request)?;
    let controller = &call.app.controller;
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
        return Ok(crate::answer::Either::That(crate::answer::Raw(again)));
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
    Ok(crate::answer::Either::This(One(shown)))
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
