//! Users.

use std::sync::Arc;
use std::time::Duration;

use nv_identity::access::{Access, Scope};
use nv_identity::name::UserName;
use nv_identity::password::Verified;
use nv_identity::permission::{Category, Operation, Permissions};
use nv_identity::role::{Assignment, RESERVED};
use nv_identity::session::IDLE_SECONDS;
use nv_identity::user::{MAX_USERS, User};
use nv_model::record::Level;

use crate::accounts::{Book, Held};
use crate::answer::{Empty, Json, One};
use crate::call::{Call, Caller};
use crate::dto::Config;
use crate::dto::role::{domain_permissions_of, permissions_of};
use crate::dto::user::{
    self as dto, SelfUserData, UserConfig, UserCreationData, UserPwdConfig, UserRoleDomainsConfig, UsersData,
    assignment, role_domains,
};
use crate::error::{ApiError, Code};
use crate::events;
use crate::route::Route;
use crate::routes::auth::{change, hashing, refused};

pub(crate) fn routes() -> Vec<Route> {
    use Category::{AnyUser, Authorization};
    vec![
        Route::get("/v1/selfuser", AnyUser, "Show the calling user", self_user),
        Route::get("/v1/user", Authorization, "List users", list),
        Route::post("/v1/user", Authorization, "Create a user", create),
        // Users see and change their own account whatever their rights; the handlers ask for the rest.
        Route::get("/v1/user/:fullname", AnyUser, "Show a user", get),
        Route::patch("/v1/user/:fullname", AnyUser, "Change a user", update),
        Route::delete("/v1/user/:fullname", Authorization, "Delete a user", delete),
        Route::post("/v1/user/:fullname/password", Authorization, "Manage a user's password", password),
        Route::patch(
            "/v1/user/:fullname/role/:role",
            Authorization,
            "Give a user a role in namespaces",
            domains,
        ),
    ]
}

const AUTHORIZATION: Permissions = Permissions::AUTHORIZATION;

/// Whether the caller may do `operation` to whoever has these roles.
pub(super) fn may(call: &Call, operation: Operation, roles: &Assignment) -> bool {
    if !roles.role.is_empty() || roles.role_domains.is_empty() {
        return call.holds(AUTHORIZATION, operation, Scope::Cluster);
    }
    let domains: Vec<&str> = roles.role_domains.values().flatten().map(|domain| domain.as_str()).collect();
    call.holds(AUTHORIZATION, operation, Scope::Domains(&domains))
}
pub(super) fn need(call: &Call, operation: Operation, roles: &Assignment) -> Result<(), ApiError> {
    if may(call, operation, roles) { Ok(()) } else { Err(ApiError::denied()) }
}
fn is_self(call: &Call, name: &UserName) -> bool {
    matches!(&call.caller, Caller::User { user, .. } if user.value.name == *name)
}

/// Roles that exist, and that give no more than the caller has.
pub(super) fn grantable(call: &Call, book: &Book, roles: &Assignment) -> Result<(), ApiError> {
    roles.check(&book.custom_roles()).map_err(|error| ApiError::format(error.to_string()))?;
    let given: Access = book.access(roles);
    match call.caller.access() {
        Some(mine) if mine.covers(&given) => Ok(()),
        _ => Err(ApiError::new(Code::Denied, "the roles give more than the caller has")),
    }
}

/// A user as a client sees it. `resettable`: the caller may set another password.
pub(crate) fn show(call: &Call, user: &User, resettable: bool) -> dto::User {
    let app = &call.app;
    let profile = app.accounts.book().profile();
    let now = app.clock.now();
    dto::User {
        fullname: user.name.to_string(),
        server: String::new(),
        username: user.name.to_string(),
        password: String::new(),
        email: user.email.clone(),
        role: user.assignment.role.clone(),
        timeout: user.timeout_seconds,
        locale: user.locale.clone(),
        default_password: false,
        modify_password: user.must_change,
        role_domains: role_domains(&user.assignment),
        last_login_timestamp: user.last_login.seconds(),
        last_login_at: user.last_login.rfc3339(),
        login_count: user.logins,
        blocked_for_failed_login: app.throttle().is_blocked(
            user.name.as_str(),
            profile.block(),
            app.clock.monotonic(),
        ),
        blocked_for_password_expired: profile.expires(user.password_set).is_some_and(|end| end <= now),
        password_resettable: resettable,
    }
}

fn find(call: &Call, book: &Book) -> Result<Arc<Held<User>>, ApiError> {
    let name = call.parameter("fullname");
    book.users.get(name).cloned().ok_or_else(|| ApiError::not_found("user", name))
}

