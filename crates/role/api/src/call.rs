//! A request as a handler sees it: who calls, with what rights, for what.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use nv_identity::access::{Access, Scope};
use nv_identity::name::KeyName;
use nv_identity::permission::{Category, Operation, Permissions};
use nv_identity::role::Assignment;
use nv_identity::session::Session;
use nv_identity::user::User;

use crate::accounts::Held;
use crate::app::App;
use crate::error::ApiError;
use crate::query::Query;
use crate::table::Parameters;

/// Who calls.
#[derive(Clone)]
pub enum Caller {
    /// No one that is known.
    Nobody,
    /// A user with a session.
    User {
        /// The user.
        user: Arc<Held<User>>,
        /// The session.
        session: Session,
        /// What the user may do.
        access: Arc<Access>,
    },
    /// An API key.
    Key {
        /// Its name.
        name: KeyName,
        /// Its roles.
        assignment: Assignment,
        /// What it may do.
        access: Arc<Access>,
    },
}

impl Caller {
    /// What the caller may do.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        match self {
            Self::Nobody => None,
            Self::User { access, .. } | Self::Key { access, .. } => Some(access),
        }
    }
    /// The name, for events.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Nobody => "",
            Self::User { user, .. } => user.value.name.as_str(),
            Self::Key { name, .. } => name.as_str(),
        }
    }
    /// The session's id, for events.
    #[must_use]
    pub fn session_id(&self) -> &str {
        match self {
            Self::User { session, .. } => &session.id,
            Self::Nobody | Self::Key { .. } => "",
        }
    }
    /// Roles by namespace, the cluster's under `""`, for events.
    #[must_use]
    pub fn roles(&self) -> BTreeMap<String, String> {
        let assignment = match self {
            Self::Nobody => return BTreeMap::new(),
            Self::User { user, .. } => &user.value.assignment,
            Self::Key { assignment, .. } => assignment,
        };
        roles_by_domain(assignment)
    }
}

/// Roles by namespace, the cluster's under `""`.
#[must_use]
pub(crate) fn roles_by_domain(assignment: &Assignment) -> BTreeMap<String, String> {
    let mut roles = BTreeMap::new();
    if !assignment.role.is_empty() {
        roles.insert(String::new(), assignment.role.clone());
    }
    for (role, domains) in &assignment.role_domains {
        roles.extend(domains.iter().map(|domain| (domain.as_str().to_owned(), role.clone())));
    }
    roles
}

/// A request that was let in.
#[derive(Clone)]
pub struct Call {
    /// What the API works on.
    pub app: Arc<App>,
    /// Who calls.
    pub caller: Caller,
    /// The route's category.
    pub category: Category,
    /// Parameters of the path.
    pub parameters: Parameters,
    /// The query string.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    /// Address that the request came from.
    pub peer: IpAddr,
}

impl Call {
    /// A parameter of the path.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name)
    }

    /// Whether the caller holds what the route asks for, for an object of `scope`.
    #[must_use]
    pub fn may(&self, operation: Operation, scope: Scope<'_>) -> bool {
        self.holds(self.category.required(operation), operation, scope)
    }
    /// Whether the caller holds `required` for an object of `scope`.
    #[must_use]
    pub fn holds(&self, required: Permissions, operation: Operation, scope: Scope<'_>) -> bool {
        self.caller.access().is_some_and(|access| access.allows(required, operation, scope))
    }
    /// Refuses unless the caller holds what the route asks for.
    ///
    /// # Errors
    /// Code 25.
    pub fn need(&self, operation: Operation, scope: Scope<'_>) -> Result<(), ApiError> {
        if self.may(operation, scope) { Ok(()) } else { Err(ApiError::denied()) }
    }
    /// Whether objects of no namespace can be seen: most listings need no object's check then.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.may(Operation::Read, Scope::Cluster)
    }
    /// Whether an object of this namespace (or none) can be seen.
    #[must_use]
    pub fn sees(&self, domain: Option<&str>) -> bool {
        match domain {
            Some(domain) => self.may(Operation::Read, Scope::Domains(&[domain])),
            None => self.sees_all(),
        }
    }
}
