//! Registries that are scanned, and what is in them.

use std::collections::BTreeMap;

use nv_model::registry::{ListedImage, RegistryConfig as Model};
use nv_model::scan_report::ScanLayer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// When a registry is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ScanSchedule {
    /// manual, auto or periodical.
    pub schedule: String,
    /// Seconds, 300 to 604,800.
    pub interval: u32,
}

/// Amazon's key; secrets are always empty in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AwsAccountKey {
    /// The account's number.
    pub id: String,
    /// The region.
    pub region: String,
    /// The key's public part.
    pub access_key_id: String,
    /// The key's secret part.
    pub secret_access_key: String,
}

/// Google's key; always empty in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GcrKey {
    /// The key as JSON.
    pub json_key: String,
}

/// Which registry, and which of its images.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryPlace {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub registry_type: String,
    /// Its address.
    pub registry: Option<String>,
    /// Namespaces whose users see it.
    pub domains: Option<Vec<String>>,
    /// `repository:tag`, with `*`.
    pub filters: Option<Vec<String>>,
}

/// Credentials; secrets are always empty in answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryConfigAuth {
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// A token in their place.
    pub auth_token: Option<String>,
    /// The token counts.
    pub auth_with_token: Option<bool>,
    /// Amazon's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_key: Option<AwsAccountKey>,
    /// Google's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcr_key: Option<GcrKey>,
}

/// How it is scanned.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryConfigScan {
    /// Images are scanned again when there is a newer database.
    pub rescan_after_db_update: Option<bool>,
    /// Findings of each layer too.
    pub scan_layers: Option<bool>,
    /// Most repositories.
    pub repo_limit: Option<u32>,
    /// Most tags of a repository.
    pub tag_limit: Option<u32>,
    /// When.
    pub schedule: Option<ScanSchedule>,
    /// No proxy on the way.
    pub ignore_proxy: Option<bool>,
}

/// What single kinds want.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryConfigIntegrations {
    /// JFrog: Repository Path, Subdomain or Port.
    pub jfrog_mode: Option<String>,
    /// JFrog: its query language.
    pub jfrog_aql: Option<bool>,
    /// GitLab: its own address.
    pub gitlab_external_url: Option<String>,
    /// GitLab: a token of its API; always empty in answers.
    pub gitlab_private_token: Option<String>,
    /// IBM: where tokens are given.
    pub ibm_cloud_token_url: Option<String>,
    /// IBM: the account.
    pub ibm_cloud_account: Option<String>,
}

/// A registry, or what of one is to be another; what is absent stays. The first version has all on one level.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryConfig {
    /// Which.
    #[serde(flatten)]
    pub place: RegistryPlace,
    /// Credentials.
    #[serde(flatten)]
    pub auth: RegistryConfigAuth,
    /// How it is scanned.
    #[serde(flatten)]
    pub scan: RegistryConfigScan,
    /// What single kinds want.
    #[serde(flatten)]
    pub integrations: RegistryConfigIntegrations,
}

/// The same in the second version's shape: credentials count in `auth` alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RegistryConfigV2 {
    /// Which.
    #[serde(flatten)]
    pub place: RegistryPlace,
    /// Credentials.
    pub auth: Option<RegistryConfigAuth>,
    /// How it is scanned.
    pub scan: Option<RegistryConfigScan>,
    /// What single kinds want.
    pub integrations: Option<RegistryConfigIntegrations>,
}

impl From<RegistryConfigV2> for RegistryConfig {
    fn from(given: RegistryConfigV2) -> Self {
        Self {
            place: given.place,
            auth: given.auth.unwrap_or_default(),
            scan: given.scan.unwrap_or_default(),
            integrations: given.integrations.unwrap_or_default(),
        }
    }
}

/// As it is stored, without its secrets.
impl From<&Model> for RegistryConfig {
    fn from(config: &Model) -> Self {
        let aws = !config.aws_access_key_id.is_empty() || !config.aws_region.is_empty();
        let secret = || Some(String::new());
        Self {
            place: RegistryPlace {
                name: config.name.clone(),
                registry_type: config.kind.clone(),
                registry: Some(config.url.clone()),
                domains: Some(config.domains.clone()),
                filters: Some(config.filters.clone()),
            },
            auth: RegistryConfigAuth {
                username: Some(config.username.clone()),
                password: secret(),
                auth_token: secret(),
                auth_with_token: Some(config.auth_with_token),
                aws_key: aws.then(|| AwsAccountKey {
                    id: config.aws_id.clone(),
                    region: config.aws_region.clone(),
                    ..AwsAccountKey::default()
                }),
                gcr_key: (!config.gcr_json_key.is_empty()).then(GcrKey::default),
            },
            scan: RegistryConfigScan {
                rescan_after_db_update: Some(config.rescan_after_db_update),
                scan_layers: Some(config.scan_layers),
                repo_limit: Some(config.repo_limit),
                tag_limit: Some(config.tag_limit),
                schedule: Some(ScanSchedule {
                    schedule: config.schedule.name().to_owned(),
                    interval: config.interval,
                }),
                ignore_proxy: Some(config.ignore_proxy),
            },
            integrations: RegistryConfigIntegrations {
                jfrog_mode: Some(config.jfrog_mode.clone()),
                jfrog_aql: Some(config.jfrog_aql),
                gitlab_external_url: Some(config.gitlab_external_url.clone()),
                gitlab_private_token: secret(),
                ibm_cloud_token_url: Some(config.ibm_cloud_token_url.clone()),
                ibm_cloud_account: Some(config.ibm_cloud_account.clone()),
            },
        }
    }
}

