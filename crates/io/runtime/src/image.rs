//! The digest of an image's configuration, as Docker and CRI name images, from containerd's content store.

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{GetImageRequest, ReadContentRequest};
use serde::Deserialize;
use tonic::transport::Channel;

use crate::containerd::within;
use crate::watch::call;

/// Longest manifest that is read (the distribution specification's limit).
const MANIFEST_BYTES: i64 = 4 * 1024 * 1024;

/// What is read of an image manifest or an index of manifests (image-spec v1.0).
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Digest of the configuration of `image`; empty when it cannot be found, as when the image was removed while its
/// containers run.
pub(crate) async fn configuration(channel: Channel, namespace: &str, image: &str) -> String {
    if image.is_empty() {
        return String::new();
    }
    let request = within(namespace, GetImageRequest { name: image.to_owned() });
    let found = call("get an image", ImagesClient::new(channel.clone()).get(request)).await;
    let target = found.ok().and_then(|found| found.image).and_then(|image| image.target);
    let Some(target) = target else { return String::new() };
    let mut digest = target.digest;
    // An index of this platform's manifests, then the manifest.
    for _ in 0..2 {
        let Some(manifest) = read(channel.clone(), namespace, &digest).await else { return String::new() };
        if let Some(config) = manifest.config {
            return config.digest;
        }
        let Some(ours) = ours(manifest.manifests) else { return String::new() };
        digest = ours;
    }
    String::new()
}

fn ours(manifests: Vec<Descriptor>) -> Option<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture)
    };
    manifests.into_iter().find(fits).map(|descriptor| descriptor.digest)
}

async fn read(channel: Channel, namespace: &str, digest: &str) -> Option<Manifest> {
    let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: MANIFEST_BYTES };
    let mut client = ContentClient::new(channel);
    let mut stream = call("read an image's manifest", client.read(within(namespace, request))).await.ok()?;
    let mut bytes = Vec::new();
    while let Ok(Some(part)) = stream.message().await {
        bytes.extend(part.data);
        if i64::try_from(bytes.len()).is_ok_and(|length| length > MANIFEST_BYTES) {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}
