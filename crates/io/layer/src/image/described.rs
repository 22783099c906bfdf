//! Images as a Docker daemon describes them (Engine API 1.24 and later), which keeps no manifests.

use serde::{Deserialize, Deserializer};

use super::manifest::{Config, Execution, RootFs};
use super::{Image, ImageLayer};
use crate::layer::LayerDigests;

/// `null` stands for the default.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `GET /images/NAME/json`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Description {
    id: String,
    #[serde(deserialize_with = "nullable")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    repo_digests: Vec<String>,
    created: Option<String>,
    author: Option<String>,
    architecture: String,
    os: String,
    config: Option<Execution>,
    #[serde(rename = "RootFS", deserialize_with = "nullable")]
    root: Root,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Root {
    #[serde(deserialize_with = "nullable")]
    layers: Vec<String>,
}

/// A line of `GET /images/NAME/history`, the newest first.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Built {
    #[serde(deserialize_with = "nullable")]
    created_by: String,
    size: i64,
}

impl Description {
    pub(super) fn layers(&self) -> &[String] {
        &self.root.layers
    }

    pub(super) fn image(self, mut history: Vec<Built>) -> Image {
        history.reverse();
        let layers: Vec<ImageLayer> = self
            .root
            .layers
            .iter()
            .map(|digest| ImageLayer {
                digests: LayerDigests { blob: String::new(), archive: digest.clone() },
                ..ImageLayer::default()
            })
            .collect();
        let config = Config {
            created: self.created,
            author: self.author,
            architecture: self.architecture,
            os: self.os,
            config: self.config,
            rootfs: RootFs { diff_ids: self.root.layers },
            history: None,
        };
        let mut image = config.image(self.id, layers);
        // Which step made which layer is not told; those that made something did.
        let made: Vec<&Built> = history.iter().filter(|step| step.size > 0).collect();
        if made.len() == image.layers.len() {
            for (layer, step) in image.layers.iter_mut().zip(made) {
                layer.command.clone_from(&step.created_by);
                layer.size = u64::try_from(step.size).unwrap_or(0);
            }
        }
        image.history = history.into_iter().map(|step| step.created_by).collect();
        image.names = self.repo_tags;
        let known = self.repo_digests.iter().find_map(|name| name.split_once('@'));
        image.digest = known.map(|(_, digest)| digest.to_owned()).unwrap_or_default();
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_with_its_history_is_an_image_with_the_commands_of_its_layers() {
        let description = br#"{"Id": "sha256:aa", "RepoTags": ["shop/web:1"], "RepoDigests": null, "Created": "2026-01-02T03:04:05Z",
            "Architecture": "amd64", "Os": "linux", "Author": "",
            "Config": {"User": "65534", "Env": ["A=b"], "Labels": null, "Healthcheck": {"Test": ["CMD", "true"]}},
            "RootFS": {"Type": "layers", "Layers": ["sha256:01", "sha256:02"]}}"#;
        let history = br#"[{"CreatedBy": "CMD [\"sh\"]", "Size": 0}, {"CreatedBy": "RUN two", "Size": 7}, {"CreatedBy": "ADD one", "Size": 9}]"#;
        let image = Image::of_docker(description, history).unwrap();
        let layers: Vec<(&str, &str)> =
            image.layers.iter().map(|layer| (layer.digest(), layer.command.as_str())).collect();
        assert_eq!(layers, [("sha256:01", "ADD one"), ("sha256:02", "RUN two")]);
        assert_eq!(image.history, ["ADD one", "RUN two", "CMD [\"sh\"]"]);
        assert_eq!(
            (image.id.as_str(), image.user.as_str(), image.health_check),
            ("sha256:aa", "65534", true)
        );
        assert_eq!(image.names, ["shop/web:1"]);
        for (description, history) in [(&b"{"[..], &b"[]"[..]), (b"{}", b"{}"), (b"[1]", b"[]")] {
            assert!(Image::of_docker(description, history).is_err());
        }
    }
}
