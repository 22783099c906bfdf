//! `scanner fs`: a root file system to a report.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{ImagePlace, OpenedDatabase, Remarks, SecretRules, read_root};

use crate::judge::JudgeLine;
use crate::result::ResultLine;

#[derive(Args)]
pub(crate) struct FsLine {
    /// The folder that is its root
    root: PathBuf,
    /// Do not look for secrets in files
    #[arg(long)]
    no_secrets: bool,
    #[command(flatten)]
    judge: JudgeLine,
    #[command(flatten)]
    result: ResultLine,
}

/// Carries the command out.
pub(crate) fn run(line: &FsLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    line.result.told(|| {
        let opened = OpenedDatabase::open(&line.judge.db)?;
        let rules = (!line.no_secrets).then(SecretRules::built_in).transpose()?;
        let mut report = read_root(&line.root, rules.as_ref(), remarks)?;
        let code = line.judge.judge(&opened, &mut report, out, remarks)?;
        line.result.found(&opened, &report, &ImagePlace::default())?;
        Ok(code)
    })
}
