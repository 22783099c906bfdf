//! What is served: every route with its category and handler.

mod api_key;
mod asset;
mod auth;
mod config;
mod conversation;
mod file;
mod group;
mod infrastructure;
pub(crate) mod log;
mod password_profile;
mod policy;
mod process;
mod profile;
mod registry;
pub(crate) mod registry_image;
mod repository;
mod role;
mod rule_set;
pub(crate) mod scan;
mod scan_report;
mod security_rule;
mod sensor;
mod session;
mod signature;
mod sniffer;
mod system;
mod transfer;
mod user;
mod vitals;
mod vulnerability;
mod vulnerability_file;
mod workload;

use crate::table::Table;

/// All routes.
#[must_use]
pub fn table() -> Table {
    let parts = [
        auth::routes(),
        user::routes(),
        role::routes(),
        api_key::routes(),
        password_profile::routes(),
        system::routes(),
        config::routes(),
        infrastructure::routes(),
        vitals::routes(),
        workload::routes(),
        process::routes(),
        session::routes(),
        sniffer::routes(),
        group::routes(),
        policy::routes(),
        profile::routes(),
        file::routes(),
        sensor::routes(),
        rule_set::routes(),
        transfer::routes(),
        security_rule::routes(),
        conversation::routes(),
        scan::routes(),
        scan_report::routes(),
        asset::routes(),
        vulnerability::routes(),
        vulnerability_file::routes(),
        registry::routes(),
        registry_image::routes(),
        repository::routes(),
        signature::routes(),
        log::routes(),
        crate::stream::routes(),
    ];
    Table::new(parts.into_iter().flatten().collect())
}
