//! DLP and WAF sensors, and which groups use them.

use std::collections::BTreeSet;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::group::{Group, GroupKind, Origin};
use nv_model::name::{GroupName, NameError, SensorName};
use nv_model::sensor::{
    PREDEFINED, PatternContext, Sensor as Stored, SensorId, SensorKind, SensorPattern, SensorProfile,
    SensorRule, SensorSetting, SensorUse, predefined,
};
use nv_model::verdict::Action;
use nv_policy::change::Change as PolicyChange;
use nv_policy::validate::MAX_COMMENT_CHARS;
use nv_role_controller::{ChangeError, Edit, View};

use crate::answer::{Empty, List, One};
use crate::call::Call;
use crate::dto::sensor::{
    CriteriaEntry, DlpGroup, GroupConfig, GroupConfigData, Rule, RuleDetail, RuleSetSummary, Sensor,
    SensorConfig, SensorConfigData, Setting, SettingConfig, WafGroup,
};
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::routes::{group, rule_set};

/// Most sensors of a kind, and rules of one.
pub(super) const MAX_SENSORS: usize = 256;
const MAX_RULES: usize = 256;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    use SensorKind::{Dlp, Waf};
    vec![
        Route::get("/v1/dlp/sensor", P, "List DLP sensors", |call| list(call, Dlp)),
        Route::post("/v1/dlp/sensor", P, "Create a DLP sensor", |call, body| create(call, body, Dlp)),
        Route::get("/v1/dlp/sensor/:name", P, "Show a DLP sensor", |call| get(call, Dlp)),
        Route::patch("/v1/dlp/sensor/:name", P, "Change a DLP sensor", |call, body| update(call, body, Dlp)),
        Route::delete("/v1/dlp/sensor/:name", P, "Delete a DLP sensor", |call| delete(call, Dlp)),
        Route::get("/v1/dlp/rule", P, "List rules of DLP sensors", |call| rules(call, Dlp)),
        Route::get("/v1/dlp/rule/:name", P, "Show rules of DLP sensors", |call| rule(call, Dlp)),
        Route::get("/v1/dlp/group", P, "List groups with their DLP sensors", dlp_groups),
        Route::get("/v1/dlp/group/:name", P, "Show the DLP sensors of a group", dlp_group),
        Route::patch("/v1/dlp/group/:name", P, "Change the DLP sensors of a group", |call, body| {
            use_sensors(call, body, Dlp)
        }),
        Route::get("/v1/waf/sensor", P, "List WAF sensors", |call| list(call, Waf)),
        Route::post("/v1/waf/sensor", P, "Create a WAF sensor", |call, body| create(call, body, Waf)),
        Route::get("/v1/waf/sensor/:name", P, "Show a WAF sensor", |call| get(call, Waf)),
        Route::patch("/v1/waf/sensor/:name", P, "Change a WAF sensor", |call, body| update(call, body, Waf)),
        Route::delete("/v1/waf/sensor/:name", P, "Delete a WAF sensor", |call| delete(call, Waf)),
        Route::get("/v1/waf/rule", P, "List rules of WAF sensors", |call| rules(call, Waf)),
        Route::get("/v1/waf/rule/:name", P, "Show rules of WAF sensors", |call| rule(call, Waf)),
        Route::get("/v1/waf/group", P, "List groups with their WAF sensors", waf_groups),
        Route::get("/v1/waf/group/:name", P, "Show the WAF sensors of a group", waf_group),
        Route::patch("/v1/waf/group/:name", P, "Change the WAF sensors of a group", |call, body| {
            use_sensors(call, body, Waf)
        }),
    ]
}

/// Whoever may read in any namespace may read sensors; they are written for the whole cluster.
pub(super) fn need(call: &Call, operation: Operation) -> Result<(), ApiError> {
    if call.may(operation, Scope::Shared) { Ok(()) } else { Err(ApiError::denied()) }
}

