//! Sources hold no machine's paths, no unfinished places, and no test that does not run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::links::shown;

/// Largest file in the repository, in bytes; lock files may be larger.
const MAX_BYTES: u64 = 1024 * 1024;

/// What no source has, and why. Written in two halves, so that this file does not find itself.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("#[ig", "nore", "a test that does not run is no test"),
    ("todo", "!(", "nothing is left unfinished"),
    ("unimplemented", "!(", "nothing is left unfinished"),
    ("/wo", "rk/", "no machine's paths"),
    ("/ro", "ot/.", "no machine's paths"),
    ("test", ".skip(", "a test that does not run is no test"),
    ("FIX", "ME", "nothing is left unfinished"),
];

/// Every place that has what no source has.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in files(root)? {
        let length = fs::metadata(&path)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if length > MAX_BYTES && !name.ends_with("lock") && !name.ends_with("-lock.json") {
            broken.push(format!(
                "{}: {length} bytes, at most {MAX_BYTES} are kept in the repository",
                shown(root, &path)
            ));
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            for (head, tail, why) in FORBIDDEN {
                if line.find(head).is_some_and(|start| {
                    line.get(start + head.len()..).is_some_and(|rest| rest.starts_with(tail))
                }) {
                    broken.push(format!("{}:{}: {head}{tail}: {why}", shown(root, &path), at + 1));
                }
            }
        }
    }
    Ok(broken)
}

fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", ".git", "dist", ".neuvector"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name != ".git" {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
