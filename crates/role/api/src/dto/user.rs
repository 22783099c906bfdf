//! Users, sessions, roles, API keys, password profiles.

use std::collections::BTreeMap;

use nv_identity::access::Access;
use nv_identity::api_key::ApiKey;
use nv_identity::name::DomainPattern;
use nv_identity::permission::{Permissions, Rights, VISIBLE};
use nv_identity::profile::PasswordProfile;
use nv_identity::role::{Assignment, Grant, RESERVED, Role};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;
use crate::error::ApiError;

/// A permission of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RolePermission {
    /// Its id.
    pub id: String,
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

/// What rights look like to a client: every visible permission of which something is held.
#[must_use]
pub fn permissions_of(rights: Rights) -> Vec<RolePermission> {
    let holds = |held: Permissions, wanted| held.contains(wanted);
    VISIBLE
        .iter()
        .map(|visible| RolePermission {
            id: visible.id.to_owned(),
            read: visible.read && holds(rights.read, visible.permissions),
            write: visible.write && holds(rights.write, visible.permissions),
        })
        .filter(|permission| permission.read || permission.write)
        .collect()
}

/// The same by namespace.
#[must_use]
pub fn domain_permissions_of(access: &Access) -> BTreeMap<String, Vec<RolePermission>> {
    access
        .domains()
        .iter()
        .map(|(domain, rights)| (domain.as_str().to_owned(), permissions_of(*rights)))
        .collect()
}

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

/// A role.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserRole {
    /// Its name.
    pub name: String,
    /// A note.
    pub comment: String,
    /// Built in.
    pub reserved: bool,
    /// What it gives; empty for administrators and readers, who need no list.
    pub permissions: Vec<RolePermission>,
}
impl Named for UserRole {
    const ONE: &'static str = "role";
    const MANY: &'static str = "roles";
}

impl From<&Role> for UserRole {
    fn from(role: &Role) -> Self {
        Self {
            name: role.name.to_string(),
            comment: role.comment.clone(),
            reserved: false,
            permissions: role
                .grants
                .iter()
                .map(|grant| RolePermission { id: grant.id.clone(), read: grant.read, write: grant.write })
                .collect(),
        }
    }
}

/// The built-in roles that are shown outside of a federation.
#[must_use]
pub fn reserved_roles() -> Vec<UserRole> {
    RESERVED
        .iter()
        .filter(|role| !role.federal)
        .map(|role| UserRole {
            name: role.name.to_owned(),
            comment: role.comment.to_owned(),
            reserved: true,
            permissions: if role.for_domain { Vec::new() } else { permissions_of(role.rights) },
        })
        .collect()
}

/// A role as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct UserRoleConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: String,
    /// What it gives.
    #[serde(default)]
    pub permissions: Vec<RolePermission>,
}
impl UserRoleConfig {
    /// What it gives, as it is stored.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        self.permissions.iter().map(|p| Grant { id: p.id.clone(), read: p.read, write: p.write }).collect()
    }
}

/// A permission that can be given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PermissionOption {
    /// Its id.
    pub id: String,
    /// For reading.
    pub read_supported: bool,
    /// For writing.
    pub write_supported: bool,
}

/// All permissions that can be given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PermissionOptions {
    /// In the cluster.
    pub global_options: Vec<PermissionOption>,
    /// In namespaces.
    pub domain_options: Vec<PermissionOption>,
}
impl Named for PermissionOptions {
    const ONE: &'static str = "options";
    const MANY: &'static str = "options";
}

/// An API key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Apikey {
    /// never, onehour, oneday, onemonth, oneyear or hours.
    pub expiration_type: String,
    /// Hours, for `hours`.
    pub expiration_hours: u32,
    /// Its name.
    pub apikey_name: String,
    /// Always empty.
    pub apikey_secret: String,
    /// A note.
    pub description: String,
    /// Role in the cluster.
    pub role: String,
    /// Roles in namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub role_domains: BTreeMap<String, Vec<String>>,
    /// When it ends, in seconds; 0 for never.
    pub expiration_timestamp: i64,
    /// When it was made, in seconds.
    pub created_timestamp: i64,
    /// Who made it.
    pub created_by_entity: String,
}
impl Named for Apikey {
    const ONE: &'static str = "apikey";
    const MANY: &'static str = "apikeys";
}

impl From<&ApiKey> for Apikey {
    fn from(key: &ApiKey) -> Self {
        Self {
            expiration_type: key.expiration.as_str().to_owned(),
            expiration_hours: key.expiration.hours(),
            apikey_name: key.name.to_string(),
            apikey_secret: String::new(),
            description: key.description.clone(),
            role: key.assignment.role.clone(),
            role_domains: role_domains(&key.assignment),
            expiration_timestamp: key.expires().seconds(),
            created_timestamp: key.created.seconds(),
            created_by_entity: key.created_by.clone(),
        }
    }
}

/// All API keys, and which roles they may be given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApikeysData {
    /// The keys.
    pub apikeys: Vec<Apikey>,
    /// Roles for the cluster.
    pub global_roles: Vec<String>,
    /// Roles for namespaces.
    pub domain_roles: Vec<String>,
}

