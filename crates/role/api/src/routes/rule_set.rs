//! Rule sets in ModSecurity's language, handed in for WAF sensors. Not in the contract.

use bytes::Bytes;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_model::rule_set::{MAX_RULE_SETS, RuleSetBlob};
use nv_model::scan::BlobId;
use nv_model::sensor::{RuleSetUse, Sensor as Stored, SensorId, SensorKind};
use nv_policy::change::Change as PolicyChange;
use nv_role_controller::{ChangeError, Edit, View};
use nv_sensor::rule_set::files::RuleFiles;
use nv_sensor::rule_set::transactions::live_settings;

use crate::answer::{Empty, One};
use crate::call::Call;
use crate::dto::sensor::RuleSet;
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::routes::sensor;

/// Largest archive: the Core Rule Set's has 300 KiB, and 3 MiB with its regression cases.
const MAX_ARCHIVE_BYTES: usize = 4 << 20;
/// Most refusals that are told.
const MAX_REFUSED: usize = 100;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    const PATH: &str = "/v1/waf/sensor/:name/rule_set";
    vec![
        Route::get(PATH, P, "Show the rule set of a WAF sensor", get),
        Route::upload(PATH, P, "Give a WAF sensor, made when there is none, a rule set in ModSecurity's language: a tar archive (gzip), or one file of rules", put)
            .up_to(MAX_ARCHIVE_BYTES),
        Route::delete(PATH, P, "Take the rule set of a WAF sensor away", delete),
    ]
}

/// What came of compiling a rule set.
struct Compiled {
    blob: RuleSetBlob,
    shown: RuleSet,
    used: RuleSetUse,
}

/// Reads and compiles a rule set as a node would. Takes a tenth of a second.
async fn compile(
    name: String,
    read: impl FnOnce() -> Result<RuleFiles, String> + Send + 'static,
) -> Result<Compiled, ApiError> {
    let work = move || {
        let files = read()?;
        let (set, refused) = files.compile(live_settings()).map_err(|error| error.to_string())?;
        if set.is_empty() {
            let first = refused.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!("none of its rules is taken; {first}"));
        }
        let blob = RuleSetBlob::new(files.pack()).map_err(|error| error.to_string())?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let used = RuleSetUse { blob: blob.id(), rules: count(set.len()), refused: count(refused.len()) };
        let shown = RuleSet {
            sensor: name,
            digest: format!("sha256:{}", blob.id()),
            files: count(files.len()),
            rules: used.rules,
            refused_count: used.refused,
            refused: refused.iter().take(MAX_REFUSED).map(ToString::to_string).collect(),
        };
        Ok(Compiled { blob, shown, used })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(compiled) => compiled
            .map_err(|reason: String| ApiError::format(format!("the rule set is not taken: {reason}"))),
        Err(error) => Err(ApiError::new(Code::Server, error.to_string())),
    }
}

/// Whether sensors other than one have a rule set.
fn is_used_elsewhere(view: &View, blob: BlobId, by: &SensorId) -> bool {
    let has = |held: &Stored| held.rule_set.as_ref().is_some_and(|used| used.blob == blob);
    view.state.sensors.values().any(|held| held.id() != *by && has(held))
}

/// What takes away the rule set that a sensor has, when no other has it.
pub(super) fn forget(view: &View, held: &Stored) -> Option<Edit> {
    let blob = held.rule_set.as_ref()?.blob;
    let unused = !is_used_elsewhere(view, blob, &held.id());
    unused.then_some(Edit::Policy(PolicyChange::DeleteRuleSet(blob)))
}

async fn get(call: Call) -> Result<One<RuleSet>, ApiError> {
    let view = call.app.controller.view();
    let held = sensor::find(&call, &view, SensorKind::Waf, Operation::Read)?;
    let blob = held.rule_set.as_ref().and_then(|used| view.state.rule_sets.get(&used.blob)).cloned();
    let blob = blob.ok_or_else(|| ApiError::not_found("rule set of sensor", held.name.as_str()))?;
    let read = move || RuleFiles::unpack(blob.bytes()).map_err(|error| error.to_string());
    compile(held.name.to_string(), read).await.map(|compiled| One(compiled.shown))
}

async fn put(call: Call, archive: Bytes) -> Result<One<RuleSet>, ApiError> {
    let view = call.app.controller.view();
    let name = sensor::new_name(call.parameter("name"))?;
    let id = SensorId { kind: SensorKind::Waf, name };
    if view.state.sensor(&id).is_some() {
        sensor::find_own(&call, &view, SensorKind::Waf)?;
    } else {
        sensor::need(&call, Operation::Write)?;
    }
    let read = move || RuleFiles::from_archive(&archive).map_err(|error| error.to_string());
    let Compiled { blob, shown, used } = compile(id.name.to_string(), read).await?;
    let plan = move |view: &View| {
        let held = view.state.sensors.get(&id);
        let mut next = held.cloned().unwrap_or_else(|| Stored {
            name: id.name.clone(),
            kind: SensorKind::Waf,
            comment: String::new(),
            origin: Origin::UserCreated,
            predefined: false,
            rules: Vec::new(),
            rule_set: None,
        });
        if held.is_none() {
            sensor::has_room(view, SensorKind::Waf)?;
        }
        if next.rule_set.as_ref() == Some(&used) && view.state.rule_sets.contains_key(&used.blob) {
            return Ok(Vec::new());
        }
        let before = held.filter(|held| held.rule_set.as_ref().is_some_and(|held| held.blob != used.blob));
        let mut edits: Vec<Edit> = before.and_then(|held| forget(view, held)).into_iter().collect();
        if !view.state.rule_sets.contains_key(&used.blob) {
            if view.state.rule_sets.len() >= MAX_RULE_SETS.saturating_add(edits.len()) {
                return Err(ChangeError::Invalid {
                    what: format!("there are {MAX_RULE_SETS} rule sets already"),
                });
            }
            edits.push(Edit::Policy(PolicyChange::PutRuleSet(blob.clone())));
        }
        next.rule_set = Some(used.clone());
        edits.push(Edit::Policy(PolicyChange::PutSensor(Box::new(next))));
        Ok(edits)
    };
    call.transact(Box::new(plan)).await.map(|()| One(shown))
}

async fn delete(call: Call) -> Result<Empty, ApiError> {
    let id = sensor::find_own(&call, &call.app.controller.view(), SensorKind::Waf)?.id();
    let plan = move |view: &View| {
        let Some(held) = view.state.sensors.get(&id).filter(|held| held.rule_set.is_some()) else {
            return Err(ChangeError::NotFound { what: format!("sensor {} has no rule set", id.name) });
        };
        let mut edits: Vec<Edit> = forget(view, held).into_iter().collect();
        let next = Stored { rule_set: None, ..held.clone() };
        edits.push(Edit::Policy(PolicyChange::PutSensor(Box::new(next))));
        Ok(edits)
    };
    call.transact(Box::new(plan)).await.map(|()| Empty)
}
