//! `scanner match`: a list of packages to findings.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{OpenedDatabase, Remarks, ScannerError, match_list};

#[derive(Args)]
pub(crate) struct MatchLine {
    /// The database
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// The list: lines of {"purl"} or {"os" or "ecosystem", "release", "name", "version", …}; - is standard input
    #[arg(long, value_name = "LIST")]
    packages: PathBuf,
}

/// Carries the command out.
pub(crate) fn run(line: &MatchLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    let opened = OpenedDatabase::open(&line.db)?;
    let database = opened.database()?;
    if line.packages.as_os_str() == "-" {
        match_list(database, &mut io::stdin().lock(), out, remarks)?;
    } else {
        let file = File::open(&line.packages)
            .map_err(|source| ScannerError::Read { path: line.packages.clone(), source })?;
        match_list(database, &mut BufReader::new(file), out, remarks)?;
    }
    Ok(())
}
