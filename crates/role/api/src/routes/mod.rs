//! What is served: every route with its category and handler.

mod auth;
mod conversation;
mod group;
mod infrastructure;
pub(crate) mod log;
mod policy;
mod profile;
mod system;
mod user;
mod workload;

use crate::route::Table;

/// All routes.
#[must_use]
pub fn table() -> Table {
    let parts = [
        auth::routes(),
        user::routes(),
        system::routes(),
        infrastructure::routes(),
        workload::routes(),
        group::routes(),
        policy::routes(),
        profile::routes(),
        conversation::routes(),
        log::routes(),
        crate::stream::routes(),
    ];
    Table::new(parts.into_iter().flatten().collect())
}
