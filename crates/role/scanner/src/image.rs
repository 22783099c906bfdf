//! An image: each layer once as a stream, then the layers over one another.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use nv_compliance::{ImageUnderTest, judge_image};
use nv_layer::{
    Image, ImageLayer, ImageStore, IndexEntry, LayerChange, LayerDigests, LayerEntry, ReadFile, walk_layer,
};
use nv_package::FileKind;
use nv_secret::SecretRules;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::LayerCache;
use crate::collect::{FileRecord, Records, Stat, is_release};
use crate::error::ScannerError;
use crate::layer_process::LayerProcess;
use crate::remark::Remarks;
use crate::report::{ImageFacts, LayerFacts, Report, Secret};

/// Most whiteouts and links of a layer that are kept.
const MAX_KEPT: usize = 1_000_000;

/// What a layer holds and what it takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) records: Records,
    /// Marks of its paths that are no folders, sorted: what a layer below has there or further down is gone.
    covered: Vec<u64>,
    /// Marks of its folders, sorted: what a layer below has there, if it is none, is gone.
    folders: Vec<u64>,
    /// Paths that it takes away.
    whiteouts: Vec<String>,
    /// Folders whose content it takes away.
    opaque: Vec<String>,
    /// Further names of files of layers below: name, first name.
    links: Vec<(String, String)>,
}

/// A mark of a path: the first bytes of its SHA-256, so that no two paths of a layer have the same one.
fn mark(path: &str) -> u64 {
    let sum = Sha256::digest(path.as_bytes());
    sum.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

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

/// Where the layers of an image are.
pub trait Layers {
    /// The bytes of a layer as they lie there, from its begin; they are checked by who reads them. The error is a sentence.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + '_>, String>;
}

impl Layers for ImageStore {
    fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + '_>, String> {
        let part = self.layer(layer).map_err(|error| nv_telemetry::chain(&error))?;
        Ok(Box::new(part))
    }
}

/// How an image is read.
#[derive(Clone, Copy, Default)]
pub struct ImageReading<'a> {
    /// Where what layers hold is kept.
    pub cache: Option<&'a LayerCache>,
    /// What secrets look like; none are looked for without.
    pub rules: Option<&'a SecretRules>,
    /// The process that reads layers; without one this process does.
    pub process: Option<&'a LayerProcess>,
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

fn stat_of(mode: u32, file: &mut dyn ReadFile) -> Stat {
    Stat { mode, size: file.size().unwrap_or(0) }
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

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct LayerRead {
    pub(crate) record: LayerRecord,
    /// Why it could not be read to its end; empty where it was.
    pub(crate) unread: String,
    /// The digest of its archive, once it was read to its end.
    pub(crate) archive: String,
}

fn read_layer(
    store: &dyn Layers,
    layer: &ImageLayer,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
) -> (LayerRecord, String) {
    if let Some(known) = known(how, layer.digest()) {
        return (known, String::new());
    }
    match read_blob(how, &layer.digests, &|| store.open_layer(layer)) {
        Ok(read) if read.unread.is_empty() => {
            keep_layer(how, layer.digest(), &read.record, remarks);
            (read.record, String::new())
        }
        Ok(LayerRead { record, unread, .. }) => {
            remarks.add(&format!("layer {}: {unread}", layer.digest()));
            (record, unread)
        }
        Err(why) => {
            remarks.add(&format!("layer {}: {why}", layer.digest()));
            (LayerRecord::default(), why)
        }
    }
}

/// What is kept of a layer.
pub(crate) fn known(how: &ImageReading<'_>, digest: &str) -> Option<LayerRecord> {
    how.cache.and_then(|cache| cache.get(digest, how.rules.is_some()))
}

/// Keeps what a layer has.
pub(crate) fn keep_layer(
    how: &ImageReading<'_>,
    digest: &str,
    record: &LayerRecord,
    remarks: &mut Remarks<'_>,
) {
    let kept = how.cache.map(|cache| cache.put(digest, how.rules.is_some(), record));
    if let Some(Err(error)) = kept {
        remarks.add(&format!("layer {digest}: could not be kept: {error}"));
    }
}

/// Reads the blob that `open` gives, in the process for that where there is one.
pub(crate) fn read_blob<'a>(
    how: &ImageReading<'_>,
    digests: &LayerDigests,
    open: &dyn Fn() -> Result<Box<dyn Read + 'a>, String>,
) -> Result<LayerRead, String> {
    match how.process {
        Some(process) => process.read(digests, how.rules.is_some(), open),
        None => Ok(walk(open()?, digests, how.rules, open)),
    }
}

