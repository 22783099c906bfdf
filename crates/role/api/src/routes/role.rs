//! Roles.

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_identity::access::{Access, Scope};
use nv_identity::permission::{Category, Operation, VISIBLE, Visible};
use nv_identity::role::{Assignment, RESERVED, Role};
use nv_model::name::NameError;

use super::user::short;
use crate::accounts::{Book, Held};
use crate::answer::{Empty, List, One};
use crate::call::Call;
use crate::dto::Config;
use crate::dto::role::{PermissionOption, PermissionOptions, UserRole, UserRoleConfig, reserved_roles};
use crate::error::{ApiError, Code};
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::Authorization;
    vec![
        Route::get("/v1/user_role", Authorization, "List roles", roles),
        Route::post("/v1/user_role", Authorization, "Create a role", create_role),
        Route::get("/v1/user_role/:name", Authorization, "Show a role", get_role),
        Route::patch("/v1/user_role/:name", Authorization, "Change a role", update_role),
        Route::delete("/v1/user_role/:name", Authorization, "Delete a role", delete_role),
        Route::get("/v1/user_role_permission/options", Authorization, "List permissions of roles", options),
    ]
}

async fn roles(call: Call) -> Result<List<UserRole>, ApiError> {
    let book = call.app.accounts.book();
    let custom: Vec<UserRole> = book.roles.values().map(|held| UserRole::from(&held.value)).collect();
    Ok(List::new(reserved_roles().into_iter().chain(custom)))
}

async fn get_role(call: Call) -> Result<One<UserRole>, ApiError> {
    let name = call.parameter("name");
    let book = call.app.accounts.book();
    let custom = || book.roles.get(name).map(|held| UserRole::from(&held.value));
    let found = reserved_roles().into_iter().find(|role| role.name == name).or_else(custom);
    found.map(One).ok_or_else(|| ApiError::not_found("role", name))
}

/// Roles concern the cluster: only who may write there may change them, and gives no more than they have.
fn checked_role(call: &Call, name: &str, given: &UserRoleConfig) -> Result<Role, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let name = name.parse().map_err(|error: NameError| ApiError::new(Code::Name, error.to_string()))?;
    let role = Role { name, comment: short("comment", given.comment.clone())?, grants: given.grants() };
    role.check().map_err(|error| ApiError::format(error.to_string()))?;
    let gives = Access::of(
        &Assignment::global(role.name.as_str()),
        &BTreeMap::from([(role.name.clone(), role.clone())]),
    );
    match call.caller.access() {
        Some(mine) if mine.covers(&gives) => Ok(role),
        _ => Err(ApiError::new(Code::Denied, "the role gives more than the caller has")),
    }
}

async fn create_role(call: Call, body: Config<UserRoleConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let role = checked_role(&call, &given.name, &given)?;
    let book = call.app.accounts.book();
    if book.roles.len() >= Role::MAX_ROLES {
        return Err(ApiError::new(Code::NotAllowed, format!("there are {} roles already", Role::MAX_ROLES)));
    }
    call.app.accounts.put(&role, None).await?;
    Ok(Empty)
}

fn find_role(call: &Call, book: &Book) -> Result<Arc<Held<Role>>, ApiError> {
    let name = call.parameter("name");
    if RESERVED.iter().any(|role| role.name == name) {
        return Err(ApiError::new(Code::NotAllowed, format!("role {name} is built in")));
    }
    book.roles.get(name).cloned().ok_or_else(|| ApiError::not_found("role", name))
}

async fn update_role(call: Call, body: Config<UserRoleConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let held = find_role(&call, &call.app.accounts.book())?;
    let role = checked_role(&call, held.value.name.as_str(), &given)?;
    call.app.accounts.put(&role, Some(held.modified)).await?;
    Ok(Empty)
}

async fn delete_role(call: Call) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let book = call.app.accounts.book();
    let held = find_role(&call, &book)?;
    let name = held.value.name.as_str();
    let has = |roles: &Assignment| roles.role == name || roles.role_domains.contains_key(name);
    let user =
        book.users.values().find(|user| has(&user.value.assignment)).map(|user| user.value.name.to_string());
    let key =
        || book.keys.values().find(|key| has(&key.value.assignment)).map(|key| key.value.name.to_string());
    if let Some(who) = user.or_else(key) {
        return Err(ApiError::new(Code::InUse, format!("role {name} is used by {who}")));
    }
    call.app.accounts.delete(&held.value, held.modified).await?;
    Ok(Empty)
}

async fn options(_call: Call) -> Result<One<PermissionOptions>, ApiError> {
    let options = |rights: fn(&Visible) -> (bool, bool)| -> Vec<PermissionOption> {
        VISIBLE
            .iter()
            .map(|visible| (visible.id, rights(visible)))
            .filter(|(_, (read, write))| *read || *write)
            .map(|(id, (read, write))| PermissionOption {
                id: id.to_owned(),
                read_supported: read,
                write_supported: write,
            })
            .collect()
    };
    Ok(One(PermissionOptions {
        global_options: options(|visible| (visible.read, visible.write)),
        domain_options: options(|visible| (visible.domain_read, visible.domain_write)),
    }))
}
