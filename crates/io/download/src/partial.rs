//! A file on its way, beside its place.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::Wanted;
use crate::error::DownloadError;

/// Longest mark of a version, in bytes.
const MAX_TAG: u64 = 1024;

/// Where a file that has not come whole is kept.
pub(crate) struct Partial {
    place: PathBuf,
    part: PathBuf,
    tag: PathBuf,
}

/// A part that is written.
pub(crate) struct Part<'p> {
    file: File,
    path: &'p Path,
}

impl Partial {
    pub(crate) fn of(place: &Path) -> Self {
        let beside = |kind: &str| {
            let mut name = place.file_name().unwrap_or(OsStr::new("file")).to_owned();
            name.push(kind);
            place.with_file_name(name)
        };
        Self { place: place.to_owned(), part: beside(".part"), tag: beside(".tag") }
    }

    /// How much has come.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |found| found.len())
    }

    /// The mark of the version that is there, or of which a part is.
    pub(crate) fn tag(&self) -> Option<String> {
        let mut tag = String::new();
        File::open(&self.tag).ok()?.take(MAX_TAG).read_to_string(&mut tag).ok()?;
        Some(tag).filter(|tag| !tag.is_empty() && tag.bytes().all(|byte| (b' '..0x7f).contains(&byte)))
    }

    /// Begins at a byte; what is behind it is cut off.
    pub(crate) fn open(&self, start: u64, tag: Option<String>) -> Result<Part<'_>, DownloadError> {
        let error = |source| DownloadError::Write { path: self.part.clone(), source };
        match tag {
            Some(tag) => fs::write(&self.tag, tag).map_err(error)?,
            // Without a mark a part could be of any version.
            None => remove(&self.tag).map_err(error)?,
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.part).map_err(error)?;
        file.set_len(start).map_err(error)?;
        Ok(Part { file, path: &self.part })
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) -> Result<(), DownloadError> {
        let error = |source| DownloadError::Write { path: self.part.clone(), source };
        remove(&self.part).and_then(|()| remove(&self.tag)).map_err(error)
    }

    /// Puts the file in place when it is the one that is wanted.
    pub(crate) fn finish(&self, part: &Part<'_>, wanted: &Wanted<'_>) -> Result<(), DownloadError> {
        let error = |source| DownloadError::Write { path: self.place.clone(), source };
        part.file.sync_all().map_err(error)?;
        if let Some(sum) = wanted.sha256 {
            let found = digest(&self.part).map_err(error)?;
            if found != sum {
                self.forget()?;
                return Err(DownloadError::Digest { url: wanted.url.to_owned() });
            }
        }
        fs::rename(&self.part, &self.place).map_err(error)
    }
}

impl Part<'_> {
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), DownloadError> {
        self.file
            .write_all(piece)
            .map_err(|source| DownloadError::Write { path: self.path.to_owned(), source })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut sum = Sha256::new();
    let mut file = File::open(path)?;
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        sum.update(piece.get(..read).unwrap_or_default());
    }
    Ok(sum.finalize().into())
}
