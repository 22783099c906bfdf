//! Users, roles, API keys, the password profile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nv_identity::access::{Access, Scope};
use nv_identity::api_key::{ApiKey, Expiration, MAX_KEYS};
use nv_identity::name::UserName;
use nv_identity::password::Verified;
use nv_identity::permission::{Category, Operation, Permissions, VISIBLE, Visible};
use nv_identity::profile::PasswordProfile;
use nv_identity::role::{Assignment, RESERVED, Role};
use nv_identity::session::IDLE_SECONDS;
use nv_identity::user::{MAX_USERS, User};
use nv_model::record::Level;
use secrecy::ExposeSecret as _;

use crate::accounts::{Book, Held};
use crate::answer::{Empty, Json, List, One};
use crate::call::{Call, Caller};
use crate::dto::Config;
use crate::dto::user::{
    self as dto, Apikey, ApikeyCreationData, ApikeyGenerated, ApikeysData, PermissionOption,
    PermissionOptions, PwdProfile, PwdProfileConfig, PwdProfilesData, SelfApikeyData, SelfUserData,
    UserConfig, UserCreationData, UserPwdConfig, UserRole, UserRoleConfig, UserRoleDomainsConfig, UsersData,
    assignment, domain_permissions_of, permissions_of, reserved_roles, role_domains,
};
use crate::error::{ApiError, Code};
use crate::events;
use crate::route::Route;
use crate::routes::auth::{change, hashing, refused};

pub(crate) fn routes() -> Vec<Route> {
    use Category::{AnyUser, Authorization, PasswordProfile as Profile};
    vec![
        Route::get("/v1/selfuser", AnyUser, "Show the calling user", self_user),
        Route::get("/v1/selfapikey", AnyUser, "Show the calling API key", self_key),
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
        Route::get("/v1/user_role", Authorization, "List roles", roles),
        Route::post("/v1/user_role", Authorization, "Create a role", create_role),
        Route::get("/v1/user_role/:name", Authorization, "Show a role", get_role),
        Route::patch("/v1/user_role/:name", Authorization, "Change a role", update_role),
        Route::delete("/v1/user_role/:name", Authorization, "Delete a role", delete_role),
        Route::get("/v1/user_role_permission/options", Authorization, "List permissions of roles", options),
        Route::get("/v1/api_key", Authorization, "List API keys", keys),
        Route::post("/v1/api_key", Authorization, "Create an API key", create_key),
        Route::get("/v1/api_key/:name", Authorization, "Show an API key", get_key),
        Route::delete("/v1/api_key/:name", Authorization, "Delete an API key", delete_key),
        Route::get("/v1/password_profile", Profile, "List password profiles", profiles),
        Route::get("/v1/password_profile/:name", Profile, "Show a password profile", get_profile),
        Route::patch("/v1/password_profile/:name", Profile, "Change a password profile", update_profile),
    ]
}

const AUTHORIZATION: Permissions = Permissions::AUTHORIZATION;

/// Whether the caller may do `operation` to whoever has these roles.
fn may(call: &Call, operation: Operation, roles: &Assignment) -> bool {
    if !roles.role.is_empty() || roles.role_domains.is_empty() {
        return call.holds(AUTHORIZATION, operation, Scope::Cluster);
    }
    let domains: Vec<&str> = roles.role_domains.values().flatten().map(|domain| domain.as_str()).collect();
    call.holds(AUTHORIZATION, operation, Scope::Domains(&domains))
}
fn need(call: &Call, operation: Operation, roles: &Assignment) -> Result<(), ApiError> {
    if may(call, operation, roles) { Ok(()) } else { Err(ApiError::denied()) }
}
fn is_self(call: &Call, name: &UserName) -> bool {
    matches!(&call.caller, Caller::User { user, .. } if user.value.name == *name)
}

/// Roles that exist, and that give no more than the caller has.
fn grantable(call: &Call, book: &Book, roles: &Assignment) -> Result<(), ApiError> {
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

/// Names of roles that may be given: in the cluster, and in namespaces.
fn role_names(book: &Book) -> (Vec<String>, Vec<String>) {
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

fn short(what: &str, text: String) -> Result<String, ApiError> {
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
        .map_err(|error: nv_identity::name::NameError| ApiError::new(Code::Name, error.to_string()))?;
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
    let name = name
        .parse()
        .map_err(|error: nv_identity::name::NameError| ApiError::new(Code::Name, error.to_string()))?;
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
    let name: nv_identity::name::KeyName = given
        .apikey_name
        .parse()
        .map_err(|error: nv_identity::name::NameError| ApiError::new(Code::Name, error.to_string()))?;
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
