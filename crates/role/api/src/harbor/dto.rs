//! Shapes of Harbor's pluggable scanner API, version 1.2 (goharbor/pluggable-scanner-spec).

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MANIFESTS;
use super::report::{HARBOR, RAW, SBOM, SBOM_MEDIA, SECURITY};

/// A request that is not answered as it wishes.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ErrorResponse {
    error: ErrorMessage,
}

#[derive(Debug, Serialize)]
struct ErrorMessage {
    message: String,
}

impl ErrorResponse {
    pub(super) const fn of(message: String) -> Self {
        Self { error: ErrorMessage { message } }
    }
}

/// Who scans.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Scanner {
    name: &'static str,
    vendor: &'static str,
    version: &'static str,
}

impl Scanner {
    pub(super) const OURS: Self =
        Self { name: "neuvector", vendor: "neuvector_vendor", version: nv_telemetry::VERSION };
}

#[derive(Debug, Serialize)]
pub(super) struct Metadata {
    scanner: Scanner,
    capabilities: Vec<Value>,
    properties: BTreeMap<&'static str, String>,
}

impl Metadata {
    /// What is served; `updated` is when the database was built (RFC 3339), empty while there is none.
    pub(super) fn new(updated: &str) -> Self {
        let mut properties =
            BTreeMap::from([("harbor.scanner-adapter/scanner-type", "os-package-vulnerability".to_owned())]);
        if !updated.is_empty() {
            properties.insert("harbor.scanner-adapter/vulnerability-database-updated-at", updated.to_owned());
        }
        let capabilities = vec![
            json!({
                "type": "vulnerability",
                "consumes_mime_types": MANIFESTS,
                "produces_mime_types": [SECURITY, HARBOR, RAW],
            }),
            json!({
                "type": "sbom",
                "consumes_mime_types": MANIFESTS,
                "produces_mime_types": [SBOM],
                "additional_attributes": { "sbom_media_types": SBOM_MEDIA },
            }),
        ];
        Self { scanner: Scanner::OURS, capabilities, properties }
    }
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Artifact {
    pub(super) repository: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) tag: String,
    #[serde(default)]
    pub(super) mime_type: String,
}

/// Where it is. No `Debug`: it has credentials.
#[derive(Deserialize)]
pub(super) struct Place {
    pub(super) url: String,
    /// A value of the header `Authorization`; empty for none.
    #[serde(default)]
    pub(super) authorization: String,
}

/// What of it is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(rename = "type")]
    kind: String,
}

impl Wanted {
    pub(super) fn is_served(&self) -> bool {
        ["vulnerability", "sbom"].contains(&self.kind.as_str())
    }
}

/// A scan that is asked for.
#[derive(Deserialize)]
pub(super) struct Order {
    pub(super) registry: Place,
    pub(super) artifact: Artifact,
    /// Absent for everything.
    #[serde(default)]
    pub(super) enabled_capabilities: Option<Vec<Wanted>>,
}

/// Whose report is meant: what the id of a scan says, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScanId {
    pub(super) url: String,
    pub(super) artifact: Artifact,
}

#[derive(Debug, Serialize)]
pub(super) struct Cvss {
    pub(super) score_v3: f64,
    pub(super) score_v2: f64,
    pub(super) vector_v3: String,
    pub(super) vector_v2: String,
}

#[derive(Debug, Serialize)]
pub(super) struct VulnerabilityItem {
    pub(super) id: String,
    pub(super) package: String,
    pub(super) version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix_version: String,
    pub(super) severity: &'static str,
    pub(super) description: String,
    pub(super) links: Vec<String>,
    pub(super) preferred_cvss: Cvss,
    pub(super) cwe_ids: Vec<String>,
    pub(super) vendor_attributes: BTreeMap<&'static str, Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct VulnerabilityReport<'a> {
    pub(super) generated_at: String,
    pub(super) artifact: &'a Artifact,
    pub(super) scanner: Scanner,
    pub(super) severity: &'static str,
    pub(super) vulnerabilities: Vec<VulnerabilityItem>,
}

#[derive(Debug, Serialize)]
pub(super) struct SbomReport<'a> {
    pub(super) generated_at: String,
    pub(super) artifact: &'a Artifact,
    pub(super) scanner: Scanner,
    pub(super) vendor_attributes: BTreeMap<&'static str, Value>,
    pub(super) media_type: &'static str,
    pub(super) sbom: Value,
}
