//! The API over a real controller, store and event log, with a node that reports over its own mTLS link; the last
//! tests go over TLS as clients do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod auth;
mod fixture;
mod group_files;
mod harbor;
mod inventory;
mod logs;
mod node;
mod policy;
mod protocol;
mod registries;
mod registry_scan;
mod rights;
mod scans;
mod sensors;
mod standalone;
mod tls;
mod vulnerability_file;