/// A registry and where its scans are.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RegistrySummary {
    /// As it is configured.
    #[serde(flatten)]
    pub config: RegistryConfig,
    /// Always `user_created`.
    pub cfg_type: String,
    /// idle or scanning.
    pub status: String,
    /// Why the last look failed.
    pub error_message: String,
    /// What of it could not be read.
    pub error_detail: String,
    /// When the last look began.
    pub started_at: String,
    /// Images with a report.
    pub scanned: usize,
    /// Scans that wait.
    pub scheduled: usize,
    /// Scans that run.
    pub scanning: usize,
    /// Images whose last scan failed.
    pub failed: usize,
    /// The scanners' database.
    pub cvedb_version: String,
    /// When it was built.
    pub cvedb_create_time: String,
}
impl Named for RegistrySummary {
    const ONE: &'static str = "summary";
    // The contract's spelling.
    const MANY: &'static str = "summarys";
}

/// An image of a registry and where its scan is.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RegistryImageSummary {
    /// Address of the registry that has it.
    pub domain: String,
    /// Its repository.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Digest of its configuration.
    pub image_id: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Bytes of its layers, compressed.
    pub size: u64,
    /// By whom it was made.
    pub author: String,
    /// When.
    pub created_at: String,
    /// It runs as root.
    pub run_as_root: bool,
    /// Digests of its layers.
    pub layers: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where its scan is.
    pub status: String,
    /// succeeded, or why it failed.
    pub result: String,
    /// When it was scanned.
    pub scanned_at: String,
    /// When, in seconds.
    pub scanned_timestamp: i64,
    /// `debian:12`.
    pub base_os: String,
    /// Version of the database.
    pub scanner_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
    /// Why packages of the distribution were not judged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_scan_status: String,
    /// Critical findings.
    pub critical: u32,
    /// High findings.
    pub high: u32,
    /// Medium findings.
    pub medium: u32,
}
impl Named for RegistryImageSummary {
    const ONE: &'static str = "image";
    const MANY: &'static str = "images";
}

impl From<&ListedImage> for RegistryImageSummary {
    fn from(image: &ListedImage) -> Self {
        Self {
            domain: image.domain.clone(),
            repository: image.repository.clone(),
            tag: image.tag.clone(),
            image_id: image.id.clone(),
            digest: image.digest.clone(),
            size: image.size,
            author: image.author.clone(),
            created_at: image.created.clone(),
            run_as_root: image.run_as_root,
            layers: image.layers.clone(),
            labels: image.labels.clone(),
            ..Self::default()
        }
    }
}

/// What was found layer by layer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanLayersReport {
    /// The layers, the lowest first.
    pub layers: Vec<ScanLayer>,
}
impl Named for ScanLayersReport {
    const ONE: &'static str = "report";
    const MANY: &'static str = "reports";
}

/// A step of a trial of a registry.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RegistryTestStep {
    /// What was tried.
    pub step_type: String,
    /// What came of it.
    pub step_content: String,
}

/// The trial of a registry.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RegistryTestResult {
    /// Its steps.
    pub steps: Vec<RegistryTestStep>,
}

/// Lists of words.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct WordList {
    /// Kinds of registries.
    pub registry_type: Vec<String>,
}
impl Named for WordList {
    const ONE: &'static str = "list";
    const MANY: &'static str = "lists";
}

/// An image to scan, for instance of a build.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ScanRepoReq {
    /// Address of the registry; empty for an image of a runtime of a scanner's machine.
    pub registry: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// Its repository.
    pub repository: String,
    /// Its tag, or its digest.
    pub tag: String,
    /// Findings of each layer too.
    pub scan_layers: bool,
    /// `repository:tag` in the same registry that it was built on.
    pub base_image: String,
    /// No proxy on the way.
    pub ignore_proxy: bool,
}

/// A body whose content stands under `request`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ScanRepoReqData {
    /// The content.
    pub request: Option<ScanRepoReq>,
}

/// What was found in an image that somebody asked for by its place.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ScanRepoReport {
    /// Digest of its configuration.
    pub image_id: String,
    /// Address of the registry.
    pub registry: String,
    /// Its repository.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Digest of its manifest.
    pub digest: String,
    /// By whom it was made.
    pub author: String,
    /// When.
    pub created_at: String,
    /// Bytes of its layers, compressed.
    pub size: u64,
    /// `debian:12`.
    pub base_os: String,
    /// Version of the database.
    pub cvedb_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
    /// Layer by layer, where that was asked for.
    pub layers: Vec<ScanLayer>,
    /// What else was found.
    #[serde(flatten)]
    pub found: super::scan::ScanReport,
}
impl Named for ScanRepoReport {
    const ONE: &'static str = "report";
    const MANY: &'static str = "reports";
}
