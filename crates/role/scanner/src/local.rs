//! Images of a runtime of this machine: containerd's content store, and what a Docker daemon exports. Nothing is written
//! to a disk.

use std::io::{self, Read};
use std::path::PathBuf;

use bytes::{Buf as _, Bytes};
use nv_layer::{Image, ImageLayer, Manifest};
use nv_runtime::{DockerImage, LocalBytes, LocalImage, LocalImages, RuntimeError, StoredImage, sockets};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::exported::read_exported;
use crate::image::{ImageChoice, meant, read_image};
use crate::layer::{ImageReading, Layers};
use crate::remark::Remarks;
use crate::report::Report;

/// Largest manifest or configuration.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// Which runtime an image is meant to lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalKind {
    /// The first that has it.
    #[default]
    Any,
    /// containerd's content store.
    Containerd,
    /// A Docker daemon.
    Docker,
}

/// Where images of this machine are looked for.
#[derive(Clone, Debug, Default)]
pub struct LocalSearch {
    /// In which runtime.
    pub kind: LocalKind,
    /// The only sockets that are asked; without any, all that are known and exist.
    pub sockets: Vec<PathBuf>,
}

/// An image that a runtime of this machine has.
pub struct RuntimeImage {
    held: Held,
    image: Image,
    /// Requests run on it while the thread that scans waits.
    runtime: Runtime,
}

enum Held {
    Stored(StoredImage),
    Exported(DockerImage),
}

impl LocalSearch {
    fn sockets(&self) -> Vec<PathBuf> {
        if !self.sockets.is_empty() {
            return self.sockets.clone();
        }
        let known = sockets::detect(std::path::Path::new("/"));
        let is = |path: &PathBuf, name: &str| path.file_name().is_some_and(|file| file == name);
        let (docker, others): (Vec<PathBuf>, Vec<PathBuf>) =
            known.into_iter().partition(|path| is(path, "docker.sock"));
        let others =
            others.into_iter().filter(|path| is(path, "containerd.sock") || is(path, "runtime.sock"));
        docker.into_iter().chain(others).collect()
    }

    fn wants(&self, runtime: &str) -> bool {
        match self.kind {
            LocalKind::Any => true,
            LocalKind::Containerd => runtime == "containerd",
            LocalKind::Docker => runtime == "docker",
        }
    }

    /// Looks for an image by the name that people call it. The error says for each place why it is not there.
    ///
    /// # Errors
    /// A sentence for each place that was looked at; never none.
    pub fn find(&self, name: &str, choice: &ImageChoice) -> Result<RuntimeImage, Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| vec![format!("the runtime cannot be waited for: {error}")])?;
        let mut tried = Vec::new();
        for socket in self.sockets() {
            let place = socket.display();
            let images = match runtime.block_on(LocalImages::connect(&socket)) {
                Ok(images) if self.wants(images.runtime()) => images,
                Ok(_) => continue,
                Err(error) => {
                    tried.push(nv_telemetry::chain(&error));
                    continue;
                }
            };
            let kind = images.runtime();
            let found = match runtime.block_on(images.find(name)) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    tried.push(format!("{kind} at {place} has no image {name}"));
                    continue;
                }
                Err(error) => {
                    tried.push(format!("{kind} at {place}: {}", nv_telemetry::chain(&error)));
                    continue;
                }
            };
            match describe(&runtime, &found, name, choice) {
                Ok(image) => {
                    let held = match found {
                        LocalImage::Stored(stored) => Held::Stored(stored),
                        LocalImage::Exported(exported) => Held::Exported(exported),
                    };
                    return Ok(RuntimeImage { held, image, runtime });
                }
                Err(why) => tried.push(format!("{name} of {kind} at {place} {why}")),
            }
        }
        if tried.is_empty() {
            tried.push(match self.kind {
                LocalKind::Any => "no socket of containerd or Docker is on this machine".to_owned(),
                LocalKind::Containerd => "no socket of containerd is on this machine".to_owned(),
                LocalKind::Docker => "no socket of Docker is on this machine".to_owned(),
            });
        }
        Err(tried)
    }
}

