//! `scanner fs`: a root file system to a report.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, read_root, write_report};

use crate::line::Shown;

#[derive(Args)]
pub(crate) struct FsLine {
    /// The folder that is its root
    root: PathBuf,
    /// The database
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    format: Shown,
}

/// Carries the command out.
pub(crate) fn run(line: &FsLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    let opened = OpenedDatabase::open(&line.db)?;
    let database = opened.database()?;
    let mut report = read_root(&line.root, remarks)?;
    report.judge(database, remarks);
    write_report(database, &report, line.format.into(), out)?;
    Ok(())
}
