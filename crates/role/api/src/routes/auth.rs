//! Logging in and out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use nv_identity::name::UserName;
use nv_identity::password::Verified;
use nv_identity::permission::Category;
use nv_identity::profile::{PasswordProfile, Weakness};
use nv_identity::user::{Admission, ChangeError, User};
use nv_model::record::Level;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::SemaphorePermit;

use crate::accounts::Held;
use crate::answer::{Empty, Json};
use crate::app::{App, TOKEN};
use crate::call::{Call, Caller};
use crate::dto::role::{domain_permissions_of, permissions_of};
use crate::dto::user::{AuthData, AuthPassword, Token, TokenData};
use crate::error::{ApiError, Code};
use crate::events;
use crate::route::Route;
use crate::routes::user::show;

/// Largest login, in bytes: anyone may send one.
const MAX_LOGIN: usize = 64 * 1024;
/// Longest wait for a turn to hash.
const TURN: Duration = Duration::from_secs(10);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/auth", Category::Anonymous, "Log in", log_in).silent().up_to(MAX_LOGIN),
        Route::plain(Method::PATCH, "/v1/auth", Category::AnyUser, "Keep the session open", keep).silent(),
        Route::delete("/v1/auth", Category::AnyUser, "Log out", log_out).silent(),
    ]
}

/// Runs slow password work where blocking is allowed, a few at a time.
pub(crate) async fn hashing<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let busy = |_error| {
        ApiError::new(Code::Server, "too many logins at one time; try again")
            .with_status(axum::http::StatusCode::SERVICE_UNAVAILABLE)
    };
    let turn: Result<SemaphorePermit<'_>, _> =
        tokio::time::timeout(TURN, app.hashing.acquire()).await.map_err(busy)?;
    let done = tokio::task::spawn_blocking(work).await;
    drop(turn);
    done.map_err(|error| ApiError::new(Code::Server, error.to_string()))
}

/// How a refused new password looks.
pub(crate) fn refused(error: &ChangeError, profile: &PasswordProfile) -> ApiError {
    match error {
        ChangeError::Weak(Weakness::Strength(want)) => {
            ApiError::new(Code::WeakPassword, error.to_string()).with_strength(*want)
        }
        ChangeError::Weak(_) => {
            ApiError::new(Code::WeakPassword, error.to_string()).with_strength(profile.strength)
        }
        ChangeError::Hash(_) => ApiError::new(Code::Format, error.to_string()),
        _ => ApiError::new(Code::Server, error.to_string()),
    }
}

async fn log_in(call: Call, body: AuthData) -> Result<Json<TokenData>, ApiError> {
    let AuthPassword { username, password, new_password } = body.password.unwrap_or_default();
    // The address in the body is the console's word for its browser; it is only told in events.
    let address = body.client_ip.parse::<IpAddr>().unwrap_or(call.peer).to_string();
    if password.is_empty() || username.is_empty() {
        return Err(ApiError::unauthorized());
    }
    let app = Arc::clone(&call.app);
    let book = app.accounts.book();
    let profile = book.profile();
    let rule = profile.block();
    let held = username.parse::<UserName>().ok().and_then(|name| book.users.get(&name).cloned());
    if app.throttle().is_blocked(&username, rule, app.clock.monotonic()) {
        return Err(ApiError::new(Code::Blocked, ""));
    }

    let verified = {
        let (passwords, password) = (Arc::clone(&app.passwords), password.get().clone());
        let stored = held.as_ref().map(|held| held.value.password.clone());
        hashing(&app, move || passwords.verify(&password, stored.as_ref())).await?
    };
    let (Some(held), Verified::Right | Verified::RightButWeak) = (held.clone(), verified) else {
        let blocked = app.throttle().failed(&username, held.is_some(), rule, app.clock.monotonic());
        events::auth(&call, "User.Login.Failed", Level::Error, &username, &address, "wrong name or password");
        if blocked {
            events::auth(
                &call,
                "User.Login.Blocked",
                Level::Error,
                &username,
                &address,
                "too many failed logins",
            );
        }
        return Err(ApiError::unauthorized());
    };
    // Failures of other attempts in the meantime count: the block holds for the right password, too.
    if app.throttle().is_blocked(&username, rule, app.clock.monotonic()) {
        return Err(ApiError::new(Code::Blocked, ""));
    }

    let now = app.clock.now();
    let mut user = held.value.clone();
    match user.admission(&profile, now) {
        Admission::Expired => {
            events::auth(
                &call,
                "User.Login.Failed",
                Level::Error,
                &username,
                &address,
                "the password has ended",
            );
            return Err(ApiError::new(Code::PasswordExpired, ""));
        }
        Admission::MustChange => {
            let Some(new) = new_password else {
                return Ok(Json(TokenData {
                    token: None,
                    password_days_until_expire: -1,
                    password_hours_until_expire: -1,
                    need_to_reset_password: true,
                }));
            };
            user = change(&app, user, new.get().clone(), &profile).await?;
            events::auth(&call, "User.Password.Reset", Level::Info, &username, &address, "changed at login");
        }
        Admission::Open if verified == Verified::RightButWeak => {
            let (passwords, password) = (Arc::clone(&app.passwords), password.get().clone());
            match hashing(&app, move || passwords.hash(&password)).await? {
                Ok(hash) => user.password = hash,
                Err(error) => tracing::warn!(%error, "a password could not be hashed again"),
            }
        }
        Admission::Open => {}
    }
    user.last_login = now;
    user.logins = user.logins.saturating_add(1);
    store_login(&app, &held, &user).await?;
    app.throttle().clear(&username);
    open(&call, &user, &address)
}