async fn self_user(call: Call) -> Result<Json<SelfUserData>, ApiError> {
    let Caller::User { user, access, .. } = &call.caller else { return Err(ApiError::denied()) };
    let profile = call.app.accounts.book().profile();
    let (days, hours) = user.value.password_left(&profile, call.app.clock.now()).unwrap_or((-1, -1));
    Ok(Json(SelfUserData {
        user: show(&call, &user.value, false),
        password_days_until_expire: days,
        password_hours_until_expire: hours,
        global_permissions: permissions_of(access.global()),
        domain_permissions: domain_permissions_of(access),
    }))
}

/// Names of roles that may be given: in the cluster, and in namespaces.
pub(super) fn role_names(book: &Book) -> (Vec<String>, Vec<String>) {
    let reserved = |domain: bool| {
        RESERVED
            .iter()
            .filter(move |role| !role.federal && (!domain || role.for_domain))
            .map(|role| role.name)
    };
    let custom = || book.roles.keys().map(ToString::to_string);
    let global = std::iter::once("").chain(reserved(false)).map(str::to_owned).chain(custom()).collect();
    let domain = reserved(true).map(str::to_owned).chain(custom()).collect();
    (global, domain)
}

async fn list(call: Call) -> Result<Json<UsersData>, ApiError> {
    let book = call.app.accounts.book();
    let users = book
        .users
        .values()
        .filter(|held| may(&call, Operation::Read, &held.value.assignment))
        .map(|held| show(&call, &held.value, may(&call, Operation::Write, &held.value.assignment)))
        .collect();
    let (global_roles, domain_roles) = role_names(&book);
    let roles_not_for_domain = RESERVED
        .iter()
        .filter(|role| !role.federal && !role.for_domain)
        .map(|role| role.name.to_owned())
        .collect();
    Ok(Json(UsersData { users, global_roles, domain_roles, roles_not_for_domain }))
}

async fn get(call: Call) -> Result<One<dto::User>, ApiError> {
    let book = call.app.accounts.book();
    let held = find(&call, &book)?;
    if !is_self(&call, &held.value.name) {
        need(&call, Operation::Read, &held.value.assignment)?;
    }
    let resettable = may(&call, Operation::Write, &held.value.assignment);
    Ok(One(show(&call, &held.value, resettable)))
}

fn checked_timeout(seconds: u32) -> Result<u32, ApiError> {
    if IDLE_SECONDS.contains(&seconds) {
        Ok(seconds)
    } else {
        let (low, high) = (IDLE_SECONDS.start(), IDLE_SECONDS.end());
        Err(ApiError::format(format!("timeout is {seconds} s, expected {low} to {high}")))
    }
}

pub(super) fn short(what: &str, text: String) -> Result<String, ApiError> {
    if text.len() > 256 || text.chars().any(char::is_control) {
        return Err(ApiError::format(format!("{what} is longer than 256 bytes or has a control character")));
    }
    Ok(text)
}

async fn create(call: Call, body: UserCreationData) -> Result<Empty, ApiError> {
    let given = body.user.ok_or_else(|| ApiError::format("the body has no user"))?;
    let raw = if given.fullname.is_empty() { &given.username } else { &given.fullname };
    let name: UserName = raw
        .parse()
        .map_err(|error: nv_model::name::NameError| ApiError::new(Code::Name, error.to_string()))?;
    let book = call.app.accounts.book();
    let roles = assignment(&given.role, &given.role_domains)?;
    grantable(&call, &book, &roles)?;
    need(&call, Operation::Own, &roles)?;
    if book.users.contains_key(&name) {
        return Err(ApiError::new(Code::Duplicate, format!("user {name} exists already")));
    }
    if book.users.len() >= MAX_USERS {
        return Err(ApiError::new(Code::NotAllowed, format!("there are {MAX_USERS} users already")));
    }
    let profile = book.profile();
    let timeout = match given.timeout {
        0 => profile.session_timeout_seconds,
        seconds => checked_timeout(seconds)?,
    };
    let (passwords, rule, now) = (Arc::clone(&call.app.passwords), profile.clone(), call.app.clock.now());
    let secret = given.password.get().clone();
    let mut user = hashing(&call.app, move || User::new(name, &secret, roles, &rule, &passwords, now))
        .await?
        .map_err(|error| refused(&error, &profile))?;
    user.timeout_seconds = timeout;
    user.email = short("email", given.email)?;
    user.locale = short("locale", given.locale)?;
    call.app.accounts.put(&user, None).await?;
    Ok(Empty)
}

