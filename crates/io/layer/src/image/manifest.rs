//! The documents of images: indexes, manifests and configurations of OCI (image-spec 1.1) and Docker, and the list in
//! archives of `docker save`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Image, ImageError, ImageLayer};

/// Most commands of a history that are kept.
const MAX_STEPS: usize = 4096;

/// An index or a manifest.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) manifests: Vec<Descriptor>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    artifact_type: String,
}

/// What another document is named by.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    platform: Option<Platform>,
    annotations: BTreeMap<String, String>,
    artifact_type: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

impl Descriptor {
    /// Attestations say so in their platform, which is none.
    pub(super) fn is_no_image(&self) -> bool {
        let attestation = self.annotations.contains_key("vnd.docker.reference.type");
        let nowhere =
            self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
        attestation || nowhere || !self.artifact_type.is_empty()
    }

    pub(super) fn platform(&self) -> String {
        let platform = self.platform.as_ref().filter(|platform| !platform.os.is_empty());
        platform.map(|platform| format!("{}/{}", platform.os, platform.architecture)).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Option<String> {
        let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        keys.iter().find_map(|key| self.annotations.get(*key)).cloned()
    }
}

impl Document {
    /// Charts, signatures and other artefacts have configurations of their own kinds.
    pub(super) fn is_no_image(&self) -> bool {
        let kinds = [
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
            "",
        ];
        let image = self.config.as_ref().is_some_and(|config| kinds.contains(&config.media_type.as_str()));
        !image || !self.artifact_type.is_empty()
    }
}

/// What an image says of itself.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Config {
    pub(super) created: Option<String>,
    pub(super) author: Option<String>,
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) config: Option<Execution>,
    pub(super) rootfs: RootFs,
    pub(super) history: Option<Vec<Step>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Execution {
    user: String,
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<HealthCheck>,
}

/// `HEALTHCHECK` of Docker, an extension of the image specification.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HealthCheck {
    test: Option<Vec<String>>,
}

impl HealthCheck {
    /// Empty inherits from a base, which the builder has put in; `NONE` takes it away.
    fn checks(&self) -> bool {
        self.test.as_ref().and_then(|test| test.first()).is_some_and(|way| way != "NONE")
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Step {
    created_by: String,
    empty_layer: bool,
}

/// An image in an archive of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(rename = "RepoTags")]
    pub(super) names: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

impl Config {
    /// The image with these layers, each with the command that made it.
    pub(super) fn image(self, id: String, mut layers: Vec<ImageLayer>) -> Image {
        let steps = self.history.unwrap_or_default();
        let history = steps.iter().take(MAX_STEPS).map(|step| step.created_by.clone()).collect();
        let made = steps.into_iter().filter(|step| !step.empty_layer);
        for (layer, step) in layers.iter_mut().zip(made) {
            layer.command = step.created_by;
        }
        let execution = self.config.unwrap_or_default();
        Image {
            names: Vec::new(),
            digest: String::new(),
            id,
            os: self.os,
            architecture: self.architecture,
            created: self.created.unwrap_or_default(),
            author: self.author.unwrap_or_default(),
            user: execution.user,
            environment: execution.env.unwrap_or_default(),
            labels: execution.labels.unwrap_or_default(),
            health_check: execution.healthcheck.is_some_and(|check| check.checks()),
            history,
            layers,
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document { name: name.to_owned(), source })
}
