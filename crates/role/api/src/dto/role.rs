//! Roles and permissions.

use std::collections::BTreeMap;

use nv_identity::access::Access;
use nv_identity::permission::{Permissions, Rights, VISIBLE};
use nv_identity::role::{Grant, RESERVED, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

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