/// What a found image is; the error goes on from its name.
fn describe(
    runtime: &Runtime,
    found: &LocalImage,
    name: &str,
    choice: &ImageChoice,
) -> Result<Image, String> {
    let sentence = |error: &dyn std::error::Error| format!("cannot be read: {}", nv_telemetry::chain(error));
    let mut image = match found {
        LocalImage::Exported(exported) => {
            Image::of_docker(&exported.description, &exported.history).map_err(|error| sentence(&error))?
        }
        LocalImage::Stored(stored) => {
            let parse = |digest: &str| {
                let bytes = document(runtime, stored, digest)?;
                Manifest::parse(digest, &bytes).map_err(|error| sentence(&error))
            };
            let manifest = match parse(&stored.digest)? {
                Manifest::Index(images) => parse(&meant(&images, choice)?.digest)?,
                other => other,
            };
            let Manifest::Image(manifest) = manifest else {
                return Err("is no image: a chart, a signature or another artefact".to_owned());
            };
            let config = document(runtime, stored, manifest.config().0)?;
            manifest.image(&config).map_err(|error| sentence(&error))?
        }
    };
    if let Some(wanted) = &choice.platform
        && *wanted != format!("{}/{}", image.os, image.architecture)
    {
        return Err(format!("is for {}/{}", image.os, image.architecture));
    }
    if image.names.is_empty() {
        image.names.push(name.to_owned());
    }
    Ok(image)
}

/// A manifest or configuration of containerd's store, with the digest that it is asked for by.
fn document(runtime: &Runtime, stored: &StoredImage, digest: &str) -> Result<Vec<u8>, String> {
    let read = async {
        let mut pieces = stored.open(digest).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_DOCUMENT {
                break;
            }
        }
        Ok::<_, RuntimeError>(bytes)
    };
    let bytes = runtime.block_on(read).map_err(|error| format!("cannot be read: {}", missing(&error)))?;
    if bytes.len() > MAX_DOCUMENT {
        return Err(format!("has a document of more than {MAX_DOCUMENT} bytes"));
    }
    let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != format!("sha256:{digits}") {
        return Err(format!("names {digest}, and what lies there has the digest sha256:{digits}"));
    }
    Ok(bytes)
}

/// What is not in the content store is usually there no more.
fn missing(error: &RuntimeError) -> String {
    let hint = match error {
        RuntimeError::Call { message, .. } if message.contains("not found") => {
            "; containerd may be told to discard layers once they are unpacked (discard_unpacked_layers)"
        }
        _ => "",
    };
    format!("{}{hint}", nv_telemetry::chain(error))
}

impl RuntimeImage {
    /// What the runtime says of it.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// What is in it, as [`read_image`] tells it.
    pub fn read(&self, how: &ImageReading<'_>, remarks: &mut Remarks<'_>) -> Report {
        match &self.held {
            Held::Stored(stored) => {
                let layers = StoredLayers { runtime: &self.runtime, stored };
                read_image(&layers, &self.image, how, remarks)
            }
            Held::Exported(exported) => {
                let export = || -> Result<Box<dyn Read + '_>, String> {
                    let opened = self.runtime.block_on(exported.export());
                    let bytes = opened.map_err(|error| nv_telemetry::chain(&error))?;
                    Ok(Box::new(Pieces { runtime: &self.runtime, bytes, piece: Bytes::new() }))
                };
                read_exported(&export, &self.image, how, remarks)
            }
        }
    }
}

struct StoredLayers<'a> {
    runtime: &'a Runtime,
    stored: &'a StoredImage,
}

impl Layers for StoredLayers<'_> {
    fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + '_>, String> {
        let opened = self.runtime.block_on(self.stored.open(&layer.digests.blob));
        let bytes = opened.map_err(|error| missing(&error))?;
        Ok(Box::new(Pieces { runtime: self.runtime, bytes, piece: Bytes::new() }))
    }
}

/// Bytes of a runtime, read while the thread waits for each piece.
struct Pieces<'a> {
    runtime: &'a Runtime,
    bytes: LocalBytes,
    piece: Bytes,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.bytes.next()) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(missing(&error))),
            }
        }
        let length = self.piece.len().min(buffer.len());
        if let Some(to) = buffer.get_mut(..length) {
            self.piece.copy_to_slice(to);
        }
        Ok(length)
    }
}
