//! API keys.

use std::sync::Arc;

use nv_identity::api_key::{ApiKey, Expiration, MAX_KEYS};
use nv_identity::name::KeyName;
use nv_identity::permission::{Category, Operation};
use nv_model::name::NameError;
use secrecy::ExposeSecret as _;

use super::user::{grantable, may, need, role_names, short};
use crate::accounts::Held;
use crate::answer::{Empty, Json, One};
use crate::call::{Call, Caller};
use crate::dto::api_key::{Apikey, ApikeyCreationData, ApikeyGenerated, ApikeysData, SelfApikeyData};
use crate::dto::role::{domain_permissions_of, permissions_of};
use crate::dto::user::assignment;
use crate::error::{ApiError, Code};
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::{AnyUser, Authorization};
    vec![
        Route::get("/v1/selfapikey", AnyUser, "Show the calling API key", self_key),
        Route::get("/v1/api_key", Authorization, "List API keys", keys),
        Route::post("/v1/api_key", Authorization, "Create an API key", create_key),
        Route::get("/v1/api_key/:name", Authorization, "Show an API key", get_key),
        Route::delete("/v1/api_key/:name", Authorization, "Delete an API key", delete_key),
    ]
}

async fn self_key(call: Call) -> Result<Json<SelfApikeyData>, ApiError> {
    let Caller::Key { name, access, .. } = &call.caller else { return Err(ApiError::denied()) };
    let book = call.app.accounts.book();
    let key = book.keys.get(name).ok_or_else(ApiError::unauthorized)?;
    Ok(Json(SelfApikeyData {
        apikey: Apikey::from(&key.value),
        global_permissions: permissions_of(access.global()),
        domain_permissions: domain_permissions_of(access),
    }))
}

async fn keys(call: Call) -> Result<Json<ApikeysData>, ApiError> {
    let book = call.app.accounts.book();
    let apikeys = book
        .keys
        .values()
        .filter(|held| may(&call, Operation::Read, &held.value.assignment))
        .map(|held| Apikey::from(&held.value))
        .collect();
    let (global_roles, domain_roles) = role_names(&book);
    Ok(Json(ApikeysData { apikeys, global_roles, domain_roles }))
}

async fn create_key(call: Call, body: ApikeyCreationData) -> Result<One<ApikeyGenerated>, ApiError> {
    let given = body.apikey.ok_or_else(|| ApiError::format("the body has no apikey"))?;
    let name: KeyName =
        given.apikey_name.parse().map_err(|error: NameError| ApiError::new(Code::Name, error.to_string()))?;
    let expiration = Expiration::parse(&given.expiration_type, given.expiration_hours)
        .ok_or_else(|| ApiError::format("expiration_type or expiration_hours is not accepted"))?;
    let book = call.app.accounts.book();
    let roles = assignment(&given.role, &given.role_domains)?;
    grantable(&call, &book, &roles)?;
    need(&call, Operation::Own, &roles)?;
    if book.keys.len() >= MAX_KEYS {
        return Err(ApiError::new(Code::NotAllowed, format!("there are {MAX_KEYS} API keys already")));
    }
    let description = short("description", given.description)?;
    let by = call.caller.name().to_owned();
    let (key, secret) = ApiKey::generate(name, description, roles, expiration, call.app.clock.now(), by)
        .map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
    call.app.accounts.put(&key, None).await?;
    Ok(One(ApikeyGenerated {
        apikey_name: key.name.to_string(),
        apikey_secret: secret.expose_secret().to_owned(),
    }))
}

fn find_key(call: &Call) -> Result<Arc<Held<ApiKey>>, ApiError> {
    let name = call.parameter("name");
    call.app.accounts.book().keys.get(name).cloned().ok_or_else(|| ApiError::not_found("API key", name))
}

async fn get_key(call: Call) -> Result<One<Apikey>, ApiError> {
    let held = find_key(&call)?;
    need(&call, Operation::Read, &held.value.assignment)?;
    Ok(One(Apikey::from(&held.value)))
}

async fn delete_key(call: Call) -> Result<Empty, ApiError> {
    let held = find_key(&call)?;
    need(&call, Operation::Own, &held.value.assignment)?;
    call.app.accounts.delete(&held.value, held.modified).await?;
    Ok(Empty)
}
