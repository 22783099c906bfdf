//! Images that lie on this machine: containerd's manifests and layers by their digests, and what a Docker daemon
//! describes and exports. Nothing is changed, mounted or unpacked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    GetImageRequest, ListImagesRequest, ListNamespacesRequest, ReadContentRequest, ReadContentResponse,
};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::containerd::{NAMESPACES, is_absent, within};
use crate::docker::{Client, ONE_BYTES, SHORT_BYTES, Stream};
use crate::error::RuntimeError;
use crate::watch::{CALL, call};

/// Longest name of an image that is looked for, in bytes.
const MAX_NAME: usize = 1024;
/// How long a daemon may prepare an export before its first byte: releases until 24 write all of it to a disk first.
const EXPORT: Duration = Duration::from_secs(600);
/// Longest silence in the middle of an image.
const SILENCE: Duration = Duration::from_secs(60);

/// The images of the runtime behind a socket.
#[derive(Debug)]
pub struct LocalImages {
    socket: PathBuf,
    speaks: Speaks,
}

#[derive(Debug)]
enum Speaks {
    Containerd(Channel),
    Docker(Client),
}

/// An image that was found.
#[derive(Debug)]
pub enum LocalImage {
    /// In containerd's content store.
    Stored(StoredImage),
    /// With a Docker daemon.
    Exported(DockerImage),
}

/// An image in containerd's content store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    channel: Channel,
    /// containerd's namespace.
    pub namespace: String,
    /// The name that it was found by.
    pub name: String,
    /// Digest of its manifest, or of an index of them.
    pub digest: String,
}

/// An image of a Docker daemon.
#[derive(Clone, Debug)]
pub struct DockerImage {
    client: Client,
    name: String,
    /// `GET /images/NAME/json`.
    pub description: Bytes,
    /// `GET /images/NAME/history`.
    pub history: Bytes,
}

/// Bytes of an image, piece by piece.
#[derive(Debug)]
pub struct LocalBytes(From);

#[derive(Debug)]
enum From {
    Containerd(Box<Streaming<ReadContentResponse>>),
    Docker(Stream),
}

impl LocalImages {
    /// Asks who is behind the socket.
    ///
    /// # Errors
    /// [`RuntimeError::Connect`] when nobody is, [`RuntimeError::NotARuntime`] when it is neither containerd nor Docker.
    pub async fn connect(socket: &Path) -> Result<Self, RuntimeError> {
        let late = |_| RuntimeError::Timeout { doing: "connect to the runtime", seconds: CALL.as_secs() };
        let connecting = timeout(CALL, Box::pin(containerd_client::connect(socket))).await.map_err(late)?;
        let refused =
            |error: &dyn std::error::Error| RuntimeError::connect(socket, nv_telemetry::chain(error));
        let channel = connecting.map_err(|error| refused(&error))?;
        let mut client = VersionClient::new(channel.clone());
        let speaks = match call("ask containerd for its version", client.version(())).await {
            Ok(_version) => Speaks::Containerd(channel),
            Err(error) => {
                let client = Client::new(socket);
                let (api, _) = client
                    .head("ask for Docker's API", "/_ping", "api-version", SHORT_BYTES)
                    .await
                    .map_err(|_no_docker| RuntimeError::NotARuntime {
                        socket: socket.to_path_buf(),
                        message: error.to_string(),
                    })?;
                Speaks::Docker(client.of_version(&api.unwrap_or_default()))
            }
        };
        Ok(Self { socket: socket.to_path_buf(), speaks })
    }

    /// `containerd` or `docker`.
    #[must_use]
    pub const fn runtime(&self) -> &'static str {
        match self.speaks {
            Speaks::Containerd(_) => crate::containerd::NAME,
            Speaks::Docker(_) => crate::docker::NAME,
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The image that is called so, as people write names: `alpine`, `shop/web:1`, `registry.example/web@sha256:…`, or
    /// `sha256:…` of a manifest or configuration. In containerd, Kubernetes' namespace is looked at first.
    ///
    /// # Errors
    /// [`RuntimeError`] when the runtime cannot be asked.
    pub async fn find(&self, name: &str) -> Result<Option<LocalImage>, RuntimeError> {
        if !is_name(name) {
            return Ok(None);
        }
        match &self.speaks {
            Speaks::Containerd(channel) => Ok(find_stored(channel, name).await?.map(LocalImage::Stored)),
            Speaks::Docker(client) => Ok(find_exported(client, name).await?.map(LocalImage::Exported)),
        }
    }
}

/// Whether a text may be the name of an image: nothing that means something in a path or a filter.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(known) && !name.contains("..")
}

/// A name in full, as containerd has it: with a registry, a namespace on Docker's, and a tag.
fn full(name: &str) -> String {
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", name),
    };
    let library = if registry == "docker.io" && !rest.contains('/') { "library/" } else { "" };
    let last = rest.rsplit('/').next().unwrap_or_default();
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{registry}/{library}{rest}{tag}")
}

