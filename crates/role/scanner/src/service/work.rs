//! One task: what is to be looked at, to a report. It runs on a thread of its own with less claim on the CPU than anything
//! that protects.

use std::sync::Arc;

use nv_model::scan::{RegistryAccess, RegistryImage, ScanFailure};
use nv_model::scan_report::ScanReport;
use nv_registry::{Credentials, Options, Proxy, RegistryError};
use nv_secret::SecretRules;
use nv_signature::Trust;
use nv_telemetry::{Clock as _, SystemClock};

use super::held::Verified;
use crate::cache::LayerCache;
use crate::error::ScannerError;
use crate::image::{ImageChoice, layers_of_base, read_image};
use crate::inventory::{inventory_document, parse_document};
use crate::layer::ImageReading;
use crate::layer_process::LayerProcess;
use crate::local::LocalSearch;
use crate::registry::RegistryImages;
use crate::remark::Remarks;
use crate::report::Report;
use crate::shown::{bench_items, scan_report};

/// How much less: the kernel's range is -20 to 19.
const NICE: i32 = 10;
/// Remarks that a report has.
const MAX_REMARKS: usize = 100;

/// What every task is done with.
pub(super) struct Tools {
    pub(super) cache: Option<LayerCache>,
    pub(super) rules: Option<SecretRules>,
    pub(super) layer_process: bool,
    pub(super) local: LocalSearch,
}

/// What is to be looked at.
pub(super) enum Input {
    /// An image of a registry.
    Image(Box<RegistryImage>),
    /// An inventory's document.
    Inventory(Vec<u8>),
}

/// What a task gives.
pub(super) struct Output {
    /// The inventory that a registry's image was read to.
    pub(super) inventory: Option<Vec<u8>>,
    /// The report as JSON.
    pub(super) report: Vec<u8>,
}

/// Does a task on a thread of its own.
pub(super) async fn work(
    tools: Arc<Tools>,
    verified: Arc<Verified>,
    input: Input,
) -> Result<Output, ScanFailure> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let failed = |message: String| ScanFailure { message, retry: true };
    let spawned = std::thread::Builder::new().name("scan".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a scan has the usual claim on the CPU");
        }
        // Whoever waited may be gone: the task is another scanner's then.
        drop(reply.send(carry_out(&tools, &verified, input)));
    });
    spawned.map_err(|error| failed(format!("no thread for the scan: {error}")))?;
    answer.await.map_err(|_panicked| failed("the scan broke off".to_owned()))?
}

fn carry_out(tools: &Tools, verified: &Verified, input: Input) -> Result<Output, ScanFailure> {
    let mut said = Vec::new();
    let mut remarks = Remarks::new(&mut said);
    let (mut report, checks, is_new) = match input {
        Input::Image(image) => {
            let report = pull(tools, &image, &mut remarks)?;
            let checks = bench_items(&report);
            (report, checks, true)
        }
        Input::Inventory(document) => {
            let (report, checks) = parse_document(&document).map_err(|error| failure(&error))?;
            (report, checks, false)
        }
    };
    let opened = verified.open().map_err(|error| failure(&error))?;
    let database = opened.database().map_err(|error| failure(&error))?;
    let inventory =
        is_new.then(|| inventory_document(&report)).transpose().map_err(|error| failure(&error))?;
    report.judge(database, &mut remarks);
    remarks.finish();
    let shown = scan_report(database, &report, checks, lines(&said));
    let report = to_json(&shown)?;
    Ok(Output { inventory, report })
}

fn to_json(report: &ScanReport) -> Result<Vec<u8>, ScanFailure> {
    serde_json::to_vec(report).map_err(|error| ScanFailure {
        message: format!("the report cannot be written: {error}"),
        retry: false,
    })
}

fn lines(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    text.lines()
        .map(|line| line.strip_prefix("scanner: ").unwrap_or(line).to_owned())
        .take(MAX_REMARKS)
        .collect()
}

/// Another try helps where the network failed, and not where there is no such image.
fn failure(error: &ScannerError) -> ScanFailure {
    let retry = match error {
        ScannerError::Registry(error) => match error {
            RegistryError::Unreachable { .. } | RegistryError::Throttled { .. } => true,
            RegistryError::Refused { status, .. } => *status >= 500,
            _ => false,
        },
        _ => false,
    };
    ScanFailure { message: nv_telemetry::chain(error), retry }
}

