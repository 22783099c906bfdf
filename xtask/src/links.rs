//! Links between documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Every relative link in a Markdown file whose target does not exist.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in markdown(root)? {
        let text = fs::read_to_string(&path)?;
        let folder = path.parent().unwrap_or(root);
        for piece in text.split("](").skip(1) {
            let Some(target) = piece.split([')', ' ']).next() else { continue };
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !folder.join(file).exists() {
                broken.push(format!("{}: link to {target} leads nowhere", shown(root, &path)));
            }
        }
    }
    Ok(broken)
}

fn markdown(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", ".git", "dist"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A path as it is shown: relative to the repository.
pub(crate) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
