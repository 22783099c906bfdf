//! `scanner image`: an image on disk, of a runtime of this machine or of a registry to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use nv_role_scanner::{
    ImageChoice, ImageFacts, ImageReading, LayerCache, LayerProcess, OpenedDatabase, Remarks, SecretRules,
    read_trust, submit_report,
};
use nv_telemetry::{Clock as _, SystemClock};

use crate::judge::JudgeLine;
use crate::registry::RegistryLine;
use crate::result::ResultLine;
use crate::source::Source;
use crate::submit::SubmitLine;

#[derive(Args)]
pub(crate) struct ImageLine {
    /// An OCI layout (a folder, or a tar archive of it), an archive of docker save, or an image's name, which is looked for
    /// in the runtimes of this machine, then in its registry; docker:NAME, containerd:NAME and registry:NAME look there
    /// alone. With --registry the name there: REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) registry: RegistryLine,
    /// The socket of the runtime that is asked for an image [default: those that are known and exist]
    #[arg(long, value_name = "PATH", env = "SCANNER_DOCKER_URL")]
    pub(crate) runtime_socket: Option<String>,
    #[command(flatten)]
    judge: JudgeLine,
    #[command(flatten)]
    submit: SubmitLine,
    #[command(flatten)]
    result: ResultLine,
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
    /// The image of the same registry or runtime that it was built on (REPOSITORY:TAG): what is in it already is told apart
    #[arg(long, value_name = "NAME")]
    base_image: Option<String>,
    /// A public key (PEM) that an image of a registry has to be signed with, as cosign signs; of several, one is enough
    #[arg(long, value_name = "FILE")]
    verify: Vec<PathBuf>,
    /// Roots of trust with their verifiers, JSON as the REST API has them, of which one has to have signed the image
    #[arg(long, value_name = "FILE")]
    verify_roots: Vec<PathBuf>,
}

/// What the scanner exits with when nobody of those whose signature counts signed the image.
const UNSIGNED: u8 = 4;

/// Carries the command out.
pub(crate) fn run(line: &ImageLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    line.result.told(|| scan(line, out, remarks))
}

fn scan(line: &ImageLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let open = |folder: &PathBuf| LayerCache::open(folder).with_context(|| folder.display().to_string());
    let cache = line.cache.as_ref().map(open).transpose()?;
    let choice = ImageChoice { name: line.name.clone(), platform: line.platform.clone() };
    let trust = read_trust(&line.verify, &line.verify_roots, remarks)?;
    // What is missing is told before anything is pulled.
    let submission = line.submit.submission()?;
    let source = Source::find(line, &choice, remarks)?;
    let mut base_layers = None;
    if let Some(name) = &line.base_image {
        base_layers = source.base_layers(line, name, &choice)?;
        if base_layers.is_none() {
            remarks.add(&format!("the image was not built on {name}: its layers are not among its own"));
        }
    }
    let now = u64::try_from(SystemClock::new().now().seconds()).unwrap_or(0);
    let signed = trust.as_ref().map(|trust| source.signed(trust, now)).transpose()?;
    let rules = (!line.no_secrets).then(SecretRules::built_in).transpose()?;
    let process = LayerProcess::default();
    let how = ImageReading { cache: cache.as_ref(), rules: rules.as_ref(), process: Some(&process) };
    let mut report = source.read(&how, remarks);
    report.signed = signed;
    if let Some(image) = &mut report.image {
        image.base_layers = base_layers;
    }
    let code = line.judge.judge(&opened, &mut report, out, remarks)?;
    let unread = |image: &ImageFacts| image.layers.iter().any(|layer| !layer.unread.is_empty());
    // What is in a layer that could not be read may be the worst: such a scan never ends well, and is no result.
    let is_whole = !report.image.as_ref().is_some_and(unread);
    let place = source.place(line);
    if is_whole {
        line.result.found(&opened, &report, &place)?;
    } else {
        line.result.failed("a layer of the image could not be read")?;
    }
    if report.signed.as_ref().is_some_and(|signed| signed.verifiers.is_empty()) {
        return Ok(ExitCode::from(UNSIGNED));
    }
    if !is_whole {
        return Ok(ExitCode::FAILURE);
    }
    if let Some(to) = submission {
        submit_report(&to, opened.database()?, &report, &place)?;
    }
    Ok(code)
}
