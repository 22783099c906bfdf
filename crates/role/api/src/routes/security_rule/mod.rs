//! Export and import of groups with all that holds for them, as the custom resources that they could be as well.

mod read;
mod write;

use bytes::Bytes;
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::group::Origin;
use nv_role_controller::Change;

use crate::call::Call;
use crate::dto::security_rule::GroupExport;
use crate::error::ApiError;
use crate::imports::Progress;
use crate::route::Route;
use crate::routes::group;
use crate::routes::transfer::{File, answered_here, import};

pub(crate) fn routes() -> Vec<Route> {
    use Category::{Group, RtPolicies};
    const PATH: &str = "/v1/file/group";
    vec![
        Route::taking(axum::http::Method::GET, PATH, Group, "Export groups with their policy", export),
        Route::post(PATH, Group, "Export groups with their policy", export).reading(),
        Route::get("/v1/file/group/config", RtPolicies, "Say how far the last import is", last),
        Route::upload(
            "/v1/file/group/config",
            RtPolicies,
            "Import groups with their policy; how far, by X-Transaction-ID",
            import_groups,
        ),
    ]
}

/// The groups of these names. Those of the federation are its own, and left out.
async fn export(call: Call, body: GroupExport) -> Result<File, ApiError> {
    answered_here(body.remote_export_options.as_ref())?;
    let view = call.app.controller.view();
    let options = write::Options::of(&body)?;
    let mut groups = Vec::with_capacity(body.groups.len());
    for raw in &body.groups {
        let held = view.state.groups.get(raw.as_str()).ok_or_else(|| ApiError::not_found("group", raw))?;
        if !group::may(&call, Operation::Read, held) {
            return Err(ApiError::denied());
        }
        groups.extend(Some(held).filter(|held| held.origin != Origin::Federal));
    }
    // A rule belongs to two groups, and is read by whoever may read either.
    File::of("cfgGroupsExport.yaml", write::resources(&view.state, &groups, &options))
}

async fn last(call: Call) -> Result<Progress, ApiError> {
    call.need(Operation::Read, Scope::Cluster)?;
    Ok(call.app.imports.last(call.app.clock.now()))
}

async fn import_groups(call: Call, body: Bytes) -> Result<Progress, ApiError> {
    // A file names groups of any namespace.
    call.need(Operation::Write, Scope::Cluster)?;
    import(call, &body, |call, file| async move {
        let import = read::import(&file)?;
        call.change(Change::Import(Box::new(import))).await
    })
}