async fn find_stored(channel: &Channel, name: &str) -> Result<Option<StoredImage>, RuntimeError> {
    let mut client = NamespacesClient::new(channel.clone());
    let listed = client.list(ListNamespacesRequest::default());
    let listed = call("list containerd's namespaces", listed).await?.namespaces;
    let mut namespaces: Vec<String> = listed.into_iter().map(|one| one.name).take(NAMESPACES).collect();
    // Kubernetes' first, then that of people, then the others in order.
    let known = ["k8s.io", "default"];
    namespaces
        .sort_by_key(|one| (known.iter().position(|name| name == one).unwrap_or(known.len()), one.clone()));
    for namespace in namespaces {
        let stored = |name: String, digest: String| StoredImage {
            channel: channel.clone(),
            namespace: namespace.clone(),
            name,
            digest,
        };
        for name in [name.to_owned(), full(name)] {
            let request = within(&namespace, GetImageRequest { name: name.clone() });
            let found = match call("get an image", ImagesClient::new(channel.clone()).get(request)).await {
                Ok(found) => found.image.and_then(|image| image.target),
                Err(error) if is_absent(&error) => None,
                // A name that containerd finds malformed is none of its images.
                Err(RuntimeError::Call { code: Code::InvalidArgument, .. }) => None,
                Err(error) => return Err(error),
            };
            if let Some(target) = found {
                return Ok(Some(stored(name, target.digest)));
            }
        }
        if name.starts_with("sha256:") {
            let filters = vec![format!("target.digest=={name}")];
            let request = within(&namespace, ListImagesRequest { filters });
            let listed = call("list images", ImagesClient::new(channel.clone()).list(request)).await?.images;
            let found = listed.into_iter().next().and_then(|image| Some((image.name, image.target?.digest)));
            if let Some((name, digest)) = found {
                return Ok(Some(stored(name, digest)));
            }
        }
    }
    Ok(None)
}

async fn find_exported(client: &Client, name: &str) -> Result<Option<DockerImage>, RuntimeError> {
    let (doing, path) = ("describe an image", format!("/images/{name}"));
    let described = match client.head(doing, &format!("{path}/json"), "", ONE_BYTES).await {
        Ok((_, described)) => described,
        Err(RuntimeError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (_, history) = client.head(doing, &format!("{path}/history"), "", ONE_BYTES).await?;
    Ok(Some(DockerImage { client: client.clone(), name: name.to_owned(), description: described, history }))
}

impl StoredImage {
    /// The bytes that have this digest, from their begin.
    ///
    /// # Errors
    /// [`RuntimeError::Call`] with [`Code::NotFound`] when they do not lie here: a runtime may discard layers once they
    /// are unpacked, and of an index it fetches one platform.
    pub async fn open(&self, digest: &str) -> Result<LocalBytes, RuntimeError> {
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut client = ContentClient::new(self.channel.clone());
        let stream =
            call("read from the content store", client.read(within(&self.namespace, request))).await?;
        Ok(LocalBytes(From::Containerd(Box::new(stream))))
    }
}

impl DockerImage {
    /// An archive of the image, as `docker save` writes it, from its begin.
    ///
    /// # Errors
    /// [`RuntimeError`] when the daemon does not make one.
    pub async fn export(&self) -> Result<LocalBytes, RuntimeError> {
        let path = format!("/images/{}/get", self.name);
        let stream = self.client.stream_within("export an image", &path, EXPORT).await?;
        Ok(LocalBytes(From::Docker(stream)))
    }
}

impl LocalBytes {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`RuntimeError`] when the runtime breaks off, or is silent for a minute.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RuntimeError> {
        let doing = "read an image";
        let late = |_elapsed| RuntimeError::Timeout { doing, seconds: SILENCE.as_secs() };
        match &mut self.0 {
            From::Containerd(stream) => {
                let piece = timeout(SILENCE, stream.message()).await.map_err(late)?;
                let broken = |status: tonic::Status| RuntimeError::Call {
                    doing,
                    code: status.code(),
                    message: status.message().to_owned(),
                };
                Ok(piece.map_err(broken)?.map(|piece| piece.data.into()))
            }
            From::Docker(stream) => {
                let piece = timeout(SILENCE, stream.next()).await.map_err(late)?;
                piece.transpose().map_err(|message| RuntimeError::Http { doing, message })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_means_dockers_library_and_the_latest_tag() {
        for (name, want) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("shop/web:1", "docker.io/shop/web:1"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("r.example:5000/a/b@sha256:00", "r.example:5000/a/b@sha256:00"),
        ] {
            assert_eq!(full(name), want, "{name}");
        }
    }

    #[test]
    fn what_could_lead_a_request_elsewhere_is_no_name() {
        for bad in ["", "a b", "a?b", "a/../b", "a%2e", "a\r\nb", "a#b", &"a".repeat(2000)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("r.example:5000/a_b-c/d.e:1@sha256:00"));
    }
}
