//! The contract's shapes. Names and keys are the contract's; what a field means is said where the product's own word
//! for it is (nv-model, nv-identity). Shapes that a client sends take every key as optional.

pub mod api_key;
pub mod asset;
pub mod asset_view;
pub mod config;
pub mod file;
pub mod group;
pub mod infrastructure;
pub mod log;
pub mod network;
pub mod password_profile;
pub mod policy;
pub mod process;
pub mod registry;
pub mod resource;
pub mod role;
pub mod scan;
pub mod scan_report;
pub mod security_rule;
pub mod sensor;
pub mod sensor_resource;
pub mod session;
pub mod signature;
pub mod sniffer;
pub mod submitted;
pub mod system;
pub mod user;
pub mod vitals;
pub mod vulnerability_resource;
pub mod workload;
pub mod workload_v2;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A body whose content stands under `config`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Config<T: Default> {
    /// The content.
    #[serde(default = "none")]
    pub config: Option<T>,
}

/// Without a bound on `T`, which the plain attribute would ask for.
const fn none<T>() -> Option<T> {
    None
}

impl<T: Default + ToSchema> PartialSchema for Config<T> {
    fn schema() -> RefOr<Schema> {
        let content = RefOr::Ref(Ref::from_schema_name(T::name()));
        RefOr::T(Schema::Object(ObjectBuilder::new().property("config", content).required("config").build()))
    }
}

/// As a document's schema it is called after its content: `UserConfig` under `config` is `UserConfigData`.
impl<T: Default + ToSchema> ToSchema for Config<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Data", T::name()).into()
    }
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

impl<T: Default> Config<T> {
    /// The content.
    ///
    /// # Errors
    /// Code 6 when there is none.
    pub fn content(self) -> Result<T, crate::error::ApiError> {
        self.config.ok_or_else(|| crate::error::ApiError::format("the body has no config"))
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = IPAddr)]
pub struct IpAddress {
    /// The address.
    pub ip: String,
    /// Length of its prefix.
    pub ip_prefix: i64,
    /// Default gateway; empty for none.
    pub gateway: String,
}

/// Summary of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScanBrief {
    /// Empty: not scanned.
    pub status: String,
    /// What came of it.
    pub result: String,
    /// When.
    pub scanned_at: String,
    /// When, in seconds.
    pub scanned_timestamp: i64,
    /// Base system of the image.
    pub base_os: String,
    /// Version of the database.
    pub scanner_version: String,
    /// When the database was made.
    pub cvedb_create_time: String,
    /// Critical findings.
    pub critical: i64,
    /// High findings.
    pub high: i64,
    /// Medium findings.
    pub medium: i64,
}
