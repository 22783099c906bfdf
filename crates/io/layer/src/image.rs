//! Images as they lie on a disk: an OCI layout as a folder or archive, and archives of Docker.

mod described;
mod manifest;
mod part;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use described::{Built, Description};
use manifest::{Config, Descriptor, DockerImage, Document, parse};
use part::Parts;
pub use part::{Part, PartError};

use crate::digest::digest_of;
use crate::layer::LayerDigests;

/// Most images of one folder or archive, and most layers of an image.
const MAX_IMAGES: usize = 1024;
/// Indexes in indexes in indexes are the deepest that is read.
const MAX_DEPTH: usize = 4;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A part of it is missing or can not be read.
    #[error("{name} could not be read")]
    Part {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: PartError,
    },
    /// A part is no JSON of the shape that it should have.
    #[error("{name} is no manifest, index or configuration of an image")]
    Document {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A part is not the one that is named.
    #[error("{name} has the digest {found}")]
    Digest {
        /// What it is named by.
        name: String,
        /// What it is.
        found: String,
    },
    /// A digest of another form than `sha256:` and 64 digits.
    #[error("{digest:?} is no digest that can be checked: sha256 is expected")]
    Unknown {
        /// The digest.
        digest: String,
    },
    /// An index that is in itself, or indexes nested too deep.
    #[error("{digest} is an index inside of itself, or nested deeper than {MAX_DEPTH}")]
    Cycle {
        /// Its digest.
        digest: String,
    },
    /// There are more images or layers than are read.
    #[error("there are more than {MAX_IMAGES} images or layers")]
    Many,
    /// It is neither an OCI layout nor an archive of Docker.
    #[error("{} holds neither index.json nor manifest.json: an OCI layout or an archive of `docker save` is expected", path.display())]
    Shape {
        /// Which.
        path: PathBuf,
    },
}

/// One image, its layers not yet read.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Names with tags.
    pub names: Vec<String>,
    /// Digest of its manifest; empty in an archive of Docker.
    pub digest: String,
    /// Digest of its configuration.
    pub id: String,
    /// Operating system.
    pub os: String,
    /// Architecture, as Go names them.
    pub architecture: String,
    /// When it was made.
    pub created: String,
    /// By whom.
    pub author: String,
    /// The user that it runs as.
    pub user: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it says how its health is checked.
    pub health_check: bool,
    /// The commands that made it, the first first; those that made a layer are at the layers too.
    pub history: Vec<String>,
    /// The lowest first.
    pub layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug, Default)]
pub struct ImageLayer {
    /// What its bytes must be.
    pub digests: LayerDigests,
    /// Its size as the manifest says, in bytes; 0 where it says nothing.
    pub size: u64,
    /// The command that made it.
    pub command: String,
    part: String,
}

impl Image {
    /// An image as a Docker daemon describes it: `GET /images/NAME/json` and `/images/NAME/history` of the Engine API 1.24
    /// and later. Its layers are known by the digests of their archives.
    ///
    /// # Errors
    /// [`ImageError`] when that is no description, or names too many layers.
    pub fn of_docker(description: &[u8], history: &[u8]) -> Result<Self, ImageError> {
        let description: Description = parse("the description", description)?;
        let history: Vec<Built> = parse("the history", history)?;
        if description.layers().len() > MAX_IMAGES {
            return Err(ImageError::Many);
        }
        Ok(description.image(history))
    }
}

impl ImageLayer {
    /// The digest that names it.
    pub fn digest(&self) -> &str {
        if self.digests.blob.is_empty() { &self.digests.archive } else { &self.digests.blob }
    }
}

/// A folder or archive with images.
pub struct ImageStore {
    parts: Parts,
    path: PathBuf,
}

