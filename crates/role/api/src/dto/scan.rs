//! Scans: summaries, reports, scanners, what is accepted.

use std::collections::BTreeMap;

use nv_model::scan::ScanState;
use nv_model::scan_report::{
    BenchItem, ScanModule, ScanReport as Model, ScanSecret, ScanSetIdPerm, ScanSignatureInfo, Vulnerability,
};
use nv_role_controller::View;
use nv_role_controller::scan::{ScanStatus as Status, ScannerInfo};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ScanBrief;
use crate::answer::Named;
use crate::scanned::Place;

impl ScanBrief {
    /// Of what is known of the scans of something at a place. What is accepted there does not count.
    #[must_use]
    pub(crate) fn of(view: &View, status: &Status, place: &Place) -> Self {
        let mut brief = Self {
            status: status.state.as_str().to_owned(),
            result: match (&status.failure, status.state) {
                (Some(failure), _) => failure.message.clone(),
                (None, ScanState::Finished) => "succeeded".to_owned(),
                (None, _) => String::new(),
            },
            ..Self::default()
        };
        if let Some(report) = &status.report {
            brief.scanned_at = report.at.rfc3339();
            brief.scanned_timestamp = report.at.seconds();
            brief.base_os.clone_from(&report.base_os);
            brief.scanner_version.clone_from(&report.database_version);
            brief.cvedb_create_time.clone_from(&report.database_created);
            let tally = view.tally(report, &place.image, &place.domain);
            brief.critical = tally.critical.into();
            brief.high = tally.high.into();
            brief.medium = tally.medium.into();
        }
        brief
    }
}

/// What is scanned when it starts.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct ScanConfig {
    /// Containers and nodes.
    pub auto_scan: bool,
    /// Containers.
    pub enable_auto_scan_workload: bool,
    /// Nodes.
    pub enable_auto_scan_host: bool,
}
impl Named for ScanConfig {
    const ONE: &'static str = "config";
    const MANY: &'static str = "configs";
}

/// What is to be scanned when it starts.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct ScanConfigConfig {
    /// Containers and nodes.
    #[serde(default)]
    pub auto_scan: Option<bool>,
    /// Containers.
    #[serde(default)]
    pub enable_auto_scan_workload: Option<bool>,
    /// Nodes.
    #[serde(default)]
    pub enable_auto_scan_host: Option<bool>,
}

/// How far the scans of what runs are.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanStatus {
    /// Have a report.
    pub scanned: i64,
    /// Wait.
    pub scheduled: i64,
    /// Are at it.
    pub scanning: i64,
    /// Gave no report.
    pub failed: i64,
    /// Version of the newest database; empty while no scanner has one.
    pub cvedb_version: String,
    /// When it was built.
    pub cvedb_create_time: String,
}
impl Named for ScanStatus {
    const ONE: &'static str = "status";
    const MANY: &'static str = "status";
}

/// A scanner.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Scanner {
    /// Id.
    pub id: String,
    /// Version of its database; empty where it has none.
    pub cvedb_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
    /// Since when it is linked, in seconds.
    pub joined_timestamp: i64,
    /// Its host's name or address.
    pub server: String,
    /// Always 0: scanners dial, nothing dials them.
    pub port: u16,
    /// Containers that it has scanned.
    pub scanned_containers: u64,
    /// Nodes that it has scanned.
    pub scanned_hosts: u64,
    /// Images that it has scanned.
    pub scanned_images: u64,
    /// Functions that it has scanned.
    pub scanned_serverless: u64,
}
impl Named for Scanner {
    const ONE: &'static str = "scanner";
    const MANY: &'static str = "scanners";
}

impl From<ScannerInfo> for Scanner {
    fn from(model: ScannerInfo) -> Self {
        let database = model.database.unwrap_or_default();
        Self {
            id: model.id.to_string(),
            cvedb_version: database.shown_version(),
            cvedb_create_time: database.shown_created(),
            joined_timestamp: model.joined.seconds(),
            server: model.server,
            port: 0,
            scanned_containers: model.containers,
            scanned_hosts: model.nodes,
            scanned_images: model.images,
            scanned_serverless: 0,
        }
    }
}

/// How much a scanner keeps of layers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanCacheStat {
    /// How many layers.
    pub record_count: u64,
    /// Bytes of what is kept.
    pub record_total_size: u64,
    /// Layers that had to be pulled, since its start.
    pub cache_misses: u64,
    /// Layers that had not.
    pub cache_hits: u64,
}

