//! A report as JSON in the shapes of the REST contract, as a table, and as what other programs read.

mod contract;
mod cyclonedx;
mod junit;
mod sarif;
mod spdx;
mod table;
mod template;

use std::io::Write;

use nv_vulnerability::{Database, Severity};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::ScannerError;
use crate::inventory::parse_document;
use crate::report::Report;
use crate::submit::ImagePlace;

/// How a result is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// One JSON object in the REST contract's shapes.
    Json,
    /// Counts and a table.
    Table {
        /// The commands that made the image, too.
        commands: bool,
        /// What is installed, too.
        modules: bool,
    },
    /// SARIF 2.1.0.
    Sarif,
    /// CycloneDX 1.6, packages and vulnerabilities.
    CycloneDx,
    /// SPDX 2.3, packages.
    Spdx,
    /// JUnit: a test a finding, which failed.
    Junit,
    /// A template in Jinja's language, over what `Json` prints.
    Template(String),
}

/// A form of bills of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SbomFormat {
    /// SPDX 2.3.
    Spdx,
    /// CycloneDX 1.6.
    CycloneDx,
}

/// The bill of materials of an inventory's document; `made` is when it was listed, in seconds since 1970.
///
/// # Errors
/// As for reading the document.
pub fn inventory_sbom(
    document: &[u8],
    format: SbomFormat,
    made: i64,
) -> Result<serde_json::Value, ScannerError> {
    let (report, _) = parse_document(document)?;
    Ok(match format {
        SbomFormat::Spdx => spdx::document(u64::try_from(made).unwrap_or(0), &report),
        SbomFormat::CycloneDx => cyclonedx::bill(&report),
    })
}

/// Prints a report, the same for the same input.
///
/// # Errors
/// [`ScannerError::Output`] when the result can not be written, [`ScannerError::Template`] when the template fails.
pub fn write_report(
    database: Database<'_>,
    report: &Report,
    format: &OutputFormat,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    match format {
        OutputFormat::Table { commands, modules } => {
            table::write(database, report, out)?;
            if *commands {
                table::write_commands(report, out)?;
            }
            if *modules { table::write_modules(report, out) } else { Ok(()) }
        }
        OutputFormat::Json => write_json(&contract::printed(database, report), out),
        OutputFormat::Sarif => write_json(&sarif::document(database, report), out),
        OutputFormat::CycloneDx => write_json(&cyclonedx::document(database, report), out),
        OutputFormat::Spdx => write_json(&spdx::document(database.created(), report), out),
        OutputFormat::Junit => {
            out.write_all(junit::document(database, report).as_bytes()).map_err(ScannerError::Output)
        }
        OutputFormat::Template(text) => {
            let printed =
                serde_json::to_value(contract::printed(database, report)).map_err(ScannerError::Json)?;
            out.write_all(template::render(text, &printed)?.as_bytes()).map_err(ScannerError::Output)
        }
    }
}

/// What upstream's scanner writes when it is done.
#[derive(Serialize)]
struct Outcome<'a> {
    error_message: &'a str,
    report: Option<Scanned<'a>>,
}

#[derive(Serialize)]
struct Scanned<'a> {
    registry: &'a str,
    repository: &'a str,
    tag: &'a str,
    cvedb_create_time: String,
    #[serde(flatten)]
    printed: contract::Printed<'a>,
}

/// Prints a report as upstream's scanner writes its result: what [`OutputFormat::Json`] prints, in `report`, with the
/// image's place.
///
/// # Errors
/// [`ScannerError::Output`] when the result can not be written.
pub fn write_result(
    database: Database<'_>,
    report: &Report,
    place: &ImagePlace,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let report = Scanned {
        registry: &place.registry,
        repository: &place.repository,
        tag: &place.reference,
        cvedb_create_time: date_text(database.created()),
        printed: contract::printed(database, report),
    };
    write_json(&Outcome { error_message: "", report: Some(report) }, out)
}

/// Prints why there is no result, as upstream's scanner writes it.
///
/// # Errors
/// [`ScannerError::Output`] when it can not be written.
pub fn write_failure(why: &str, out: &mut dyn Write) -> Result<(), ScannerError> {
    write_json(&Outcome { error_message: why, report: None }, out)
}

fn write_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), ScannerError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(ScannerError::Json)?;
    writeln!(out).map_err(ScannerError::Output)
}

/// SHA-256 of a document's text, which is not made for it.
fn hash(document: &Value) -> [u8; 32] {
    struct Hashed(Sha256);
    impl Write for Hashed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hashed = Hashed(Sha256::new());
    // Neither a value nor a hash can fail to be written.
    let _written = serde_json::to_writer(&mut hashed, document);
    hashed.0.finalize().into()
}

/// Puts large parts into a document as they are; `json!` would copy them.
fn put<const N: usize>(document: &mut Value, parts: [(&str, Value); N]) {
    if let Some(fields) = document.as_object_mut() {
        fields.extend(parts.map(|(name, part)| (name.to_owned(), part)));
    }
}

/// The contract's word for a severity; what is below low is low there.
pub(crate) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "Critical",
        Severity::High => "High",
        Severity::Medium => "Medium",
        Severity::Low | Severity::Negligible => "Low",
        Severity::Unknown => "Unknown",
    }
}

/// `4196` → `4.196`.
fn version_text(database: Database<'_>) -> String {
    format!("{}.{:03}", database.version() / 1000, database.version() % 1000)
}

/// Seconds since 1970 as RFC 3339 writes them: `2023-11-14T22:13:20Z`.
pub(crate) fn date_text(seconds: u64) -> String {
    let days = seconds / 86_400;
    let second = seconds % 86_400;
    // The civil calendar from days, with years that begin in March: eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::date_text;

    #[test]
    fn dates_are_written_as_they_are_read() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_696_356_900, "2023-10-03T18:15:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(date_text(seconds), want);
        }
    }
}
