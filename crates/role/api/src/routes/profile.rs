//! Process profiles.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::condition::Conditions;
use nv_model::group::{Group, Origin};
use nv_model::name::GroupName;
use nv_model::profile::{PathPattern, ProcessRule};
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_policy::membership;
use nv_policy::profile::effective;
use nv_policy::state::home_group;
use nv_role_controller::{Change, View};

use crate::answer::{Empty, List, One};
use crate::call::Call;
use crate::change::baseline;
use crate::dto::policy::{
    ProcessProfile, ProcessProfileConfigData, ProcessProfileEntry, ProcessProfileEntryConfig,
    ProcessUuidEntry,
};
use crate::error::ApiError;
use crate::route::Route;
use crate::routes::{group, workload};

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Infra, RtPolicies as P};
    vec![
        Route::get("/v1/process_profile", P, "List process profiles", list),
        Route::get("/v1/process_profile/:name", P, "Show a process profile", get),
        Route::patch("/v1/process_profile/:name", P, "Change a process profile", update),
        Route::get("/v1/process_rules/:uuid", P, "Find a line of a process profile", by_uuid),
        Route::get(
            "/v1/workload/:id/process_profile",
            P,
            "Show the process profile of a workload",
            of_workload,
        ),
        Route::get("/v1/host/:id/process_profile", Infra, "Show the process profile of a host", of_host),
    ]
}

/// The profile of a group; an empty one where nothing is stored yet.
fn show(view: &View, group: &Group) -> ProcessProfile {
    let held = view.state.profiles.get(&group.name);
    let modes = view.state.modes_of(&group.name);
    ProcessProfile {
        group: group.name.to_string(),
        baseline: modes.map(|modes| modes.baseline.as_str().to_owned()).unwrap_or_default(),
        alert_disabled: held.is_some_and(|held| held.alert_disabled),
        hash_enabled: held.is_some_and(|held| held.hash_enabled),
        mode: modes.map(|modes| modes.profile.as_str().to_owned()).unwrap_or_default(),
        process_list: held
            .map(|held| held.rules.iter().map(|rule| ProcessProfileEntry::of(rule, "")).collect())
            .unwrap_or_default(),
    }
}

async fn list(call: Call) -> Result<List<ProcessProfile>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let names: Vec<GroupName> = view
        .state
        .groups
        .values()
        .filter(|group| group.name.has_mode() || view.state.profiles.contains_key(&group.name))
        .filter(|group| scope.admits(group.origin))
        .filter(|held| group::may(&call, Operation::Read, held))
        .map(|group| group.name.clone())
        .collect();
    let shown = |view: &View, name: &GroupName| view.state.groups.get(name).map(|group| show(view, group));
    let selected = call.query.inventory(names, |name| shown(&view, name));
    let view = Arc::clone(&view);
    Ok(List::new(selected.into_iter().filter_map(move |name| shown(&view, &name))))
}

async fn get(call: Call) -> Result<One<ProcessProfile>, ApiError> {
    let view = call.app.controller.view();
    let group = group::find(&call, &view, Operation::Read)?;
    Ok(One(show(&view, group)))
}

/// A condition as it is written; empty for none.
fn condition<T: FromStr<Err: Display>>(raw: &str) -> Result<Option<T>, ApiError> {
    let parsed = (!raw.is_empty()).then(|| raw.parse::<T>()).transpose();
    parsed.map_err(|error| ApiError::format(error.to_string()))
}

fn line(given: &ProcessProfileEntryConfig, now: Timestamp, to_delete: bool) -> Result<ProcessRule, ApiError> {
    let path: PathPattern = given
        .path
        .parse()
        .map_err(|error: nv_model::profile::PathPatternError| ApiError::format(error.to_string()))?;
    let action = match Action::parse(&given.action) {
        Some(action) => action,
        None if to_delete => Action::Allow,
        None => {
            return Err(ApiError::format(format!(
                "the action of {:?} is neither allow nor deny",
                given.name
            )));
        }
    };
    let conditions = Conditions {
        arguments: condition(&given.arguments)?,
        parent: condition(&given.parent)?,
        uid: given.uid,
    };
    Ok(ProcessRule {
        uuid: uuid::Uuid::new_v4().to_string(),
        name: given.name.clone(),
        path,
        action,
        origin: Origin::UserCreated,
        allow_update: given.allow_update,
        conditions,
        created: now,
        modified: now,
    })
}

async fn update(call: Call, body: ProcessProfileConfigData) -> Result<Empty, ApiError> {
    let given = body
        .process_profile_config
        .ok_or_else(|| ApiError::format("the body has no process_profile_config"))?;
    let view = call.app.controller.view();
    let name = group::find(&call, &view, Operation::Write)?.name.clone();
    let now = call.app.clock.now();
    let lines = |given: Option<Vec<ProcessProfileEntryConfig>>, to_delete| {
        given
            .unwrap_or_default()
            .iter()
            .map(|entry| line(entry, now, to_delete))
            .collect::<Result<Vec<_>, _>>()
    };
    let set = lines(given.process_change_list, false)?;
    let delete = lines(given.process_delete_list, true)?;
    let baseline = baseline(given.baseline.as_deref())?;
    if !set.is_empty() || !delete.is_empty() || given.alert_disabled.is_some() || given.hash_enabled.is_some()
    {
        let (alert_disabled, hash_enabled) = (given.alert_disabled, given.hash_enabled);
        call.change(Change::UpdateProfile { group: name.clone(), set, delete, alert_disabled, hash_enabled })
            .await?;
    }
    if baseline.is_some() {
        call.change(Change::SetModes {
            groups: vec![name],
            network: None,
            profile: None,
            baseline,
            fault: None,
        })
        .await?;
    }
    Ok(Empty)
}

async fn by_uuid(call: Call) -> Result<List<ProcessUuidEntry>, ApiError> {
    let view = call.app.controller.view();
    let uuid = call.parameter("uuid");
    let found: Vec<ProcessUuidEntry> = view
        .state
        .profiles
        .values()
        .filter(|profile| {
            view.state.groups.get(&profile.group).is_some_and(|held| group::may(&call, Operation::Read, held))
        })
        .flat_map(|profile| profile.rules.iter().map(move |rule| (&profile.group, rule)))
        .filter(|(_, rule)| rule.uuid == uuid)
        .map(|(group, rule)| ProcessUuidEntry {
            active: 1,
            group: group.to_string(),
            rule: ProcessProfileEntry::of(rule, ""),
        })
        .collect();
    if found.is_empty() {
        return Err(ApiError::not_found("process rule", uuid));
    }
    Ok(List::new(found.into_iter()))
}

async fn of_workload(call: Call) -> Result<One<ProcessProfile>, ApiError> {
    let view = call.app.controller.view();
    let workload = workload::find(&call, &view, Operation::Read)?;
    let groups = membership::groups_of(&view.state, &workload.id);
    Ok(One(ProcessProfile::effective(&effective(&view.state, &home_group(&workload), &[&groups]))))
}

async fn of_host(call: Call) -> Result<One<ProcessProfile>, ApiError> {
    let view = call.app.controller.view();
    let id = call.parameter("id");
    if !view.state.nodes.contains_key(id) {
        return Err(ApiError::not_found("host", id));
    }
    call.need(Operation::Read, Scope::Cluster)?;
    let nodes = GroupName::nodes();
    let groups = [nodes.clone()];
    Ok(One(ProcessProfile::effective(&effective(&view.state, &nodes, &[&groups]))))
}