/// Those of a kind: the product's first, then by name.
fn of_kind(view: &View, kind: SensorKind) -> Vec<Stored> {
    let own = PREDEFINED
        .iter()
        .filter(|(of, ..)| *of == kind)
        .filter_map(|(kind, name, _)| predefined(&SensorId { kind: *kind, name: name.parse().ok()? }));
    own.chain(view.state.sensors.values().filter(|sensor| sensor.kind == kind).cloned()).collect()
}

fn show(call: &Call, view: &View, sensor: &Stored) -> Sensor {
    let uses = |profile: &&SensorProfile| {
        profile.of(sensor.kind).sensors.iter().any(|setting| setting.name == sensor.name)
    };
    let sees = |profile: &&SensorProfile| {
        view.state.groups.get(&profile.group).is_some_and(|held| group::may(call, Operation::Read, held))
    };
    let groups = view.state.sensor_profiles.values().filter(uses).filter(sees);
    Sensor {
        name: sensor.name.to_string(),
        groups: groups.map(|profile| profile.group.to_string()).collect(),
        rules: Rule::all_of(sensor),
        comment: sensor.comment.clone(),
        predefine: sensor.predefined,
        cfg_type: sensor.origin.as_str().to_owned(),
        rule_set: sensor.rule_set.as_ref().map(RuleSetSummary::from),
    }
}

async fn list(call: Call, kind: SensorKind) -> Result<List<Sensor>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let sensors: Vec<Sensor> = of_kind(&view, kind)
        .iter()
        .filter(|sensor| scope.admits(sensor.origin) && call.may(Operation::Read, Scope::Shared))
        .map(|sensor| show(&call, &view, sensor))
        .collect();
    Ok(List::new(call.query.inventory(sensors, Clone::clone).into_iter()))
}

/// The sensor of the path.
pub(super) fn find(
    call: &Call,
    view: &View,
    kind: SensorKind,
    operation: Operation,
) -> Result<Stored, ApiError> {
    let raw = call.parameter("name");
    let found = raw.parse().ok().and_then(|name| view.state.sensor(&SensorId { kind, name }));
    let found = found.ok_or_else(|| ApiError::not_found(&format!("{} sensor", kind.as_str()), raw))?;
    need(call, operation)?;
    Ok(found)
}

/// The sensor of the path, if it may be changed at all.
pub(super) fn find_own(call: &Call, view: &View, kind: SensorKind) -> Result<Stored, ApiError> {
    let found = find(call, view, kind, Operation::Write)?;
    let owner = match found.origin {
        Origin::SystemDefined => "comes with the product",
        Origin::Ground => "belongs to a custom resource",
        Origin::Federal => "belongs to the federation's primary",
        Origin::UserCreated | Origin::Learned => return Ok(found),
    };
    Err(ApiError::new(Code::NotAllowed, format!("sensor {} {owner} and cannot be changed here", found.name)))
}

async fn get(call: Call, kind: SensorKind) -> Result<One<Sensor>, ApiError> {
    let view = call.app.controller.view();
    let found = find(&call, &view, kind, Operation::Read)?;
    Ok(One(show(&call, &view, &found)))
}

async fn rules(call: Call, kind: SensorKind) -> Result<List<Rule>, ApiError> {
    let view = call.app.controller.view();
    let all = of_kind(&view, kind);
    let all = all.iter().filter(|_| call.may(Operation::Read, Scope::Shared)).flat_map(Rule::all_of);
    let mut rules: Vec<Rule> = all.collect();
    rules.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(List::new(call.query.inventory(rules, Clone::clone).into_iter()))
}

async fn rule(call: Call, kind: SensorKind) -> Result<One<RuleDetail>, ApiError> {
    let view = call.app.controller.view();
    let raw = call.parameter("name");
    let mut detail = RuleDetail::default();
    for sensor in of_kind(&view, kind) {
        for rule in Rule::all_of(&sensor).into_iter().filter(|rule| rule.name == raw) {
            detail.sensors.push(sensor.name.to_string());
            detail.rules.push(rule);
        }
    }
    if detail.rules.is_empty() {
        return Err(ApiError::not_found("rule", raw));
    }
    need(&call, Operation::Read)?;
    Ok(One(detail))
}

