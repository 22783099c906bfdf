//! A result that a stand-alone scanner hands in: `ScanResult` of the contract, whose keys are those of its messages
//! (`share/scan.proto` of NeuVector).

use std::collections::BTreeMap;

use nv_model::scan_report::{
    ModuleCve, ScanLayer, ScanModule, ScanReport, ScanSecret, ScanSetIdPerm, ScannedImage, Vulnerability,
};
use nv_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Characters of a secret's text that are kept.
const SHOWN: usize = 4;

/// `ScanVulnerability`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanVulnerability {
    /// Its id.
    pub name: String,
    /// CVSS 2 score.
    pub score: f64,
    /// Critical, High, Medium or Low.
    pub severity: String,
    /// What it is.
    pub description: String,
    /// The package.
    pub package_name: String,
    /// Its version.
    pub package_version: String,
    /// The version that mends it.
    pub fixed_version: String,
    /// Where more is said.
    pub link: String,
    /// CVSS 2 vector.
    pub vectors: String,
    /// CVSS 3 score.
    pub score_v3: f64,
    /// CVSS 3 vector.
    pub vectors_v3: String,
    /// RFC 3339, or seconds since the epoch.
    pub published_date: String,
    /// RFC 3339, or seconds since the epoch.
    pub last_modified_date: String,
    /// CVEs that the advisory speaks of.
    #[serde(rename = "CVEs")]
    pub cves: Vec<String>,
    /// The feed's own word for the severity.
    pub feed_rating: String,
    /// It comes from the base image.
    pub in_base: bool,
    /// The file that says that the package is there.
    pub file_name: String,
}

/// `ScanModuleVul`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanModuleVul {
    /// Its id.
    pub name: String,
    /// 0 unpatched, 1 a fix exists, 2 it will not be fixed, 3 unaffected.
    pub status: u32,
}

/// `ScanModule`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schema(as = ScanResultModule)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it was built from.
    pub source: String,
    /// The file that says that it is there.
    pub file: String,
    /// Its vulnerabilities.
    pub vuls: Vec<ScanModuleVul>,
}

/// `ScanSecretLog`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanSecretLog {
    /// Of what kind its file is.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The text; only its beginning is kept.
    pub text: String,
    /// The file.
    pub file: String,
    /// What kind of secret it is.
    pub rule_desc: String,
    /// What to do.
    pub suggestion: String,
}

/// `ScanSecretResult`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanSecretResult {
    /// The secrets.
    pub logs: Vec<ScanSecretLog>,
}

/// `ScanSetIdPermLog`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanSetIdPermLog {
    /// setuid, setgid or both.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The file.
    pub file: String,
    /// Its permission bits.
    pub evidence: String,
}

/// `ScanLayerResult`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanLayerResult {
    /// Digest of its blob.
    pub digest: String,
    /// What a scan of it alone finds.
    pub vuls: Vec<ScanVulnerability>,
    /// The command that made it.
    pub cmds: String,
    /// Bytes of its blob.
    pub size: i64,
}

/// `ScanResult`. What is told of containers and functions is not read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScanResult {
    /// Version of the database.
    pub version: String,
    /// 0, or the number of what went wrong.
    pub error: u32,
    /// `debian:12`.
    pub namespace: String,
    /// What is vulnerable.
    pub vuls: Vec<ScanVulnerability>,
    /// Address of the registry.
    pub registry: String,
    /// Its repository.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Digest of the configuration.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Layer by layer.
    pub layers: Vec<ScanLayerResult>,
    /// The image's environment.
    pub envs: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    pub author: String,
    /// When the database was built.
    #[serde(rename = "CVEDBCreateTime")]
    pub cvedb_create_time: String,
    /// What is installed.
    pub modules: Vec<Module>,
    /// Secrets.
    pub secrets: ScanSecretResult,
    /// The commands that made it.
    pub cmds: Vec<String>,
    /// Files that run as another user or group.
    pub set_id_perms: Vec<ScanSetIdPermLog>,
    /// Bytes of its layers.
    pub size: i64,
}

