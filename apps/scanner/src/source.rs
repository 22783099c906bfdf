//! Where an image is: on disk, in a runtime of this machine, or in a registry.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use nv_role_scanner::{
    Image, ImageChoice, ImagePlace, ImageReading, ImageStore, LocalKind, LocalSearch, RegistryImages,
    Remarks, Report, RuntimeImage, SignatureFacts, Trust, layers_of_base, open_image, read_image,
    registry_of,
};

use crate::image::ImageLine;

/// An image that was found.
pub(crate) enum Source {
    Disk(ImageStore, Image),
    Runtime(RuntimeImage),
    Registry(Box<RegistryImages>, Image),
}

/// What is asked of a runtime.
const DOCKER: &str = "docker:";
const CONTAINERD: &str = "containerd:";
const REGISTRY: &str = "registry:";

impl Source {
    /// Looks for the image of a command line: where it says, or on disk, in the runtimes, and in its registry.
    pub(crate) fn find(line: &ImageLine, choice: &ImageChoice, remarks: &mut Remarks<'_>) -> Result<Self> {
        let name = line.image.as_str();
        if line.registry.url.is_some() {
            return Self::of_registry(line, None, name, choice);
        }
        if let Some(name) = name.strip_prefix(REGISTRY) {
            let (url, name) = registry_of(name);
            return Self::of_registry(line, Some(url), &name, choice);
        }
        let kinds = [(DOCKER, LocalKind::Docker), (CONTAINERD, LocalKind::Containerd)];
        let named = kinds.iter().find_map(|(scheme, kind)| Some((*kind, name.strip_prefix(scheme)?)));
        if let Some((kind, name)) = named {
            let found = search(line, kind)?.find(name, choice);
            return found.map(Self::Runtime).map_err(|tried| anyhow!(tried.join("; ")));
        }
        let path = Path::new(name);
        if path.exists() || name.starts_with(['/', '.']) {
            let (store, image) = open_image(path, choice, remarks)?;
            return Ok(Self::Disk(store, image));
        }
        let mut tried = vec![format!("there is no file {name}")];
        match search(line, LocalKind::Any)?.find(name, choice) {
            Ok(found) => return Ok(Self::Runtime(found)),
            Err(places) => tried.extend(places),
        }
        let (url, name) = registry_of(name);
        Self::of_registry(line, Some(url.clone()), &name, choice).map_err(|error| {
            tried.push(format!("{url}: {error:#}"));
            anyhow!("{} was found nowhere:\n  {}", line.image, tried.join("\n  "))
        })
    }

    fn of_registry(line: &ImageLine, url: Option<String>, name: &str, choice: &ImageChoice) -> Result<Self> {
        let images = RegistryImages::new(line.registry.options(url)?, name)?;
        let image = images.image(choice)?;
        Ok(Self::Registry(Box::new(images), image))
    }

    fn image(&self) -> &Image {
        match self {
            Self::Disk(_, image) | Self::Registry(_, image) => image,
            Self::Runtime(found) => found.image(),
        }
    }

    /// How many of its layers are those of another image in the same place, when it was built on that.
    pub(crate) fn base_layers(
        &self,
        line: &ImageLine,
        name: &str,
        choice: &ImageChoice,
    ) -> Result<Option<usize>> {
        match self {
            Self::Registry(images, image) => Ok(images.base_layers(image, name, choice)?),
            Self::Runtime(found) => {
                let base = search(line, LocalKind::Any)?.find(name, choice);
                let base = base.map_err(|tried| anyhow!("--base-image: {}", tried.join("; ")))?;
                Ok(layers_of_base(found.image(), base.image()))
            }
            Self::Disk(..) => bail!("--base-image needs an image of a registry or a runtime"),
        }
    }

    /// Who of those whose signature counts signed it.
    pub(crate) fn signed(&self, trust: &Trust, now: u64) -> Result<SignatureFacts> {
        match self {
            Self::Registry(images, image) => Ok(images.signed(image, trust, now)?),
            Self::Disk(..) | Self::Runtime(_) => {
                bail!("signatures lie in a registry: --verify needs registry:NAME or --registry URL")
            }
        }
    }

    /// Its place, for a controller.
    pub(crate) fn place(&self, line: &ImageLine) -> ImagePlace {
        match self {
            Self::Registry(images, _) => {
                let (repository, reference) = images.place();
                let registry = line.registry.url.clone().unwrap_or_else(|| {
                    registry_of(line.image.strip_prefix(REGISTRY).unwrap_or(&line.image)).0
                });
                ImagePlace { registry, repository, reference }
            }
            Self::Disk(_, image) => named(image.names.first().map_or(&line.image, |name| name)),
            Self::Runtime(_) => named(&line.image),
        }
    }

    /// What is in it.
    pub(crate) fn read(&self, how: &ImageReading<'_>, remarks: &mut Remarks<'_>) -> Report {
        match self {
            Self::Disk(store, _) => read_image(store, self.image(), how, remarks),
            Self::Registry(images, _) => read_image(images.as_ref(), self.image(), how, remarks),
            Self::Runtime(found) => found.read(how, remarks),
        }
    }
}

/// The place of an image that is in no registry, by its name.
fn named(name: &str) -> ImagePlace {
    let name = [DOCKER, CONTAINERD].iter().find_map(|scheme| name.strip_prefix(scheme)).unwrap_or(name);
    let cut = match name.split_once('@') {
        Some(cut) => Some(cut),
        None => name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')),
    };
    let (repository, reference) = cut.unwrap_or((name, "latest"));
    ImagePlace { registry: String::new(), repository: repository.to_owned(), reference: reference.to_owned() }
}

/// Which runtimes are asked.
fn search(line: &ImageLine, kind: LocalKind) -> Result<LocalSearch> {
    Ok(LocalSearch { kind, sockets: sockets(line.runtime_socket.as_deref())? })
}

/// The sockets that a command line names: a path, or `unix:///PATH`.
pub(crate) fn sockets(named: Option<&str>) -> Result<Vec<PathBuf>> {
    let path = |text: &str| {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        let local = path.starts_with('/').then(|| PathBuf::from(path));
        local.ok_or_else(|| anyhow!("{text} is no socket: a path or unix:///PATH is expected"))
    };
    named.into_iter().filter(|text| !text.is_empty()).map(path).collect()
}