fn pattern(given: &CriteriaEntry) -> Result<SensorPattern, ApiError> {
    let absent = match given.op.as_str() {
        "regex" => false,
        "!regex" => true,
        other => return Err(ApiError::format(format!("operator {other:?} is neither regex nor !regex"))),
    };
    if !matches!(given.key.as_str(), "" | "pattern") {
        return Err(ApiError::format(format!("key {:?} is not pattern", given.key)));
    }
    let context = PatternContext::parse(&given.context).ok_or_else(|| {
        ApiError::format(format!("context {:?} is none of url, header, body and packet", given.context))
    })?;
    Ok(SensorPattern { value: given.value.clone(), absent, context })
}

/// A rule without a number.
fn read_rule(given: &Rule) -> Result<SensorRule, ApiError> {
    let wrong = |error: NameError| ApiError::format(format!("rule {:?}: {error}", given.name));
    let name: SensorName = given.name.parse().map_err(wrong)?;
    Ok(SensorRule { name, id: 0, patterns: given.patterns.iter().map(pattern).collect::<Result<_, _>>()? })
}

pub(super) fn read_rules(given: Option<&Vec<Rule>>) -> Result<Option<Vec<SensorRule>>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let rules = given.iter().map(read_rule).collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<&SensorName> = rules.iter().map(|rule| &rule.name).collect();
    if names.len() < rules.len() {
        return Err(ApiError::format("two rules have one name"));
    }
    Ok(Some(rules))
}

pub(super) fn comment(given: Option<&String>) -> Result<Option<String>, ApiError> {
    let given = given.cloned();
    match given.as_ref().map(|text| text.chars().count()).filter(|count| *count > MAX_COMMENT_CHARS) {
        Some(count) => Err(ApiError::format(format!(
            "the comment has {count} characters, {MAX_COMMENT_CHARS} at most are accepted"
        ))),
        None => Ok(given),
    }
}

/// Refuses rules that cannot be run at the speed of traffic, with the reason.
pub(super) async fn check(sensor: &Stored) -> Result<(), ApiError> {
    if sensor.rules.len() > MAX_RULES {
        return Err(ApiError::format(format!("a sensor has {MAX_RULES} rules at most")));
    }
    let sensor = sensor.clone();
    let checked = tokio::task::spawn_blocking(move || nv_sensor::model::check(&sensor)).await;
    match checked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused)) => {
            let reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
            Err(ApiError::format(reasons.join("; ")))
        }
        Err(error) => Err(ApiError::new(Code::Server, error.to_string())),
    }
}

/// Numbers of rules that are given out.
pub(super) fn numbers(view: &View, kind: SensorKind) -> BTreeSet<u32> {
    of_kind(view, kind).iter().flat_map(Rule::all_of).map(|rule| rule.id).collect()
}

/// Gives numbers to rules that have none: that of the held rule of the same name, or a free one.
pub(super) fn number(
    taken: &mut BTreeSet<u32>,
    held: Option<&Stored>,
    sensor: &mut Stored,
) -> Result<(), ChangeError> {
    let kind = sensor.kind;
    let (first, end) = kind.rule_ids();
    for rule in &mut sensor.rules {
        let same = held.and_then(|held| held.rules.iter().find(|known| known.name == rule.name));
        let free = || (first..end).find(|id| !taken.contains(id));
        let Some(id) = same.map(|known| known.id).or_else(free) else {
            return Err(ChangeError::Invalid {
                what: format!("all ids of {} rules are taken", kind.as_str()),
            });
        };
        taken.insert(id);
        rule.id = id;
    }
    Ok(())
}

fn config(body: SensorConfigData) -> Result<SensorConfig, ApiError> {
    body.config.ok_or_else(|| ApiError::format("the body has no config"))
}

/// A name that a sensor can be given.
pub(super) fn new_name(raw: &str) -> Result<SensorName, ApiError> {
    let name: SensorName =
        raw.parse().map_err(|error: NameError| ApiError::new(Code::Name, error.to_string()))?;
    if name.as_str().starts_with("fed.") {
        return Err(ApiError::new(Code::Name, "names that begin with fed. belong to the federation"));
    }
    Ok(name)
}

