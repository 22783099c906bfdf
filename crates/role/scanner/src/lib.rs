//! The scanner: feeds to a database, packages to findings.
//!
//! Each command is a function that writes what it found to a writer, and hands what it could not read to a [`Remarks`],
//! so that one bad file, line or feed hides no other.

mod cache;
mod collect;
mod database;
mod dump;
mod error;
mod exported;
mod fetch;
mod image;
mod inventory;
mod layer;
mod layer_process;
mod list;
mod live;
mod local;
mod output;
mod registry;
mod remark;
mod report;
mod root;
mod rules;
mod sbom;
mod service;
mod shown;
mod signed;
mod submit;
mod transport;
mod vex_repository;

pub use cache::LayerCache;
pub use database::{
    BuildOptions, OpenedDatabase, build_database, lookup, print_status, print_version, verify_database,
};
pub use dump::dump_database;
pub use error::ScannerError;
pub use fetch::{FetchOptions, fetch_feeds, fetched_feeds};
pub use image::{ImageChoice, layers_of_base, open_image, read_image};
pub use inventory::{SeenProgram, program_inventory};
pub use layer::{ImageReading, Layers};
pub use layer_process::{LAYER_READER, LayerProcess, layer_reader_main};
pub use list::{match_list, report_list};
pub use live::{LiveFile, LiveReader, Take, live_inventory, walk_live};
pub use local::{LocalKind, LocalSearch, RuntimeImage};
pub use nv_layer::{Image, ImageStore};
pub use nv_secret::SecretRules;
pub use nv_signature::Trust;
pub use nv_vulnerability::{Severity, SigningKey};
pub use output::{OutputFormat, SbomFormat, inventory_sbom, write_failure, write_report, write_result};
pub use registry::{Credentials, RegistryImages, RegistryOptions, RegistryProxy, registry_of, roots_of_pem};
pub use remark::Remarks;
pub use report::{ImageFacts, Installed, LayerFacts, Report, Secret, SetId, SignatureFacts};
pub use root::read_root;
pub use rules::{Rules, Silenced, SilencedBy, read_rules};
pub use sbom::read_sbom;
pub use service::{JoinToken, ServiceConfig, ServiceError, offer_database, serve};
pub use signed::read_trust;
pub use submit::{ImagePlace, Submission, submit_report};
pub use transport::{ImportOptions, database_in, diff_databases, export_database, import_database};
