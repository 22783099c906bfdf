//! An image: which one is meant, and its layers over one another.

use std::collections::BTreeMap;
use std::path::Path;

use nv_compliance::{ImageUnderTest, judge_image};
use nv_layer::{Image, ImageLayer, ImageStore, IndexEntry};
use nv_secret::SecretRules;

use crate::collect::{FileRecord, Records};
use crate::error::ScannerError;
use crate::layer::{ImageReading, LayerRecord, Layers, put_over, read_layer};
use crate::remark::Remarks;
use crate::report::{ImageFacts, LayerFacts, Report, Secret};

/// The images of a folder or archive.
///
/// # Errors
/// [`ScannerError::Image`] when it can not be read at all.
pub fn open_image(
    path: &Path,
    wanted: &ImageChoice,
    remarks: &mut Remarks<'_>,
) -> Result<(ImageStore, Image), ScannerError> {
    let store = ImageStore::open(path).map_err(ScannerError::Image)?;
    let (images, errors) = store.images().map_err(ScannerError::Image)?;
    for error in &errors {
        remarks.add(&format!("{}: {}", path.display(), nv_telemetry::chain(error)));
    }
    let fits = |image: &Image| {
        wanted.platform.as_ref().is_none_or(|platform| *platform == platform_of(image))
            && wanted
                .name
                .as_ref()
                .is_none_or(|name| image.names.contains(name) || image.digest == *name || image.id == *name)
    };
    let mut fitting: Vec<Image> = images.into_iter().filter(fits).collect();
    // Of one image for several platforms, this machine's is meant where none is named.
    if fitting.len() > 1 && wanted.platform.is_none() {
        let own = own_platform();
        let of_own: Vec<Image> = fitting.iter().filter(|image| platform_of(image) == own).cloned().collect();
        if of_own.len() == 1 {
            fitting = of_own;
        }
    }
    match (fitting.pop(), fitting.is_empty()) {
        (Some(image), true) => Ok((store, image)),
        (None, _) => Err(ScannerError::Argument(format!("{} holds no such image", path.display()))),
        (Some(last), false) => {
            let names = fitting
                .iter()
                .chain([&last])
                .map(|image| format!("{} {} {}", image.digest, platform_of(image), image.names.join(" ")));
            let names: Vec<String> = names.collect();
            Err(ScannerError::Argument(format!(
                "{} holds several images, name one with --name or --platform:\n{}",
                path.display(),
                names.join("\n")
            )))
        }
    }
}

/// Which of several images is meant.
#[derive(Clone, Debug, Default)]
pub struct ImageChoice {
    /// A name with its tag, the digest of a manifest or of a configuration.
    pub name: Option<String>,
    /// `os/architecture`.
    pub platform: Option<String>,
}

fn platform_of(image: &Image) -> String {
    format!("{}/{}", image.os, image.architecture)
}

pub(crate) fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// The image of an index that is meant: that of the chosen platform or of this machine's, or the only one. The error says
/// what there is.
pub(crate) fn meant<'a>(images: &'a [IndexEntry], choice: &ImageChoice) -> Result<&'a IndexEntry, String> {
    let own = own_platform();
    let wanted = choice.platform.as_deref().unwrap_or(&own);
    let meant = images.iter().find(|image| image.platform == wanted);
    // One image alone needs no choice.
    let alone = images.first().filter(|_| images.len() == 1 && choice.platform.is_none());
    meant.or(alone).ok_or_else(|| {
        let there: Vec<&str> = images.iter().map(|image| image.platform.as_str()).collect();
        format!("is not there for {wanted}; there is {}", there.join(", "))
    })
}

/// What is in an image. A layer that can not be read to its end is remarked, and the others are read nevertheless.
pub fn read_image(
    store: &dyn Layers,
    image: &Image,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
) -> Report {
    lay_over(image, how, remarks, &mut |layer, remarks| read_layer(store, layer, how, remarks))
}