/// Refuses one more sensor than there may be.
pub(super) fn has_room(view: &View, kind: SensorKind) -> Result<(), ChangeError> {
    has_room_for(view, kind, 1)
}

/// Refuses so many sensors where that is more than there may be.
pub(super) fn has_room_for(view: &View, kind: SensorKind, more: usize) -> Result<(), ChangeError> {
    let held = view.state.sensors.values().filter(|held| held.kind == kind).count();
    if held.saturating_add(more) <= MAX_SENSORS {
        return Ok(());
    }
    Err(ChangeError::Invalid { what: format!("there are {MAX_SENSORS} sensors already") })
}

async fn create(call: Call, body: SensorConfigData, kind: SensorKind) -> Result<Empty, ApiError> {
    let given = config(body)?;
    need(&call, Operation::Write)?;
    let name = new_name(&given.name)?;
    if given.change.is_some() || given.delete.is_some() {
        return Err(ApiError::format("a new sensor takes rules, neither change nor delete"));
    }
    let sensor = Stored {
        name,
        kind,
        comment: comment(given.comment.as_ref())?.unwrap_or_default(),
        origin: Origin::UserCreated,
        predefined: false,
        rules: read_rules(given.rules.as_ref())?.unwrap_or_default(),
        rule_set: None,
    };
    check(&sensor).await?;
    let plan = move |view: &View| {
        if view.state.sensor(&sensor.id()).is_some() {
            let what = format!("{} sensor {} exists already", kind.as_str(), sensor.name);
            return Err(ChangeError::Duplicate { what });
        }
        has_room(view, kind)?;
        let mut sensor = sensor.clone();
        number(&mut numbers(view, kind), None, &mut sensor)?;
        Ok(vec![Edit::Policy(PolicyChange::PutSensor(Box::new(sensor)))])
    };
    call.transact(Box::new(plan)).await.map(|()| Empty)
}

/// What a sensor becomes.
struct Wanted {
    comment: Option<String>,
    replace: Option<Vec<SensorRule>>,
    change: Vec<SensorRule>,
    delete: Vec<String>,
}

impl Wanted {
    fn of(given: &SensorConfig) -> Result<Self, ApiError> {
        let delete = given.delete.iter().flatten().map(|rule| rule.name.clone()).collect();
        Ok(Self {
            comment: comment(given.comment.as_ref())?,
            replace: read_rules(given.rules.as_ref())?,
            change: read_rules(given.change.as_ref())?.unwrap_or_default(),
            delete,
        })
    }

    /// The sensor afterwards, its new rules without numbers.
    fn apply(&self, held: &Stored) -> Result<Stored, ChangeError> {
        let mut next = held.clone();
        if let Some(comment) = &self.comment {
            next.comment.clone_from(comment);
        }
        if let Some(rules) = &self.replace {
            next.rules.clone_from(rules);
            return Ok(next);
        }
        for name in &self.delete {
            let before = next.rules.len();
            next.rules.retain(|rule| rule.name.as_str() != name);
            if next.rules.len() == before {
                let what = format!("sensor {} has no rule {name:?}", held.name);
                return Err(ChangeError::NotFound { what });
            }
        }
        for rule in &self.change {
            match next.rules.iter_mut().find(|known| known.name == rule.name) {
                Some(known) => known.patterns.clone_from(&rule.patterns),
                None => next.rules.push(rule.clone()),
            }
        }
        Ok(next)
    }
}

async fn update(call: Call, body: SensorConfigData, kind: SensorKind) -> Result<Empty, ApiError> {
    let given = config(body)?;
    if !given.name.is_empty() && given.name != call.parameter("name") {
        return Err(ApiError::format("the name in the body is another one than in the path"));
    }
    let held = find_own(&call, &call.app.controller.view(), kind)?;
    let wanted = Wanted::of(&given)?;
    let next = wanted.apply(&held).map_err(crate::change::refused)?;
    check(&next).await?;
    let id = held.id();
    let plan = move |view: &View| {
        let Some(held) = view.state.sensors.get(&id) else {
            return Err(ChangeError::NotFound { what: format!("sensor {id} does not exist any more") });
        };
        let mut next = wanted.apply(held)?;
        number(&mut numbers(view, kind), Some(held), &mut next)?;
        Ok(vec![Edit::Policy(PolicyChange::PutSensor(Box::new(next)))])
    };
    call.transact(Box::new(plan)).await.map(|()| Empty)
}

