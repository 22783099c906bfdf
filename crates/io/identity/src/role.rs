//! Roles: named sets of permissions, the built-in ones and custom ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{DomainPattern, RoleName};
use crate::permission::{Permissions, Rights, VISIBLE};

/// One permission of a custom role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Id of an entry of [`VISIBLE`].
    pub id: String,
    /// For reading.
    #[serde(default)]
    pub read: bool,
    /// For writing.
    #[serde(default)]
    pub write: bool,
}

/// A custom role as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// A note.
    #[serde(default)]
    pub comment: String,
    /// What it gives.
    pub grants: Vec<Grant>,
}

/// Why a role is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoleError {
    /// The name is a built-in role's, or `none`.
    #[error("role name {name:?} is reserved")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A permission that does not exist or cannot be given.
    #[error("permission {id:?} does not exist or cannot be given for {access}")]
    Grant {
        /// Its id.
        id: String,
        /// `read` or `write`.
        access: &'static str,
    },
    /// Nothing is given.
    #[error("the role gives no permission")]
    Empty,
}

/// The built-in roles that are always there. `""` stands for no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Its name.
    pub name: &'static str,
    /// What it gives in the whole cluster.
    pub rights: Rights,
    /// Shown only on the primary of a federation.
    pub federal: bool,
    /// It can be given in a namespace.
    pub for_domain: bool,
    /// A note.
    pub comment: &'static str,
}

/// Administrator of the cluster.
pub const ADMIN: &str = "admin";
/// Reader of the cluster.
pub const READER: &str = "reader";

const FED_READ: Permissions = Permissions::CLUSTER_READ.union(Permissions::FED);

/// Every built-in role. Administrators and readers see whether their cluster is in a federation, so both read `fed`;
/// only the federation's administrator writes it.
pub const RESERVED: &[Reserved] = &[
    Reserved {
        name: ADMIN,
        rights: Rights { read: FED_READ, write: Permissions::CLUSTER_WRITE },
        federal: false,
        for_domain: true,
        comment: "Reads and changes everything",
    },
    Reserved {
        name: READER,
        rights: Rights { read: FED_READ, write: Permissions::empty() },
        federal: false,
        for_domain: true,
        comment: "Reads everything",
    },
    Reserved {
        name: "ciops",
        rights: Rights { read: Permissions::empty(), write: Permissions::CI_SCAN },
        federal: false,
        for_domain: false,
        comment: "Scans images in pipelines",
    },
    Reserved {
        name: "fedAdmin",
        rights: Rights { read: FED_READ, write: Permissions::CLUSTER_WRITE.union(Permissions::FED) },
        federal: true,
        for_domain: false,
        comment: "Reads and changes everything of every cluster",
    },
    Reserved {
        name: "fedReader",
        rights: Rights { read: FED_READ, write: Permissions::empty() },
        federal: true,
        for_domain: false,
        comment: "Reads everything of every cluster",
    },
];

/// A built-in role by name.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static Reserved> {
    RESERVED.iter().find(|role| role.name == name)
}

impl Role {
    /// Most custom roles.
    pub const MAX_ROLES: usize = 256;

    /// Whether the role can be stored.
    ///
    /// # Errors
    /// [`RoleError`].
    pub fn check(&self) -> Result<(), RoleError> {
        let name = self.name.as_str();
        if reserved(name).is_some() || name == "none" || name == "ibmsa" {
            return Err(RoleError::Reserved { name: name.to_owned() });
        }
        for grant in &self.grants {
            let fail = |access| RoleError::Grant { id: grant.id.chars().take(64).collect(), access };
            let Some(visible) = VISIBLE.iter().find(|visible| visible.id == grant.id) else {
                return Err(fail("read"));
            };
            if grant.read && !visible.read {
                return Err(fail("read"));
            }
            if grant.write && !visible.write {
                return Err(fail("write"));
            }
        }
        if self.grants.iter().any(|grant| grant.read || grant.write) { Ok(()) } else { Err(RoleError::Empty) }
    }

    /// What it gives in the whole cluster. A role that reads everything that can be given also reads the product's
    /// own components.
    #[must_use]
    pub fn rights(&self) -> Rights {
        let mut rights = Rights::NONE;
        for grant in &self.grants {
            let Some(visible) = VISIBLE.iter().find(|visible| visible.id == grant.id) else { continue };
            if grant.read && visible.read {
                rights.read |= visible.permissions;
            }
            if grant.write && visible.write {
                rights.write |= visible.permissions;
            }
        }
        if rights.read.contains(Permissions::CONFIGURABLE_READ) {
            rights.read |= Permissions::NV_RESOURCE;
        }
        rights
    }
}

