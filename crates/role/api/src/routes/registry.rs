//! Registries that are scanned: how they are configured, looked at and tried.

use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_model::registry::{INTERVAL, MAX_REGISTRIES, RegistryConfig as Model, RegistrySchedule};
use nv_registry::{Filter, JFrogMode, Kind, Options, Registry};
use nv_role_controller::registry::{Held, Reach, try_registry};

use super::signature::{name_of, refused};
use super::user::short;
use crate::answer::{Empty, Json, List, One};
use crate::call::Call;
use crate::dto::Config;
use crate::dto::registry::{
    RegistryConfig, RegistryConfigV2, RegistrySummary, RegistryTestResult, RegistryTestStep, WordList,
};
use crate::error::{ApiError, Code};
use crate::route::Route;

/// The registry as whose images those are shown that somebody asked for by their place, or that builds handed in.
pub(super) const REPOSITORY_SCANS: &str = "_repo_scan";
/// Names that the contract keeps for itself.
const RESERVED: [&str; 3] = [REPOSITORY_SCANS, "fed._repo_scan", "_all_registry"];
/// Most filters of a registry.
const MAX_FILTERS: usize = 256;
/// Longest address, user, password.
pub(super) const MAX_TEXT: usize = 4_096;
/// Longest key of Google's.
const MAX_JSON_KEY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RegScan;
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
        Route::post("/v1/scan/registry/:name/test", RegScan, "Try a registry", test),
        Route::post("/v2/scan/registry/:name/test", RegScan, "Try a registry", test_v2),
        Route::delete("/v1/scan/registry/:name/test", RegScan, "Stop a trial", stop_test),
    ]
}

async fn kinds(_call: Call) -> Result<One<WordList>, ApiError> {
    let registry_type = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    Ok(One(WordList { registry_type }))
}

pub(super) fn domains(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Whose a registry of these namespaces is.
pub(super) const fn scope<'a>(domains: &'a [&'a str]) -> Scope<'a> {
    if domains.is_empty() { Scope::Cluster } else { Scope::Domains(domains) }
}

/// Whether the caller may do this with a registry of these namespaces.
fn may(call: &Call, operation: Operation, names: &[String]) -> bool {
    call.may(operation, scope(&domains(names)))
}

pub(super) fn find(call: &Call, operation: Operation) -> Result<Arc<Held<Model>>, ApiError> {
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
    let system = Arc::clone(&call.app.controller.view().config);
    let reach = Reach::of(&system, &config.url, config.ignore_proxy);
    let steps = try_registry(&config, reach, call.app.clock.now()).await;
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
