//! Images in a registry: only the manifest, the configuration and the layers that are not known yet are pulled, as streams
//! that end in nothing but a report.

use std::io::{self, Read};
use std::str::FromStr;

use nv_layer::{Image, ImageLayer, Manifest};
use nv_registry::{Blob, Digest, NameError, Reference, Registry, RegistryError, Repository};
pub use nv_registry::{Credentials, Options as RegistryOptions, Proxy as RegistryProxy, roots_of_pem};
use tokio::runtime::Runtime;

use crate::error::ScannerError;
use crate::image::{ImageChoice, layers_of_base, meant};
use crate::layer::Layers;

/// Largest configuration: it has the history of every layer.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;
/// The tag that is meant where none is given.
const DEFAULT_TAG: &str = "latest";

/// A repository of a registry.
pub struct RegistryImages {
    registry: Registry,
    repository: Repository,
    reference: Reference,
    /// Requests run on it while the thread that scans waits: layers are read one after the other.
    runtime: Runtime,
}

impl RegistryImages {
    /// `name` is `repository`, `repository:tag` or `repository@digest`.
    ///
    /// # Errors
    /// [`ScannerError::Argument`] for a name that is none, [`ScannerError::Registry`] for an address that is none.
    pub fn new(options: RegistryOptions, name: &str) -> Result<Self, ScannerError> {
        let (repository, reference) = parse_name(name)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ScannerError::Read { path: "the registry".into(), source })?;
        Ok(Self { registry: Registry::new(options)?, repository, reference, runtime })
    }

    /// The image that is meant; of several the one of the chosen platform, or of this machine's.
    ///
    /// # Errors
    /// [`ScannerError`] when it cannot be read, is none, or is not there for the platform.
    pub fn image(&self, choice: &ImageChoice) -> Result<Image, ScannerError> {
        self.image_of(&self.repository, &self.reference, choice)
    }

    fn image_of(
        &self,
        repository: &Repository,
        reference: &Reference,
        choice: &ImageChoice,
    ) -> Result<Image, ScannerError> {
        let name = self.name(repository, reference);
        let fault = |what: &str| ScannerError::Argument(format!("{name} {what}"));
        let found = self.block_on(self.registry.manifest(repository, reference))?;
        let manifest = Manifest::parse(found.digest.as_str(), &found.bytes).map_err(ScannerError::Image)?;
        let manifest = match manifest {
            Manifest::Index(images) => {
                let meant = meant(&images, choice).map_err(|why| fault(&why))?;
                let digest = Reference::Digest(parse_digest(&meant.digest)?);
                let found = self.block_on(self.registry.manifest(repository, &digest))?;
                Manifest::parse(found.digest.as_str(), &found.bytes).map_err(ScannerError::Image)?
            }
            other => other,
        };
        let Manifest::Image(manifest) = manifest else {
            return Err(fault("is no image: a chart, a signature or another artefact"));
        };
        let (digest, size) = manifest.config();
        if size > MAX_CONFIG {
            return Err(fault(&format!(
                "has a configuration of {size} bytes, at most {MAX_CONFIG} are read"
            )));
        }
        let config = self.config(repository, &parse_digest(digest)?, size)?;
        let mut image = manifest.image(&config).map_err(ScannerError::Image)?;
        image.names.push(name);
        Ok(image)
    }

    /// Repository, and tag or digest.
    #[must_use]
    pub fn place(&self) -> (String, String) {
        (self.repository.to_string(), self.reference.to_string())
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Waits for what is asked for.
    pub(crate) fn block_on<T>(
        &self,
        asked: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, ScannerError> {
        self.runtime.block_on(asked).map_err(ScannerError::Registry)
    }

    /// How many layers of an image are those of another one of this registry, when it was built on that.
    ///
    /// # Errors
    /// As [`RegistryImages::new`] and [`RegistryImages::image`], of the other image.
    pub fn base_layers(
        &self,
        image: &Image,
        name: &str,
        choice: &ImageChoice,
    ) -> Result<Option<usize>, ScannerError> {
        let (repository, reference) = parse_name(name)?;
        let base = self.image_of(&repository, &reference, choice)?;
        Ok(layers_of_base(image, &base))
    }

    /// `registry/repository:tag`, or with `@digest`.
    fn name(&self, repository: &Repository, reference: &Reference) -> String {
        let sign = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
        format!("{}/{repository}{sign}{reference}", self.registry.host())
    }

    fn config(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<Vec<u8>, ScannerError> {
        self.block_on(async {
            let mut blob = self.registry.blob(repository, digest, size).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = blob.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        })
    }
}

/// The registry that a whole name means, and the name there: `registry.example/shop/web:1`, or Docker's where none is named.
#[must_use]
pub fn registry_of(name: &str) -> (String, String) {
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", name),
    };
    if hub.contains(&host) {
        let library = if rest.contains('/') { "" } else { "library/" };
        return ("https://registry-1.docker.io/".to_owned(), format!("{library}{rest}"));
    }
    (format!("https://{host}/"), rest.to_owned())
}

/// `repository`, `repository:tag` or `repository@digest`.
fn parse_name(name: &str) -> Result<(Repository, Reference), ScannerError> {
    let argument = |error: NameError| ScannerError::Argument(error.to_string());
    let (repository, reference) = match name.split_once('@') {
        Some((repository, digest)) => (repository, Reference::Digest(parse_digest(digest)?)),
        None => match name.split_once(':') {
            Some((repository, tag)) => (repository, Reference::from_str(tag).map_err(argument)?),
            None => (name, Reference::Tag(DEFAULT_TAG.to_owned())),
        },
    };
    Ok((repository.parse().map_err(argument)?, reference))
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, ScannerError> {
    text.parse().map_err(|error: NameError| ScannerError::Argument(error.to_string()))
}

impl Layers for RegistryImages {
    fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + '_>, String> {
        let digest: Digest = layer.digests.blob.parse().map_err(|error: NameError| error.to_string())?;
        let opened = self.runtime.block_on(self.registry.blob(&self.repository, &digest, layer.size));
        let blob = opened.map_err(|error| nv_telemetry::chain(&error))?;
        Ok(Box::new(Stream { runtime: &self.runtime, blob, piece: Vec::new(), at: 0 }))
    }
}

/// A blob, read while the thread waits for each piece.
struct Stream<'a> {
    runtime: &'a Runtime,
    blob: Blob<'a>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.runtime.block_on(self.blob.next()) {
                Ok(Some(piece)) => (self.piece, self.at) = (piece.into(), 0),
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(nv_telemetry::chain(&error))),
            }
        }
        let left = self.piece.get(self.at..).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_is_dockers() {
        for (name, want) in [
            ("alpine:3.20", ("https://registry-1.docker.io/", "library/alpine:3.20")),
            ("shop/web", ("https://registry-1.docker.io/", "shop/web")),
            ("docker.io/alpine", ("https://registry-1.docker.io/", "library/alpine")),
            ("r.example:5000/a/b@sha256:00", ("https://r.example:5000/", "a/b@sha256:00")),
            ("localhost/web", ("https://localhost/", "web")),
        ] {
            let (url, rest) = registry_of(name);
            assert_eq!((url.as_str(), rest.as_str()), want, "{name}");
        }
    }
}
