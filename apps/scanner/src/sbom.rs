//! `scanner sbom`: a bill of materials to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, read_sbom};

use crate::judge::JudgeLine;

#[derive(Args)]
pub(crate) struct SbomLine {
    /// The document: CycloneDX or SPDX 2 in JSON, SPDX in lines, Syft's JSON
    file: PathBuf,
    #[command(flatten)]
    judge: JudgeLine,
}

/// Carries the command out.
pub(crate) fn run(line: &SbomLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let mut report = read_sbom(&line.file, remarks)?;
    line.judge.judge(&opened, &mut report, out, remarks)
}