async fn delete(call: Call, kind: SensorKind) -> Result<Empty, ApiError> {
    let id = find_own(&call, &call.app.controller.view(), kind)?.id();
    let plan = move |view: &View| {
        let uses = |profile: &&SensorProfile| {
            profile.of(id.kind).sensors.iter().any(|setting| setting.name == id.name)
        };
        let users: Vec<&str> =
            view.state.sensor_profiles.values().filter(uses).map(|held| held.group.as_str()).collect();
        if !users.is_empty() {
            let what = format!("sensor {} is used by groups {}", id.name, users.join(", "));
            return Err(ChangeError::InUse { what });
        }
        let held = view.state.sensors.get(&id);
        let mut edits: Vec<Edit> = held.and_then(|held| rule_set::forget(view, held)).into_iter().collect();
        edits.push(Edit::Policy(PolicyChange::DeleteSensor(id.clone())));
        Ok(edits)
    };
    call.transact(Box::new(plan)).await.map(|()| Empty)
}

fn settings(view: &View, name: &GroupName, kind: SensorKind) -> (bool, Vec<Setting>) {
    let held = view.state.sensor_profiles.get(name).map(|profile| profile.of(kind));
    let shown = held.iter().flat_map(|using| &using.sensors).map(|setting| {
        let sensor = view.state.sensor(&SensorId { kind, name: setting.name.clone() });
        let is_dlp = kind == SensorKind::Dlp;
        Setting {
            name: setting.name.to_string(),
            action: setting.action.as_str().to_owned(),
            exist: sensor.is_some(),
            predefine: is_dlp.then(|| sensor.as_ref().is_some_and(|sensor| sensor.predefined)),
            comment: sensor.as_ref().map(|sensor| sensor.comment.clone()).unwrap_or_default(),
            cfg_type: sensor.map_or(Origin::UserCreated, |sensor| sensor.origin).as_str().to_owned(),
        }
    });
    (held.is_none_or(|using| using.enabled), shown.collect())
}

/// Whether a group can use sensors: its members are workloads.
fn can_use(held: &Group) -> bool {
    held.kind == GroupKind::Container
}

fn groups<T: Clone + serde::Serialize>(
    call: &Call,
    show: impl Fn(&View, &Group) -> T,
) -> Result<Vec<T>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let held = view.state.groups.values().filter(|held| can_use(held) && scope.admits(held.origin));
    let held = held.filter(|held| group::may(call, Operation::Read, held));
    let shown: Vec<T> = held.map(|held| show(&view, held)).collect();
    Ok(call.query.inventory(shown, Clone::clone))
}

fn find_group<'a>(call: &Call, view: &'a View, operation: Operation) -> Result<&'a Group, ApiError> {
    let held = group::find(call, view, operation)?;
    if can_use(held) { Ok(held) } else { Err(ApiError::not_found("group of workloads", held.name.as_str())) }
}

fn show_dlp(view: &View, held: &Group) -> DlpGroup {
    let (status, sensors) = settings(view, &held.name, SensorKind::Dlp);
    DlpGroup { name: held.name.to_string(), status, sensors, cfg_type: held.origin.as_str().to_owned() }
}

fn show_waf(view: &View, held: &Group) -> WafGroup {
    let (status, sensors) = settings(view, &held.name, SensorKind::Waf);
    WafGroup { name: held.name.to_string(), status, sensors, cfg_type: held.origin.as_str().to_owned() }
}

async fn dlp_groups(call: Call) -> Result<List<DlpGroup>, ApiError> {
    Ok(List::new(groups(&call, show_dlp)?.into_iter()))
}

