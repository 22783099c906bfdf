//! `scanner image`: an OCI layout, an archive of Docker, or an image of a registry to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nv_role_scanner::{
    ImageChoice, ImageFacts, ImageReading, LayerCache, Layers, OpenedDatabase, RegistryImages, Remarks,
    SecretRules, open_image, read_image,
};

use crate::judge::JudgeLine;
use crate::registry::RegistryLine;

#[derive(Args)]
pub(crate) struct ImageLine {
    /// An OCI layout (a folder, or a tar archive of it) or an archive of docker save; with --registry the name of an image
    /// there: REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST
    image: PathBuf,
    #[command(flatten)]
    registry: RegistryLine,
    #[command(flatten)]
    judge: JudgeLine,
    /// Which image of several: a name with its tag, or a digest
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which platform of several; by default this machine's
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Keep what layers hold in this folder, and read none twice
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Do not look for secrets in files
    #[arg(long)]
    no_secrets: bool,
}

/// Carries the command out.
pub(crate) fn run(line: &ImageLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let open = |folder: &PathBuf| LayerCache::open(folder).with_context(|| folder.display().to_string());
    let cache = line.cache.as_ref().map(open).transpose()?;
    let choice = ImageChoice { name: line.name.clone(), platform: line.platform.clone() };
    let (store, image): (Box<dyn Layers>, _) = match line.registry.options()? {
        Some(options) => {
            let images = RegistryImages::new(options, &line.image.to_string_lossy())?;
            let image = images.image(&choice)?;
            (Box::new(images), image)
        }
        None => {
            let (store, image) = open_image(&line.image, &choice, remarks)?;
            (Box::new(store), image)
        }
    };
    let rules = (!line.no_secrets).then(SecretRules::built_in).transpose()?;
    let how = ImageReading { cache: cache.as_ref(), rules: rules.as_ref() };
    let mut report = read_image(store.as_ref(), &image, &how, remarks);
    let code = line.judge.judge(&opened, &mut report, out, remarks)?;
    let unread = |image: &ImageFacts| image.layers.iter().any(|layer| !layer.unread.is_empty());
    // What is in a layer that could not be read may be the worst: such a scan never ends well.
    Ok(if report.image.as_ref().is_some_and(unread) { ExitCode::FAILURE } else { code })
}
