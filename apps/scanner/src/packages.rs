//! `scanner match`: a list of packages to findings.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, ScannerError, match_list, report_list};

use crate::judge::JudgeLine;

#[derive(Args)]
pub(crate) struct MatchLine {
    #[command(flatten)]
    judge: JudgeLine,
    /// The list: lines of {"purl"} or {"os" or "ecosystem", "release", "name", "version", …}; - is standard input
    #[arg(long, value_name = "LIST")]
    packages: PathBuf,
}

/// Carries the command out: a line a finding, or a report where one is asked for.
pub(crate) fn run(line: &MatchLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<ExitCode> {
    let opened = OpenedDatabase::open(&line.judge.db)?;
    let database = opened.database()?;
    let mut list: Box<dyn BufRead> = if line.packages.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&line.packages)
            .map_err(|source| ScannerError::Read { path: line.packages.clone(), source })?;
        Box::new(BufReader::new(file))
    };
    if line.judge.is_report() {
        let mut report = report_list(database, &line.packages.display().to_string(), &mut list, remarks)?;
        return line.judge.print(&opened, &mut report, out);
    }
    match_list(database, &mut list, out, remarks)?;
    Ok(ExitCode::SUCCESS)
}
