//! Files of rules and of cases.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Bytes of one file.
const MAX_BYTES: u64 = 16 << 20;

/// Files of a folder, and folders within folders.
const MAX_FILES: usize = 20_000;

/// The name and the content of each file; those of a folder by their names.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut read = Vec::new();
    for path in paths {
        if !path.is_dir() {
            read.push((path.display().to_string(), bytes(path)?));
            continue;
        }
        let mut any = false;
        for file in entries(path)? {
            let extension = file.extension().and_then(|extension| extension.to_str());
            if file.is_file() && matches!(extension, Some("conf" | "data")) {
                any |= extension == Some("conf");
                read.push((file.display().to_string(), bytes(&file)?));
            }
        }
        if !any {
            bail!("{} has no .conf file", path.display());
        }
    }
    Ok(read)
}

/// The YAML files at a path, or below it.
pub(super) fn cases(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut folders = vec![path.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            let kind = fs::symlink_metadata(&entry)?.file_type();
            if kind.is_dir() {
                folders.push(entry);
            } else if matches!(
                entry.extension().and_then(|extension| extension.to_str()),
                Some("yaml" | "yml")
            ) {
                found.push(entry);
            }
            if folders.len().saturating_add(found.len()) > MAX_FILES {
                bail!("{} has more than {MAX_FILES} files", path.display());
            }
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{} has no .yaml file", path.display());
    }
    Ok(found)
}

pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?).with_context(|| path.display().to_string())
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > MAX_BYTES {
        bail!("{} has {length} bytes, at most {MAX_BYTES} are read", path.display());
    }
    fs::read(path).with_context(|| path.display().to_string())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())?.take(MAX_FILES) {
        entries.push(entry?.path());
    }
    entries.sort();
    Ok(entries)
}
