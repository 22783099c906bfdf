//! What the tests are built with is what the product is built with: a feature that a dependency of tests alone turns
//! on would have almost everything compiled twice, and would have the tests try something else than what is shipped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Every package of the product that the tests have with other features.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let tested = packages(root, "normal,dev")?;
    let shipped = packages(root, "normal")?;
    Ok(shipped
        .difference(&tested)
        .map(|package| format!("Cargo.toml: tests have other features than the product: {package}"))
        .collect())
}

/// Packages with their features, by the kinds of dependencies.
fn packages(root: &Path, kinds: &str) -> Result<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .current_dir(root)
        .args(["tree", "--locked", "--workspace", "--prefix", "none"])
        .args(["--format", "{p} with {f}", "--edges", kinds])
        .output()
        .context("cargo tree")?;
    if !out.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    }
    // A package that was shown before is marked.
    let lines = String::from_utf8(out.stdout)?;
    Ok(lines.lines().map(|line| line.strip_suffix(" (*)").unwrap_or(line).to_owned()).collect())
}
