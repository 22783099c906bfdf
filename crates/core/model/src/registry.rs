//! Registries that are scanned, as an operator configures them and as they are found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Most registries.
pub const MAX_REGISTRIES: usize = 256;
/// Most images of one registry.
pub const MAX_IMAGES: usize = 8_192;
/// Shortest and longest time between two looks at a registry, in seconds.
pub const INTERVAL: std::ops::RangeInclusive<u32> = 300..=604_800;

/// When a registry is looked at. The words are the contract's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrySchedule {
    /// When somebody asks.
    #[default]
    Manual,
    /// As soon as something changes, where the registry tells of it; else at every shortest time.
    Auto,
    /// Again and again.
    Periodical,
}

impl RegistrySchedule {
    /// The contract's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
            Self::Periodical => "periodical",
        }
    }

    /// By its word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Manual, Self::Auto, Self::Periodical].into_iter().find(|one| one.name() == name)
    }
}

/// A registry. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// Its name here.
    pub name: String,
    /// Its kind, by the contract's word.
    pub kind: String,
    /// Its address.
    pub url: String,
    /// The user; empty for none.
    pub username: String,
    /// The password, a secret.
    pub password: String,
    /// A token in their place, a secret.
    pub auth_token: String,
    /// The token counts.
    pub auth_with_token: bool,
    /// Namespaces whose users see it; empty for the cluster's alone.
    pub domains: Vec<String>,
    /// Which images are meant.
    pub filters: Vec<String>,
    /// Images are looked at again when there is a newer database.
    pub rescan_after_db_update: bool,
    /// Findings of each layer too.
    pub scan_layers: bool,
    /// Most repositories; 0 for no bound but the product's.
    pub repo_limit: u32,
    /// Most tags of a repository; 0 for no bound but the product's.
    pub tag_limit: u32,
    /// When.
    pub schedule: RegistrySchedule,
    /// How often, in seconds.
    pub interval: u32,
    /// No proxy on the way.
    pub ignore_proxy: bool,
    /// JFrog: how its registries are reached.
    pub jfrog_mode: String,
    /// JFrog: its query language is used to list.
    pub jfrog_aql: bool,
    /// GitLab: its own address.
    pub gitlab_external_url: String,
    /// GitLab: a token of its API, a secret.
    pub gitlab_private_token: String,
    /// IBM: where tokens are given.
    pub ibm_cloud_token_url: String,
    /// IBM: the account.
    pub ibm_cloud_account: String,
    /// Amazon: the account's number.
    pub aws_id: String,
    /// Amazon: the region.
    pub aws_region: String,
    /// Amazon: the key's public part.
    pub aws_access_key_id: String,
    /// Amazon: the key's secret part, a secret.
    pub aws_secret_access_key: String,
    /// Google: a key as JSON, a secret.
    pub gcr_json_key: String,
}

impl RegistryConfig {
    /// Fields that are secret.
    pub const SECRETS: &[&str] = &[
        "password",
        "auth_token",
        "gitlab_private_token",
        "aws_access_key_id",
        "aws_secret_access_key",
        "gcr_json_key",
    ];
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An image that a registry has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListedImage {
    /// Address of the registry that has it.
    pub domain: String,
    /// Its repository.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Digest of what the tag names: the image's manifest, or an index with it.
    pub digest: String,
    /// Digest of its configuration, without `sha256:`.
    pub id: String,
    /// When it was made (RFC 3339), as it says.
    pub created: String,
    /// By whom, as it says.
    pub author: String,
    /// Bytes of its layers, compressed.
    pub size: u64,
    /// It runs as root.
    pub run_as_root: bool,
    /// Digests of its layers, the lowest first.
    pub layers: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_shows_no_secret() {
        let config = RegistryConfig {
            name: "hub".to_owned(),
            password: "hunter1".to_owned(),
            auth_token: "hunter2".to_owned(),
            gitlab_private_token: "hunter3".to_owned(),
            aws_secret_access_key: "hunter4".to_owned(),
            gcr_json_key: "hunter5".to_owned(),
            ..RegistryConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("hub") && !shown.contains("hunter"), "{shown}");
    }
}
