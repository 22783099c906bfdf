//! `scanner sbom`: a bill of materials to a report.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, read_sbom, write_report};

use crate::line::Shown;

#[derive(Args)]
pub(crate) struct SbomLine {
    /// The document: CycloneDX or SPDX 2 in JSON, SPDX in lines, Syft's JSON
    file: PathBuf,
    /// The database
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    format: Shown,
}

/// Carries the command out.
pub(crate) fn run(line: &SbomLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    let opened = OpenedDatabase::open(&line.db)?;
    let database = opened.database()?;
    let mut report = read_sbom(&line.file, remarks)?;
    report.judge(database, remarks);
    write_report(database, &report, line.format.into(), out)?;
    Ok(())
}