impl ImageStore {
    /// Opens a folder or an archive that is not compressed. Nothing is unpacked.
    ///
    /// # Errors
    /// [`ImageError`] when it can not be read or is no archive.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let fault = |source| ImageError::Part { name: path.display().to_string(), source };
        Ok(Self { parts: Parts::open(path).map_err(fault)?, path: path.to_owned() })
    }

    /// Its images, and an error for each that can not be read. Attestations, charts and what else is no image are left
    /// out.
    ///
    /// # Errors
    /// [`ImageError`] when it is no store of images at all.
    pub fn images(&self) -> Result<(Vec<Image>, Vec<ImageError>), ImageError> {
        let mut found = Found::default();
        let docker = self.parts.has("manifest.json").then(|| self.docker()).transpose()?.unwrap_or_default();
        if self.parts.has("index.json") {
            let index = parse::<Document>("index.json", &self.text("index.json")?)?;
            self.index(&index, &mut found, &mut Vec::new());
            for image in &mut found.images {
                let named = docker.iter().filter(|docker| docker.config.contains(hex(&image.id)));
                image.names.extend(named.flat_map(|docker| docker.names.clone().unwrap_or_default()));
                image.names.sort();
                image.names.dedup();
            }
        } else if self.parts.has("manifest.json") {
            for image in docker.into_iter().take(MAX_IMAGES) {
                self.docker_image(image).map_or_else(|e| found.errors.push(e), |i| found.images.push(i));
            }
        } else {
            return Err(ImageError::Shape { path: self.path.clone() });
        }
        Ok((found.images, found.errors))
    }

    /// The bytes of a layer, as they lie there.
    ///
    /// # Errors
    /// [`ImageError::Part`] when it is missing.
    pub fn layer(&self, layer: &ImageLayer) -> Result<Part, ImageError> {
        let fault = |source| ImageError::Part { name: layer.part.clone(), source };
        self.parts.open_part(&layer.part).map_err(fault)
    }

    fn text(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        self.parts.text(name).map_err(|source| ImageError::Part { name: name.to_owned(), source })
    }

    /// A part that is named by its digest.
    fn blob(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.text(&place(digest)?)?;
        let found = digest_of(&bytes);
        if found == digest { Ok(bytes) } else { Err(ImageError::Digest { name: digest.to_owned(), found }) }
    }

    fn index(&self, index: &Document, found: &mut Found, above: &mut Vec<String>) {
        for descriptor in &index.manifests {
            if found.images.len() + found.errors.len() >= MAX_IMAGES {
                found.errors.push(ImageError::Many);
                return;
            }
            if descriptor.is_no_image() {
                continue;
            }
            if let Err(error) = self.descriptor(descriptor, found, above) {
                found.errors.push(error);
            }
        }
    }

    fn descriptor(
        &self,
        descriptor: &Descriptor,
        found: &mut Found,
        above: &mut Vec<String>,
    ) -> Result<(), ImageError> {
        let digest = &descriptor.digest;
        if above.contains(digest) || above.len() >= MAX_DEPTH {
            return Err(ImageError::Cycle { digest: digest.clone() });
        }
        let document: Document = parse(digest, &self.blob(digest)?)?;
        if document.config.is_none() {
            above.push(digest.clone());
            self.index(&document, found, above);
            above.pop();
            return Ok(());
        }
        if document.is_no_image() {
            return Ok(());
        }
        let mut image = self.oci_image(&document)?;
        image.digest.clone_from(digest);
        image.names.extend(descriptor.names());
        found.images.push(image);
        Ok(())
    }

    fn oci_image(&self, manifest: &Document) -> Result<Image, ImageError> {
        let id = manifest.config.as_ref().map_or("", |config| &config.digest);
        assemble(manifest, id, &self.blob(id)?)
    }

    fn docker(&self) -> Result<Vec<DockerImage>, ImageError> {
        parse("manifest.json", &self.text("manifest.json")?)
    }

    fn docker_image(&self, docker: DockerImage) -> Result<Image, ImageError> {
        let bytes = self.text(&docker.config)?;
        let config: Config = parse(&docker.config, &bytes)?;
        if docker.layers.len() > MAX_IMAGES {
            return Err(ImageError::Many);
        }
        let layers = docker.layers.into_iter().enumerate().map(|(at, part)| ImageLayer {
            digests: LayerDigests {
                blob: String::new(),
                archive: config.rootfs.diff_ids.get(at).cloned().unwrap_or_default(),
            },
            size: self.parts.size(&part).unwrap_or(0),
            command: String::new(),
            part,
        });
        let layers = layers.collect();
        let mut image = config.image(digest_of(&bytes), layers);
        image.names = docker.names.unwrap_or_default();
        Ok(image)
    }
}

