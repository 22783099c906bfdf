//! What a scan found, in the contract's shapes: scanners make it, the controller keeps it as it is, the REST API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `Vulnerability` of the contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Vulnerability {
    /// Its id.
    pub name: String,
    /// CVSS 2 score, 0 where there is none.
    pub score: f64,
    /// Critical, High, Medium, Low or Unknown.
    pub severity: String,
    /// CVSS 2 vector.
    pub vectors: String,
    /// What it is.
    pub description: String,
    /// The file that says that the package is there.
    pub file_name: String,
    /// The package.
    pub package_name: String,
    /// Its version.
    pub package_version: String,
    /// The version to install; empty where none is known.
    pub fixed_version: String,
    /// Where more is said.
    pub link: String,
    /// CVSS 3 score, 0 where there is none.
    pub score_v3: f64,
    /// CVSS 3 vector.
    pub vectors_v3: String,
    /// Seconds since the epoch.
    pub published_timestamp: i64,
    /// Seconds since the epoch.
    pub last_modified_timestamp: i64,
    /// The feed's own word for the severity.
    pub feed_rating: String,
    /// CVEs that the advisory speaks of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<String>,
    /// `accepted` where a vulnerability profile accepts it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// It comes from the base image.
    #[serde(skip_serializing_if = "is_false")]
    pub in_base_image: bool,
    /// Whether there is a remedy.
    pub status: String,
    /// Whether it is known to be exploited.
    #[serde(skip_serializing_if = "is_false")]
    pub exploited: bool,
    /// How likely it is exploited within 30 days, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epss: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// `ModuleCve` of the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ModuleCve {
    /// Its id.
    pub name: String,
    /// Whether there is a remedy.
    pub status: String,
}

/// `ScanModule` of the contract: a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScanModule {
    /// Its name.
    pub name: String,
    /// The file that says that it is there.
    pub file: String,
    /// Its version.
    pub version: String,
    /// The package that it was built from.
    pub source: String,
    /// Its vulnerabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<ModuleCve>,
}

/// `ScanSecret` of the contract; the evidence is masked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScanSecret {
    /// What kind of secret it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its beginning, the rest masked.
    pub evidence: String,
    /// The file.
    pub path: String,
    /// What to do.
    pub suggestion: String,
}

/// `ScanSetIdPerm` of the contract: a file that runs as another user or group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScanSetIdPerm {
    /// setuid, setgid or both.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its permission bits.
    pub evidence: String,
    /// The file.
    pub path: String,
}

/// `ScanLayer` of the contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScanLayer {
    /// Digest of its blob.
    pub digest: String,
    /// The command that made it.
    pub cmds: String,
    /// What a scan of it alone finds.
    pub vulnerabilities: Vec<Vulnerability>,
    /// Size of its blob in bytes.
    pub size: u64,
}

/// `BenchItem` of the contract: an item of a benchmark, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct BenchItem {
    /// Its number (`I.4.1`).
    pub test_number: String,
    /// docker, kubernetes or custom.
    pub category: String,
    /// What is looked at.
    #[serde(rename = "type")]
    pub kind: String,
    /// Level 1 or Level 2.
    pub profile: String,
    /// It counts for the benchmark's score.
    pub scored: bool,
    /// It is judged without a person.
    pub automated: bool,
    /// PASS, INFO, WARN, MANUAL, HIGH, NOTE or ERROR.
    pub level: String,
    /// What it asks for.
    pub description: String,
    /// What to do.
    pub remediation: String,
    /// What was found against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub message: Vec<String>,
}

/// `ScanSignatureInfo` of the contract: who signed an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScanSignatureInfo {
    /// Verifiers whose signature it has, as `root/verifier`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verifiers: Vec<String>,
    /// When that was judged, RFC 3339.
    pub verification_timestamp: String,
    /// Of each other verifier, why each signature does not count for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScannedImage {
    /// Digest of its manifest.
    pub digest: String,
    /// Digest of its configuration.
    pub id: String,
    /// When it was made (RFC 3339), as it says.
    pub created: String,
    /// Who made it, as it says.
    pub author: String,
    /// Bytes of its layers, compressed.
    pub size: u64,
    /// It runs as root.
    pub run_as_root: bool,
}

/// What was found. This, as JSON, is what a scanner hands in and what is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanReport {
    /// `debian:12`; empty where nothing says so.
    pub base_os: String,
    /// Version of the database, `4.196`.
    pub database_version: String,
    /// When the database was built, RFC 3339.
    pub database_created: String,
    /// Hash of the database's content.
    pub database_content: String,
    /// Why packages of the distribution were not judged; empty where they were.
    pub os_scan_status: String,
    /// What is vulnerable.
    pub vulnerabilities: Vec<Vulnerability>,
    /// What is installed.
    pub modules: Vec<ScanModule>,
    /// Layer by layer, where that was asked for.
    pub layers: Vec<ScanLayer>,
    /// Secrets in files and the environment.
    pub secrets: Vec<ScanSecret>,
    /// Files that run as another user or group.
    pub setid_perms: Vec<ScanSetIdPerm>,
    /// The image's environment, secrets masked.
    pub envs: Vec<String>,
    /// The commands that made it.
    pub cmds: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// Items of the benchmark on images, judged.
    pub checks: Vec<BenchItem>,
    /// Who signed the image; none where nobody asked.
    pub signature_data: Option<ScanSignatureInfo>,
    /// Facts of an image; none for a container or a node.
    pub image: Option<ScannedImage>,
    /// Names under which advisories may speak of what is installed, sorted, each once: a change of a database that
    /// names none of them does not change this report.
    pub package_names: Vec<String>,
    /// What could not be read, at most 100.
    pub remarks: Vec<String>,
}