async fn update(call: Call, body: Config<UserConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let book = call.app.accounts.book();
    let held = find(&call, &book)?;
    let own = is_self(&call, &held.value.name);
    if !own {
        need(&call, Operation::Write, &held.value.assignment)?;
    }
    let mut user = held.value.clone();
    if given.role.is_some() || given.role_domains.is_some() {
        let role = given.role.unwrap_or_else(|| user.assignment.role.clone());
        let domains = given.role_domains.unwrap_or_else(|| role_domains(&user.assignment));
        let roles = assignment(&role, &domains)?;
        if roles != user.assignment {
            need(&call, Operation::Own, &user.assignment)?;
            need(&call, Operation::Own, &roles)?;
            grantable(&call, &book, &roles)?;
            if user.built_in {
                return Err(ApiError::new(Code::NotAllowed, "the first administrator keeps its role"));
            }
            user.assignment = roles;
        }
    }
    if let Some(timeout) = given.timeout {
        user.timeout_seconds = checked_timeout(timeout)?;
    }
    if let Some(email) = given.email {
        user.email = short("email", email)?;
    }
    if let Some(locale) = given.locale {
        user.locale = short("locale", locale)?;
    }
    let changes_password = given.new_password.is_some();
    if let Some(new) = given.new_password {
        if own {
            // A session that was left open is no place to guess the password at.
            let rule = book.profile().block();
            if call.app.throttle().is_blocked(user.name.as_str(), rule, call.app.clock.monotonic()) {
                return Err(ApiError::new(Code::Blocked, "").with_status(axum::http::StatusCode::FORBIDDEN));
            }
            let present = given.password.unwrap_or_default();
            let (passwords, stored) = (Arc::clone(&call.app.passwords), user.password.clone());
            let secret = present.get().clone();
            let verified = hashing(&call.app, move || passwords.verify(&secret, Some(&stored))).await?;
            if verified == Verified::Wrong {
                call.app.throttle().failed(user.name.as_str(), true, rule, call.app.clock.monotonic());
                return Err(ApiError::new(Code::NotAllowed, "the present password is wrong")
                    .with_status(axum::http::StatusCode::FORBIDDEN));
            }
        }
        user = change(&call.app, user, new.get().clone(), &book.profile()).await?;
    }
    call.app.accounts.put(&user, Some(held.modified)).await?;
    let mut sessions = call.app.sessions();
    sessions.set_idle(user.name.as_str(), Duration::from_secs(user.timeout_seconds.into()));
    if changes_password {
        sessions.close_user(user.name.as_str(), own.then(|| call.caller.session_id()));
    }
    Ok(Empty)
}

async fn delete(call: Call) -> Result<Empty, ApiError> {
    let book = call.app.accounts.book();
    let held = find(&call, &book)?;
    need(&call, Operation::Own, &held.value.assignment)?;
    if held.value.built_in {
        return Err(ApiError::new(Code::NotAllowed, "the first administrator cannot be deleted"));
    }
    if is_self(&call, &held.value.name) {
        return Err(ApiError::new(Code::NotAllowed, "users cannot delete themselves"));
    }
    call.app.accounts.delete(&held.value, held.modified).await?;
    call.app.sessions().close_user(held.value.name.as_str(), None);
    Ok(Empty)
}

async fn password(call: Call, body: Config<UserPwdConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let book = call.app.accounts.book();
    let held = find(&call, &book)?;
    need(&call, Operation::Write, &held.value.assignment)?;
    let name = held.value.name.as_str();
    if given.clear_failed_login == Some(true) && call.app.throttle().clear(name) {
        events::auth(&call, "User.Login.Unblocked", Level::Info, name, "", "by an administrator");
    }
    let reset = given.force_reset_password == Some(true);
    if !reset && given.reset_password_in_next_login != Some(true) {
        return Ok(Empty);
    }
    let mut user = held.value.clone();
    if reset {
        let new = given.new_password.ok_or_else(|| ApiError::format("the body has no new_password"))?;
        user = change(&call.app, user, new.get().clone(), &book.profile()).await?;
    }
    user.must_change = given.reset_password_in_next_login.unwrap_or(false);
    call.app.accounts.put(&user, Some(held.modified)).await?;
    call.app.sessions().close_user(name, None);
    if reset {
        events::auth(&call, "User.Password.Reset", Level::Info, name, "", "by an administrator");
    }
    Ok(Empty)
}

async fn domains(call: Call, body: Config<UserRoleDomainsConfig>) -> Result<Empty, ApiError> {
    let given = body.content()?;
    let book = call.app.accounts.book();
    let held = find(&call, &book)?;
    let role = call.parameter("role").to_owned();
    let mut wanted = role_domains(&held.value.assignment);
    // One role a namespace: the namespaces leave their other roles.
    for domains in wanted.values_mut() {
        domains.retain(|domain| !given.domains.contains(domain));
    }
    wanted.insert(role, given.domains);
    wanted.retain(|_, domains| !domains.is_empty());
    let roles = assignment(&held.value.assignment.role, &wanted)?;
    need(&call, Operation::Own, &held.value.assignment)?;
    need(&call, Operation::Own, &roles)?;
    grantable(&call, &book, &roles)?;
    let user = User { assignment: roles, ..held.value.clone() };
    call.app.accounts.put(&user, Some(held.modified)).await?;
    Ok(Empty)
}
