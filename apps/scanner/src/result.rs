//! The file in which programs that start NeuVector's scanner look for its result.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use nv_role_scanner::{ImagePlace, OpenedDatabase, Report, ScannerError, write_failure, write_result};

#[derive(Args)]
pub(crate) struct ResultLine {
    /// Write the result to this file as NeuVector's scanner does: what --format json prints as `report`, or why there is none
    /// as `error_message`
    #[arg(long, value_name = "FILE")]
    result_file: Option<PathBuf>,
    /// A result is in the file: what fails behind that, such as handing it in, does not take it away.
    #[arg(skip)]
    found: Cell<bool>,
}

impl ResultLine {
    /// Scans, and writes why that came to nothing.
    pub(crate) fn told(&self, scan: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
        let outcome = scan();
        let Err(error) = outcome else { return outcome };
        if self.found.get() {
            return Err(error);
        }
        match self.failed(&format!("{error:#}")) {
            Ok(()) => Err(error),
            Err(unwritten) => Err(error.context(format!("{unwritten:#}"))),
        }
    }

    /// Writes why there is no result.
    pub(crate) fn failed(&self, why: &str) -> Result<()> {
        self.to_file(|file| write_failure(why, file))
    }

    /// Writes the report of what is at a place.
    pub(crate) fn found(&self, opened: &OpenedDatabase, report: &Report, place: &ImagePlace) -> Result<()> {
        let database = opened.database()?;
        self.to_file(|file| write_result(database, report, place, file))?;
        self.found.set(true);
        Ok(())
    }

    fn to_file(&self, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), ScannerError>) -> Result<()> {
        let Some(path) = &self.result_file else { return Ok(()) };
        let failed = |source| ScannerError::Write { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        write(&mut file)?;
        Ok(file.flush().map_err(failed)?)
    }
}
