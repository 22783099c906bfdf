//! `scanner image`: an OCI layout, an archive of Docker, or an image of a registry to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nv_role_scanner::{
    ImageChoice, ImageFacts, ImageReading, LayerCache, LayerProcess, Layers, OpenedDatabase, RegistryImages,
    Remarks, SecretRules, open_image, read_image, read_trust,
};
use nv_telemetry::{Clock as _, SystemClock};

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
    /// The image of the same registry that it was built on (REPOSITORY:TAG): what is in it already is told apart
    #[arg(long, value_name = "NAME", requires = "registry")]
    base_image: Option<String>,
    /// A public key (PEM) that the image has to be signed with, as cosign signs; of several, one is enough
    #[arg(long, value_name = "FILE", requires = "registry")]
    verify: Vec<PathBuf>,
    /// Roots of trust with their verifiers, JSON as the REST API has them, of which one has to have signed the image
    #[arg(long, value_name = "FILE", requires = "registry")]
    verify_roots: Vec<PathBuf>,
}

/// What the scanner exits with when nobody of those whose signature counts signed the image.
const UNSIGNED: u8 = 4;

/// Carries the command out.
pub(crate) fn run(line: &ImageLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let open = |folder: &PathBuf| LayerCache::open(folder).with_context(|| folder.display().to_string());
    let cache = line.cache.as_ref().map(open).transpose()?;
    let choice = ImageChoice { name: line.name.clone(), platform: line.platform.clone() };
    let trust = read_trust(&line.verify, &line.verify_roots, remarks)?;
    let (mut signed, mut base_layers) = (None, None);
    let (store, image): (Box<dyn Layers>, _) = match line.registry.options()? {
        Some(options) => {
            let images = RegistryImages::new(options, &line.image.to_string_lossy())?;
            let image = images.image(&choice)?;
            if let Some(name) = &line.base_image {
                base_layers = images.base_layers(&image, name, &choice)?;
                if base_layers.is_none() {
                    remarks
                        .add(&format!("the image was not built on {name}: its layers are not among its own"));
                }
            }
            let now = u64::try_from(SystemClock::new().now().seconds()).unwrap_or(0);
            let judge = |trust| images.signed(&image, trust, now);
            signed = trust.as_ref().map(judge).transpose()?;
            (Box::new(images), image)
        }
        None => {
            let (store, image) = open_image(&line.image, &choice, remarks)?;
            (Box::new(store), image)
        }
    };
    let rules = (!line.no_secrets).then(SecretRules::built_in).transpose()?;
    let process = LayerProcess::default();
    let how = ImageReading { cache: cache.as_ref(), rules: rules.as_ref(), process: Some(&process) };
    let mut report = read_image(store.as_ref(), &image, &how, remarks);
    report.signed = signed;
    if let Some(image) = &mut report.image {
        image.base_layers = base_layers;
    }
    let code = line.judge.judge(&opened, &mut report, out, remarks)?;
    let unread = |image: &ImageFacts| image.layers.iter().any(|layer| !layer.unread.is_empty());
    if report.signed.as_ref().is_some_and(|signed| signed.verifiers.is_empty()) {
        return Ok(ExitCode::from(UNSIGNED));
    }
    // What is in a layer that could not be read may be the worst: such a scan never ends well.
    Ok(if report.image.as_ref().is_some_and(unread) { ExitCode::FAILURE } else { code })
}
