//! `scanner fs`: a root file system to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, read_root};

use crate::judge::JudgeLine;

#[derive(Args)]
pub(crate) struct FsLine {
    /// The folder that is its root
    root: PathBuf,
    #[command(flatten)]
    judge: JudgeLine,
}

/// Carries the command out.
pub(crate) fn run(line: &FsLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let mut report = read_root(&line.root, remarks)?;
    line.judge.judge(&opened, &mut report, out, remarks)
}