/// Reads a layer. `again` opens it a second time, where a hard link gives a file that was passed over a name that makes
/// it wanted.
pub(crate) fn walk<R: Read>(
    blob: R,
    digests: &LayerDigests,
    rules: Option<&SecretRules>,
    again: impl FnOnce() -> Result<R, String>,
) -> LayerRead {
    let mut record = LayerRecord::default();
    let mut later: Vec<(String, String, u32)> = Vec::new();
    let mut refused = Vec::new();
    let mut take =
        |entry: &LayerEntry<'_>, file: &mut dyn ReadFile| record.take(entry, file, rules, &mut later);
    let mut result = walk_layer(blob, digests, &mut take, &mut |path| refused.push(path.to_owned()));
    for path in refused.iter().take(100) {
        record.records.fault(format!("{path:?} leads out of the root, left out"));
    }
    record.finish();
    let mut names: HashMap<String, Vec<(String, u32)>> = HashMap::new();
    for (path, target, mode) in later {
        if record.covered.binary_search(&mark(&target)).is_ok() {
            names.entry(target).or_default().push((path, mode));
        } else {
            record
                .records
                .fault(format!("{path} is a name of {target}, which is in a layer below: not read"));
        }
    }
    if !names.is_empty() && result.is_ok() {
        let mut named = |entry: &LayerEntry<'_>, file: &mut dyn ReadFile| {
            if entry.change == LayerChange::File {
                for (path, mode) in names.get(entry.path).into_iter().flatten() {
                    record.records.offer(path, stat_of(*mode, file), file, rules);
                }
            }
        };
        match again() {
            Ok(blob) => result = walk_layer(blob, digests, &mut named, &mut |_| {}),
            Err(why) => record.records.fault(why),
        }
    }
    match result {
        Ok(found) => LayerRead { record, unread: String::new(), archive: found.archive },
        Err(error) => LayerRead { record, unread: nv_telemetry::chain(&error), archive: String::new() },
    }
}

impl LayerRecord {
    fn take(
        &mut self,
        entry: &LayerEntry<'_>,
        file: &mut dyn ReadFile,
        rules: Option<&SecretRules>,
        later: &mut Vec<(String, String, u32)>,
    ) {
        let path = entry.path;
        match entry.change {
            LayerChange::Folder => {
                self.folders.push(mark(path));
                return;
            }
            LayerChange::Whiteout => {
                keep(&mut self.whiteouts, path.to_owned(), &mut self.records);
                return;
            }
            LayerChange::Opaque => {
                keep(&mut self.opaque, path.to_owned(), &mut self.records);
                return;
            }
            LayerChange::File | LayerChange::HardLink | LayerChange::Other => {}
        }
        // Of two entries of one path, the later counts.
        self.records.files.remove(path);
        self.covered.push(mark(path));
        match entry.change {
            LayerChange::File => self.records.offer(path, stat_of(entry.mode, file), file, rules),
            LayerChange::HardLink => {
                let wanted = FileKind::of(path);
                if wanted == FileKind::of(entry.target) && !is_release(path) {
                    match self.records.files.get(entry.target).cloned() {
                        Some(same) => {
                            self.records.files.insert(path.to_owned(), same);
                        }
                        None => {
                            let link = (path.to_owned(), entry.target.to_owned());
                            keep(&mut self.links, link, &mut self.records);
                        }
                    }
                } else if wanted.is_some() || is_release(path) {
                    let link = (path.to_owned(), entry.target.to_owned(), entry.mode);
                    keep(later, link, &mut self.records);
                }
            }
            LayerChange::Folder | LayerChange::Other | LayerChange::Whiteout | LayerChange::Opaque => {}
        }
    }

    fn finish(&mut self) {
        for marks in [&mut self.covered, &mut self.folders] {
            marks.sort_unstable();
            marks.dedup();
        }
        self.whiteouts.sort_unstable();
        self.opaque.sort_unstable();
        // What the layer itself has of them needs no layer below.
        let covered = &self.covered;
        self.links.retain(|(_, target)| covered.binary_search(&mark(target)).is_err());
    }

    /// Whether a file of a layer below is gone.
    fn hides(&self, file: &str) -> bool {
        let has =
            |sorted: &[String], path: &str| sorted.binary_search_by(|known| (**known).cmp(path)).is_ok();
        let gone = |path: &str| has(&self.whiteouts, path);
        let emptied = |path: &str| has(&self.opaque, path);
        let covers = |path: &str| self.covered.binary_search(&mark(path)).is_ok();
        if gone(file) || covers(file) || self.folders.binary_search(&mark(file)).is_ok() || emptied("") {
            return true;
        }
        let mut above = file.match_indices('/').filter_map(|(at, _)| file.get(..at));
        above.any(|folder| gone(folder) || emptied(folder) || covers(folder))
    }
}

fn keep<T>(list: &mut Vec<T>, item: T, records: &mut Records) {
    if list.len() < MAX_KEPT {
        list.push(item);
    } else {
        records.fault(format!("more than {MAX_KEPT} whiteouts or links"));
    }
}

/// Puts a layer over those below it.
fn put_over(squashed: &mut BTreeMap<String, (usize, FileRecord)>, place: usize, layer: LayerRecord) {
    let linked: Vec<(String, FileRecord)> = layer
        .links
        .iter()
        .filter_map(|(path, target)| Some((path.clone(), squashed.get(target)?.1.clone())))
        .collect();
    squashed.retain(|file, _| !layer.hides(file));
    let own = layer.records.files.into_iter().chain(linked);
    squashed.extend(own.map(|(file, record)| (file, (place, record))));
}
