//! Export and import of sensors, as the custom resources that they could be as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_model::sensor::{Sensor as Stored, SensorId, SensorKind};
use nv_policy::change::Change as PolicyChange;
use nv_role_controller::{ChangeError, Edit, View};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::PartialSchema as _;

use crate::answer::{Answer, Described};
use crate::call::Call;
use crate::dto::resource::{API_VERSION, At, Resource, ResourceList};
use crate::dto::sensor::Rule;
use crate::dto::sensor_resource::{SensorExport, SensorResource, Spec, kind as kind_of};
use crate::error::{ApiError, Code};
use crate::imports::{Progress, TRANSACTION};
use crate::route::Route;
use crate::routes::sensor;
use crate::upload;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    use SensorKind::{Dlp, Waf};
    vec![
        Route::post("/v1/file/dlp", P, "Export DLP sensors", |call, body| export(call, body, Dlp)).reading(),
        Route::upload(
            "/v1/file/dlp/config",
            P,
            "Import DLP sensors; how far, by X-Transaction-ID",
            |call, body| import_sensors(call, body, Dlp),
        ),
        Route::post("/v1/file/waf", P, "Export WAF sensors", |call, body| export(call, body, Waf)).reading(),
        Route::upload(
            "/v1/file/waf/config",
            P,
            "Import WAF sensors; how far, by X-Transaction-ID",
            |call, body| import_sensors(call, body, Waf),
        ),
    ]
}

/// A file of YAML that a browser stores.
pub(super) struct File {
    name: &'static str,
    text: String,
}

impl File {
    /// Of these resources.
    pub(super) fn of<S: Serialize>(
        name: &'static str,
        resources: Vec<Resource<S>>,
    ) -> Result<Self, ApiError> {
        let text = serde_saphyr::to_string(&ResourceList::of(resources))
            .map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
        Ok(Self { name, text })
    }
}

impl Answer for File {
    fn respond(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.text));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        if let Ok(name) = HeaderValue::from_str(&format!("Attachment; filename={}", self.name)) {
            headers.insert(header::CONTENT_DISPOSITION, name);
        }
        response
    }
    fn describe() -> Option<(&'static str, Described)> {
        Some(("application/yaml", Described { schema: String::schema(), named: Vec::new() }))
    }
}

/// Refuses to send a file to a repository.
pub(super) fn answered_here(remote: Option<&serde_json::Value>) -> Result<(), ApiError> {
    match remote {
        Some(_) => Err(ApiError::new(
            Code::NotAllowed,
            "a file is not sent to a repository: leave remote_export_options out",
        )),
        None => Ok(()),
    }
}

/// Begins an import that `work` does, or says how far one is.
pub(super) fn import<F, O>(call: Call, body: &Bytes, work: F) -> Result<Progress, ApiError>
where
    F: FnOnce(Call, Bytes) -> O + Send + 'static,
    O: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let now = call.app.clock.now();
    if let Some(tid) = call.headers.get(TRANSACTION) {
        let tid = tid.to_str().map_err(|error| ApiError::format(error.to_string()))?;
        return call.app.imports.progress(tid, now);
    }
    let file = upload::file_of(&call.headers, body)?;
    let controllers = &call.app.controller.view().controllers;
    let controller = controllers.first().map(|one| one.id.to_string()).unwrap_or_default();
    let begun = call.app.imports.begin(&controller, call.caller.name(), now)?;
    let tid = begun.tid().to_owned();
    tokio::spawn(async move {
        let app = Arc::clone(&call.app);
        let outcome = work(call, file).await;
        app.imports.end(&tid, outcome, app.clock.now());
    });
    Ok(begun)
}

/// The resources of a file, alone or in a list, all of a kind that is wanted.
pub(super) fn resources<S: DeserializeOwned>(
    file: &[u8],
    kinds: &[&str],
) -> Result<Vec<At<Resource<S>>>, ApiError> {
    let text = std::str::from_utf8(file).map_err(|_error| ApiError::format("the file is not UTF-8"))?;
    let one: At<Resource<S>> = serde_saphyr::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| ApiError::format(format!("the file is no YAML of resources: {error}")))?;
    let At { line, value: mut one } = one;
    let all = match one.items.take() {
        Some(items) if !items.is_empty() => items,
        _ => vec![At { line, value: one }],
    };
    for At { line, value } in &all {
        if value.api_version != API_VERSION || !kinds.contains(&value.kind.as_str()) {
            let (version, found, want) = (&value.api_version, &value.kind, kinds.join(" or "));
            return Err(ApiError::format(format!(
                "Invalid security rule(s): line {line}: {version:?} {found:?} is no {API_VERSION} {want}"
            )));
        }
    }
    Ok(all)
}