fn options(access: &RegistryAccess) -> Options {
    let credentials = if !access.token.is_empty() {
        Some(Credentials::Token(access.token.clone().into()))
    } else if !access.username.is_empty() {
        Some(Credentials::Password {
            user: access.username.clone(),
            password: access.password.clone().into(),
        })
    } else {
        None
    };
    Options {
        url: access.url.clone(),
        credentials,
        roots: access.roots.clone(),
        accept_any_certificate: access.accept_any_certificate,
        proxy: (!access.proxy.is_empty()).then(|| Proxy {
            url: access.proxy.clone(),
            credentials: (!access.proxy_username.is_empty())
                .then(|| (access.proxy_username.clone(), access.proxy_password.clone().into())),
        }),
    }
}

/// The name of the image, with its tag or digest.
fn name_of(wanted: &RegistryImage) -> String {
    let sign = if wanted.reference.contains(':') { '@' } else { ':' };
    format!("{}{sign}{}", wanted.repository, wanted.reference)
}

fn pull(tools: &Tools, wanted: &RegistryImage, remarks: &mut Remarks<'_>) -> Result<Report, ScanFailure> {
    let process = tools.layer_process.then(LayerProcess::default);
    let how =
        ImageReading { cache: tools.cache.as_ref(), rules: tools.rules.as_ref(), process: process.as_ref() };
    let (mut report, base_layers) = if wanted.access.url.is_empty() {
        of_runtime(tools, wanted, &how, remarks)?
    } else {
        of_registry(wanted, &how, remarks)?
    };
    if let Some(image) = &mut report.image {
        image.base_layers = base_layers;
    }
    for layer in report.image.iter_mut().flat_map(|image| &mut image.layers) {
        // What could not be read may be the worst: such a scan is none.
        if !layer.unread.is_empty() {
            let message = format!("layer {} could not be read: {}", layer.digest, layer.unread);
            return Err(ScanFailure { message, retry: true });
        }
        if !wanted.layers && base_layers.is_none() {
            layer.packages.clear();
        }
    }
    Ok(report)
}

fn not_built_on(name: &str) -> String {
    format!("the image was not built on {name}: its layers are not among its own")
}

/// An image that a runtime of this machine has.
fn of_runtime(
    tools: &Tools,
    wanted: &RegistryImage,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
) -> Result<(Report, Option<usize>), ScanFailure> {
    let choice = ImageChoice::default();
    let find = |name: &str| {
        let found = tools.local.find(name, &choice);
        found.map_err(|tried| ScanFailure {
            message: format!("no registry is named, and on the scanner's machine: {}", tried.join("; ")),
            retry: false,
        })
    };
    let found = find(&name_of(wanted))?;
    let mut base_layers = None;
    if !wanted.base_image.is_empty() {
        base_layers = layers_of_base(found.image(), find(&wanted.base_image)?.image());
        if base_layers.is_none() {
            remarks.add(&not_built_on(&wanted.base_image));
        }
    }
    Ok((found.read(how, remarks), base_layers))
}

fn of_registry(
    wanted: &RegistryImage,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
) -> Result<(Report, Option<usize>), ScanFailure> {
    let images =
        RegistryImages::new(options(&wanted.access), &name_of(wanted)).map_err(|error| failure(&error))?;
    let choice = ImageChoice::default();
    let image = images.image(&choice).map_err(|error| failure(&error))?;
    let mut base_layers = None;
    if !wanted.base_image.is_empty() {
        let name = &wanted.base_image;
        base_layers = images.base_layers(&image, name, &choice).map_err(|error| failure(&error))?;
        if base_layers.is_none() {
            remarks.add(&not_built_on(name));
        }
    }
    let mut signed = None;
    if !wanted.roots_of_trust.is_empty() {
        let (trust, faults) = Trust::new(&wanted.roots_of_trust);
        faults.iter().for_each(|fault| remarks.add(fault));
        let now = u64::try_from(SystemClock::new().now().seconds()).unwrap_or(0);
        signed = Some(images.signed(&image, &trust, now).map_err(|error| failure(&error))?);
    }
    let mut report = read_image(&images, &image, how, remarks);
    report.signed = signed;
    Ok((report, base_layers))
}
