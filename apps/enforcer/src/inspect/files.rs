//! Which files are captures.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nv_packet::capture_file::CaptureFile;

/// Folders inside one another that are walked.
const MAX_DEPTH: usize = 32;

/// The file itself, or the captures below a folder, sorted. Symbolic links inside of a folder are not followed.
pub(crate) fn captures(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth.saturating_add(1)));
            } else if kind.is_file() && begins_like_a_capture(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn begins_like_a_capture(path: &Path) -> bool {
    let mut head = [0; 24];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && CaptureFile::open(&head).is_ok()
}

/// Text of a file of at most `most` bytes.
pub(crate) fn text(path: &Path, most: u64) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let read = file.take(most.saturating_add(1)).read_to_string(&mut text);
    let bytes = read.with_context(|| format!("{} is no text", path.display()))?;
    if bytes as u64 > most {
        bail!("{} has more than {most} bytes; split it", path.display());
    }
    Ok(text)
}

/// A seed that senders of packets do not know.
pub(crate) fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