/// A body whose content stands under `result`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ScanRepoSubmitData {
    /// The content.
    pub result: Option<ScanResult>,
}

/// Seconds since the epoch; 0 where nothing says so.
fn seconds(text: &str) -> i64 {
    text.parse().ok().or_else(|| Timestamp::from_rfc3339(text).map(Timestamp::seconds)).unwrap_or(0)
}

/// The beginning of a secret, the rest masked.
fn masked(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() { format!("{shown}***") } else { "***".to_owned() }
}

const fn status_word(status: u32) -> &'static str {
    match status {
        1 => "fix exists",
        2 => "will not fix",
        3 => "unaffected",
        _ => "unpatched",
    }
}

impl From<ScanVulnerability> for Vulnerability {
    fn from(given: ScanVulnerability) -> Self {
        Self {
            status: status_word(u32::from(!given.fixed_version.is_empty())).to_owned(),
            name: given.name,
            score: given.score,
            severity: given.severity,
            vectors: given.vectors,
            description: given.description,
            file_name: given.file_name,
            package_name: given.package_name,
            package_version: given.package_version,
            fixed_version: given.fixed_version,
            link: given.link,
            score_v3: given.score_v3,
            vectors_v3: given.vectors_v3,
            published_timestamp: seconds(&given.published_date),
            last_modified_timestamp: seconds(&given.last_modified_date),
            feed_rating: given.feed_rating,
            cves: given.cves,
            in_base_image: given.in_base,
            ..Self::default()
        }
    }
}

fn all<T, U: From<T>>(given: Vec<T>) -> Vec<U> {
    given.into_iter().map(U::from).collect()
}

impl From<Module> for ScanModule {
    fn from(given: Module) -> Self {
        let cve = |found: ScanModuleVul| ModuleCve {
            name: found.name,
            status: status_word(found.status).to_owned(),
        };
        Self {
            name: given.name,
            file: given.file,
            version: given.version,
            source: given.source,
            cves: given.vuls.into_iter().map(cve).collect(),
        }
    }
}

impl From<ScanSecretLog> for ScanSecret {
    fn from(given: ScanSecretLog) -> Self {
        let kind = if given.rule_desc.is_empty() { given.kind } else { given.rule_desc };
        Self { kind, evidence: masked(&given.text), path: given.file, suggestion: given.suggestion }
    }
}

impl From<ScanSetIdPermLog> for ScanSetIdPerm {
    fn from(given: ScanSetIdPermLog) -> Self {
        Self { kind: given.kind, evidence: given.evidence, path: given.file }
    }
}

impl From<ScanLayerResult> for ScanLayer {
    fn from(given: ScanLayerResult) -> Self {
        Self {
            digest: given.digest,
            cmds: given.cmds,
            vulnerabilities: all(given.vuls),
            size: u64::try_from(given.size).unwrap_or(0),
        }
    }
}

impl From<ScanResult> for ScanReport {
    fn from(given: ScanResult) -> Self {
        Self {
            base_os: given.namespace,
            database_version: given.version,
            database_created: given.cvedb_create_time,
            vulnerabilities: all(given.vuls),
            modules: all(given.modules),
            layers: all(given.layers),
            secrets: all(given.secrets.logs),
            setid_perms: all(given.set_id_perms),
            envs: given.envs,
            cmds: given.cmds,
            labels: given.labels,
            image: Some(ScannedImage {
                digest: given.digest,
                id: given.image_id,
                author: given.author,
                size: u64::try_from(given.size).unwrap_or(0),
                ..ScannedImage::default()
            }),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_handed_in_is_kept_by_its_beginning_alone() {
        for (text, want) in [("AKIAIOSFODNN7", "AKIA***"), ("abcd", "***"), ("", "***")] {
            assert_eq!(masked(text), want);
        }
    }
}
