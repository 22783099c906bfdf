//! What layers hold, kept by their digests, so that a layer is read once however many images have it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::image::LayerRecord;

/// Changes whenever the same layer would give another record: records of other versions are not read.
const FORMAT: u32 = 4;
/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 256 * 1024 * 1024;
/// Most bytes of all records; the oldest make room.
const MAX_BYTES: u64 = 1_000_000_000;

/// A folder of records.
pub struct LayerCache {
    folder: PathBuf,
}

impl LayerCache {
    /// A cache in a folder, which is made where it is not there.
    ///
    /// # Errors
    /// When the folder can not be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = folder.join(format!("layers-{FORMAT}"));
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
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
        let path = self.place(digest, searched)?;
        if fs::metadata(&path).ok()?.len() > MAX_RECORD {
            return None;
        }
        serde_json::from_slice(&fs::read(&path).ok()?).ok()
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
            fs::remove_file(path)?;
            total = total.saturating_sub(bytes);
        }
        Ok(())
    }
}