/// An image of its manifest and its configuration.
fn assemble(manifest: &Document, id: &str, config: &[u8]) -> Result<Image, ImageError> {
    let config: Config = parse(id, config)?;
    if manifest.layers.len() > MAX_IMAGES {
        return Err(ImageError::Many);
    }
    let mut layers = Vec::new();
    for (at, layer) in manifest.layers.iter().enumerate() {
        let archive = config.rootfs.diff_ids.get(at).cloned().unwrap_or_default();
        layers.push(ImageLayer {
            part: place(&layer.digest)?,
            digests: LayerDigests { blob: layer.digest.clone(), archive },
            size: layer.size,
            command: String::new(),
        });
    }
    Ok(config.image(id.to_owned(), layers))
}

/// What a manifest turned out to be, where it does not lie beside its parts: in a registry.
pub enum Manifest {
    /// Several images, of which one may be chosen by its platform.
    Index(Vec<IndexEntry>),
    /// An image.
    Image(Box<ImageManifest>),
    /// Neither: a chart, a signature, an attestation, a format of before 2016.
    Other,
}

/// An image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Digest of its manifest.
    pub digest: String,
    /// `os/architecture`; empty where the index does not say.
    pub platform: String,
}

/// The manifest of an image.
pub struct ImageManifest {
    digest: String,
    document: Document,
}

impl Manifest {
    /// Reads a manifest or an index with this digest.
    ///
    /// # Errors
    /// [`ImageError::Document`] when it is neither.
    pub fn parse(digest: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        let document: Document = parse(digest, bytes)?;
        Ok(if document.config.is_none() && !document.manifests.is_empty() {
            let images = document.manifests.iter().filter(|one| !one.is_no_image()).take(MAX_IMAGES);
            Self::Index(
                images
                    .map(|one| IndexEntry { digest: one.digest.clone(), platform: one.platform() })
                    .collect(),
            )
        } else if document.is_no_image() {
            Self::Other
        } else {
            Self::Image(Box::new(ImageManifest { digest: digest.to_owned(), document }))
        })
    }
}

impl ImageManifest {
    /// Digest and size in bytes of its configuration.
    pub fn config(&self) -> (&str, u64) {
        self.document.config.as_ref().map_or(("", 0), |config| (&config.digest, config.size))
    }

    /// The image, once its configuration is there.
    ///
    /// # Errors
    /// [`ImageError`] when the configuration is none, or a layer's digest can not be checked.
    pub fn image(&self, config: &[u8]) -> Result<Image, ImageError> {
        let mut image = assemble(&self.document, self.config().0, config)?;
        image.digest.clone_from(&self.digest);
        Ok(image)
    }
}

#[derive(Default)]
struct Found {
    images: Vec<Image>,
    errors: Vec<ImageError>,
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// Where a layout keeps the blob of a digest. Only digits come into the path.
fn place(digest: &str) -> Result<String, ImageError> {
    let digits = digest.strip_prefix("sha256:").filter(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    match digits {
        Some(digits) => Ok(format!("blobs/sha256/{digits}")),
        None => Err(ImageError::Unknown { digest: digest.to_owned() }),
    }
}
