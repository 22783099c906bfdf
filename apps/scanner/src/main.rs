//! The scanner: arguments → command → exit code.

mod line;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use line::{Command, DatabaseCommand, Line};
use nv_role_scanner::{
    BuildOptions, OpenedDatabase, Remarks, ScannerError, build_database, lookup, match_list, print_status,
    print_version, read_root, scan_root, verify_database, write_report,
};

/// What upstream's scanner exits with when there is no database to tell the version of.
const NO_DATABASE: u8 = 254;

fn main() -> ExitCode {
    let line = Line::parse();
    let version = line.show_version;
    match run(line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the only place left to say it; if that fails too, the exit code still does.
            let _written = writeln!(io::stderr().lock(), "scanner: {error:#}");
            if version { ExitCode::from(NO_DATABASE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(line: Line) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut errors = io::stderr().lock();
    let mut remarks = Remarks::new(&mut errors);
    if line.show_version {
        print_version(&line.folder, &mut out)?;
        return finish(out, remarks);
    }
    match line.command.context("nothing to do: see --help")? {
        Command::Db { command } => match command {
            DatabaseCommand::Build { feeds, feed, out: file, version, key, allow_shrink } => {
                let options = BuildOptions { feeds, single: feed, out: file, version, allow_shrink };
                let key = key.as_deref().map(line::signing_key).transpose()?;
                build_database(&options, key.as_ref(), &mut out, &mut remarks)?;
            }
            DatabaseCommand::Status { file } => print_status(&file, &mut out)?,
            DatabaseCommand::Verify { file, trust } => {
                let trust = trust.as_deref().map(line::key_bytes).transpose()?;
                verify_database(&file, trust.as_ref(), &mut out)?;
            }
            DatabaseCommand::Lookup { wanted, db } => lookup(&db, &wanted, &mut out)?,
        },
        Command::Match { db, packages } => {
            let opened = OpenedDatabase::open(&db)?;
            let database = opened.database()?;
            if packages.as_os_str() == "-" {
                match_list(database, &mut io::stdin().lock(), &mut out, &mut remarks)?;
            } else {
                let file = File::open(&packages)
                    .map_err(|source| ScannerError::Read { path: packages.clone(), source })?;
                match_list(database, &mut BufReader::new(file), &mut out, &mut remarks)?;
            }
        }
        Command::Fs { root, db, format } => {
            let opened = OpenedDatabase::open(&db)?;
            let database = opened.database()?;
            let inventory = read_root(&root, &mut remarks)?;
            let findings = scan_root(database, &inventory, &mut remarks);
            write_report(database, &inventory, &findings, format.into(), &mut out)?;
        }
    }
    finish(out, remarks)
}

fn finish(mut out: impl io::Write, remarks: Remarks<'_>) -> Result<()> {
    remarks.finish();
    out.flush().context("the result could not be written")
}
