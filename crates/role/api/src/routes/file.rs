//! File monitor profiles.

use std::sync::Arc;

use nv_identity::permission::{Category, Operation};
use nv_model::file::{FileBehavior, FilePattern, FilePatternError, FileRule};
use nv_model::group::{Group, GroupKind, Origin};
use nv_model::name::GroupName;
use nv_model::question::{Answer, Question};
use nv_policy::state::home_group;
use nv_policy::{file, membership, profile};
use nv_role_controller::{Change, View};

use crate::answer::{Empty, List, One};
use crate::ask::strange;
use crate::call::Call;
use crate::dto::file::{
    FileMonitorConfigData, FileMonitorFile, FileMonitorFilter, FileMonitorFilterConfig, FileMonitorProfile,
};
use crate::error::ApiError;
use crate::route::Route;
use crate::routes::{group, session, workload};

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    vec![
        Route::get("/v1/file_monitor", P, "List file profiles", list),
        Route::get("/v1/file_monitor/:name", P, "Show a file profile", get),
        Route::patch("/v1/file_monitor/:name", P, "Change a file profile", update),
        Route::get(
            "/v1/file_monitor_file",
            Category::Debug,
            "List the files that an enforcer watches",
            watched,
        ),
        Route::get("/v1/workload/:id/file_profile", P, "Show the file profile of a workload", of_workload),
    ]
}

/// The profile of a group, the built-in watch list before its own lines where that is asked for.
fn show(view: &View, name: &GroupName, predefined: bool) -> FileMonitorProfile {
    let built_in = if predefined { file::predefined() } else { &[] };
    let own = view.state.files.get(name).map(|held| held.rules.as_slice()).unwrap_or_default();
    let filters = built_in.iter().chain(own).map(|rule| FileMonitorFilter::of(rule, "")).collect();
    FileMonitorProfile { group: name.to_string(), filters }
}

/// Whether the group can have file rules.
fn has_files(group: &Group) -> bool {
    group.kind == GroupKind::Container
}

async fn list(call: Call) -> Result<List<FileMonitorProfile>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let names: Vec<GroupName> = view
        .state
        .groups
        .values()
        .filter(|group| {
            has_files(group) && (group.name.has_mode() || view.state.files.contains_key(&group.name))
        })
        .filter(|group| scope.admits(group.origin))
        .filter(|held| group::may(&call, Operation::Read, held))
        .map(|group| group.name.clone())
        .collect();
    let selected = call.query.inventory(names, |name| show(&view, name, false));
    let view = Arc::clone(&view);
    Ok(List::new(selected.into_iter().map(move |name| show(&view, &name, false))))
}

async fn get(call: Call) -> Result<One<FileMonitorProfile>, ApiError> {
    let view = call.app.controller.view();
    let group = group::find(&call, &view, Operation::Read)?;
    if !has_files(group) {
        return Err(ApiError::not_found("file profile", group.name.as_str()));
    }
    Ok(One(show(&view, &group.name, call.query.others.contains_key("predefined"))))
}

fn filter(given: &FileMonitorFilterConfig) -> Result<FilePattern, ApiError> {
    given.filter.parse().map_err(|error: FilePatternError| ApiError::format(error.to_string()))
}

fn rule(given: &FileMonitorFilterConfig) -> Result<FileRule, ApiError> {
    let behavior = FileBehavior::parse(&given.behavior).ok_or_else(|| {
        ApiError::format(format!(
            "the behavior of {:?} is neither monitor_change nor block_access",
            given.filter
        ))
    })?;
    Ok(FileRule {
        filter: filter(given)?,
        recursive: given.recursive,
        behavior,
        applications: given.applications.clone(),
        origin: Origin::UserCreated,
        created: Default::default(),
        modified: Default::default(),
    })
}

async fn update(call: Call, body: FileMonitorConfigData) -> Result<Empty, ApiError> {
    let given = body.config.ok_or_else(|| ApiError::format("the body has no config"))?;
    let view = call.app.controller.view();
    let name = group::find(&call, &view, Operation::Write)?.name.clone();
    let rules = |given: Option<Vec<FileMonitorFilterConfig>>| {
        given.unwrap_or_default().iter().map(rule).collect::<Result<Vec<_>, _>>()
    };
    let add = rules(given.add_filters)?;
    let update = rules(given.update_filters)?;
    let delete =
        given.delete_filters.unwrap_or_default().iter().map(filter).collect::<Result<Vec<_>, _>>()?;
    if !(add.is_empty() && update.is_empty() && delete.is_empty()) {
        call.change(Change::UpdateFiles { group: name, add, update, delete }).await?;
    }
    Ok(Empty)
}

async fn of_workload(call: Call) -> Result<One<FileMonitorProfile>, ApiError> {
    let view = call.app.controller.view();
    let workload = workload::find(&call, &view, Operation::Read)?;
    let groups = membership::groups_of(&view.state, &workload.id);
    let effective = profile::effective(&view.state, &home_group(&workload), &[&groups]);
    let filters = file::rules(&effective).map(|(group, rule)| FileMonitorFilter::of(rule, group.as_str()));
    Ok(One(FileMonitorProfile { group: effective.group.to_string(), filters: filters.collect() }))
}

async fn watched(mut call: Call) -> Result<List<FileMonitorFile>, ApiError> {
    let (node, workload) = session::whose(&mut call, Operation::Read)?;
    match call.ask(&node, Question::WatchedFiles { workload }).await? {
        Answer::WatchedFiles(files) => {
            let files: Vec<FileMonitorFile> = files.into_iter().map(FileMonitorFile::from).collect();
            Ok(List::new(call.query.inventory(files, Clone::clone).into_iter()))
        }
        _ => Err(strange()),
    }
}
