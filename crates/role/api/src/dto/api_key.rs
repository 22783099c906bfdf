//! API keys.

use std::collections::BTreeMap;

use nv_identity::api_key::ApiKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::role::RolePermission;
use super::user::role_domains;
use crate::answer::Named;

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
