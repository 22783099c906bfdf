//! The repository's own checks. `cargo xtask tidy` runs them all and names every place that breaks a rule.

mod features;
mod layers;
mod links;
mod sources;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

fn main() -> ExitCode {
    let mut out = std::io::stderr().lock();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the only place left to say it; if that fails too, the exit code still does.
            let _written = writeln!(out, "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("xtask has no parent folder")?;
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let mut broken = layers::check(root)?;
            broken.extend(features::check(root)?);
            broken.extend(links::check(root)?);
            broken.extend(sources::check(root)?);
            if broken.is_empty() {
                return Ok(());
            }
            bail!("{} places break a rule of the repository:\n{}", broken.len(), broken.join("\n"));
        }
        other => bail!("{} is no task; there is: tidy", other.unwrap_or("nothing")),
    }
}
