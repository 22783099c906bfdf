//! Export and import of sensors, as the custom resources that they could be as well.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_model::sensor::{Sensor as Stored, SensorId, SensorKind};
use nv_policy::change::Change as PolicyChange;
use nv_role_controller::{ChangeError, Edit, View};
use utoipa::PartialSchema as _;

use crate::answer::{Answer, Described};
use crate::call::Call;
use crate::dto::resource::{
    API_VERSION, Resource, ResourceList, SensorExport, SensorResource, kind as kind_of,
};
use crate::dto::sensor::Rule;
use crate::error::{ApiError, Code};
use crate::imports::{Progress, TRANSACTION};
use crate::route::Route;
use crate::routes::sensor;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    use SensorKind::{Dlp, Waf};
    vec![
        Route::post("/v1/file/dlp", P, "Export DLP sensors", |call, body| export(call, body, Dlp)).reading(),
        Route::upload(
            "/v1/file/dlp/config",
            P,
            "Import DLP sensors; how far, by X-Transaction-ID",
            |call, body| import(call, body, Dlp),
        ),
        Route::post("/v1/file/waf", P, "Export WAF sensors", |call, body| export(call, body, Waf)).reading(),
        Route::upload(
            "/v1/file/waf/config",
            P,
            "Import WAF sensors; how far, by X-Transaction-ID",
            |call, body| import(call, body, Waf),
        ),
    ]
}

/// A file of YAML that a browser stores.
struct File {
    name: &'static str,
    text: String,
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

/// The sensors of these names; those that come with the product are everywhere, and left out. A rule set is not in it.
async fn export(call: Call, body: SensorExport, kind: SensorKind) -> Result<File, ApiError> {
    sensor::need(&call, Operation::Read)?;
    if body.remote_export_options.is_some() {
        return Err(ApiError::new(
            Code::NotAllowed,
            "a file is not sent to a repository: leave remote_export_options out",
        ));
    }
    let view = call.app.controller.view();
    let mut sensors = Vec::new();
    for raw in &body.names {
        let found = raw.parse().ok().and_then(|name| view.state.sensor(&SensorId { kind, name }));
        let found = found.ok_or_else(|| ApiError::not_found(&format!("{} sensor", kind.as_str()), raw))?;
        sensors.extend(Some(found).filter(|sensor| !sensor.predefined));
    }
    let text = serde_saphyr::to_string(&ResourceList::of(&sensors))
        .map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
    let name = match kind {
        SensorKind::Dlp => "cfgDlpExport.yaml",
        SensorKind::Waf => "cfgWafExport.yaml",
    };
    Ok(File { name, text })
}

/// Begins an import, or says how far one is.
async fn import(call: Call, body: Bytes, kind: SensorKind) -> Result<Progress, ApiError> {
    sensor::need(&call, Operation::Write)?;
    if let Some(tid) = call.headers.get(TRANSACTION) {
        let tid = tid.to_str().map_err(|error| ApiError::format(error.to_string()))?;
        return call.app.imports.progress(tid);
    }
    let controllers = &call.app.controller.view().controllers;
    let controller = controllers.first().map(|one| one.id.to_string()).unwrap_or_default();
    let begun = call.app.imports.begin(&controller, call.caller.name(), call.app.clock.now())?;
    tokio::spawn(async move {
        let outcome = run(&call, &body, kind).await;
        call.app.imports.end(outcome, call.app.clock.now());
    });
    Ok(begun)
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
    let text = std::str::from_utf8(body).map_err(|_error| ApiError::format("the file is not UTF-8"))?;
    let one: Resource = serde_saphyr::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| ApiError::format(format!("the file is no YAML of resources: {error}")))?;
    let all = if one.items.is_empty() { vec![one] } else { one.items };
    let mut names = BTreeSet::new();
    let mut sensors = Vec::new();
    for resource in all {
        if resource.api_version != API_VERSION || resource.kind != kind_of(kind) {
            let (version, found, want) = (resource.api_version, resource.kind, kind_of(kind));
            return Err(ApiError::format(format!(
                "invalid security rule(s): {version} {found} is no {API_VERSION} {want}"
            )));
        }
        let sensor = resource.spec.and_then(|spec| spec.sensor);
        let SensorResource { comment, name, rules } =
            sensor.ok_or_else(|| ApiError::format("invalid security rule(s): a resource has no sensor"))?;
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
