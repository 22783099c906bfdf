//! What layers hold, kept by their digests, so that a layer is read once however many images have it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nv_model::scan::{LayerCacheFacts, LayerCacheRecord};
use nv_model::time::Timestamp;
use nv_wire::bounds::MAX_CACHE_RECORDS;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::layer::LayerRecord;

/// Changes whenever the same layer would give another record: records of other versions are not read.
const FORMAT: u32 = 6;
/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 256 * 1024 * 1024;
/// Most bytes of all records; those that were not used for longest make room.
const MAX_BYTES: u64 = 1_000_000_000;

/// A folder of records.
pub struct LayerCache {
    folder: PathBuf,
    hits: AtomicU64,
    misses: AtomicU64,
    /// How often each record was used, by its file's name; as many as there are records.
    references: Mutex<HashMap<String, u32>>,
}

impl LayerCache {
    /// A cache in a folder, which is made where it is not there.
    ///
    /// # Errors
    /// When the folder can not be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = folder.join(format!("layers-{FORMAT}"));
        fs::create_dir_all(&folder)?;
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { folder, hits, misses, references: Mutex::default() })
    }

    /// A record without secrets is another one than that of a layer in which they were looked for.
    fn place(&self, digest: &str, searched: bool) -> Option<PathBuf> {
        let digits = digest.strip_prefix("sha256:")?;
        let plain = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let kind = if searched { "searched" } else { "packages" };
        plain.then(|| self.folder.join(format!("{digits}.{kind}.json")))
    }

    /// What the layer of this digest holds; none where it is not known, or its record is damaged.
    pub(crate) fn get(&self, digest: &str, searched: bool) -> Option<LayerRecord> {
        let found = self.place(digest, searched).and_then(|path| Some((read(&path)?, path)));
        let Some((record, path)) = found else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        // What was used last makes room last.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        if let Err(error) = utimensat(CWD, &path, &times, AtFlags::empty()) {
            tracing::debug!(%error, path = %path.display(), "a record keeps its age");
        }
        if let Some(name) = path.file_name() {
            let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
            let count = references.entry(name.to_string_lossy().into_owned()).or_default();
            *count = count.saturating_add(1);
        }
        Some(record)
    }

    /// What it holds; with `records` each of them, at most [`MAX_CACHE_RECORDS`].
    pub(crate) fn facts(&self, records: bool) -> io::Result<LayerCacheFacts> {
        let mut facts = LayerCacheFacts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..LayerCacheFacts::default()
        };
        let references = self.references.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(digits) = name.strip_suffix(".json").and_then(|name| name.split('.').next()) else {
                continue;
            };
            // Another scan may have made room meanwhile.
            let Ok(stat) = entry.metadata() else { continue };
            facts.count += 1;
            facts.bytes = facts.bytes.saturating_add(stat.len());
            if records && facts.records.len() < MAX_CACHE_RECORDS {
                facts.records.push(LayerCacheRecord {
                    layer: format!("sha256:{digits}"),
                    bytes: stat.len(),
                    references: references.get(&name).copied().unwrap_or(0),
                    last_used: Timestamp::from_seconds(stat.mtime()),
                });
            }
        }
        facts.records.sort_by(|one, other| one.layer.cmp(&other.layer));
        Ok(facts)
    }

    /// Keeps a record: written beside and renamed, so that no half of one is ever read.
    pub(crate) fn put(&self, digest: &str, searched: bool, record: &LayerRecord) -> io::Result<()> {
        let Some(path) = self.place(digest, searched) else { return Ok(()) };
        let bytes = serde_json::to_vec(record)?;
        self.make_room(bytes.len() as u64)?;
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&beside, bytes)?;
        fs::rename(&beside, &path)
    }

    fn make_room(&self, wanted: u64) -> io::Result<()> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let stat = entry.metadata()?;
            records.push((stat.modified()?, stat.len(), entry.path()));
        }
        let mut total = records.iter().map(|(_, bytes, _)| bytes).sum::<u64>().saturating_add(wanted);
        records.sort();
        for (_, bytes, path) in records {
            if total <= MAX_BYTES {
                break;
            }
            fs::remove_file(&path)?;
            if let Some(name) = path.file_name() {
                let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
                references.remove(&*name.to_string_lossy());
            }
            total = total.saturating_sub(bytes);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<LayerRecord> {
    if fs::metadata(path).ok()?.len() > MAX_RECORD {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
