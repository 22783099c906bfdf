//! A layer of an image, read once as a stream: what it holds, and what it takes away of those below.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use nv_layer::{ImageLayer, ImageStore, LayerChange, LayerDigests, LayerEntry, ReadFile, walk_layer};
use nv_package::FileKind;
use nv_secret::SecretRules;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::LayerCache;
use crate::collect::{FileRecord, Records, Stat, is_release};
use crate::layer_process::LayerProcess;
use crate::remark::Remarks;

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

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct LayerRead {
    pub(crate) record: LayerRecord,
    /// Why it could not be read to its end; empty where it was.
    pub(crate) unread: String,
    /// The digest of its archive, once it was read to its end.
    pub(crate) archive: String,
}

pub(crate) fn read_layer(
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
pub(crate) fn put_over(
    squashed: &mut BTreeMap<String, (usize, FileRecord)>,
    place: usize,
    layer: LayerRecord,
) {
    let linked: Vec<(String, FileRecord)> = layer
        .links
        .iter()
        .filter_map(|(path, target)| Some((path.clone(), squashed.get(target)?.1.clone())))
        .collect();
    squashed.retain(|file, _| !layer.hides(file));
    let own = layer.records.files.into_iter().chain(linked);
    squashed.extend(own.map(|(file, record)| (file, (place, record))));
}

fn stat_of(mode: u32, file: &mut dyn ReadFile) -> Stat {
    Stat { mode, size: file.size().unwrap_or(0) }
}
