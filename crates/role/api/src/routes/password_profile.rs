//! The password profile.

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_identity::profile::PasswordProfile;
use nv_identity::session::IDLE_SECONDS;

use super::user::short;
use crate::answer::{Empty, Json, One};
use crate::call::Call;
use crate::dto::Config;
use crate::dto::password_profile::{PwdProfile, PwdProfileConfig, PwdProfilesData};
use crate::error::ApiError;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::PasswordProfile as Profile;
    vec![
        Route::get("/v1/password_profile", Profile, "List password profiles", profiles),
        Route::get("/v1/password_profile/:name", Profile, "Show a password profile", get_profile),
        Route::patch("/v1/password_profile/:name", Profile, "Change a password profile", update_profile),
    ]
}

async fn profiles(call: Call) -> Result<Json<PwdProfilesData>, ApiError> {
    let profile = call.app.accounts.book().profile();
    Ok(Json(PwdProfilesData {
        active_profile_name: profile.name.clone(),
        pwd_profiles: vec![PwdProfile::from(&profile)],
    }))
}

fn known_profile(call: &Call) -> Result<PasswordProfile, ApiError> {
    let name = call.parameter("name");
    let profile = call.app.accounts.book().profile();
    if name == profile.name || name == PasswordProfile::ACTIVE {
        Ok(profile)
    } else {
        Err(ApiError::not_found("password profile", name))
    }
}

async fn get_profile(call: Call) -> Result<One<PwdProfile>, ApiError> {
    known_profile(&call).map(|profile| One(PwdProfile::from(&profile)))
}

async fn update_profile(call: Call, body: Config<PwdProfileConfig>) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let given = body.content()?;
    let mut profile = known_profile(&call)?;
    let set = |field: &mut u32, what: &str, value: Option<u32>, low: u32, high: u32| match value {
        Some(value) if (low..=high).contains(&value) => {
            *field = value;
            Ok(())
        }
        Some(value) => Err(ApiError::format(format!("{what} is {value}, expected {low} to {high}"))),
        None => Ok(()),
    };
    let want = &mut profile.strength;
    set(&mut want.min_len, "min_len", given.min_len, 6, 128)?;
    set(&mut want.min_uppercase_count, "min_uppercase_count", given.min_uppercase_count, 0, 32)?;
    set(&mut want.min_lowercase_count, "min_lowercase_count", given.min_lowercase_count, 0, 32)?;
    set(&mut want.min_digit_count, "min_digit_count", given.min_digit_count, 0, 32)?;
    set(&mut want.min_special_count, "min_special_count", given.min_special_count, 0, 32)?;
    let kinds =
        [want.min_uppercase_count, want.min_lowercase_count, want.min_digit_count, want.min_special_count];
    if kinds.iter().sum::<u32>() > want.min_len {
        return Err(ApiError::format("min_len is less than the kinds of characters together"));
    }
    let switch = |field: u32, enable: Option<bool>, value: Option<u32>, usual: u32| match (enable, value) {
        (Some(false), _) => 0,
        (_, Some(value)) => value,
        (Some(true), None) => {
            if field == 0 {
                usual
            } else {
                field
            }
        }
        (None, None) => field,
    };
    let days = switch(
        profile.expire_after_days.unwrap_or(0),
        given.enable_password_expiration,
        given.password_expire_after_days,
        90,
    );
    let history =
        switch(profile.history, given.enable_password_history, given.password_keep_history_count, 5);
    let failures = switch(
        profile.block_after_failures,
        given.enable_block_after_failed_login,
        given.block_after_failed_login_count,
        5,
    );
    let mut expires = 0;
    set(&mut expires, "password_expire_after_days", Some(days), 0, 3_650)?;
    profile.expire_after_days = (expires > 0).then_some(expires);
    let most = PasswordProfile::MAX_HISTORY;
    set(&mut profile.history, "password_keep_history_count", Some(history), 0, most)?;
    set(&mut profile.block_after_failures, "block_after_failed_login_count", Some(failures), 0, 100)?;
    set(&mut profile.block_minutes, "block_minutes", given.block_minutes, 1, 10_080)?;
    let (low, high) = (*IDLE_SECONDS.start(), *IDLE_SECONDS.end());
    set(&mut profile.session_timeout_seconds, "session_timeout", given.session_timeout, low, high)?;
    if let Some(comment) = given.comment {
        profile.comment = short("comment", comment)?;
    }
    let base = call.app.accounts.book().profiles.get(&profile.name).map(|held| held.modified);
    call.app.accounts.put(&profile, base).await?;
    Ok(Empty)
}
