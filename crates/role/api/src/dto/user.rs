//! Users and sessions.

use std::collections::BTreeMap;

use nv_identity::name::DomainPattern;
use nv_identity::role::Assignment;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::role::RolePermission;
use crate::answer::Named;
use crate::error::ApiError;

/// A secret in a request. It is never written anywhere.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(from = "String")]
#[schema(value_type = String, format = Password)]
pub struct Secret(SecretString);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}
impl Secret {
    /// The secret.
    #[must_use]
    pub const fn get(&self) -> &SecretString {
        &self.0
    }
    /// Nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        use secrecy::ExposeSecret as _;
        self.0.expose_secret().is_empty()
    }
}

/// Name and password of a login.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct AuthPassword {
    /// Who.
    #[serde(default)]
    pub username: String,
    /// The present password.
    #[serde(default)]
    pub password: Secret,
    /// The password that takes its place, where it must be changed.
    #[serde(default)]
    pub new_password: Option<Secret>,
}

/// A login.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct AuthData {
    /// Address of the browser, when a console logs in for it.
    #[serde(default)]
    pub client_ip: String,
    /// Name and password.
    #[serde(default)]
    pub password: Option<AuthPassword>,
}

/// A user.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct User {
    /// Server and name, or the name alone for local users.
    pub fullname: String,
    /// Server; empty for local users.
    pub server: String,
    /// Name.
    pub username: String,
    /// Always empty.
    pub password: String,
    /// Mail address.
    pub email: String,
    /// Role in the cluster; empty for none.
    pub role: String,
    /// Idle time of sessions, in seconds.
    pub timeout: u32,
    /// Language.
    pub locale: String,
    /// It has a password that everyone knows: never so here.
    pub default_password: bool,
    /// The password must be changed.
    pub modify_password: bool,
    /// Roles in namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub role_domains: BTreeMap<String, Vec<String>>,
    /// Last login, in seconds.
    pub last_login_timestamp: i64,
    /// Last login.
    pub last_login_at: String,
    /// How many logins.
    pub login_count: u32,
    /// Too many failed logins.
    pub blocked_for_failed_login: bool,
    /// The password has ended.
    pub blocked_for_password_expired: bool,
    /// The caller may set another password.
    pub password_resettable: bool,
}
impl Named for User {
    const ONE: &'static str = "user";
    const MANY: &'static str = "users";
}

/// A session and its user.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Token {
    /// The token of the session, for `X-Auth-Token`.
    pub token: String,
    /// Permissions in the cluster.
    pub global_permissions: Vec<RolePermission>,
    /// Permissions in namespaces.
    pub domain_permissions: BTreeMap<String, Vec<RolePermission>>,
    /// The user.
    #[serde(flatten)]
    pub user: User,
}

/// Answer to a login.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenData {
    /// The session; none when the password must be changed first.
    pub token: Option<Token>,
    /// Days until the password ends; -1 for never.
    pub password_days_until_expire: i64,
    /// Hours until the password ends; -1 for never.
    pub password_hours_until_expire: i64,
    /// Log in again with `new_password`.
    pub need_to_reset_password: bool,
}

/// The caller.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SelfUserData {
    /// The user.
    pub user: User,
    /// Days until the password ends; -1 for never.
    pub password_days_until_expire: i64,
    /// Hours until the password ends; -1 for never.
    pub password_hours_until_expire: i64,
    /// Permissions in the cluster.
    pub global_permissions: Vec<RolePermission>,
    /// Permissions in namespaces.
    pub domain_permissions: BTreeMap<String, Vec<RolePermission>>,
}

/// All users, and which roles they may be given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsersData {
    /// The users.
    pub users: Vec<User>,
    /// Roles for the cluster.
    pub global_roles: Vec<String>,
    /// Roles for namespaces.
    pub domain_roles: Vec<String>,
    /// Roles that are not for namespaces.
    pub roles_not_for_domain: Vec<String>,
}

/// A new user.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserCreation {
    /// Name.
    #[serde(default)]
    pub fullname: String,
    /// Name, when `fullname` is empty.
    #[serde(default)]
    pub username: String,
    /// Password.
    #[serde(default)]
    pub password: Secret,
    /// Mail address.
    #[serde(default)]
    pub email: String,
    /// Role in the cluster.
    #[serde(default)]
    pub role: String,
    /// Roles in namespaces.
    #[serde(default)]
    pub role_domains: BTreeMap<String, Vec<String>>,
    /// Idle time, in seconds; 0 for the usual one.
    #[serde(default)]
    pub timeout: u32,
    /// Language.
    #[serde(default)]
    pub locale: String,
}

/// A new user.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserCreationData {
    /// The user.
    #[serde(default)]
    pub user: Option<UserCreation>,
}

/// Changes to a user.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserConfig {
    /// Name.
    #[serde(default)]
    pub fullname: String,
    /// The present password, where a user changes their own.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The new password.
    #[serde(default)]
    pub new_password: Option<Secret>,
    /// Mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Role in the cluster.
    #[serde(default)]
    pub role: Option<String>,
    /// Roles in namespaces.
    #[serde(default)]
    pub role_domains: Option<BTreeMap<String, Vec<String>>>,
    /// Idle time, in seconds.
    #[serde(default)]
    pub timeout: Option<u32>,
    /// Language.
    #[serde(default)]
    pub locale: Option<String>,
}

/// What an administrator does to a user's password.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserPwdConfig {
    /// Name.
    #[serde(default)]
    pub fullname: String,
    /// Ends a block for failed logins.
    #[serde(default)]
    pub clear_failed_login: Option<bool>,
    /// Sets `new_password`.
    #[serde(default)]
    pub force_reset_password: Option<bool>,
    /// The password.
    #[serde(default)]
    pub new_password: Option<Secret>,
    /// The user must change it at the next login.
    #[serde(default)]
    pub reset_password_in_next_login: Option<bool>,
}

/// A role's namespaces for a user.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserRoleDomainsConfig {
    /// Name.
    #[serde(default)]
    pub fullname: String,
    /// Role.
    #[serde(default)]
    pub role: String,
    /// Its namespaces.
    #[serde(default)]
    pub domains: Vec<String>,
}

/// Reads roles as a client gives them.
///
/// # Errors
/// Code 6 for a namespace that is none.
pub fn assignment(role: &str, domains: &BTreeMap<String, Vec<String>>) -> Result<Assignment, ApiError> {
    let role_domains = domains
        .iter()
        .map(|(role, domains)| {
            let parsed: Result<Vec<DomainPattern>, _> = domains.iter().map(|domain| domain.parse()).collect();
            parsed.map(|domains| (role.clone(), domains))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::format(error.to_string()))?;
    Ok(Assignment { role: role.to_owned(), role_domains })
}

/// Roles as a client is shown them.
#[must_use]
pub fn role_domains(assignment: &Assignment) -> BTreeMap<String, Vec<String>> {
    assignment
        .role_domains
        .iter()
        .map(|(role, domains)| (role.clone(), domains.iter().map(|d| d.as_str().to_owned()).collect()))
        .collect()
}