async fn waf_groups(call: Call) -> Result<List<WafGroup>, ApiError> {
    Ok(List::new(groups(&call, show_waf)?.into_iter()))
}

async fn dlp_group(call: Call) -> Result<One<DlpGroup>, ApiError> {
    let view = call.app.controller.view();
    Ok(One(show_dlp(&view, find_group(&call, &view, Operation::Read)?)))
}

async fn waf_group(call: Call) -> Result<One<WafGroup>, ApiError> {
    let view = call.app.controller.view();
    Ok(One(show_waf(&view, find_group(&call, &view, Operation::Read)?)))
}

fn read_settings(given: &[SettingConfig]) -> Result<Vec<SensorSetting>, ApiError> {
    given
        .iter()
        .map(|setting| {
            let wrong = |error: NameError| ApiError::format(format!("sensor {:?}: {error}", setting.name));
            let action = Action::parse(&setting.action).ok_or_else(|| {
                ApiError::format(format!("the action of {:?} is neither allow nor deny", setting.name))
            })?;
            Ok(SensorSetting { name: setting.name.parse().map_err(wrong)?, action })
        })
        .collect()
}

/// How the sensors of a group change.
struct Use {
    status: Option<bool>,
    clear: bool,
    delete: Vec<String>,
    set: Vec<SensorSetting>,
}

impl Use {
    fn of(given: &GroupConfig) -> Result<Self, ApiError> {
        let added = given.sensors.as_deref().filter(|_| given.replace.is_none());
        let set = given.replace.as_deref().or(added).unwrap_or_default();
        Ok(Self {
            status: given.status,
            clear: given.replace.is_some() || added.is_some_and(<[SettingConfig]>::is_empty),
            delete: given.delete.clone().unwrap_or_default(),
            set: read_settings(set)?,
        })
    }

    fn apply(&self, using: &mut SensorUse) {
        using.enabled = self.status.unwrap_or(using.enabled);
        if self.clear {
            using.sensors.clear();
        }
        using.sensors.retain(|held| !self.delete.iter().any(|gone| gone == held.name.as_str()));
        for setting in &self.set {
            match using.sensors.iter_mut().find(|held| held.name == setting.name) {
                Some(held) => held.action = setting.action,
                None => using.sensors.push(setting.clone()),
            }
        }
    }
}

async fn use_sensors(call: Call, body: GroupConfigData, kind: SensorKind) -> Result<Empty, ApiError> {
    let given = body.config.ok_or_else(|| ApiError::format("the body has no config"))?;
    let view = call.app.controller.view();
    let held = find_group(&call, &view, Operation::Write)?;
    if !given.name.is_empty() && given.name != held.name.as_str() {
        return Err(ApiError::format("the name in the body is another one than in the path"));
    }
    if matches!(held.origin, Origin::Ground | Origin::Federal) {
        let what = format!("group {} is owned elsewhere and cannot be changed here", held.name);
        return Err(ApiError::new(Code::NotAllowed, what));
    }
    let (name, change) = (held.name.clone(), Use::of(&given)?);
    let plan = move |view: &View| {
        if !view.state.groups.contains_key(&name) {
            return Err(ChangeError::NotFound { what: format!("group {name} does not exist any more") });
        }
        for setting in &change.set {
            if view.state.sensor(&SensorId { kind, name: setting.name.clone() }).is_none() {
                let what = format!("{} sensor {} does not exist", kind.as_str(), setting.name);
                return Err(ChangeError::NotFound { what });
            }
        }
        let held = view.state.sensor_profiles.get(&name).cloned();
        let mut profile = held.unwrap_or_else(|| SensorProfile::new(name.clone()));
        change.apply(profile.of_mut(kind));
        if profile.of(kind).sensors.len() > MAX_SENSORS {
            return Err(ChangeError::Invalid { what: format!("a group uses {MAX_SENSORS} sensors at most") });
        }
        Ok(vec![Edit::Policy(PolicyChange::PutSensors(Box::new(profile)))])
    };
    call.transact(Box::new(plan)).await.map(|()| Empty)
}