/// A new API key.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ApikeyCreation {
    /// never, onehour, oneday, onemonth, oneyear or hours.
    #[serde(default)]
    pub expiration_type: String,
    /// Hours, for `hours`.
    #[serde(default)]
    pub expiration_hours: u32,
    /// Its name.
    #[serde(default)]
    pub apikey_name: String,
    /// A note.
    #[serde(default)]
    pub description: String,
    /// Role in the cluster.
    #[serde(default)]
    pub role: String,
    /// Roles in namespaces.
    #[serde(default)]
    pub role_domains: BTreeMap<String, Vec<String>>,
}

/// A new API key.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ApikeyCreationData {
    /// The key.
    #[serde(default)]
    pub apikey: Option<ApikeyCreation>,
}

/// The secret of a new key, shown this once.
#[derive(Clone, Serialize, ToSchema)]
pub struct ApikeyGenerated {
    /// Its name.
    pub apikey_name: String,
    /// Its secret.
    pub apikey_secret: String,
}
impl Named for ApikeyGenerated {
    const ONE: &'static str = "apikey";
    const MANY: &'static str = "apikeys";
}

/// The calling API key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SelfApikeyData {
    /// The key.
    pub apikey: Apikey,
    /// Permissions in the cluster.
    pub global_permissions: Vec<RolePermission>,
    /// Permissions in namespaces.
    pub domain_permissions: BTreeMap<String, Vec<RolePermission>>,
}

/// A password profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PwdProfile {
    /// Its name.
    pub name: String,
    /// A note.
    pub comment: String,
    /// Characters.
    pub min_len: i64,
    /// Upper-case letters.
    pub min_uppercase_count: i64,
    /// Lower-case letters.
    pub min_lowercase_count: i64,
    /// Digits.
    pub min_digit_count: i64,
    /// Other characters.
    pub min_special_count: i64,
    /// Passwords end.
    pub enable_password_expiration: bool,
    /// After this many days.
    pub password_expire_after_days: i64,
    /// Earlier passwords may not be used again.
    pub enable_password_history: bool,
    /// This many of them.
    pub password_keep_history_count: i64,
    /// Failed logins block.
    pub enable_block_after_failed_login: bool,
    /// After this many.
    pub block_after_failed_login_count: i64,
    /// For this many minutes.
    pub block_minutes: i64,
    /// Idle time of new users' sessions, in seconds.
    pub session_timeout: u32,
}
impl Named for PwdProfile {
    const ONE: &'static str = "pwd_profile";
    const MANY: &'static str = "pwd_profiles";
}

impl From<&PasswordProfile> for PwdProfile {
    fn from(profile: &PasswordProfile) -> Self {
        let want = profile.strength;
        Self {
            name: profile.name.clone(),
            comment: profile.comment.clone(),
            min_len: want.min_len.into(),
            min_uppercase_count: want.min_uppercase_count.into(),
            min_lowercase_count: want.min_lowercase_count.into(),
            min_digit_count: want.min_digit_count.into(),
            min_special_count: want.min_special_count.into(),
            enable_password_expiration: profile.expire_after_days.is_some(),
            password_expire_after_days: profile.expire_after_days.unwrap_or(0).into(),
            enable_password_history: profile.history > 0,
            password_keep_history_count: profile.history.into(),
            enable_block_after_failed_login: profile.block_after_failures > 0,
            block_after_failed_login_count: profile.block_after_failures.into(),
            block_minutes: profile.block_minutes.into(),
            session_timeout: profile.session_timeout_seconds,
        }
    }
}

/// All password profiles.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PwdProfilesData {
    /// The profiles.
    pub pwd_profiles: Vec<PwdProfile>,
    /// The one that counts.
    pub active_profile_name: String,
}

/// Changes to a password profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PwdProfileConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// It is to count.
    #[serde(default)]
    pub active: Option<bool>,
    /// Characters.
    #[serde(default)]
    pub min_len: Option<u32>,
    /// Upper-case letters.
    #[serde(default)]
    pub min_uppercase_count: Option<u32>,
    /// Lower-case letters.
    #[serde(default)]
    pub min_lowercase_count: Option<u32>,
    /// Digits.
    #[serde(default)]
    pub min_digit_count: Option<u32>,
    /// Other characters.
    #[serde(default)]
    pub min_special_count: Option<u32>,
    /// Passwords end.
    #[serde(default)]
    pub enable_password_expiration: Option<bool>,
    /// After this many days.
    #[serde(default)]
    pub password_expire_after_days: Option<u32>,
    /// Earlier passwords may not be used again.
    #[serde(default)]
    pub enable_password_history: Option<bool>,
    /// This many of them.
    #[serde(default)]
    pub password_keep_history_count: Option<u32>,
    /// Failed logins block.
    #[serde(default)]
    pub enable_block_after_failed_login: Option<bool>,
    /// After this many.
    #[serde(default)]
    pub block_after_failed_login_count: Option<u32>,
    /// For this many minutes.
    #[serde(default)]
    pub block_minutes: Option<u32>,
    /// Idle time of new users' sessions, in seconds.
    #[serde(default)]
    pub session_timeout: Option<u32>,
}