/// The layers of an image over one another. `read` gives each, and why it could not be read to its end.
pub(crate) fn lay_over(
    image: &Image,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
    read: &mut dyn FnMut(&ImageLayer, &mut Remarks<'_>) -> (LayerRecord, String),
) -> Report {
    let mut squashed: BTreeMap<String, (usize, FileRecord)> = BTreeMap::new();
    let mut facts = facts_of(image);
    for (place, layer) in image.layers.iter().enumerate() {
        let (record, unread) = read(layer, remarks);
        for fault in &record.records.faults {
            remarks.add(&format!("layer {}: {fault}", layer.digest()));
        }
        if let Some(layer) = facts.layers.get_mut(place) {
            let mut alone = Report::default();
            record.records.clone().report(&mut alone, |_| Some(place));
            layer.packages = alone.packages;
            layer.unread = unread;
        }
        put_over(&mut squashed, place, record);
    }
    let places: BTreeMap<String, usize> =
        squashed.iter().map(|(file, (place, _))| (file.clone(), *place)).collect();
    let files = squashed.into_iter().map(|(file, (_, record))| (file, record)).collect();
    let mut report = Report { subject: subject_of(image), image: Some(facts), ..Report::default() };
    Records { files, faults: Vec::new() }.report(&mut report, |file| places.get(file).copied());
    if let Some(rules) = how.rules {
        search_environment(&mut report, rules);
    }
    let checks = judge_image(&under_test(&report, how.rules.is_some()));
    if let Some(image) = &mut report.image {
        image.checks = checks;
    }
    report
}

/// What the benchmark's items are judged by.
fn under_test(report: &Report, searched: bool) -> ImageUnderTest<'_> {
    let secrets = || report.secrets.iter().map(|secret| secret.file.as_str()).collect();
    let image = report.image.as_ref();
    ImageUnderTest {
        user: image.map_or("", |image| &image.user),
        health_check: image.is_some_and(|image| image.health_check),
        history: image.iter().flat_map(|image| &image.history).map(String::as_str).collect(),
        set_ids: report.set_ids.iter().map(|found| found.file.as_str()).collect(),
        secrets: searched.then(secrets),
    }
}

/// How many layers of an image, from the lowest, are all of another one's: none unless it was built on that.
#[must_use]
pub fn layers_of_base(image: &Image, base: &Image) -> Option<usize> {
    let marks = |image: &Image| {
        image.layers.iter().map(|layer| layer.digests.archive.clone()).collect::<Vec<String>>()
    };
    let (own, below) = (marks(image), marks(base));
    let known = !below.is_empty() && below.iter().all(|mark| !mark.is_empty());
    (known && own.starts_with(&below)).then_some(below.len())
}

/// Looks for secrets in the environment that an image gives its programs, and masks them there.
fn search_environment(report: &mut Report, rules: &SecretRules) {
    for variable in report.image.iter_mut().flat_map(|image| &mut image.environment) {
        let Some((name, _)) = variable.split_once('=') else { continue };
        let file = format!("env {name}");
        let mut found = false;
        for secret in rules.find(variable.as_bytes()) {
            found = true;
            report.secrets.push(Secret {
                file: file.clone(),
                line: 0,
                rule: secret.rule.to_owned(),
                description: secret.description.to_owned(),
                evidence: secret.evidence,
                layer: None,
            });
        }
        if found {
            *variable = format!("{name}=****");
        }
    }
}

fn subject_of(image: &Image) -> String {
    image.names.first().cloned().unwrap_or_else(|| image.id.clone())
}

fn facts_of(image: &Image) -> ImageFacts {
    let layers = image.layers.iter().map(|layer| LayerFacts {
        digest: layer.digest().to_owned(),
        size: layer.size,
        command: layer.command.clone(),
        ..LayerFacts::default()
    });
    ImageFacts {
        names: image.names.clone(),
        digest: image.digest.clone(),
        id: image.id.clone(),
        platform: platform_of(image),
        created: image.created.clone(),
        author: image.author.clone(),
        user: image.user.clone(),
        environment: image.environment.clone(),
        labels: image.labels.clone(),
        health_check: image.health_check,
        history: image.history.clone(),
        layers: layers.collect(),
        base_layers: None,
        checks: Vec::new(),
    }
}
