//! An inventory as a document: what is installed, to be matched now and again with every later database.

use nv_model::scan_report::BenchItem;
use nv_package::{Ecosystem, Package};
use serde::{Deserialize, Serialize};

use crate::error::ScannerError;
use crate::report::{Installed, Report};
use crate::shown::bench_items;

/// Changes whenever an older scanner could not read it.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document<R> {
    format: u32,
    /// Without findings.
    report: R,
    /// Items of the benchmark on images, judged: no database changes them.
    checks: Vec<BenchItem>,
}

/// A program that is known by other means than by reading it.
#[derive(Clone, Copy, Debug)]
pub struct SeenProgram<'a> {
    /// The Go module that it is built from.
    pub module: &'a str,
    /// Its name among programs that no package holds.
    pub name: &'a str,
    /// Its version, with a leading `v`.
    pub version: &'a str,
    /// What says so, where a file stands otherwise.
    pub place: &'a str,
}

/// The document of programs that nothing was read for. Advisories speak of some by their modules, of others by their names.
///
/// # Errors
/// [`ScannerError::Json`].
pub fn program_inventory(subject: &str, programs: &[SeenProgram<'_>]) -> Result<Vec<u8>, ScannerError> {
    let packages = programs.iter().flat_map(|program| {
        [(Ecosystem::Go, program.module), (Ecosystem::Program, program.name)].map(|(ecosystem, name)| {
            Installed {
                file: program.place.to_owned(),
                package: Package::new(ecosystem, name, program.version),
                layer: None,
                held: false,
            }
        })
    });
    let packages = packages.collect();
    inventory_document(&Report { subject: subject.to_owned(), packages, ..Report::default() })
}

/// The document of a report.
///
/// # Errors
/// [`ScannerError::Json`].
pub(crate) fn inventory_document(report: &Report) -> Result<Vec<u8>, ScannerError> {
    let document = Document { format: FORMAT, report, checks: bench_items(report) };
    serde_json::to_vec(&document).map_err(ScannerError::Json)
}

/// The report of a document, without findings, and its items of the benchmark.
///
/// # Errors
/// [`ScannerError::Json`] for what is no document, [`ScannerError::Argument`] for one of a later version.
pub(crate) fn parse_document(bytes: &[u8]) -> Result<(Report, Vec<BenchItem>), ScannerError> {
    let document: Document<Report> = serde_json::from_slice(bytes).map_err(ScannerError::Json)?;
    if document.format != FORMAT {
        let found = document.format;
        return Err(ScannerError::Argument(format!(
            "an inventory of format {found}, this scanner reads {FORMAT}"
        )));
    }
    Ok((document.report, document.checks))
}
