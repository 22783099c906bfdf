//! Reports, inventories and databases: files by the SHA-256 of their bytes, which never change. They are on the disk of
//! the controller, beside the event log and never in the store of policy.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nv_model::scan::BlobId;
use sha2::{Digest as _, Sha256};

/// What is wrong with a blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The disk.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes than are accepted.
    #[error("more than the {most} bytes that are accepted")]
    TooLarge {
        /// How many are.
        most: u64,
    },
    /// It cannot be written.
    #[error("it cannot be written as JSON: {0}")]
    Json(String),
    /// The controller ends.
    #[error("the controller is stopping")]
    Stopping,
}

/// A folder of blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    last: AtomicU64,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BlobError + '_ {
    |source| BlobError::Io { path: path.to_owned(), source }
}

/// End of the names of files that are being written; a start removes them.
const UNFINISHED: &str = ".part";

impl Blobs {
    /// A folder, which is made where it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, BlobError> {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(at(&folder))?;
            }
        }
        Ok(Self { folder, last: AtomicU64::new(0) })
    }

    /// Where a blob is.
    pub(crate) fn path(&self, id: BlobId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Begins one whose name is known at its end.
    pub(crate) fn writer(&self, most: u64) -> Result<BlobWriter, BlobError> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}{UNFINISHED}"));
        let file = fs::File::create(&path).map_err(at(&path))?;
        Ok(BlobWriter {
            folder: self.folder.clone(),
            path,
            file,
            sum: Sha256::new(),
            bytes: 0,
            most,
            kept: false,
        })
    }

    /// A whole blob; `None` when there is none, or it is not what its name says (a disk that fails).
    pub(crate) fn get(&self, id: BlobId, most: u64) -> Result<Option<Vec<u8>>, BlobError> {
        let path = self.path(id);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(at(&path))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
            return Err(BlobError::TooLarge { most });
        }
        Ok((BlobId::of(&bytes) == id).then_some(bytes))
    }

    /// The size of a blob; `None` when there is none.
    pub(crate) fn size(&self, id: BlobId) -> Option<u64> {
        fs::metadata(self.path(id)).ok().map(|stat| stat.len())
    }

    /// Removes one; nothing when there is none.
    pub(crate) fn remove(&self, id: BlobId) -> Result<(), BlobError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Result<Vec<BlobId>, BlobError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let entry = entry.map_err(at(&self.folder))?;
            all.extend(entry.file_name().to_str().and_then(|name| name.parse::<BlobId>().ok()));
        }
        Ok(all)
    }
}

/// A blob that is being written; without [`Self::finish`] nothing of it stays.
pub(crate) struct BlobWriter {
    folder: PathBuf,
    path: PathBuf,
    file: fs::File,
    sum: Sha256,
    bytes: u64,
    most: u64,
    kept: bool,
}

impl BlobWriter {
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.bytes = self.bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.bytes > self.most {
            return Err(BlobError::TooLarge { most: self.most });
        }
        self.sum.update(piece);
        self.file.write_all(piece).map_err(at(&self.path))
    }

    /// Its name and size; it is on the disk then.
    pub(crate) fn finish(mut self) -> Result<(BlobId, u64), BlobError> {
        self.file.sync_all().map_err(at(&self.path))?;
        let id = BlobId::new(self.sum.clone().finalize().into());
        fs::rename(&self.path, self.folder.join(id.to_string())).map_err(at(&self.path))?;
        self.kept = true;
        Ok((id, self.bytes))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.kept {
            // The next start removes what this cannot.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
        let mut whole = blobs.writer(6).unwrap();
        whole.write(b"rep").unwrap();
        whole.write(b"ort").unwrap();
        let (id, bytes) = whole.finish().unwrap();
        assert_eq!((id, bytes), (BlobId::of(b"report"), 6));
        assert_eq!(blobs.get(id, 6).unwrap().as_deref(), Some(&b"report"[..]));
        assert!(matches!(blobs.get(id, 5), Err(BlobError::TooLarge { most: 5 })));
        let mut cut = blobs.writer(3).unwrap();
        cut.write(b"abc").unwrap();
        assert!(cut.write(b"d").is_err());
        drop(cut);
        assert_eq!(blobs.all().unwrap(), [id]);
        fs::write(blobs.path(id), b"rotten").unwrap();
        assert_eq!(blobs.get(id, 100).unwrap(), None, "another content is not this blob");
        fs::write(folder.path().join("blobs/9.part"), b"half").unwrap();
        let again = Blobs::open(folder.path().join("blobs")).unwrap();
        again.remove(id).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
    }
}