/// Keeps what a login changed. When another login was faster, a changed password is refused, a mere count is not.
async fn store_login(app: &App, held: &Held<User>, user: &User) -> Result<(), ApiError> {
    match app.accounts.put(user, Some(held.modified)).await {
        Err(error) if user.password == held.value.password => {
            tracing::debug!(?error, "the time of a login was not kept");
            Ok(())
        }
        outcome => outcome,
    }
}

pub(crate) async fn change(
    app: &App,
    mut user: User,
    new: SecretString,
    profile: &PasswordProfile,
) -> Result<User, ApiError> {
    let (passwords, rule, now) = (Arc::clone(&app.passwords), profile.clone(), app.clock.now());
    hashing(app, move || user.change_password(&new, &rule, &passwords, now).map(|()| user))
        .await?
        .map_err(|error| refused(&error, profile))
}

fn open(call: &Call, user: &User, address: &str) -> Result<Json<TokenData>, ApiError> {
    let app = &call.app;
    let idle = Duration::from_secs(user.timeout_seconds.into());
    let opened = app.sessions().open(&user.name, address, idle, app.clock.monotonic());
    let (token, _session) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let message = error.to_string();
            events::auth(call, "User.Login.Failed", Level::Error, user.name.as_str(), address, &message);
            return Err(ApiError::new(Code::Unauthorized, message));
        }
    };
    events::auth(call, "User.Login", Level::Info, user.name.as_str(), address, "");
    let book = app.accounts.book();
    let access = book.access(&user.assignment);
    let (days, hours) = user.password_left(&book.profile(), app.clock.now()).unwrap_or((-1, -1));
    Ok(Json(TokenData {
        token: Some(Token {
            token: token.expose_secret().to_owned(),
            global_permissions: permissions_of(access.global()),
            domain_permissions: domain_permissions_of(&access),
            user: show(call, user, false),
        }),
        password_days_until_expire: days,
        password_hours_until_expire: hours,
        need_to_reset_password: false,
    }))
}

/// Finding the session was the use that keeps it.
async fn keep(call: Call) -> Result<Empty, ApiError> {
    match call.caller {
        Caller::User { .. } => Ok(Empty),
        Caller::Key { .. } | Caller::Nobody => Err(ApiError::denied()),
    }
}

async fn log_out(call: Call) -> Result<Empty, ApiError> {
    let token = call.headers.get(TOKEN).and_then(|token| token.to_str().ok());
    match (&call.caller, token) {
        (Caller::User { user, .. }, Some(token)) => {
            events::auth(&call, "User.Logout", Level::Info, user.value.name.as_str(), "", "");
            call.app.sessions().close(token);
            Ok(Empty)
        }
        _ => Err(ApiError::denied()),
    }
}