/// The sensors of these names; those that come with the product are everywhere, and left out. A rule set is not in it.
async fn export(call: Call, body: SensorExport, kind: SensorKind) -> Result<File, ApiError> {
    sensor::need(&call, Operation::Read)?;
    answered_here(body.remote_export_options.as_ref())?;
    let view = call.app.controller.view();
    let mut sensors = Vec::new();
    for raw in &body.names {
        let found = raw.parse().ok().and_then(|name| view.state.sensor(&SensorId { kind, name }));
        let found = found.ok_or_else(|| ApiError::not_found(&format!("{} sensor", kind.as_str()), raw))?;
        sensors.extend(Some(found).filter(|sensor| !sensor.predefined));
    }
    let name = match kind {
        SensorKind::Dlp => "cfgDlpExport.yaml",
        SensorKind::Waf => "cfgWafExport.yaml",
    };
    File::of(name, sensors.iter().map(Resource::from).collect())
}

async fn import_sensors(call: Call, body: Bytes, kind: SensorKind) -> Result<Progress, ApiError> {
    sensor::need(&call, Operation::Write)?;
    import(call, &body, move |call, file| async move { run(&call, &file, kind).await })
}

/// Takes all sensors of a file, or none.
async fn run(call: &Call, body: &[u8], kind: SensorKind) -> Result<(), ApiError> {
    let sensors = read(body, kind)?;
    for one in &sensors {
        sensor::check(one).await?;
    }
    let plan = move |view: &View| {
        let mut taken = sensor::numbers(view, kind);
        let mut edits = Vec::new();
        for new in &sensors {
            let held = view.state.sensors.get(&new.id());
            let is_ours =
                held.is_none_or(|held| matches!(held.origin, Origin::UserCreated | Origin::Learned));
            if nv_model::sensor::predefined(&new.id()).is_some() || !is_ours {
                let what = format!("sensor {} is owned elsewhere and cannot be imported", new.name);
                return Err(ChangeError::ReadOnly { what, rules: Vec::new() });
            }
            let mut next = Stored { rule_set: held.and_then(|held| held.rule_set.clone()), ..new.clone() };
            sensor::number(&mut taken, held, &mut next)?;
            edits.push(Edit::Policy(PolicyChange::PutSensor(Box::new(next))));
        }
        sensor::has_room_for(view, kind, edits.len())?;
        Ok(edits)
    };
    call.transact(Box::new(plan)).await
}

/// The sensors of a file: of one resource, or of a list of them.
fn read(body: &[u8], kind: SensorKind) -> Result<Vec<Stored>, ApiError> {
    let mut names = BTreeSet::new();
    let mut sensors = Vec::new();
    for At { line, value: resource } in resources::<Spec>(body, &[kind_of(kind)])? {
        let sensor = resource.spec.and_then(|spec| spec.sensor);
        let SensorResource { comment, name, rules } = sensor.ok_or_else(|| {
            ApiError::format(format!("Invalid security rule(s): line {line}: the resource has no sensor"))
        })?;
        let name = sensor::new_name(&name)?;
        if !names.insert(name.clone()) {
            return Err(ApiError::format(format!("sensor {name} is in the file twice")));
        }
        let rules: Vec<Rule> = rules
            .into_iter()
            .map(|rule| Rule { name: rule.name, patterns: rule.patterns, ..Rule::default() })
            .collect();
        sensors.push(Stored {
            name,
            kind,
            comment: sensor::comment(comment.as_ref())?.unwrap_or_default(),
            origin: Origin::UserCreated,
            predefined: false,
            rules: sensor::read_rules(Some(&rules))?.unwrap_or_default(),
            rule_set: None,
        });
    }
    Ok(sensors)
}