/// What a scanner keeps of a layer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanCacheRecord {
    /// The layer's digest.
    pub layer_id: String,
    /// Bytes of what is kept.
    pub size: u64,
    /// How often it was used, since the scanner's start.
    pub reference_count: u32,
    /// When it was last used, or made.
    pub last_referred: String,
}

/// What a scanner keeps of layers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanCacheData {
    /// Layer by layer.
    pub cache_records: Vec<ScanCacheRecord>,
    /// Bytes of what is kept.
    pub record_total_size: u64,
    /// Layers that had to be pulled, since its start.
    pub cache_misses: u64,
    /// Layers that had not.
    pub cache_hits: u64,
}

/// What a scan found.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanReport {
    /// `unsupported` where the database knows nothing of the distribution.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_scan_status: String,
    /// What is vulnerable.
    pub vulnerabilities: Vec<Vulnerability>,
    /// What is installed.
    pub modules: Vec<ScanModule>,
    /// Secrets in files and the environment.
    pub secrets: Vec<ScanSecret>,
    /// Files that run as another user or group.
    pub setid_perms: Vec<ScanSetIdPerm>,
    /// The image's environment.
    pub envs: Vec<String>,
    /// The commands that made it.
    pub cmds: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// Items of the benchmark on images, judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<BenchItem>,
    /// Who signed the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_data: Option<ScanSignatureInfo>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}
impl Named for ScanReport {
    const ONE: &'static str = "report";
    const MANY: &'static str = "reports";
}

impl From<Model> for ScanReport {
    fn from(model: Model) -> Self {
        Self {
            os_scan_status: model.os_scan_status,
            vulnerabilities: model.vulnerabilities,
            modules: model.modules,
            secrets: model.secrets,
            setid_perms: model.setid_perms,
            envs: model.envs,
            cmds: model.cmds,
            labels: model.labels,
            checks: model.checks,
            signature_data: model.signature_data,
            remarks: model.remarks,
        }
    }
}

/// An image that containers run of.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanImageSummary {
    /// Its name.
    pub image: String,
    /// Its id.
    pub image_id: String,
    /// Who made it.
    pub author: String,
    /// When it was made.
    pub created_at: String,
    /// Its scan.
    #[serde(flatten)]
    pub brief: ScanBrief,
}
impl Named for ScanImageSummary {
    const ONE: &'static str = "image";
    const MANY: &'static str = "images";
}

/// The platform that orchestrates containers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanPlatformSummary {
    /// Its name.
    pub platform: String,
    /// Version of Kubernetes.
    pub kube_version: String,
    /// Version of OpenShift.
    pub openshift_version: String,
    /// Its scan.
    #[serde(flatten)]
    pub brief: ScanBrief,
}
impl Named for ScanPlatformSummary {
    const ONE: &'static str = "platform";
    const MANY: &'static str = "platforms";
}

/// A vulnerability that is accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VulnerabilityProfileEntry {
    /// Its number; 0 for a new one.
    pub id: u32,
    /// The vulnerability's id, with `*` for any text; `_RecentVuln` and `_RecentVulnWithoutFix` for those of the last `days`.
    pub name: String,
    /// Why.
    pub comment: String,
    /// How many days after its publication a recent one is accepted.
    pub days: u32,
    /// Namespaces to which alone this applies.
    pub domains: Vec<String>,
    /// Images to which alone this applies.
    pub images: Vec<String>,
    /// The day from which on it is not accepted any more, `YYYY-MM-DD`; empty for never.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
}
impl Named for VulnerabilityProfileEntry {
    const ONE: &'static str = "config";
    const MANY: &'static str = "entries";
}

/// What is accepted.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulnerabilityProfile {
    /// `default`: there is one.
    pub name: String,
    /// Who owns it.
    pub cfg_type: String,
    /// Its entries.
    pub entries: Vec<VulnerabilityProfileEntry>,
}
impl Named for VulnerabilityProfile {
    const ONE: &'static str = "profile";
    const MANY: &'static str = "profiles";
}

/// What is to be accepted.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct VulnerabilityProfileConfig {
    /// `default`.
    #[serde(default)]
    pub name: String,
    /// Replaces all entries.
    #[serde(default)]
    pub entries: Option<Vec<VulnerabilityProfileEntry>>,
}