/// Which roles someone has: one for the cluster (empty for none), and others in namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// In the whole cluster; `""` for none.
    #[serde(default)]
    pub role: String,
    /// Role to namespaces.
    #[serde(default)]
    pub role_domains: BTreeMap<String, Vec<DomainPattern>>,
}

/// Why an assignment is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssignmentError {
    /// There is no such role.
    #[error("role {role:?} does not exist")]
    Unknown {
        /// The role.
        role: String,
    },
    /// The role is not for namespaces.
    #[error("role {role:?} cannot be given in a namespace")]
    NotForDomain {
        /// The role.
        role: String,
    },
    /// Two roles in one namespace.
    #[error("namespace {domain:?} has more than one role")]
    Twice {
        /// The namespace.
        domain: String,
    },
    /// Too many namespaces.
    #[error("{count} namespaces, at most {max} are accepted", max = Assignment::MAX_DOMAINS)]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl Assignment {
    /// Most namespaces of one assignment.
    pub const MAX_DOMAINS: usize = 1_024;

    /// Of the whole cluster's role alone.
    #[must_use]
    pub fn global(role: &str) -> Self {
        Self { role: role.to_owned(), role_domains: BTreeMap::new() }
    }

    /// Whether it can be stored, given the custom roles.
    ///
    /// # Errors
    /// [`AssignmentError`].
    pub fn check(&self, roles: &BTreeMap<RoleName, Role>) -> Result<(), AssignmentError> {
        let known = |role: &str| reserved(role).is_some_and(|r| !r.federal) || roles.contains_key(role);
        if !self.role.is_empty() && !known(&self.role) {
            return Err(AssignmentError::Unknown { role: self.role.chars().take(64).collect() });
        }
        let count = self.role_domains.values().map(Vec::len).sum();
        if count > Self::MAX_DOMAINS {
            return Err(AssignmentError::TooMany { count });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (role, domains) in &self.role_domains {
            if !known(role) {
                return Err(AssignmentError::Unknown { role: role.chars().take(64).collect() });
            }
            if reserved(role).is_some_and(|role| !role.for_domain) {
                return Err(AssignmentError::NotForDomain { role: role.clone() });
            }
            if let Some(twice) = domains.iter().find(|domain| !seen.insert(domain.as_str())) {
                return Err(AssignmentError::Twice { domain: twice.as_str().to_owned() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(grants: &[(&str, bool, bool)]) -> Role {
        Role {
            name: "r".parse().unwrap(),
            comment: String::new(),
            grants: grants.iter().map(|&(id, read, write)| Grant { id: id.into(), read, write }).collect(),
        }
    }

    #[test]
    fn a_role_may_hold_only_what_can_be_given() {
        assert_eq!(role(&[("config", true, true)]).check(), Ok(()));
        assert!(matches!(role(&[("events", false, true)]).check(), Err(RoleError::Grant { .. })));
        assert!(matches!(role(&[("fed", true, false)]).check(), Err(RoleError::Grant { .. })));
        assert_eq!(role(&[("config", false, false)]).check(), Err(RoleError::Empty));
        let mut admin = role(&[("config", true, true)]);
        admin.name = "admin".parse().unwrap();
        assert!(matches!(admin.check(), Err(RoleError::Reserved { .. })));
    }

    #[test]
    fn a_role_that_reads_everything_also_reads_the_components() {
        let all: Vec<_> = VISIBLE.iter().filter(|v| v.read).map(|v| (v.id, true, false)).collect();
        assert!(role(&all).rights().read.contains(Permissions::NV_RESOURCE));
        assert!(!role(&all[1..]).rights().read.contains(Permissions::NV_RESOURCE));
    }

    #[test]
    fn an_assignment_names_existing_roles_and_each_namespace_once() {
        let roles = BTreeMap::from([("r".parse().unwrap(), role(&[("config", true, false)]))]);
        let domains = |pairs: &[(&str, &[&str])]| Assignment {
            role: String::new(),
            role_domains: pairs
                .iter()
                .map(|(role, ds)| ((*role).to_owned(), ds.iter().map(|d| d.parse().unwrap()).collect()))
                .collect(),
        };
        assert_eq!(domains(&[("admin", &["a"]), ("r", &["b"])]).check(&roles), Ok(()));
        assert!(matches!(
            domains(&[("admin", &["a"]), ("r", &["a"])]).check(&roles),
            Err(AssignmentError::Twice { .. })
        ));
        assert!(matches!(
            domains(&[("ciops", &["a"])]).check(&roles),
            Err(AssignmentError::NotForDomain { .. })
        ));
        assert!(matches!(Assignment::global("x").check(&roles), Err(AssignmentError::Unknown { .. })));
        assert!(matches!(Assignment::global("fedAdmin").check(&roles), Err(AssignmentError::Unknown { .. })));
        assert_eq!(Assignment::global("").check(&roles), Ok(()));
    }
}
